//! Goal: where the router may not write it does not start; it says what it could not write, and changes
//! nothing. What was accepted is there once it may write again.
//! Method: a small file system made read-only under a stopped router; where this user may not mount, a
//! directory whose permissions say the same; and a file that stands where the directory should be.

use std::fs;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::{Daemon, Exited};
use crate::common::history::History;
use crate::common::traffic::collect;
use crate::lifecycle::place::SmallDisk;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_became_read_only_is_refused_and_whole_afterwards() {
    let Some(disk) = SmallDisk::mount_or_lock(32) else { return };
    let history = History::new();
    let path = disk.store().to_str().unwrap().to_owned();
    let mut daemon = Daemon::start(|settings| {
        settings.set("store.path", path.clone());
    })
    .await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    for id in ["m1", "m2", "m3"] {
        alice.send("bob", id, "hello").await;
        alice.expect("accepted").await;
    }
    assert!(daemon.terminate().await.success());

    disk.set_read_only(true);
    assert_refused(daemon.try_restart().await, &path);
    disk.set_read_only(false);
    daemon.restart().await;
    let got = collect(&daemon, "bob", "phone", &history).await;
    assert_eq!(got.iter().map(|message| &message["id"]).collect::<Vec<_>>(), ["m1", "m2", "m3"]);
    assert!(got.iter().all(|message| message["redelivered"].is_null()), "no crash was seen in between: {got:?}");
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_where_no_store_can_be_made_is_refused() {
    let Some(disk) = SmallDisk::mount_or_lock(32) else { return };
    disk.set_read_only(true);
    let path = disk.store().to_str().unwrap().to_owned();
    let refused = Daemon::try_start(|settings| {
        settings.set("store.path", path.clone());
    })
    .await;
    assert_refused(refused.map(drop), &path);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_where_the_directory_should_be_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    for place in [file.clone(), file.join("data")] {
        let path = place.to_str().unwrap().to_owned();
        let refused = Daemon::try_start(|settings| {
            settings.set("store.path", path.clone());
        })
        .await;
        assert_refused(refused.map(drop), file.to_str().unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}

fn assert_refused(start: Result<(), Exited>, path: &str) {
    let Err(exited) = start else { panic!("it started where it cannot write") };
    assert_eq!(exited.status.code(), Some(1), "{}", exited.stderr);
    let last = exited.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(path), "the last words do not name {path}: {}", exited.stderr);
    assert!(!exited.stderr.contains("panicked"), "{}", exited.stderr);
}
