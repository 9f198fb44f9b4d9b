//! The driver around the Rust client: JSON lines in, JSON lines out.
//!
//! Each client lives in a runtime of its own, so that dropping the runtime is as near to the end of its process as one
//! gets within a process. Handlers do not exist here: a message is handled from when it is taken until the next event
//! is asked for, so that holding it is not asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use doorstep::client::{
    Accepted, Client, Closed, Event, Events, FileStorage, Options, Outgoing, SendError, SendFailure, TokenProvider,
    fresh_id,
};
use doorstep::ids::{DeviceId, MessageId, UserId};
use doorstep::presence::PresenceState;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

use super::command::{Command, ConnectOptions};

const LINES_MAX: usize = 1024;
const FEATURES: [&str; 2] = ["storage", "http_status"];

/// Does what `input` says until its end; what happens is said to `output`.
pub async fn drive(input: impl AsyncRead + Unpin, mut output: impl AsyncWrite + Send + Unpin + 'static) {
    let (said, mut lines) = mpsc::channel::<Value>(LINES_MAX);
    let writing = tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            output.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        }
    });
    said.send(json!({"event": "ready", "features": FEATURES})).await.unwrap();
    let mut driver = Driver { said, folder: tempfile::tempdir().unwrap(), running: None };
    let mut input = BufReader::new(input).lines();
    while let Some(line) = input.next_line().await.unwrap() {
        driver.obey(serde_json::from_str(&line).unwrap()).await;
    }
    driver.abandon().await;
    drop(driver);
    writing.await.unwrap();
}

struct Driver {
    said: mpsc::Sender<Value>,
    /// Of what is stored.
    folder: tempfile::TempDir,
    running: Option<Running>,
}

/// A client.
struct Running {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    commands: mpsc::Sender<Command>,
    hold: Arc<Hold>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only where a test failed and nobody waits for the end.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Whether what was taken is still being handled.
#[derive(Default)]
struct Hold {
    held: AtomicBool,
    changed: Notify,
}

impl Hold {
    fn set(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
        self.changed.notify_one();
    }

    async fn released(&self) {
        while self.held.load(Ordering::SeqCst) {
            self.changed.notified().await;
        }
    }
}

impl Driver {
    async fn obey(&mut self, command: Command) {
        match (command, &self.running) {
            (Command::Connect { url, user, device, options }, _) => {
                self.abandon().await;
                self.running = Some(self.connect(url, user, device, *options));
            }
            (Command::Abandon {}, _) => self.abandon().await,
            (Command::Hold {}, Some(running)) => running.hold.set(true),
            // What was held went with its client.
            (Command::Release {}, running) => running.iter().for_each(|running| running.hold.set(false)),
            (command, Some(running)) => running.commands.send(command).await.unwrap(),
            (command, None) => panic!("{command:?} without a client"),
        }
    }

    fn connect(&self, url: String, user: Option<String>, device: Option<String>, told: ConnectOptions) -> Running {
        let storage = told.storage.as_ref().map(|name| FileStorage::open(self.folder.path().join(name)).unwrap());
        let device = match (device, &storage) {
            (Some(device), _) => DeviceId::new(&device).unwrap(),
            (None, Some(storage)) => storage.device(),
            (None, None) => DeviceId::new(fresh_id().as_str()).unwrap(),
        };
        let mut options = options(url, user, device, told);
        if let Some(storage) = storage {
            options = options.storage(Arc::new(storage));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (commands, to_do) = mpsc::channel(LINES_MAX);
        let hold = Arc::new(Hold::default());
        let (said, handling) = (self.said.clone(), hold.clone());
        runtime.spawn(async move {
            let (client, events) = Client::connect(options);
            serve(client, events, to_do, said, handling).await;
        });
        Running { runtime: Some(runtime), commands, hold }
    }

    /// Ends the client where it stands.
    async fn abandon(&mut self) {
        if let Some(runtime) = self.running.take().and_then(|mut running| running.runtime.take()) {
            let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(60)));
            ended.await.unwrap();
        }
    }
}

fn options(url: String, user: Option<String>, device: DeviceId, told: ConnectOptions) -> Options {
    let usual = Options::new(url, device);
    let or = |ms: Option<u64>, usual: Duration| ms.map_or(usual, Duration::from_millis);
    Options {
        user: user.map(|user| UserId::new(&user).unwrap()),
        token: told.tokens.map(provider),
        status: told.status.as_deref().map_or(PresenceState::Online, state),
        window: told.window,
        send_timeout: or(told.send_timeout_ms, usual.send_timeout),
        connect_timeout: or(told.connect_timeout_ms, usual.connect_timeout),
        backoff_min: or(told.backoff_min_ms, usual.backoff_min),
        backoff_max: or(told.backoff_max_ms, usual.backoff_max),
        ..usual
    }
}

fn provider(tokens: Vec<String>) -> TokenProvider {
    let next = AtomicUsize::new(0);
    TokenProvider::new(move || {
        let at = next.fetch_add(1, Ordering::Relaxed).min(tokens.len() - 1);
        std::future::ready(Ok(tokens[at].clone()))
    })
}

