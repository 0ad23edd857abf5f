//! Starts a simulator; dropping it ends it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use twox_hash::XxHash3_64;

use super::clock::Clock;
use super::fault::Script;
use super::handle::Handle;
use super::lender::Lender;
use super::options::Options;
use super::shared::{Control, Shared};
use super::tls::{self, TlsError};
use super::view::Counts;
use super::{live, server};

/// Why a simulator does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot serve https")]
    Tls(#[from] TlsError),
}

/// A running simulator; dropping it closes its socket and all connections.
#[derive(Debug)]
pub struct Simulator {
    handle: Handle,
    tasks: Vec<JoinHandle<()>>,
}

impl Simulator {
    /// Renders the rows, listens, and serves from tasks of the current runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let listening = |source| StartError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listening)?;
        let address = crate::http::reachable(listener.local_addr().map_err(listening)?);
        let (acceptor, ca_file) = match &options.tls {
            Some(dir) => {
                let (acceptor, ca_file) = tls::acceptor(dir, address.ip(), &options.tls_names)?;
                (Some(acceptor), Some(ca_file))
            }
            None => (None, None),
        };
        let base_url = match (&acceptor, options.tls_names.first()) {
            (None, _) => format!("http://{address}"),
            (Some(_), None) => format!("https://{address}"),
            (Some(_), Some(name)) => format!("https://{name}:{}", address.port()),
        };
        let (seed, lenders) = (options.seed, options.lenders);
        let lenders =
            tokio::task::spawn_blocking(move || lenders.iter().map(|lender| Lender::new(seed, lender)).collect())
                .await
                .expect("rendering rows does not panic");
        let shared = Arc::new(Shared {
            clock: Clock::default(),
            lenders,
            secret: XxHash3_64::oneshot(&options.seed.to_be_bytes()),
            token_lifetime: options.token_lifetime,
            refresh_token_lifetime: options.refresh_token_lifetime,
            gzip: options.gzip,
            base_url,
            ca_file,
            numbers: AtomicU64::new(0),
            control: Mutex::new(Control {
                script: Script::new(options.seed),
                page_limit: options.page_limit,
                scan_limit: None,
                poisoned: None,
                volatile_members: options.volatile_members,
                down: false,
                latency: options.latency,
                total: options.total,
                cursor_epoch: 0,
                log: VecDeque::new(),
                counts: Counts::default(),
            }),
        });
        shared.clock.set_skew_ms(options.clock_skew_ms);
        shared.clock.set_date_skew_ms(options.date_skew_ms);
        let mut tasks = vec![tokio::spawn(server::serve(listener, acceptor, shared.clone()))];
        for (index, lender) in shared.lenders.iter().enumerate() {
            tasks.push(tokio::spawn(live::reveal(shared.clone(), index)));
            if lender.rates.are_any() {
                let rng = Rng::with_seed(options.seed.wrapping_add(index as u64));
                tasks.push(tokio::spawn(live::change(shared.clone(), index, rng)));
            }
        }
        Ok(Self {
            handle: Handle { shared },
            tasks,
        })
    }

    /// A handle that can be cloned and sent to other tasks.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Deref for Simulator {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
