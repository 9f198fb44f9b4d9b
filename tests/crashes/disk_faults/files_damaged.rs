//! Goal: where a file of a store is missing or shorter than it was left, the router refuses to start and
//! names the file, or everything that was accepted is there.
//! Method: a store with tables and journals is made by the real daemon and copied; each file of a copy is taken
//! away or cut, and the router started on it.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::client::TestClient;
use crate::common::daemon::Daemon;

/// What one message takes, and so many that tables are written.
const BODY_BYTES: usize = 60_000;
const MESSAGES: usize = 330;
/// Sends that are unanswered at once.
const WINDOW: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_shortened_file_is_refused_or_costs_nothing() {
    let (_maker, store) = make().await;
    let (mut faults, mut refused, mut whole) = (Vec::new(), 0, 0);
    for file in telling(&store) {
        let length = fs::metadata(store.join(&file)).unwrap().len();
        for damage in damages(length) {
            let fault = match try_on(&store, &file, damage).await {
                Outcome::Refused(last) if last.contains(&*file.to_string_lossy()) => {
                    refused += 1;
                    continue;
                }
                Outcome::Refused(last) => format!("it is not named: {last}"),
                Outcome::Started(MESSAGES) => {
                    whole += 1;
                    continue;
                }
                Outcome::Started(messages) => format!("only {messages} messages are there"),
            };
            faults.push(format!("{damage:?} of {length} {}: {fault}", file.display()));
        }
    }
    println!("{refused} times refused, {whole} times everything was there");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(refused > 15 && whole > 3, "{refused} times refused, {whole} times whole");
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Missing,
    CutTo(u64),
}

/// A quarter of a journal is less than what is written of it.
fn damages(length: u64) -> Vec<Damage> {
    let mut all = vec![Damage::Missing];
    if length > 0 {
        all.extend([0, length / 4].map(Damage::CutTo));
    }
    all
}

enum Outcome {
    /// With these last words.
    Refused(String),
    /// With so many messages.
    Started(usize),
}

/// A store with a backlog for bob, and the daemon whose directory it is in.
async fn make() -> (Daemon, PathBuf) {
    let mut daemon = Daemon::start(|_| ()).await;
    TestClient::connect(&daemon, "bob", "phone").await.leave().await;
    let mut alice = TestClient::connect(&daemon, "alice", "phone").await;
    alice.expect("caught_up").await;
    let body = "x".repeat(BODY_BYTES);
    for n in 0..MESSAGES + WINDOW {
        if n < MESSAGES {
            alice.send("bob", &format!("m{n}"), body.as_str()).await;
        }
        if n >= WINDOW {
            alice.expect("accepted").await;
        }
    }
    assert!(daemon.terminate().await.success());
    let store = daemon.data_dir();
    (daemon, store)
}

async fn try_on(store: &Path, file: &Path, damage: Damage) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("data");
    copy_all(store, &copy);
    let damaged = copy.join(file);
    match damage {
        Damage::Missing => fs::remove_file(&damaged).unwrap(),
        Damage::CutTo(length) => OpenOptions::new().write(true).open(&damaged).unwrap().set_len(length).unwrap(),
    }
    let start = Daemon::try_start(|settings| {
        settings.set("store.path", copy.to_str().unwrap());
    });
    match start.await {
        Err(exited) => {
            assert!(!exited.stderr.contains("panicked"), "{}", exited.stderr);
            Outcome::Refused(exited.stderr.lines().last().unwrap_or_default().to_owned())
        }
        Ok(daemon) => Outcome::Started(drain(&daemon).await),
    }
}

/// Takes all that bob is given, which must be in order; returns how many there were.
async fn drain(daemon: &Daemon) -> usize {
    let mut bob = TestClient::connect(daemon, "bob", "phone").await;
    let mut count = 0;
    loop {
        let frame: Value = bob.recv().await;
        if frame["type"] == "caught_up" {
            return count;
        }
        assert_eq!(frame["id"], format!("m{count}"));
        bob.ack(frame["seq"].as_u64().unwrap()).await;
        count += 1;
    }
}

/// Each kind of file once or twice; without versions of the trees that are not the present ones any more.
fn telling(store: &Path) -> Vec<PathBuf> {
    let all = files(store);
    let in_keyspace = |file: &&PathBuf, number| file.starts_with(format!("keyspaces/{number}"));
    let mut chosen: Vec<_> = all.iter().filter(|file| !file.starts_with("keyspaces")).cloned().collect();
    for number in [0, 1, 2] {
        let folder = PathBuf::from(format!("keyspaces/{number}"));
        let present = fs::read(store.join(&folder).join("current")).unwrap();
        let version = u64::from_le_bytes(*present.first_chunk().unwrap());
        chosen.extend([folder.join("current"), folder.join(format!("v{version}"))]);
        chosen.extend(
            all.iter()
                .filter(|file| in_keyspace(file, number))
                .find(|file| file.starts_with(folder.join("tables")))
                .cloned(),
        );
    }
    chosen
}

/// All files below, as paths from there.
fn files(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(store).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn copy_all(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(&file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(from.join(&file), copy).unwrap();
    }
}
