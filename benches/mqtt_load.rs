//! The load of `doorstep bench relay` for an MQTT 3.1.1 broker: pairs, one who publishes with QoS 1 and one who
//! subscribes with QoS 1 and acknowledges, closed loop, over TCP, on one thread, and as lean.
//!
//! `mqtt_load HOST:PORT [--pairs N] [--window N] [--size BYTES] [--duration SECONDS] [--warmup SECONDS] [--server-pid PID]`
//! prints one JSON document with the names that `doorstep bench relay --json` uses.
#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

type Failure = Box<dyn Error>;

const BUFFER_BYTES: usize = 144 << 10;
/// Reads from one connection before others have their turn.
const READS_MAX: usize = 4;
/// Seconds without a word after which a broker may close; none here.
const NO_KEEP_ALIVE: u16 = 0;
/// The number of a message is its first bytes.
const NUMBER_BYTES: usize = 8;
const DRAIN_MAX: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const PERCENTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

#[derive(Clone)]
struct Args {
    address: String,
    pairs: usize,
    window: usize,
    size: usize,
    duration: Duration,
    warmup: Duration,
    server_pid: Option<u32>,
}

impl Args {
    fn read() -> Result<Self, Failure> {
        let mut words = std::env::args().skip(1);
        let mut args = Self {
            address: words.next().ok_or("mqtt_load HOST:PORT [--pairs N] [--window N] [--size BYTES] …")?,
            pairs: 100,
            window: 16,
            size: 200,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            server_pid: None,
        };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--pairs" => args.pairs = value.parse()?,
                "--window" => args.window = value.parse()?,
                "--size" => args.size = value.parse::<usize>()?.max(NUMBER_BYTES),
                "--duration" => args.duration = Duration::from_secs_f64(value.trim_end_matches('s').parse()?),
                "--warmup" => args.warmup = Duration::from_secs_f64(value.trim_end_matches('s').parse()?),
                "--server-pid" => args.server_pid = Some(value.parse()?),
                _ => return Err(format!("there is no {name}").into()),
            }
        }
        Ok(args)
    }
}

/// What all pairs share.
struct Shared {
    count_from: Instant,
    stop_at: Instant,
    buffer: Vec<u8>,
    delivery: Histogram<u64>,
    accept: Histogram<u64>,
    lost: u64,
    disordered: u64,
}

struct Connection {
    socket: TcpStream,
    rest: Vec<u8>,
    out: Vec<u8>,
    written: usize,
}

impl Connection {
    /// Connects, and is accepted by the broker.
    async fn open(address: &str, client: &str) -> Result<Self, Failure> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut payload = text(b"MQTT");
        // Protocol level 4, a clean session.
        payload.extend([4, 2]);
        payload.extend(NO_KEEP_ALIVE.to_be_bytes());
        payload.extend(text(client.as_bytes()));
        let mut packet = Vec::new();
        header(&mut packet, 0x10, payload.len());
        packet.extend(payload);
        socket.write_all(&packet).await?;
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).await?;
        match answer {
            [0x20, 2, _, 0] => Ok(Self { socket, rest: Vec::new(), out: Vec::new(), written: 0 }),
            _ => Err(format!("not accepted: {answer:?}").into()),
        }
    }

    async fn subscribe(&mut self, topic: &str) -> Result<(), Failure> {
        let mut payload = vec![0, 1];
        payload.extend(text(topic.as_bytes()));
        payload.push(1);
        let mut packet = Vec::new();
        header(&mut packet, 0x82, payload.len());
        packet.extend(payload);
        self.socket.write_all(&packet).await?;
        let mut answer = [0; 5];
        self.socket.read_exact(&mut answer).await?;
        match answer {
            [0x90, 3, 0, 1, 1] => Ok(()),
            _ => Err(format!("not subscribed: {answer:?}").into()),
        }
    }

    /// Tells every packet that has come: its first byte, and what is behind its length.
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        mut hear: impl FnMut(Instant, u8, &[u8], &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for _ in 0..READS_MAX {
            let kept = self.rest.len();
            let (front, free) = buffer.split_at_mut_checked(kept).ok_or("a packet is too long")?;
            front.copy_from_slice(&self.rest);
            let mut space = ReadBuf::new(free);
            let Poll::Ready(read) = Pin::new(&mut self.socket).poll_read(cx, &mut space) else { return Ok(()) };
            read?;
            let read = space.filled().len();
            if read == 0 {
                return Err("the broker closed a connection".into());
            }
            let now = Instant::now();
            let mut bytes = buffer.get(..kept + read).unwrap_or_default();
            while let Some((kind, packet, after)) = first(bytes) {
                hear(now, kind, packet, &mut self.out)?;
                bytes = after;
            }
            self.rest.clear();
            self.rest.extend_from_slice(bytes);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        while let Some(unwritten) = self.out.get(self.written..).filter(|unwritten| !unwritten.is_empty()) {
            let Poll::Ready(written) = Pin::new(&mut self.socket).poll_write(cx, unwritten) else { return Ok(()) };
            self.written += written?;
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn header(out: &mut Vec<u8>, kind: u8, mut length: usize) {
    out.push(kind);
    loop {
        let more = length > 127;
        out.push((length % 128) as u8 | u8::from(more) << 7);
        length /= 128;
        if !more {
            return;
        }
    }
}

/// The first packet, once it is whole, and what comes after it.
fn first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, mut rest) = bytes.split_first()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 127) << shift;
        shift += 7;
        if byte & 128 == 0 {
            break;
        }
    }
    let (packet, after) = rest.split_at_checked(length)?;
    Some((*kind, packet, after))
}

