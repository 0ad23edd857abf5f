//! How does a test lose the broker's answers, or the broker?
//!
//! A TCP proxy that knows just enough of Kafka's protocol to tell EndTxn (commit and abort) from everything else:
//!
//! ```text
//! request   length: i32 | api key: i16 | api version: i16 | correlation id: i32 | …
//! response  length: i32 | correlation id: i32 | …
//! ```

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use d02_source::testbed::{Broker, BrokerOptions};

const PRODUCE: [u8; 2] = 0_i16.to_be_bytes();
const END_TXN: [u8; 2] = 26_i16.to_be_bytes();

/// Listens on a loopback port as long as the tests run. Bind it first, start the broker with its port, then `forward_to` the broker.
pub(crate) struct KafkaProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    broker: Mutex<Option<String>>,
    connections: Mutex<Connections>,
    swallow: AtomicBool,
    close_next: AtomicBool,
    delay_ms: AtomicU64,
    produce_delay_ms: AtomicU64,
    end_txn_requests: AtomicU64,
    swallowed: AtomicU64,
}

#[derive(Default)]
struct Connections {
    cut: bool,
    open: Vec<TcpStream>,
}

impl KafkaProxy {
    /// Listens on a port of the system's choice.
    pub(crate) fn bind() -> Self {
        Self::bind_to(0)
    }

    pub(crate) fn bind_to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the proxy's port should be free");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A broker that is away closes the connection, and so do we.
                let _ = accepting.connect(client);
            }
        });
        Self { port, shared }
    }

    /// A broker of its own, and the way to it through a proxy.
    pub(crate) fn before_a_broker() -> (Broker, Self) {
        let proxy = Self::bind();
        let options = BrokerOptions {
            proxied_port: Some(proxy.port()),
            ..BrokerOptions::default()
        };
        let broker = Broker::start(options).expect("a broker");
        proxy.forward_to(broker.proxied_listener_address());
        (broker, proxy)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The value for `bootstrap.servers` of whoever is to go through the proxy.
    pub(crate) fn bootstrap_servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Until this is called every connection is closed at once.
    pub(crate) fn forward_to(&self, broker: String) {
        *lock(&self.shared.broker) = Some(broker);
    }

    /// While on: EndTxn requests reach the broker, its answers do not come back. All of them, for librdkafka repeats the request.
    pub(crate) fn swallow_end_txn_responses(&self, on: bool) {
        self.shared.swallow.store(on, SeqCst);
    }

    /// Closes the connection of the next EndTxn in place of handing its answer on.
    pub(crate) fn close_at_next_end_txn_response(&self) {
        self.shared.close_next.store(true, SeqCst);
    }

    /// Whether that connection is still to be closed.
    pub(crate) fn is_to_close(&self) -> bool {
        self.shared.close_next.load(SeqCst)
    }

    /// While on: the broker is away. Open connections are closed and new ones too.
    pub(crate) fn cut(&self, on: bool) {
        let mut connections = lock(&self.shared.connections);
        connections.cut = on;
        if on {
            for connection in connections.open.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }

    /// Holds EndTxn requests, and what follows them on their connection, for so long before the broker gets them.
    pub(crate) fn delay_end_txn_requests(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).expect("a test's delay fits 64 bits");
        self.shared.delay_ms.store(delay_ms, SeqCst);
    }

    /// As `delay_end_txn_requests`, with Produce requests.
    pub(crate) fn delay_produce_requests(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).expect("a test's delay fits 64 bits");
        self.shared.produce_delay_ms.store(delay_ms, SeqCst);
    }

    /// How many EndTxn requests were forwarded since the proxy was bound.
    pub(crate) fn end_txn_requests(&self) -> u64 {
        self.shared.end_txn_requests.load(SeqCst)
    }

    /// How many EndTxn responses the broker gave in vain.
    pub(crate) fn swallowed_end_txn_responses(&self) -> u64 {
        self.shared.swallowed.load(SeqCst)
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.cut(true);
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let Some(address) = lock(&self.broker).clone() else {
            return Ok(());
        };
        let broker = TcpStream::connect(address)?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        {
            let mut connections = lock(&self.connections);
            if connections.cut {
                return Ok(());
            }
            connections.open.push(client.try_clone()?);
            connections.open.push(broker.try_clone()?);
        }
        // The EndTxn requests of this connection that wait for their response.
        let waiting = Arc::new(Mutex::new(HashSet::new()));
        let (client_in, broker_in) = (client.try_clone()?, broker.try_clone()?);
        let (requests, asked) = (Arc::clone(self), Arc::clone(&waiting));
        std::thread::spawn(move || {
            relay(client_in, broker, |frame| requests.request(frame, &asked));
        });
        let responses = Arc::clone(self);
        std::thread::spawn(move || {
            relay(broker_in, client, |frame| responses.response(frame, &waiting));
        });
        Ok(())
    }

    fn request(&self, frame: &[u8], waiting: &Mutex<HashSet<[u8; 4]>>) -> Forward {
        if frame.starts_with(&PRODUCE) {
            std::thread::sleep(Duration::from_millis(self.produce_delay_ms.load(SeqCst)));
        }
        if frame.starts_with(&END_TXN) {
            std::thread::sleep(Duration::from_millis(self.delay_ms.load(SeqCst)));
            self.end_txn_requests.fetch_add(1, SeqCst);
            lock(waiting).insert(correlation_id(&frame[4..]));
        }
        Forward::Yes
    }

    fn response(&self, frame: &[u8], waiting: &Mutex<HashSet<[u8; 4]>>) -> Forward {
        let is_end_txn = lock(waiting).remove(&correlation_id(frame));
        if is_end_txn && self.close_next.swap(false, SeqCst) {
            return Forward::Close;
        }
        if is_end_txn && self.swallow.load(SeqCst) {
            self.swallowed.fetch_add(1, SeqCst);
            return Forward::No;
        }
        Forward::Yes
    }
}

enum Forward {
    Yes,
    No,
    Close,
}

/// Moves frames until either side closes, then closes both.
fn relay(mut from: TcpStream, mut to: TcpStream, judge: impl Fn(&[u8]) -> Forward) {
    let mut relay_frame = || -> io::Result<()> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        from.read_exact(&mut frame)?;
        match judge(&frame) {
            Forward::Yes => to.write_all(&[length.as_slice(), &frame].concat()),
            Forward::No => Ok(()),
            Forward::Close => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    };
    while relay_frame().is_ok() {}
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn correlation_id(bytes: &[u8]) -> [u8; 4] {
    bytes[..4].try_into().expect("four bytes are four bytes long")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no thread of the proxy panics while it holds a lock")
}
