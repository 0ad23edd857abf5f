//! How much a client may send, by Kafka's protocol: librdkafka's bindings have no such call.

use super::wire;

const ALTER_CLIENT_QUOTAS: i16 = 49;
/// The last one without compact lengths and tags.
const VERSION: i16 = 0;

/// Lets the clients with this `client.id` produce so many bytes a second.
pub(crate) fn limit(servers: &str, client_id: &str, bytes_per_second: f64) {
    let mut request = Vec::new();
    let one = 1_i32.to_be_bytes();
    // One entry, of one entity.
    request.extend_from_slice(&one);
    request.extend_from_slice(&one);
    wire::put_text(&mut request, "client-id");
    wire::put_text(&mut request, client_id);
    // One change, which is no removal, and not only checked.
    request.extend_from_slice(&one);
    wire::put_text(&mut request, "producer_byte_rate");
    request.extend_from_slice(&bytes_per_second.to_be_bytes());
    request.extend_from_slice(&[0, 0]);
    let answer = wire::ask(servers, (ALTER_CLIENT_QUOTAS, VERSION), &request);
    // Throttle time, how many entries, the first one's error.
    assert_eq!(answer[4..10], [0, 0, 0, 1, 0, 0], "{answer:?}");
}
