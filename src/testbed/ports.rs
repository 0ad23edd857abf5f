//! Which loopback ports are free for a server that may be stopped and started again?

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use super::error::TestbedError;

/// Below the range from which Linux (32768) and macOS (49152) take the ports of outgoing connections: while a server is down, a client that keeps
/// connecting could otherwise be given the server's own port, or even reach itself on it.
const RANGE: std::ops::Range<u16> = 15_000..32_000;
const TRIES: usize = 1_000;

/// Different ports that nothing listens on, each given once: a server takes a while to listen on its own. Random, so that test
/// processes beside this one hardly ever choose the same.
pub(super) fn free(count: usize) -> Result<Vec<u16>, TestbedError> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    // All are held until the last is found, so that none is found twice.
    let held: Vec<(u16, TcpListener)> = std::iter::repeat_with(|| fastrand::u16(RANGE))
        .take(TRIES)
        .filter(|port| !given.contains(port))
        .filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)))
        .take(count)
        .collect();
    if held.len() < count {
        return Err(TestbedError::NoFreePort { tries: TRIES });
    }
    let ports: Vec<u16> = held.into_iter().map(|(port, _)| port).collect();
    given.extend(&ports);
    Ok(ports)
}