fn state(name: &str) -> PresenceState {
    serde_json::from_value(json!(name)).unwrap()
}

/// Calls are begun in the order of the commands, and go on while others are.
async fn serve(
    client: Client,
    mut events: Events,
    mut commands: mpsc::Receiver<Command>,
    said: mpsc::Sender<Value>,
    hold: Arc<Hold>,
) {
    let mut calls: FuturesUnordered<BoxFuture<'static, Option<Value>>> = FuturesUnordered::new();
    let (mut open, mut in_hand) = (true, false);
    loop {
        let line = tokio::select! {
            biased;
            command = commands.recv() => {
                let Some(command) = command else { return };
                let mut call = call(client.clone(), command).boxed();
                match (&mut call).now_or_never() {
                    Some(line) => line,
                    None => {
                        calls.push(call);
                        continue;
                    }
                }
            }
            Some(line) = calls.next() => line,
            event = next(&mut events, &hold, in_hand), if open => {
                open = event.is_some();
                in_hand = matches!(event, Some(Event::Message(_)));
                event.as_ref().and_then(told)
            }
        };
        if let Some(line) = line {
            said.send(line).await.unwrap();
        }
    }
}

async fn next(events: &mut Events, hold: &Hold, in_hand: bool) -> Option<Event> {
    if in_hand {
        hold.released().await;
    }
    events.next().await
}

async fn call(client: Client, command: Command) -> Option<Value> {
    let users = |names: Vec<String>| names.into_iter().map(|name| UserId::new(&name).unwrap()).collect::<Vec<_>>();
    match command {
        Command::Send { reference, to, body, id, ttl_ms } => {
            let mut message = Outgoing::new(&UserId::new(&to).unwrap(), &body).unwrap();
            message.id = id.map_or(message.id, |id| MessageId::new(&id).unwrap());
            message.ttl = ttl_ms.map(Duration::from_millis);
            let mut line = answer(&client.send_message(message).await)?;
            line["ref"] = json!(reference);
            return Some(line);
        }
        Command::Ephemeral { to, body } => client.send_ephemeral(&UserId::new(&to).unwrap(), &body).await.unwrap(),
        Command::Watch { users: names } => client.watch(users(names)).await.unwrap(),
        Command::Unwatch { users: names } => client.unwatch(users(names)).await.unwrap(),
        Command::Status { state: name, text } => client.set_status(state(&name), text.as_deref()).await.unwrap(),
        Command::Close {} => client.close().await,
        Command::Forget {} => client.forget().await,
        other => panic!("{other:?} is not for a client in Rust"),
    }
    None
}

/// Nothing when the message is kept.
fn answer(answer: &Result<Accepted, SendError>) -> Option<Value> {
    let SendError { maybe_taken, cause, .. } = match answer {
        Ok(Accepted { id, seq, stored }) => {
            return Some(json!({"event": "accepted", "id": id, "seq": seq, "stored": stored}));
        }
        Err(error) => error,
    };
    let code = match cause {
        SendFailure::Rejected { code, .. } => code.to_string(),
        SendFailure::TimedOut { .. } => "timeout".to_owned(),
        SendFailure::Closed => "closed".to_owned(),
        SendFailure::Kept => return None,
        SendFailure::AlreadyPending | SendFailure::Body(_) => "bad_request".to_owned(),
    };
    Some(json!({"event": "failed", "code": code, "maybe_taken": maybe_taken}))
}

fn told(event: &Event) -> Option<Value> {
    Some(match event {
        Event::Connected(welcome) => {
            json!({"event": "connected", "user": welcome.user, "device": welcome.device, "gap": welcome.gap})
        }
        Event::Message(message) => {
            let mut line = json!({"event": "message", "seq": message.seq, "id": message.id, "from": message.from});
            // A body that is beyond this library of JSON has no place in a line.
            if let Ok(body) = serde_json::from_str::<Value>(message.body.get()) {
                line["body"] = body;
            }
            line
        }
        Event::Ephemeral(message) => {
            let body: Value = serde_json::from_str(message.body.get()).unwrap();
            json!({"event": "ephemeral", "from": message.from, "body": body})
        }
        Event::CaughtUp { seq } => json!({"event": "caught_up", "seq": seq}),
        Event::Presence(users) => json!({"event": "presence", "users": users}),
        Event::Settled { result, .. } => return answer(result),
        Event::Refused { code, .. } => json!({"event": "refused", "code": code}),
        Event::Disconnected { close_code: Some(code), .. } => json!({"event": "disconnected", "close_code": code}),
        Event::Disconnected { close_code: None, .. } => json!({"event": "disconnected"}),
        Event::Closed(closed) => end(closed),
        Event::PutOff { .. } => return None,
    })
}

fn end(closed: &Closed) -> Value {
    let reason = match closed {
        Closed::Refused { close_code, .. } => {
            return json!({"event": "closed", "reason": "refused", "close_code": close_code});
        }
        Closed::Done => "done",
        Closed::NotAuthenticated { .. } => "not_authenticated",
        Closed::Impossible { .. } | Closed::Storage { .. } => "impossible",
    };
    json!({"event": "closed", "reason": reason})
}
