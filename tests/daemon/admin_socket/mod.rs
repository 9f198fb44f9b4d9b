//! The side door as its callers see it: real HTTP over a real Unix socket, a real store in memory, and
//! owners that are played here.

mod changes;
mod events;
mod looks;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use doorstep::admin::{AdminDesk, AdminDoor, Controls};
use doorstep::clock::{self, Clock};
use doorstep::config::Config;
use doorstep::ids::{DeviceId, MessageId, Seq, SessionId, UserId};
use doorstep::message::{Message, Tally};
use doorstep::metrics::Metrics;
use doorstep::presence::{PresenceInfo, PresenceState};
use doorstep::routing::command::{Command, DeviceView, NotDone, NotRequeued, Query, SessionView, ShardStats, UserView};
use doorstep::routing::events::Events;
use doorstep::routing::outstanding::Outstanding;
use doorstep::routing::presence_view::PresenceView;
use doorstep::routing::router::Router;
use doorstep::routing::session_handle::{Answer, Outcome, Sender};
use doorstep::routing::shard::Mail;
use doorstep::shutdown::{self, Announcer};
use doorstep::store::memory::MemoryEngine;
use doorstep::store::writer::{Cellar, Writer};
use doorstep::store::{CommitReport, Op, Reporter, StoreError, StoreState, What, Write};

const SHARDS: usize = 3;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A served admin door with everything behind it.
struct House {
    _home: tempfile::TempDir,
    socket: PathBuf,
    announcer: Announcer,
    engine: Arc<MemoryEngine>,
    writer: Writer,
    reports: Mutex<mpsc::Receiver<CommitReport>>,
    controls: Arc<PlayedControls>,
    expiry_paused: Arc<AtomicBool>,
    play: Arc<Mutex<Play>>,
    owners: Vec<JoinHandle<()>>,
    served: JoinHandle<()>,
    events: Events,
}

/// What the played owners know and say, and what they heard.
#[derive(Default)]
struct Play {
    users: HashMap<UserId, UserView>,
    sessions: Vec<SessionView>,
    /// The answer to every send; none means that it is dropped unanswered.
    outcome: Option<Outcome>,
    /// Senders are kept, so that not even the dropping is noticed.
    keeps_senders: bool,
    kept: Vec<Sender>,
    /// The answer to purge, kick and forget.
    done: Option<NotDone>,
    /// The answer to requeue, if not a good one.
    requeued: Option<Result<Seq, NotRequeued>>,
    heard: Vec<String>,
    bodies: Vec<String>,
}

struct PlayedControls {
    writer: Writer,
    poisoned: AtomicBool,
    drained: AtomicBool,
}

impl Controls for PlayedControls {
    fn drain(&self) {
        self.drained.store(true, Ordering::SeqCst);
    }

    fn store_state(&self) -> StoreState {
        if self.poisoned.load(Ordering::SeqCst) { StoreState::Poisoned } else { self.writer.state() }
    }

    fn clear_dead_letters(&self) -> Result<u64, StoreError> {
        self.writer.clear_dead_letters()
    }

    fn exposition(&self) -> Result<String, String> {
        Ok("doorstep_sends_total 0\n# EOF\n".to_owned())
    }
}

struct Reports(mpsc::SyncSender<CommitReport>);

impl Reporter for Reports {
    fn committed(&self, _shard: usize, report: CommitReport) {
        self.0.send(report).unwrap();
    }
    fn ceiling(&self, _ceiling: Seq) {}
    fn state(&self, _state: StoreState) {}
}

async fn play_owner(shard: usize, router: Router, mut ends: Mail, play: Arc<Mutex<Play>>) {
    loop {
        tokio::select! {
            Some(query) = ends.queries.recv() => answer_query(shard, &router, query, &play.lock().unwrap()),
            Some(batch) = ends.batches.recv() => {
                for command in batch {
                    obey(shard, command, &mut play.lock().unwrap());
                }
            }
            else => return,
        }
    }
}

