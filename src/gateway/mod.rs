//! The front door: WebSocket connections.
//!
//! Promises:
//! 1. Nobody gets past without a `hello` in time and a credential that holds.
//! 2. An `Attach` is followed by exactly one `Detach`, whatever happens to the connection.
//! 3. A session costs bounded memory, however much it sends and however little it reads.
//! 4. A session that is held up (a busy owner, a client that does not read) holds up no other.
//! 5. Every `send` that gets through is answered by its owner; every other one is answered here.
//!
//! A connection walks through `listener` → `connection` → `handshake` → `session`, which know nothing of what is
//! said (`talk`); whoever comes for the `demo` page gets it and goes. What the `socket` reads is put together by the
//! `assembler` and becomes commands in `inbound`, what the client is told becomes frames in `outbox`, and `wire` moves
//! the bytes.

mod assembler;
mod auth;
mod connection;
mod demo;
mod frame;
mod handshake;
mod inbound;
mod listener;
mod outbox;
mod pace;
mod session;
mod socket;
mod talk;
mod transport;
mod vitals;
mod wire;

// Lies with the other tests of the whole, and is in here for what it has to reach.
#[cfg(test)]
#[path = "../../tests/conformance/mod.rs"]
mod conformance;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::codes::CloseCode;
use crate::config::{Auth, Config, KeyError};
use crate::cores::Cores;
use crate::metrics::Metrics;
use crate::routing::outstanding::Outstanding;
use crate::routing::router::Router;
use crate::routing::session_handle::Closing;
use crate::shutdown;

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("{address} is in use by another process")]
    InUse { address: SocketAddr },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("auth mode none needs a loopback address, and {address} is none")]
    OpenToAll { address: SocketAddr },
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What the gateway needs of the rooms below.
#[derive(Clone)]
pub struct Desk {
    pub router: Router,
    pub outstanding: Outstanding,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

/// A bound door.
pub struct Gateway {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    config: Arc<Config>,
    /// Where sessions run.
    cores: Cores,
    desk: Desk,
    auth: auth::Authenticator,
    bounds: Arc<outbox::Bounds>,
    rates: pace::Rates,
    users: Arc<pace::Users>,
    /// Open at once, handshakes included.
    max_connections: usize,
    handshakes: Arc<pace::Handshakes>,
    /// Turns to be told that the house is full.
    refusals: Arc<Semaphore>,
    shutdown: shutdown::Listener,
}

impl Shared {
    /// What a session is closed with when the daemon ends and its owner did not see to it. Clients come back
    /// spread over some time, so that they do not all come at once.
    fn restarting(&self) -> Closing {
        let spread_ms = self.config.shutdown.reconnect_spread.as_millis() as u64;
        let retry_after_ms = Some(fastrand::u64(0..=spread_ms));
        Closing { retry_after_ms, ..closing(CloseCode::Restarting, "the router is shutting down") }
    }
}

impl Gateway {
    /// Reads the keys and takes the address; connections wait in the kernel until [`run`](Self::run).
    /// To be called within a tokio runtime.
    ///
    /// # Errors
    /// A key that cannot be used, or an address that cannot be had.
    pub fn bind(
        config: Arc<Config>,
        cores: Cores,
        desk: Desk,
        shutdown: shutdown::Listener,
    ) -> Result<Self, GatewayError> {
        let address = config.gateway.listen;
        if matches!(config.auth, Auth::None) && !address.ip().to_canonical().is_loopback() {
            return Err(GatewayError::OpenToAll { address });
        }
        let auth = auth::Authenticator::new(&config.auth)?;
        let listener = listener::bind(address)?;
        let local_addr = listener.local_addr().map_err(|source| GatewayError::Listen { address, source })?;
        let shared = Shared {
            auth,
            bounds: Arc::new(outbox::Bounds::new(&config)),
            rates: pace::Rates::new(&config.limits, config.presence.max_watched),
            users: Arc::default(),
            max_connections: listener::connections_within_descriptors(config.limits.max_connections),
            handshakes: pace::Handshakes::new(config.limits.max_handshakes),
            refusals: Arc::new(Semaphore::new(listener::REFUSALS_MAX)),
            config,
            cores,
            desk,
            shutdown,
        };
        Ok(Self { listener, local_addr, shared: Arc::new(shared) })
    }

    /// Where clients may come; differs from what was configured when that was port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A way in for clients whose bytes come through memory.
    #[cfg(test)]
    pub fn side_entrance(&self) -> SideEntrance {
        SideEntrance(self.shared.clone())
    }

    /// Lets clients in until the daemon drains, and serves those inside until it closes and the last has left.
    pub async fn run(self) {
        listener::run::<inbound::Inbound>(self.listener, self.shared).await;
    }
}

/// For tests that bring more clients than there are sockets.
#[cfg(test)]
#[derive(Clone)]
pub struct SideEntrance(Arc<Shared>);

#[cfg(test)]
impl SideEntrance {
    pub async fn serve(&self, stream: tokio::io::DuplexStream) {
        let place = self.0.handshakes.enter();
        let (stream, peer) = (transport::Transport::Memory(stream), SocketAddr::from(([127, 0, 0, 1], 0)));
        connection::serve::<inbound::Inbound>(self.0.clone(), stream, peer, place).await;
    }
}

/// The last word to a client; the reason may be about what it said.
#[derive(Debug, Clone)]
struct Farewell {
    code: CloseCode,
    reason: Cow<'static, str>,
    retry_after_ms: Option<u64>,
}

impl From<Closing> for Farewell {
    fn from(Closing { code, reason, retry_after_ms }: Closing) -> Self {
        Self { code, reason: Cow::Borrowed(reason), retry_after_ms }
    }
}

fn closing(code: CloseCode, reason: &'static str) -> Closing {
    Closing { code, reason, retry_after_ms: None }
}
