//! Goal: a data directory that cannot be written is refused at the start, by name; one that fills up while
//! the router runs loses nothing that was accepted.
//! Method: a directory that nobody may create, root included; a small file system in memory where the test
//! may mount one (root on Linux), filled up from beside. Without that right the full disk is the business
//! of the engine in memory: a failed write is a failed write (unknown_outcome_on_a_failed_commit…).

use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::client::{Options, TestClient};
use super::common::daemon::Daemon;
use super::common::history::History;
use super::common::wait;
use super::support::{enter, register, retry, send};

#[tokio::test]
async fn a_directory_that_cannot_be_created_is_refused() {
    let path = "/proc/doorstep/data";
    match Daemon::try_start(|settings| _ = settings.set("store.path", path)).await {
        Ok(_) => panic!("it should not have started"),
        Err(exited) => {
            assert_eq!(exited.status.code(), Some(1), "{}", exited.stderr);
            assert!(exited.stderr.contains(path), "{}", exited.stderr);
        }
    }
}

#[tokio::test]
async fn a_read_only_directory_is_refused_and_left_as_it_is() {
    let Some(mount) = Mount::new("size=64m") else { return };
    let data = mount.0.join("data");
    let mut daemon = Daemon::start(|settings| _ = settings.set("store.path", text(&data))).await;
    assert!(daemon.terminate().await.success());
    mount.run("mount", &["-o", "remount,ro", &text(&mount.0)]);
    let exited = daemon.try_restart().await.expect_err("nothing can be written");
    assert_eq!(exited.status.code(), Some(1), "{}", exited.stderr);
    assert!(exited.stderr.contains(&text(&data)), "{}", exited.stderr);
    mount.run("mount", &["-o", "remount,rw", &text(&mount.0)]);
    daemon.restart().await;
}

#[tokio::test]
async fn a_disk_that_fills_up_loses_nothing() {
    let Some(mount) = Mount::new("size=160m") else { return };
    let data = mount.0.join("data");
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings.set("store.path", text(&data)).set("store.min_free", "0B").set("store.poison_grace", "100ms");
    })
    .await;
    register(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let first = send(&mut alice, "bob", "m0", "while there was room").await;
    assert_eq!(first["type"], "accepted", "{first}");
    let filler = mount.fill();
    let body = "x".repeat(60_000);
    let mut open = Vec::new();
    for number in 1.. {
        let id = format!("m{number}");
        let answer = send(&mut alice, "bob", &id, &body).await;
        if answer["type"] == "rejected" {
            assert_eq!(answer["code"], "unknown_outcome", "{answer}");
            open.push(id);
            break;
        }
        assert!(number < 5000, "the disk is never full");
    }
    let status = daemon.exit().await;
    assert_eq!(status.code(), Some(75), "for the supervisor to start it again: {status}");

    std::fs::remove_file(filler).unwrap();
    daemon.restart().await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    for id in open {
        let answer = retry(&mut alice, "bob", &id, &body).await;
        assert_eq!(answer["type"], "accepted", "{answer}");
    }
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    loop {
        let frame = bob.recv().await;
        if frame["type"] == "caught_up" {
            break;
        }
        bob.ack(frame["seq"].as_u64().unwrap()).await;
    }
    wait::until("the queue to be drained", async || (super::support::waiting(&daemon, "bob").await == 0).then_some(()))
        .await;
    history.assert_clean();
    drop(daemon);
}

/// A small file system of its own, in memory; gone when dropped.
struct Mount(PathBuf, #[allow(dead_code, reason = "keeps the directory")] tempfile::TempDir);

impl Mount {
    /// None where the test may not mount.
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("doorstep-disk-").tempdir().unwrap();
        let path = dir.path().to_owned();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "doorstep"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(path, dir));
        }
        println!("not run: no right to mount a file system");
        None
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Fills it up but for about a megabyte; returns what to remove again.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let free = rustix::fs::statvfs(&self.0).unwrap();
        let bytes = (free.f_bavail * free.f_frsize).saturating_sub(1 << 20);
        std::fs::write(&filler, vec![1; bytes as usize]).unwrap();
        filler
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _left = Command::new("umount").arg("-l").arg(&self.0).status().is_err();
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
