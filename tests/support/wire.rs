//! One request to a broker by Kafka's protocol, for what librdkafka's bindings have no call.
//!
//! ```text
//! request   length: i32 | api key: i16 | api version: i16 | correlation id: i32 | client id: string | body
//! string    length: i16 | bytes
//! ```

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) fn put_text(request: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("a short text");
    request.extend_from_slice(&length.to_be_bytes());
    request.extend_from_slice(text.as_bytes());
}

/// Sends `body` under a key and version of the protocol; gives the answer's body.
pub(crate) fn ask(servers: &str, (api, version): (i16, i16), body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend_from_slice(&api.to_be_bytes());
    request.extend_from_slice(&version.to_be_bytes());
    request.extend_from_slice(&1_i32.to_be_bytes());
    put_text(&mut request, "tests");
    request.extend_from_slice(body);
    let mut broker = TcpStream::connect(servers).expect("the broker");
    broker
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a time-out");
    let length = i32::try_from(request.len()).expect("a short request");
    broker.write_all(&length.to_be_bytes()).expect("sent");
    broker.write_all(&request).expect("sent");
    let mut length = [0; 4];
    broker.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
    broker.read_exact(&mut answer).expect("an answer");
    // The correlation id.
    answer.split_off(4)
}
