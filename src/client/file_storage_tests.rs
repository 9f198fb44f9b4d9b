//! What a file holds after orderly ends, torn ends, rewrites and mistakes.

use std::time::Duration;

use serde_json::value::RawValue;
use tempfile::TempDir;

use super::*;
use crate::client::storage::KeptSend;
use crate::ids::{MessageId, Seq, UserId};

fn send(id: &str, body: &str) -> Change {
    let body = RawValue::from_string(body.to_owned()).unwrap();
    let ttl = Some(Duration::from_secs(1));
    Change::Send(KeptSend { id: MessageId::new(id).unwrap(), to: UserId::new("bob").unwrap(), body, ttl })
}

fn settled(id: &str) -> Change {
    Change::Settled { id: MessageId::new(id).unwrap(), to: UserId::new("bob").unwrap() }
}

fn ids(kept: &Kept) -> Vec<&str> {
    kept.sends.iter().map(|send| send.id.as_str()).collect()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("laptop.doorstep");
    (folder, path)
}

#[test]
fn what_was_written_is_there_in_the_next_process() {
    let (_folder, path) = folder();
    let storage = FileStorage::open(&path).unwrap();
    let device = storage.device();
    storage
        .write(&[Change::User(UserId::new("me").unwrap()), send("a", "1"), send("b", "{ }"), send("c", "3")])
        .unwrap();
    storage
        .write(&[settled("b"), Change::Done { seq: Seq(7), name: 70 }, Change::Done { seq: Seq(9), name: 90 }])
        .unwrap();
    drop(storage);
    let storage = FileStorage::open(&path).unwrap();
    let kept = storage.load().unwrap();
    assert_eq!((storage.device(), kept.user.as_ref().unwrap().as_str()), (device, "me"));
    assert_eq!((ids(&kept), kept.done, &kept.names[..]), (vec!["a", "c"], Seq(9), &[70, 90][..]));
    storage.write(&[settled("a"), send("d", "4")]).unwrap();
    drop(storage);
    assert_eq!(ids(&FileStorage::open(&path).unwrap().load().unwrap()), ["c", "d"]);
}

#[test]
fn a_batch_that_was_torn_is_not_there_and_what_follows_is() {
    let (_folder, path) = folder();
    FileStorage::open(&path).unwrap().write(&[send("a", "1")]).unwrap();
    let whole = fs::metadata(&path).unwrap().len();
    FileStorage::open(&path).unwrap().write(&[send("b", "2"), send("c", "3")]).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(whole + 40).unwrap();
    let storage = FileStorage::open(&path).unwrap();
    assert_eq!(ids(&storage.load().unwrap()), ["a"]);
    storage.write(&[send("d", "4")]).unwrap();
    drop(storage);
    assert_eq!(ids(&FileStorage::open(&path).unwrap().load().unwrap()), ["a", "d"]);
}

#[test]
fn a_file_that_has_grown_is_rewritten_and_says_the_same() {
    let (_folder, path) = folder();
    let storage = FileStorage::open(&path).unwrap();
    let device = storage.device();
    let body = format!("\"{}\"", "x".repeat(60_000));
    storage.write(&[send("kept", "0")]).unwrap();
    for n in 0..40_u64 {
        let id = n.to_string();
        storage.write(&[send(&id, &body), settled(&id), Change::Done { seq: Seq(n), name: n.into() }]).unwrap();
    }
    assert!(fs::metadata(&path).unwrap().len() < 2 * REWRITE_BYTES_MIN);
    drop(storage);
    let storage = FileStorage::open(&path).unwrap();
    let kept = storage.load().unwrap();
    assert_eq!((storage.device(), ids(&kept), kept.done), (device, vec!["kept"], Seq(39)));
    assert_eq!(kept.names, (0..40).collect::<Vec<u128>>());
}

#[test]
fn only_so_many_names_are_kept() {
    let (_folder, path) = folder();
    let storage = FileStorage::open(&path).unwrap();
    let many = NAMES_MAX as u64 * 3;
    let done: Vec<Change> = (0..many).map(|n| Change::Done { seq: Seq(n), name: n.into() }).collect();
    storage.write(&done).unwrap();
    let names = storage.load().unwrap().names;
    assert_eq!((names.len(), names.last()), (NAMES_MAX, Some(&(u128::from(many) - 1))));
}

#[test]
fn what_was_forgotten_is_gone_and_so_is_the_name_of_the_device() {
    let (_folder, path) = folder();
    let storage = FileStorage::open(&path).unwrap();
    let device = storage.device();
    storage.write(&[send("a", "1"), Change::Done { seq: Seq(7), name: 70 }]).unwrap();
    storage.write(&[Change::Forgotten]).unwrap();
    drop(storage);
    let storage = FileStorage::open(&path).unwrap();
    let kept = storage.load().unwrap();
    assert!(storage.device() != device && kept.sends.is_empty() && kept.names.is_empty());
    assert_eq!((kept.user, kept.done), (None, Seq::ZERO));
}

#[test]
fn a_file_is_for_one_client_at_a_time_and_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = folder();
    let storage = FileStorage::open(&path).unwrap();
    assert_eq!(FileStorage::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    drop(storage);
    FileStorage::open(&path).unwrap();
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let (_folder, path) = folder();
    let text = "Dear diary, this is no log of a client at all.";
    fs::write(&path, text).unwrap();
    assert_eq!(FileStorage::open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn nothing_is_built_upon_a_write_that_failed() {
    let (_folder, path) = folder();
    let storage = FileStorage::open(&path).unwrap();
    storage.state().file = File::open(&path).unwrap();
    storage.write(&[send("a", "1")]).unwrap_err();
    storage.write(&[send("b", "2")]).unwrap_err();
}
