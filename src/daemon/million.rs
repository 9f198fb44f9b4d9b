//! Goal: what a session costs in memory, and that it costs the same however many there are. Method: the whole daemon in
//! this process, with clients whose bytes come through pipes in memory, since a million of sockets is more than a
//! machine has; the resident memory is read after each step, and what the pipes themselves take is measured before,
//! with nobody at their other end. `.ci/prove million` runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;

use super::Daemon;
use crate::config::Config;
use crate::cores::Cores;
use crate::gateway::SideEntrance;

/// Of a pipe, each way; a welcome is about 400 bytes.
const PIPE_BYTES: usize = 1024;
/// Handshakes at the same time.
const AT_ONCE: usize = 256;
const STEPS: usize = 10;
const KIB: usize = 1024;

/// Sessions in all; fewer for a small machine.
fn sessions() -> usize {
    std::env::var("DOORSTEP_SESSIONS").map_or(1_000_000, |text| text.parse().unwrap())
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * KIB
}

#[allow(clippy::print_stdout, reason = "the figures are what it is for")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and gigabytes: .ci/prove million"]
async fn a_million_sessions_cost_the_same_each() {
    let all = sessions();
    let step = all / STEPS;
    let (pipe_bytes, pipes) = pipes(step).await;
    drop(pipes);
    let home = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.gateway.listen = ([127, 0, 0, 1], 0).into();
    config.store.path = home.path().join("data");
    config.admin.socket = home.path().join("doorstep.sock");
    config.limits.max_handshakes = 2 * AT_ONCE;
    // Nobody answers pings here.
    config.gateway.heartbeat = Duration::from_secs(3600);
    config.routing.users_in_memory = 2 * all;
    let daemon = Daemon::start(config, Cores::here()).await.unwrap();
    let entrance = Arc::new(SideEntrance::clone(&daemon.side_entrance));
    let (mut clients, mut served) = (Vec::with_capacity(all), JoinSet::new());
    let (mut before, start) = (resident_bytes(), Instant::now());
    let mut costs = Vec::new();
    println!("a pipe with what a welcome leaves in it: {pipe_bytes} bytes");
    for _ in 0..STEPS {
        enter(&entrance, &mut clients, &mut served, step).await;
        let now = resident_bytes();
        let cost = now.saturating_sub(before) / step;
        before = now;
        costs.push(cost.saturating_sub(pipe_bytes));
        println!(
            "{:>9} sessions after {:>4} s: {:>6} MiB resident, {:>5} bytes for each of the last, {:>5} without its pipe",
            clients.len(),
            start.elapsed().as_secs(),
            now >> 20,
            cost,
            cost.saturating_sub(pipe_bytes)
        );
    }
    // Tables grow by doubling, so single steps differ; the halves must not.
    let half = |costs: &[usize]| costs.iter().sum::<usize>() / costs.len();
    let (first, second) = (half(&costs[..STEPS / 2]), half(&costs[STEPS / 2..]));
    println!("a session: {first} bytes in the first half, {second} in the second");
    assert!(second <= first + first / 4, "the cost of a session grows with their number");
    assert!(served.try_join_next().is_none(), "a session ended");
}

/// Lets `count` more clients in, each a user of its own.
async fn enter(entrance: &Arc<SideEntrance>, clients: &mut Vec<DuplexStream>, served: &mut JoinSet<()>, count: usize) {
    let upto = clients.len() + count;
    while clients.len() < upto {
        let mut entering = JoinSet::new();
        for number in clients.len()..upto.min(clients.len() + AT_ONCE) {
            let (ours, theirs) = duplex(PIPE_BYTES);
            let entrance = entrance.clone();
            served.spawn(async move { entrance.serve(theirs).await });
            entering.spawn(say_hello(ours, number));
        }
        while let Some(client) = entering.join_next().await {
            clients.push(client.unwrap());
        }
    }
}

/// The handshake and a hello by hand, and whatever comes up to `caught_up`: a client that costs nothing.
async fn say_hello(mut pipe: DuplexStream, number: usize) -> DuplexStream {
    let upgrade = "GET /v1/connect HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    pipe.write_all(upgrade.as_bytes()).await.unwrap();
    until_hears(&mut pipe, b"\r\n\r\n").await;
    let hello = format!(r#"{{"type":"hello","user":"u{number}"}}"#);
    let mut frame = vec![0x81, 0x80 | u8::try_from(hello.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(hello.as_bytes());
    pipe.write_all(&frame).await.unwrap();
    until_hears(&mut pipe, b"caught_up").await;
    pipe
}

async fn until_hears(pipe: &mut DuplexStream, what: &[u8]) {
    let mut heard = Vec::new();
    while !heard.windows(what.len()).any(|text| text == what) {
        assert!(pipe.read_buf(&mut heard).await.unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
    }
}

/// What a pipe costs through which as much has gone.
async fn pipes(count: usize) -> (usize, Vec<(DuplexStream, DuplexStream)>) {
    let before = resident_bytes();
    let mut pipes = Vec::with_capacity(count);
    for _ in 0..count {
        let (mut ours, mut theirs) = duplex(PIPE_BYTES);
        let mut scratch = [0; 700];
        ours.write_all(&[0; 220]).await.unwrap();
        theirs.read_exact(&mut scratch[..220]).await.unwrap();
        theirs.write_all(&[0; 700]).await.unwrap();
        ours.read_exact(&mut scratch).await.unwrap();
        pipes.push((ours, theirs));
    }
    ((resident_bytes() - before) / count, pipes)
}
