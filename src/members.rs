//! Who else is in the group, and is it configured as this process is?
//!
//! Kafka's group protocol carries nothing of ours. But a member's client id is shown to others, so it says that a member is of this
//! program, which instance it is, and a digest of what it shares out: `d02-source/<instance>/<digest>`.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use twox_hash::XxHash3_64;

use crate::assignment::GroupError;
use crate::backoff::pause;
use crate::config::Config;
use crate::exit::{Diagnosis, ErrorCode, chain};
use crate::kafka::{self, Cluster, Member, blocking, group_members};

/// What the client id of each member begins with.
const PROGRAM: &str = "d02-source/";

/// Of members that are configured otherwise.
const OTHERWISE: ErrorCode = ErrorCode::K28;

/// How often it is looked who is in the group.
const INTERVAL: Duration = Duration::from_secs(30);

/// The client id of this process as a member.
pub(crate) fn client_id(config: &Config, instance: &str) -> String {
    format!("{PROGRAM}{instance}/{:016x}", digest(config))
}

/// Of whatever decides which lender is whose, and where it is written.
fn digest(config: &Config) -> u64 {
    let mut text = config.name.clone();
    for (key, lender) in &config.lenders {
        let topics = config.kafka.topics.for_lender(key);
        let changes = topics.changes.as_deref().unwrap_or_default();
        for part in [
            &lender.email,
            &lender.subdomain,
            &topics.accounts,
            &topics.cursor,
            changes,
            &topics.dead_letters,
        ] {
            text.push('\n');
            text.push_str(part);
        }
    }
    XxHash3_64::oneshot(text.as_bytes())
}

/// The client ids and hosts of members that are other software's.
fn strangers(members: &[Member]) -> BTreeSet<String> {
    let strangers = members.iter().filter(|member| !member.client_id.starts_with(PROGRAM));
    strangers
        .map(|Member { client_id, host }| format!("{client_id:?} at {host}"))
        .collect()
}

fn used_by(group: &str, strangers: &BTreeSet<String>) -> GroupError {
    GroupError::Strangers {
        group: group.to_owned(),
        who: listed(strangers),
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.join(", ")
}

/// The instances that are configured otherwise than the member `own`.
fn configured_otherwise(members: &[Member], own: &str) -> BTreeSet<String> {
    let parts = |client_id: &str| {
        let (instance, digest) = client_id.strip_prefix(PROGRAM)?.rsplit_once('/')?;
        Some((instance.to_owned(), digest.to_owned()))
    };
    let own = parts(own).map(|(_, digest)| digest);
    let others = members.iter().filter_map(|member| parts(&member.client_id));
    others
        .filter(|(_, digest)| Some(digest) != own.as_ref())
        .map(|(instance, _)| instance)
        .collect()
}

/// How many members the group has, as far as that may be seen.
///
/// # Errors
/// When other software is in it.
pub(crate) async fn refuse_strangers(cluster: &Cluster, group: &str) -> Result<usize, GroupError> {
    let members = match members_of(cluster, group).await {
        Ok(members) => members,
        // Whoever joins hears what is wrong.
        Err(error) => {
            tracing::debug!("{}", chain(&error));
            return Ok(0);
        }
    };
    let strangers = strangers(&members);
    match strangers.is_empty() {
        true => Ok(members.len()),
        false => Err(used_by(group, &strangers)),
    }
}

/// Looks, again and again, who else is in the group, and says what hinders sharing; `differ` gets whether any member is configured
/// otherwise than the member `own`.
pub(crate) async fn watch_members(cluster: Cluster, group: String, own: String, differ: watch::Sender<bool>) {
    let (mut known, mut known_strangers) = (BTreeSet::new(), BTreeSet::new());
    loop {
        pause("D02_TEST_MEMBERS_INTERVAL", INTERVAL).await;
        let members = match members_of(&cluster, &group).await {
            Ok(members) => members,
            Err(error) => {
                tracing::debug!("{}", chain(&error));
                continue;
            }
        };
        let strangers = strangers(&members);
        if strangers != known_strangers && !strangers.is_empty() {
            let error = used_by(&group, &strangers);
            tracing::error!(code = %error.code(), advice = error.advice(), "{error}: a lender whose partition it gets is run by nobody");
        }
        known_strangers = strangers;
        let otherwise = configured_otherwise(&members, &own);
        if otherwise != known {
            match otherwise.is_empty() {
                true => tracing::info!("all members of the group {group} are configured alike"),
                false => tracing::warn!(
                    code = %OTHERWISE,
                    advice = "give all processes of a group the same lenders, topics and name",
                    "members of the group {group} are configured otherwise than this process: {}. A lender that only this one is \
                     configured with is run here, also where its partition is another's, once nobody has run it for a while",
                    listed(&otherwise)
                ),
            }
        }
        differ.send_replace(!otherwise.is_empty());
        known = otherwise;
    }
}

async fn members_of(cluster: &Cluster, group: &str) -> Result<Vec<Member>, kafka::Error> {
    let (cluster, group) = (cluster.clone(), group.to_owned());
    blocking(move || group_members(&cluster, &group)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(client_id: &str) -> Member {
        Member {
            client_id: client_id.to_owned(),
            host: "10.0.0.7".to_owned(),
        }
    }

    #[test]
    fn members_are_told_from_strangers_and_by_their_configuration() {
        let own = "d02-source/a:1/00ff";
        let members = [own, "d02-source/b:2/00ff", "d02-source/c:3/00fe", "console-consumer"].map(member);
        assert_eq!(
            strangers(&members),
            BTreeSet::from([r#""console-consumer" at 10.0.0.7"#.to_owned()])
        );
        assert_eq!(configured_otherwise(&members, own), BTreeSet::from(["c:3".to_owned()]));
        assert_eq!(strangers(&members[..3]), BTreeSet::new());
        assert_eq!(configured_otherwise(&members[..2], own), BTreeSet::new());
    }
}