fn answer_query(shard: usize, router: &Router, query: Query, play: &Play) {
    match query {
        Query::User { user, reply } => {
            assert_eq!(router.shard_of(&user), shard, "asked the wrong owner");
            reply.send(play.users.get(&user).cloned()).unwrap();
        }
        Query::Sessions { after, limit, reply } => {
            let mine = play.sessions.iter().filter(|view| router.shard_of(&view.user) == shard);
            let mut mine: Vec<_> =
                mine.filter(|view| after.is_none_or(|after| view.session > after)).cloned().collect();
            mine.sort_by_key(|view| view.session);
            mine.truncate(limit);
            reply.send(mine).unwrap();
        }
        Query::Stats { reply } => {
            reply.send(ShardStats { shard, users_loaded: 10, ..ShardStats::default() }).unwrap();
        }
    }
}

fn obey(shard: usize, command: Command, play: &mut Play) {
    let done = play.done.map_or(Ok(()), Err);
    match command {
        Command::Send(send) => {
            let Message { from, id, body, ts_ms, expires_ms, retry, .. } = &*send.message;
            play.heard.push(format!("send {from} {} {id} ttl {} retry {retry}", send.to, expires_ms - ts_ms));
            play.bodies.push(String::from_utf8(body.to_vec()).unwrap());
            if let Some(outcome) = play.outcome.clone() {
                send.sender.answer(Answer { message: send.message.clone(), to: send.to.clone(), outcome });
                send.sender.wake();
            } else if play.keeps_senders {
                play.kept.push(send.sender);
            }
        }
        Command::Kick { user, session, reply } => {
            play.heard.push(format!("kick {user} {session}"));
            reply.send(done).unwrap();
        }
        Command::ForgetDevice { user, device, reply } => {
            play.heard.push(format!("forget {user} {device}"));
            reply.send(done).unwrap();
        }
        Command::Purge { user, only, reply } => {
            play.heard.push(format!("purge {user} {only:?}"));
            reply.send(done.map(|()| 2)).unwrap();
        }
        Command::Requeue(requeue) => {
            play.heard.push(format!("requeue {} {} ttl {}", requeue.user, requeue.letter, requeue.ttl_ms));
            requeue.reply.send(play.requeued.unwrap_or(Ok(Seq(2001)))).unwrap();
        }
        Command::PauseExpiry(pause) => play.heard.push(format!("pause {pause} {shard}")),
        _ => panic!("the admin door has no business with this command"),
    }
}

impl House {
    async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    async fn open_with(change: impl FnOnce(&mut Config)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        change(&mut config);
        let config = Arc::new(config);
        let metrics = Metrics::new();
        let engine = MemoryEngine::new();
        let cellar =
            Cellar::open_on(engine.clone(), &config.store, &config.queue, metrics.clone(), clock::wall_us() / 1000);
        let cellar = cellar.unwrap();
        let (reader, clock) = (cellar.reader.clone(), Clock::start(cellar.boot.floor.0));
        let (to_reports, reports) = mpsc::sync_channel(64);
        let writer = cellar.start(SHARDS, clock, Arc::new(Reports(to_reports))).unwrap();
        let (router, ends) = doorstep::routing::mailboxes(SHARDS, 8);
        let play = Arc::new(Mutex::new(Play::default()));
        let owners = ends.into_iter().enumerate();
        let owners = owners.map(|(shard, ends)| tokio::spawn(play_owner(shard, router.clone(), ends, play.clone())));
        let owners = owners.collect();
        let (announcer, listener) = shutdown::channel();
        let controls = Arc::new(PlayedControls {
            writer: writer.clone(),
            poisoned: AtomicBool::default(),
            drained: AtomicBool::default(),
        });
        let expiry_paused = Arc::new(AtomicBool::new(false));
        let events = Events::default();
        let desk = AdminDesk {
            router,
            view: PresenceView::default(),
            events: events.clone(),
            outstanding: Outstanding::new(100),
            reader,
            metrics,
            controls: controls.clone(),
            config_json: serde_json::json!({ "queue": { "ttl": "30d" } }),
            config,
            expiry_paused: expiry_paused.clone(),
            clock,
            presence_floor: 0,
            started_ms: clock.now().wall_ms,
        };
        let socket = home.path().join("run/doorstep.sock");
        let door = AdminDoor::bind(&socket).await.unwrap();
        let served = tokio::spawn(door.run(desk, listener));
        let reports = Mutex::new(reports);
        Self {
            _home: home,
            socket,
            announcer,
            engine,
            writer,
            reports,
            controls,
            expiry_paused,
            play,
            owners,
            served,
            events,
        }
    }

