//! Who may do what, changed in a moment: by Kafka's protocol, because its tool takes seconds and librdkafka's bindings have no
//! such call.

use super::wire;

const DESCRIBE_ACLS: i16 = 29;
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
/// The last version of all three without compact lengths and tags.
const VERSION: i16 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    DescribeConfigs = 10,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    Topic(String),
    /// All ids that begin so.
    TransactionalIds(String),
    Group(String),
}

/// One right of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Right {
    pub operation: Operation,
    pub resource: Resource,
}

impl Right {
    pub(crate) fn to(operation: Operation, topic: &str) -> Self {
        let resource = Resource::Topic(topic.to_owned());
        Self { operation, resource }
    }
}

pub(crate) fn add(servers: &str, user: &str, right: &Right) {
    let answer = ask(servers, CREATE_ACLS, user, right);
    // Throttle time, how many results, the first one's error.
    assert_eq!(number(&answer, 4), 1, "{answer:?}");
    assert_eq!(answer[8..10], [0, 0], "{answer:?}");
}

/// Whether the broker knows of it: it answers a creation before it acts by it.
pub(crate) fn is_known(servers: &str, user: &str, right: &Right) -> bool {
    let answer = ask(servers, DESCRIBE_ACLS, user, right);
    // Throttle time, error, its message, which is empty, and how many resources have rights that match.
    assert_eq!(answer[4..8], [0, 0, 0, 0], "{answer:?}");
    number(&answer, 8) > 0
}

pub(crate) fn remove(servers: &str, user: &str, right: &Right) {
    let answer = ask(servers, DELETE_ACLS, user, right);
    assert_eq!(number(&answer, 4), 1, "{answer:?}");
    assert_eq!(answer[8..10], [0, 0], "{answer:?}");
    // Then its message, null, and how many rights it matched.
    assert_eq!(answer[10..12], [255, 255], "{answer:?}");
    assert_eq!(number(&answer, 12), 1, "{right:?} was not there");
}

fn number(answer: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(answer[at..at + 4].try_into().expect("four bytes"))
}

/// One creation, or one filter; all have the same form. Gives the answer's body.
fn ask(servers: &str, api: i16, user: &str, right: &Right) -> Vec<u8> {
    const LITERAL: u8 = 3;
    const PREFIXED: u8 = 4;
    const ALLOW: u8 = 3;
    let (kind, name, pattern) = match &right.resource {
        Resource::Topic(name) => (2, name, LITERAL),
        Resource::TransactionalIds(prefix) => (5, prefix, PREFIXED),
        Resource::Group(name) => (3, name, LITERAL),
    };
    let mut request = Vec::new();
    if api != DESCRIBE_ACLS {
        // How many there are.
        request.extend_from_slice(&1_i32.to_be_bytes());
    }
    request.push(kind);
    wire::put_text(&mut request, name);
    request.push(pattern);
    wire::put_text(&mut request, &format!("User:{user}"));
    wire::put_text(&mut request, "*");
    request.extend_from_slice(&[right.operation as u8, ALLOW]);
    wire::ask(servers, (api, VERSION), &request)
}
