//! A network of the tests' own: a TCP proxy that delays, splits, stalls, swallows and resets. Must never
//! change a byte or the order of bytes: whatever arrives is what was sent, as far as it was let through.
#![allow(dead_code, reason = "the tests of the network use one part of this, and the soak another")]

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

/// Read at once, and held back at most by a delay.
const PIECE_BYTES: usize = 16 * 1024;
const PIECES_MAX: usize = 64;
/// Of the sockets on both sides, so that little is on its way when nobody reads.
const SOCKET_BYTES: u32 = 16 * 1024;

/// What happens to one connection.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// From the client to the daemon.
    pub up: Way,
    /// From the daemon to the client.
    pub down: Way,
}

/// What happens in one direction.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// How long everything is held back, and by how much longer at most. Order is kept.
    pub delay: Duration,
    pub jitter: Duration,
    /// Each byte is written by itself,
    pub bytewise: bool,
    /// but for the first piece, which is the head of the answer to an upgrade: the library with which the tests speak
    /// takes one that comes in more than 64 pieces for an attack.
    pub head_whole: bool,
    /// After exactly so many bytes.
    pub cut: Option<(u64, Cut)>,
    /// Everything that was let through.
    pub tap: Option<Tap>,
}

pub type Tap = Arc<Mutex<Vec<u8>>>;

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both sides get a RST.
    Reset,
    /// From now on all is swallowed, and neither side is told when the other one goes.
    Vanish,
}

/// How the connections are that there are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Flowing,
    /// Nothing is read from either side.
    Stalled,
    Cut(Cut),
}

/// The proxy. Dropping it ends all its connections.
pub struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    accepted: Arc<AtomicUsize>,
    moods: Arc<Mutex<Vec<watch::Sender<Mood>>>>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Listens, and asks `plan` about every connection that comes.
    pub async fn start(target: u16, plan: impl FnMut() -> Plan + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let (accepted, moods) = (Arc::default(), Arc::default());
        let accepting = accept(listener, target.clone(), Arc::clone(&accepted), Arc::clone(&moods), plan);
        let accepting = tokio::spawn(accepting).abort_handle();
        Self { port, target, accepted, moods, accepting }
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/v1/connect", self.port)
    }

    /// Where connections go from now on.
    pub fn retarget(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    /// Connections that ever came.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Nothing is read any more of the connections that there are.
    pub fn stall(&self) {
        self.set(Mood::Stalled);
    }

    /// Stalled connections go on.
    pub fn flow(&self) {
        self.set(Mood::Flowing);
    }

    /// The connections that there are now are cut; later ones are not.
    pub fn cut(&self, cut: Cut) {
        self.set(Mood::Cut(cut));
    }

    fn set(&self, mood: Mood) {
        for connection in self.moods.lock().unwrap().iter() {
            connection.send_replace(mood);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<AtomicU16>,
    accepted: Arc<AtomicUsize>,
    moods: Arc<Mutex<Vec<watch::Sender<Mood>>>>,
    mut plan: impl FnMut() -> Plan,
) {
    // Ends with this future, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        accepted.fetch_add(1, Ordering::Relaxed);
        while connections.try_join_next().is_some() {}
        let (mood, changes) = watch::channel(Mood::Flowing);
        {
            let mut moods = moods.lock().unwrap();
            moods.retain(|connection| connection.receiver_count() > 0);
            moods.push(mood);
        }
        connections.spawn(connection(client, target.load(Ordering::Relaxed), plan(), changes));
    }
}

async fn connection(mut client: TcpStream, target: u16, plan: Plan, mut mood: watch::Receiver<Mood>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SOCKET_BYTES).unwrap();
    let Ok(mut server) = socket.connect((Ipv4Addr::LOCALHOST, target).into()).await else {
        // As if nobody listened here either.
        return client.set_zero_linger().unwrap();
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let cut = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let up = carry(from_client, to_server, plan.up, mood.clone());
        let down = carry(from_server, to_client, plan.down, mood.clone());
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.err(),
            cut = commanded(&mut mood) => Some(cut),
        }
    };
    match cut {
        None => return,
        Some(Cut::Vanish) => swallow(&mut client, &mut server, &mut mood).await,
        Some(Cut::Reset) => {}
    }
    for stream in [client, server] {
        stream.set_zero_linger().unwrap();
    }
}

