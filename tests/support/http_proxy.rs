//! A proxy for https: it tunnels whoever knows its password, and remembers to where.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::RUNTIME;

pub(crate) struct HttpProxy {
    address: SocketAddr,
    tunnels: Arc<Mutex<Vec<String>>>,
    heard: Arc<AtomicUsize>,
}

impl HttpProxy {
    pub(crate) fn start(user: &str, password: &str) -> Self {
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let wanted = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        let tunnels: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard: Arc<AtomicUsize> = Arc::default();
        let (shared, count) = (Arc::clone(&tunnels), Arc::clone(&heard));
        RUNTIME.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(tunnel(stream, wanted.clone(), Arc::clone(&shared)));
            }
        });
        Self {
            address,
            tunnels,
            heard,
        }
    }

    /// With what it takes for user and password.
    pub(crate) fn url(&self, user: &str, password: &str) -> String {
        format!("http://{user}:{password}@{}", self.address)
    }

    /// Connections, whoever they are of.
    pub(crate) fn heard_count(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }

    /// Hosts and ports, one a tunnel.
    pub(crate) fn tunnels(&self) -> Vec<String> {
        self.tunnels.lock().expect("the tunnels").clone()
    }
}

async fn tunnel(mut client: TcpStream, wanted: String, tunnels: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(1..) = client.read_buf(&mut head).await else {
            return;
        };
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned);
    let is_known = head.lines().any(|line| {
        let header = line.split_once(": ");
        header.is_some_and(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value == wanted)
    });
    let Some(target) = target.filter(|_| is_known) else {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        // Whoever does not wait for it does not need it.
        let _ = client.write_all(refusal).await;
        return;
    };
    // Every name is this machine's here.
    let port = target.rsplit_once(':').map_or("", |(_, port)| port);
    let Ok(mut server) = TcpStream::connect(format!("127.0.0.1:{port}")).await else {
        return;
    };
    tunnels.lock().expect("the tunnels").push(target);
    if client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