struct Pair {
    sender: Connection,
    receiver: Connection,
    topic: Vec<u8>,
    body: Vec<u8>,
    window: usize,
    /// When each message was sent that has not arrived yet, and of each that has no answer yet.
    undelivered: VecDeque<Instant>,
    unanswered: VecDeque<Instant>,
    sent: u64,
    arrived: u64,
    alarm: Pin<Box<tokio::time::Sleep>>,
    alarm_at: Instant,
}

impl Pair {
    async fn open(args: Args, n: usize) -> Result<Self, Failure> {
        let topic = format!("bench/{n}");
        let mut receiver = Connection::open(&args.address, &format!("to-{n}")).await?;
        receiver.subscribe(&topic).await?;
        let now = Instant::now();
        Ok(Self {
            sender: Connection::open(&args.address, &format!("from-{n}")).await?,
            receiver,
            topic: text(topic.as_bytes()),
            body: vec![b'x'; args.size - NUMBER_BYTES],
            window: args.window,
            undelivered: VecDeque::new(),
            unanswered: VecDeque::new(),
            sent: 0,
            arrived: 0,
            alarm: Box::pin(tokio::time::sleep_until(now.into())),
            alarm_at: now,
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>, shared: &mut Shared) -> Poll<Result<(), Failure>> {
        self.work(cx, shared)?;
        let now = Instant::now();
        let settled = self.undelivered.is_empty() && self.unanswered.is_empty();
        if now >= shared.stop_at && (settled || now >= shared.stop_at + DRAIN_MAX) {
            shared.lost += self.undelivered.len() as u64;
            return Poll::Ready(Ok(()));
        }
        if self.alarm_at <= now {
            self.alarm_at = now + LOOK_EVERY;
            self.alarm.as_mut().reset(self.alarm_at.into());
            if self.alarm.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn work(&mut self, cx: &mut Context<'_>, shared: &mut Shared) -> Result<(), Failure> {
        let Shared { count_from, stop_at, buffer, delivery, accept, disordered, .. } = shared;
        let counts = |now| (*count_from..*stop_at).contains(&now);
        let Self { sender, receiver, undelivered, unanswered, arrived, .. } = self;
        receiver.read(cx, buffer, |now, kind, packet, out| {
            if kind & 0xf0 != 0x30 {
                return Ok(());
            }
            let (length, rest) = packet.split_first_chunk().ok_or("a short packet")?;
            let rest = rest.get(usize::from(u16::from_be_bytes(*length))..).ok_or("a short packet")?;
            let (id, payload) = rest.split_first_chunk::<2>().ok_or("a short packet")?;
            let (number, _) = payload.split_first_chunk().ok_or("a short body")?;
            *disordered += u64::from(u64::from_be_bytes(*number) != *arrived);
            *arrived += 1;
            if let Some(sent_at) = undelivered.pop_front().filter(|_| counts(now)) {
                delivery.record((now - sent_at).as_nanos() as u64)?;
            }
            out.extend([0x40, 2]);
            out.extend(id);
            Ok(())
        })?;
        sender.read(cx, buffer, |now, kind, _, _| {
            if kind == 0x40
                && let Some(sent_at) = unanswered.pop_front().filter(|_| counts(now))
            {
                accept.record((now - sent_at).as_nanos() as u64)?;
            }
            Ok(())
        })?;
        let now = Instant::now();
        while now < shared.stop_at && self.unanswered.len() < self.window {
            self.publish(now);
        }
        self.receiver.flush(cx)?;
        self.sender.flush(cx)
    }

    fn publish(&mut self, now: Instant) {
        let out = &mut self.sender.out;
        header(out, 0x32, self.topic.len() + 2 + NUMBER_BYTES + self.body.len());
        out.extend_from_slice(&self.topic);
        // From 1 on; there are never so many unanswered that one comes twice.
        out.extend_from_slice(&((self.sent % 65_535) as u16 + 1).to_be_bytes());
        out.extend_from_slice(&self.sent.to_be_bytes());
        out.extend_from_slice(&self.body);
        self.sent += 1;
        self.undelivered.push_back(now);
        self.unanswered.push_back(now);
    }
}

/// Processor time of a process so far, and its memory.
fn look(pid: &str) -> Option<(Duration, f64)> {
    let mut cpu = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let schedstat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        cpu += Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?);
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some((cpu, rss.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0))
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    let us = |quantile| json!(histogram.value_at_quantile(quantile) as f64 / 1000.0);
    PERCENTILES.iter().map(|(name, quantile)| ((*name).to_owned(), us(*quantile))).collect()
}

async fn run(args: Args) -> Result<(), Failure> {
    let mut pairs = Vec::new();
    for n in 0..args.pairs {
        pairs.push(Pair::open(args.clone(), n).await?);
    }
    let count_from = Instant::now() + args.warmup;
    let stop_at = count_from + args.duration;
    let shared = Rc::new(RefCell::new(Shared {
        count_from,
        stop_at,
        buffer: vec![0; BUFFER_BYTES],
        delivery: Histogram::new(3)?,
        accept: Histogram::new(3)?,
        lost: 0,
        disordered: 0,
    }));
    let tasks: Vec<_> = pairs
        .into_iter()
        .map(|mut pair| {
            let shared = shared.clone();
            tokio::task::spawn_local(async move {
                let worked = std::future::poll_fn(|cx| pair.poll(cx, &mut shared.borrow_mut())).await;
                worked.map_err(|error| error.to_string())
            })
        })
        .collect();
    let pid = args.server_pid.map(|pid| pid.to_string());
    let looks = || (pid.as_deref().and_then(look), look("self"));
    tokio::time::sleep_until(count_from.into()).await;
    let before = looks();
    tokio::time::sleep_until(stop_at.into()).await;
    let after = looks();
    for task in tasks {
        task.await??;
    }
    let shared = shared.borrow();
    let (delivered, seconds) = (shared.delivery.len(), args.duration.as_secs_f64());
    let spent = |before: (Duration, f64), after: (Duration, f64)| (after.0 - before.0).as_secs_f64();
    let server = before.0.zip(after.0).map(|(before, after)| {
        let cpu = spent(before, after);
        json!({
            "cpu_us_per_message": cpu * 1e6 / delivered as f64,
            "cpu_share": cpu / seconds,
            "rss_mib": after.1,
        })
    });
    let load = before.1.zip(after.1).map(|(before, after)| spent(before, after) / seconds);
    let figures = json!({
        "scenario": "relay",
        "pairs": args.pairs,
        "window": args.window,
        "size_bytes": args.size,
        "duration_s": seconds,
        "delivered": delivered,
        "accepted": shared.accept.len(),
        "messages_per_second": (delivered as f64 / seconds).round(),
        "delivery_us": percentiles(&shared.delivery),
        "accept_us": percentiles(&shared.accept),
        "server": server,
        "load_generator": { "cpu_share": load },
        "faults": { "lost": shared.lost, "disordered": shared.disordered },
    });
    println!("{figures}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args = Args::read()?;
    LocalSet::new().run_until(run(args)).await
}