/// Waits until the test wants the connection to be cut.
async fn commanded(mood: &mut watch::Receiver<Mood>) -> Cut {
    match mood.wait_for(|mood| matches!(mood, Mood::Cut(_))).await.map(|mood| *mood) {
        Ok(Mood::Cut(cut)) => cut,
        _ => std::future::pending().await,
    }
}

async fn swallow(client: &mut TcpStream, server: &mut TcpStream, mood: &mut watch::Receiver<Mood>) {
    let (mut up, mut down) = (tokio::io::sink(), tokio::io::sink());
    tokio::select! {
        // An error is an end like another.
        _ended = async { tokio::join!(tokio::io::copy(client, &mut up), tokio::io::copy(server, &mut down)) } => {}
        _reset = mood.wait_for(|mood| *mood == Mood::Cut(Cut::Reset)) => {}
    }
}

/// Carries bytes until the end of the stream, which is passed on; an error is how the connection is cut.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut mood: watch::Receiver<Mood>,
) -> Result<(), Cut> {
    let mut line: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut piece, mut carried, mut open) = (vec![0; PIECE_BYTES], 0, true);
    if way.cut.is_some_and(|(after, _)| after == 0) {
        return Err(way.cut.map_or(Cut::Reset, |(_, cut)| cut));
    }
    while open || !line.is_empty() {
        let flows = *mood.borrow_and_update() != Mood::Stalled;
        let due = line.front().map(|(due, _)| *due).filter(|_| flows);
        tokio::select! {
            changed = mood.changed() => changed.map_err(|_| Cut::Reset)?,
            () = moment(due) => {
                let (_, bytes) = line.pop_front().unwrap_or_else(|| (Instant::now(), Vec::new()));
                hand_on(&mut to, &bytes, &way, &mut carried).await?;
            }
            read = from.read(&mut piece), if open && flows && line.len() < PIECES_MAX => match read {
                Ok(0) => open = false,
                Ok(read) => {
                    let due = Instant::now() + way.delay + way.jitter.mul_f64(fastrand::f64());
                    let due = line.back().map_or(due, |(before, _)| due.max(*before));
                    line.push_back((due, piece[..read].to_vec()));
                }
                Err(_) => return Err(Cut::Reset),
            },
        }
    }
    to.shutdown().await.map_err(|_| Cut::Reset)
}

/// Never, where there is no such moment.
async fn moment(due: Option<Instant>) {
    match due {
        Some(due) => drop(timeout_at(due, std::future::pending::<()>()).await),
        None => std::future::pending().await,
    }
}

async fn hand_on(to: &mut WriteHalf<'_>, bytes: &[u8], way: &Way, carried: &mut u64) -> Result<(), Cut> {
    let room = way.cut.map_or(u64::MAX, |(after, _)| after - *carried);
    let bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
    write(to, bytes, way.bytewise && (*carried > 0 || !way.head_whole)).await.map_err(|_| Cut::Reset)?;
    *carried += bytes.len() as u64;
    if let Some(tap) = &way.tap {
        tap.lock().unwrap().extend_from_slice(bytes);
    }
    match way.cut {
        Some((after, cut)) if after == *carried => Err(cut),
        _ => Ok(()),
    }
}

async fn write(to: &mut WriteHalf<'_>, bytes: &[u8], bytewise: bool) -> io::Result<()> {
    if !bytewise {
        return to.write_all(bytes).await;
    }
    for byte in bytes {
        to.write_all(&[*byte]).await?;
        // Without this the other side would find them together again.
        tokio::task::yield_now().await;
    }
    Ok(())
}
