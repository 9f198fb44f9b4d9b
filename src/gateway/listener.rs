//! The accept loop: who gets a connection at all.
//!
//! Never blocks on a client, and never lets those who do not speak keep out those who do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::talk::Talk;
use super::transport::Transport;
use super::{GatewayError, Shared, connection, handshake};
use crate::limits::STORE_FILES_MAX;
use crate::metrics::Metrics;
use crate::shutdown::Phase;

/// Connections that the kernel may hold for us.
const BACKLOG: u32 = 4096;
/// Descriptors for everything that is no connection: the store's tables and journals, the admin socket,
/// refusals, logs. A store that finds none left fails for good, so clients must leave it these.
const OTHER_DESCRIPTORS: u64 = 512;
/// Pause after a failed accept: doubled from the first to the second while it goes on failing.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Refusals that are put into words at the same time, and how long each may take.
pub const REFUSALS_MAX: usize = 32;
const REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// How often rates of users who no longer send are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

const _: () = assert!(OTHER_DESCRIPTORS > (STORE_FILES_MAX + REFUSALS_MAX) as u64 + 128);

/// # Errors
/// The address cannot be had; says which.
pub fn bind(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let listener = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    });
    listener.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => GatewayError::InUse { address },
        _ => GatewayError::Listen { address, source },
    })
}

/// Raises the soft limit of open files as far as it may be, and returns how many connections it is enough for:
/// `max_connections`, or fewer with a warning.
pub fn connections_within_descriptors(max_connections: usize) -> usize {
    let wanted = max_connections as u64 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // What came of it is seen by looking again.
        let _refused = setrlimit(Resource::Nofile, raised).is_err();
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = connections_within(limit, max_connections);
    if connections < max_connections {
        tracing::warn!(limit, wanted, connections, "too few open files are allowed for limits.max_connections");
    }
    connections
}

/// Half of a limit is the least that clients get, or nobody could come in where it is very low.
fn connections_within(limit: u64, max_connections: usize) -> usize {
    let room = limit.saturating_sub(OTHER_DESCRIPTORS).max(limit / 2);
    max_connections.min(usize::try_from(room).unwrap_or(usize::MAX))
}

/// Accepts until the daemon drains, then waits until the last session has ended and the daemon closes.
pub async fn run<T: Talk>(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut daemon = shared.shutdown.clone();
    tokio::select! {
        () = daemon.reached(Phase::Draining) => {}
        () = accept::<T>(&listener, &shared, &mut connections) => {}
    }
    // From here on a client that comes is refused by the kernel, and tries elsewhere or later.
    drop(listener);
    while connections.join_next().await.is_some() {}
    daemon.reached(Phase::Closing).await;
}

async fn accept<T: Talk>(listener: &TcpListener, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    let mut pause = PAUSE_MIN;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    pause = PAUSE_MIN;
                    admit::<T>(shared, connections, stream, peer);
                }
                Err(error) => {
                    recover(shared, &error, pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            },
            Some(_ended) = connections.join_next() => {}
            _tick = sweep.tick() => shared.rates.sweep(),
        }
    }
}

fn admit<T: Talk>(shared: &Arc<Shared>, connections: &mut JoinSet<()>, stream: TcpStream, peer: SocketAddr) {
    while connections.try_join_next().is_some() {}
    // Full, but of what? A connection that has not said hello makes room for one that may.
    if connections.len() >= shared.max_connections && !shared.handshakes.evict_oldest() {
        shared.desk.metrics.connects_refused.inc();
        tracing::debug!(%peer, "connection refused: no more may be open");
        return refuse(stream, shared);
    }
    shared.desk.metrics.connects.inc();
    let stream = match movable(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%peer, %error, "connection broke before it began"),
    };
    let open = OpenConnection::new(shared.desk.metrics.clone());
    let (place, seat) = (shared.handshakes.enter(), shared.cores.seat());
    let (shared, core) = (shared.clone(), seat.runtime().clone());
    let served = async move {
        match TcpStream::from_std(stream) {
            Ok(stream) => connection::serve::<T>(shared, Transport::Tcp(stream), peer, place).await,
            Err(error) => tracing::warn!(%peer, %error, "a connection cannot be watched"),
        }
        drop((open, seat));
    };
    connections.spawn_on(served, &core);
}

/// The connection as any core can take it: each watches its own.
fn movable(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// Says so in HTTP to a few at a time, and just closes on the rest: whoever is refused may cost next to nothing.
fn refuse(stream: TcpStream, shared: &Shared) {
    let Ok(turn) = shared.refusals.clone().try_acquire_owned() else { return };
    tokio::spawn(async move {
        // How it ends makes no difference to anyone here.
        let _told = tokio::time::timeout(REFUSAL_WAIT, tell_full(stream)).await;
        drop(turn);
    });
}

/// Reads the request first: closing with something unread would take the answer back.
async fn tell_full(mut stream: TcpStream) -> io::Result<()> {
    let _request = stream.read(&mut [0; 2048]).await?;
    stream.write_all(handshake::plain_response(StatusCode::SERVICE_UNAVAILABLE).as_bytes()).await?;
    stream.shutdown().await
}

/// Out of descriptors or memory: waiting is all there is, and those who never said hello go first. Any
/// other error concerns one connection that is gone already.
async fn recover(shared: &Shared, error: &io::Error, pause: Duration) {
    let of_the_peer = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted];
    if of_the_peer.contains(&error.kind()) {
        return;
    }
    let evicted = shared.handshakes.evict_oldest();
    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, evicted, "cannot accept connections");
    tokio::time::sleep(pause).await;
}

/// Counts an open connection for as long as it lives.
struct OpenConnection(Arc<Metrics>);

impl OpenConnection {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self(metrics)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_descriptors_when_too_few_are_allowed() {
        assert_eq!(connections_within(u64::MAX, 10_000), 10_000);
        assert_eq!(connections_within(10_000 + OTHER_DESCRIPTORS, 10_000), 10_000);
        assert_eq!(connections_within(10_000, 10_000), 10_000 - OTHER_DESCRIPTORS as usize);
        assert_eq!(connections_within(256, 10_000), 128);
    }
}
