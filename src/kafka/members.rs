//! Who is in a Kafka group?

use std::time::Duration;

use rdkafka::consumer::Consumer;

use super::cluster::Cluster;
use super::error::Error;

/// One answer of the brokers.
const LIMIT: Duration = Duration::from_secs(10);

/// A member, as it shows itself to others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub client_id: String,
    /// As the broker sees it.
    pub host: String,
}

/// Who is in a group by the classic protocol. Nobody where it is not there, or this user may not see it, or it is KIP-848's: librdkafka
/// (2.12.1) asks in a way that says nothing of those. Blocks.
///
/// # Errors
/// When the brokers do not answer.
pub(crate) fn group_members(cluster: &Cluster, group: &str) -> Result<Vec<Member>, Error> {
    cluster.ask(|asker| {
        let failed = |source| Error::Call {
            doing: "asking who is in the group",
            last_reported: asker.context().last_reported(),
            source,
        };
        let found = asker.client().fetch_group_list(Some(group), LIMIT).map_err(failed)?;
        let members = found.groups().iter().flat_map(|group| group.members());
        let member = |member: &rdkafka::groups::GroupMemberInfo| Member {
            client_id: member.client_id().to_owned(),
            host: member.client_host().trim_start_matches('/').to_owned(),
        };
        Ok(members.map(member).collect())
    })
}