    fn play(&self, change: impl FnOnce(&mut Play)) {
        change(&mut self.play.lock().unwrap());
    }

    fn heard(&self) -> Vec<String> {
        self.play.lock().unwrap().heard.clone()
    }

    /// Commits writes and waits until they are on disk.
    fn commit(&self, writes: Vec<Write>) {
        let mut waiting = writes.len();
        self.writer.submit(0, writes);
        while waiting > 0 {
            let report = self.reports.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            assert!(report.error.is_none());
            waiting -= report.written.len();
        }
    }

    /// Puts messages with these bodies into the inbox of `user`, at seqs 1001, 1002 …
    fn store(&self, user: &str, bodies: &[&str]) {
        let mut tally = Tally::default();
        let writes = bodies.iter().enumerate().map(|(at, body)| {
            let message = Arc::new(message(1001 + at as u64, body));
            tally = tally.plus(message.weight());
            append(user, message, tally)
        });
        self.commit(writes.collect());
    }

    fn change(&self, user: &str, op: Op) {
        self.commit(vec![Write { user: id(user), what: What::Change { token: 1, ops: vec![op] } }]);
    }

    async fn get(&self, target: &str) -> Reply {
        self.call("GET", target, "").await
    }

    async fn call(&self, method: &str, target: &str, body: &str) -> Reply {
        let length = body.len();
        self.raw(&format!("{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")).await
    }

    async fn raw(&self, request: &str) -> Reply {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let exchange = async {
            // A refused request may be answered before it was read to its end.
            let _cut_short = stream.write_all(request.as_bytes()).await.is_err();
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer).await.is_err();
            answer
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer");
        Reply::parse(String::from_utf8(answer).unwrap())
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    text: String,
}

impl Reply {
    fn parse(answer: String) -> Self {
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self { status: status.expect("a status"), head: head.to_ascii_lowercase(), text: text.to_owned() }
    }

    /// The document of a good answer.
    fn good(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        self.json()
    }

    /// The code of a problem, which must have this status.
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let document = self.json();
        assert_eq!(document["status"], status);
        assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        document["code"].as_str().unwrap().to_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn message(seq: u64, body: &str) -> Message {
    Message {
        seq: Seq(seq),
        id: MessageId::new(&format!("m{seq}")).unwrap(),
        from: id("alice"),
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        ts_ms: seq + 1_000_000,
        expires_ms: u64::MAX / 2,
        retry: false,
    }
}

fn append(user: &str, message: Arc<Message>, tally: Tally) -> Write {
    Write { user: id(user), what: What::Append { message, tally, digest: 0, ticket: Default::default() } }
}

fn session(number: u128, user: &str, device: &str) -> SessionView {
    SessionView {
        session: SessionId(number),
        user: id(user),
        device: id(device),
        state: PresenceState::Online,
        peer: "127.0.0.1:9".to_owned(),
        attached_ms: 5,
        window: 16,
        in_flight: 0,
    }
}

/// A user in memory with one live device.
fn in_memory(user: &str) -> UserView {
    let device = DeviceView {
        device: DeviceId::new("phone").unwrap(),
        cursor: Seq(1001),
        pushed_upto: Seq(1002),
        last_seen_ms: 9,
        backlog_messages: 1,
        backlog_bytes: 70,
        in_flight: 1,
        live: true,
        session: Some(session(7, user, "phone")),
    };
    UserView {
        user: id(user),
        presence: PresenceInfo {
            user: id(user),
            state: PresenceState::Offline,
            text: None,
            last_seen_ms: Some(9),
            version: 77,
        },
        own_state: PresenceState::Invisible,
        last_assigned: Seq(1002),
        devices: vec![device],
        watchers: 3,
        backlog_messages: 1,
        backlog_bytes: 70,
    }
}
