//! What outlives a client: nothing goes out, and nothing is acked, before it is written; who fails to write ends.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use doorstep::client::{Change, Client, Closed, Event, FileStorage, Kept, Options, Outgoing, SendFailure, Storage};
use serde_json::json;

use crate::client_library::script::{Server, connected, next, next_message, user, within};

/// A storage that writes when the test says so.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    broken: bool,
    written: Vec<String>,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

impl Storage for Gate {
    fn load(&self) -> io::Result<Kept> {
        Ok(Kept::default())
    }

    fn write(&self, changes: &[Change]) -> io::Result<()> {
        let mut state =
            self.changed.wait_while(self.state.lock().unwrap(), |state| !state.open && !state.broken).unwrap();
        if state.broken {
            return Err(io::Error::other("the disk is on fire"));
        }
        state.written.extend(changes.iter().map(|change| match change {
            Change::User(user) => format!("user {user}"),
            Change::Send(send) => format!("send {}", send.body),
            Change::Settled { .. } => "settled".to_owned(),
            Change::Done { seq, .. } => format!("done {seq}"),
            Change::Forgotten => "forgotten".to_owned(),
        }));
        Ok(())
    }
}

fn options(server: &Server, gate: &Arc<Gate>) -> Options {
    server.options().storage(gate.clone())
}

#[tokio::test]
async fn nothing_goes_out_and_nothing_is_acked_before_it_is_written() {
    let server = Server::start().await;
    let gate = Arc::new(Gate::default());
    let (client, mut events) = Client::connect(options(&server, &gate));
    let mut peer = server.welcome().await;
    connected(&mut events).await;
    peer.deliver(1, "a", false).await;
    assert_eq!(next_message(&mut events).await, 1);
    events.done();
    let sending = client.clone();
    let sent = tokio::spawn(async move { sending.send(&user("bob"), "hi").await });
    // An answered ping proves that the client had every chance to say more than that.
    let pinging = client.clone();
    let ping = tokio::spawn(async move { pinging.ping().await });
    let frame = peer.hear_a("ping").await;
    peer.say(json!({"type": "pong", "n": frame["n"]})).await;
    within("the pong", ping).await.unwrap().unwrap();
    gate.set(|state| state.open = true);
    let mut heard = [peer.hear().await, peer.hear().await];
    heard.sort_by_key(|frame| frame["type"].to_string());
    assert_eq!((&heard[0]["seq"], &heard[1]["body"]), (&json!(1), &json!("hi")));
    peer.accept(&heard[1], true).await;
    within("the answer", sent).await.unwrap().unwrap();
    // What the application was told does not hang on an orderly end.
    let mut written = gate.state.lock().unwrap().written.clone();
    written.sort();
    assert_eq!(written, ["done 1", "send \"hi\"", "settled", "user me"]);
}

#[tokio::test]
async fn a_storage_that_fails_is_the_end() {
    let server = Server::start().await;
    let gate = Arc::new(Gate::default());
    let (client, mut events) = Client::connect(options(&server, &gate));
    let _peer = server.welcome().await;
    connected(&mut events).await;
    let sent = tokio::spawn(async move { client.send(&user("bob"), "hi").await });
    gate.set(|state| state.broken = true);
    let error = within("the answer", sent).await.unwrap().unwrap_err();
    assert_eq!((error.cause, error.maybe_taken), (SendFailure::Closed, false));
    match next(&mut events).await {
        Event::Closed(Closed::Storage { reason }) => assert!(reason.contains("on fire"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_kept_is_of_one_user() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(FileStorage::open(folder.path().join("me")).unwrap());
    let (client, mut events) = Client::connect(server.options().storage(open()));
    let _peer = server.welcome().await;
    connected(&mut events).await;
    within("the end", client.close()).await;
    while !matches!(next(&mut events).await, Event::Closed(Closed::Done)) {}
    drop((client, events));
    let (_client, mut events) =
        Client::connect(Options { user: Some(user("you")), ..server.options().storage(open()) });
    let mut peer = server.accept().await;
    let mut frame = crate::client_library::script::welcome();
    frame["user"] = json!("you");
    peer.say(frame).await;
    while !matches!(next(&mut events).await, Event::Closed(Closed::Impossible { .. })) {}
}

#[tokio::test]
async fn a_time_that_is_over_is_told_also_when_the_storage_hangs() {
    let server = Server::start().await;
    let gate = Arc::new(Gate::default());
    let (client, mut events) = Client::connect(options(&server, &gate));
    let _peer = server.welcome().await;
    connected(&mut events).await;
    for _ in 0..2 {
        let message = Outgoing::new(&user("bob"), "hi").unwrap().timeout(Duration::from_millis(50));
        let failed = within("the answer", client.send_message(message)).await.unwrap_err();
        assert!(matches!(failed.cause, SendFailure::TimedOut { .. }) && !failed.maybe_taken, "{failed}");
    }
    gate.set(|state| state.open = true);
    client.close().await;
    let written = gate.state.lock().unwrap().written.clone();
    assert_eq!(
        written.iter().filter(|change| *change == "settled").count(),
        2,
        "nothing is left to be sent: {written:?}"
    );
}
