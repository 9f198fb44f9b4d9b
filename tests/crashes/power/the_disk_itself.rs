//! Goal: the disk of these tests is a disk: it does what a file system does, what was synced survives a
//! power cut, and what was not does not, unless it is drawn to.
//! Method: ordinary calls on the mounted file system, cuts in between.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::shim::Disk;
use crate::shim::cut::Unsynced;
use crate::shim::faults::Fault;

fn sync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn it_does_what_a_file_system_does() {
    let Some(disk) = Disk::mount() else { return };
    let folder = disk.path().join("a/b");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("file");
    let mut file = File::create_new(&path).unwrap();
    assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    file.set_len(10 << 20).unwrap();
    file.seek(SeekFrom::Start(4090)).unwrap();
    file.write_all(b"across a page").unwrap();
    let mut other = File::open(&path).unwrap();
    other.seek(SeekFrom::Start(4088)).unwrap();
    let mut read = [7; 17];
    other.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"\0\0across a page\0\0");
    assert_eq!(fs::metadata(&path).unwrap().len(), 10 << 20);
    file.set_len(4095).unwrap();
    file.set_len(4100).unwrap();
    assert!(fs::read(&path).unwrap().ends_with(b"acros\0\0\0\0\0"));
    let mut appending = OpenOptions::new().append(true).open(&path).unwrap();
    appending.write_all(b"end").unwrap();
    assert!(fs::read(&path).unwrap().ends_with(b"\0end"));

    file.try_lock().unwrap();
    assert!(other.try_lock().is_err(), "it is locked");
    assert_eq!(fs::remove_dir(&folder).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::write(folder.join("new"), "new").unwrap();
    fs::rename(folder.join("new"), &path).unwrap();
    assert_eq!((names(&folder), text(&path)), (vec!["file".to_owned()], "new".to_owned()));
    assert!(file.metadata().unwrap().len() > 4000, "what was replaced is still there for who has it open");
    fs::remove_file(&path).unwrap();
    assert_eq!(File::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
    for n in 0..300 {
        fs::write(folder.join(format!("a-rather-long-name-{n:05}")), "").unwrap();
    }
    fs::read_dir(&folder).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
    assert_eq!(names(&folder), [""; 0]);
}

#[test]
fn what_was_synced_survives_and_what_was_not_does_not() {
    let Some(mut disk) = Disk::mount() else { return };
    let path = disk.path().join("file");
    fs::write(&path, "synced").unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.sync_all().unwrap();
    sync(disk.path());
    file.write_all(b", and not").unwrap();
    assert_eq!(text(&path), "synced, and not");
    drop(file);
    let cut = disk.power_up(Unsynced::Lost);
    assert_eq!((text(&path), cut.unsynced, cut.lost), ("synced".to_owned(), 1, 1));

    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b" as data").unwrap();
    file.sync_data().unwrap();
    file.set_len(3).unwrap();
    drop(file);
    disk.power_up(Unsynced::Lost);
    assert_eq!(text(&path), "synced as data");
    assert_eq!(disk.power_up(Unsynced::Lost).unsynced, 0, "nothing was done since");
}

#[test]
fn entries_survive_when_their_folder_was_synced() {
    let Some(mut disk) = Disk::mount() else { return };
    let (root, folder) = (disk.path().to_owned(), disk.path().join("folder"));
    fs::create_dir(&folder).unwrap();
    for name in ["removed", "renamed", "stays"] {
        fs::write(folder.join(name), name).unwrap();
        sync(&folder.join(name));
    }
    sync(&folder);
    disk.power_up(Unsynced::Lost);
    assert_eq!(names(&root), [""; 0], "the folder's own folder was not synced");

    fs::create_dir(&folder).unwrap();
    for name in ["removed", "renamed", "stays"] {
        fs::write(folder.join(name), name).unwrap();
        sync(&folder.join(name));
    }
    sync(&folder);
    sync(&root);
    let changes = || {
        fs::remove_file(folder.join("removed")).unwrap();
        fs::rename(folder.join("renamed"), folder.join("stays")).unwrap();
        fs::write(folder.join("made"), "made").unwrap();
        sync(&folder.join("made"));
    };
    changes();
    assert_eq!(names(&folder), ["made", "stays"]);
    disk.power_up(Unsynced::Lost);
    assert_eq!(names(&folder), ["removed", "renamed", "stays"]);
    assert_eq!(["removed", "renamed", "stays"].map(|name| text(&folder.join(name))), ["removed", "renamed", "stays"]);

    changes();
    sync(&folder);
    disk.power_up(Unsynced::Lost);
    assert_eq!(names(&folder), ["made", "stays"]);
    assert_eq!((text(&folder.join("made")), text(&folder.join("stays"))), ("made".to_owned(), "renamed".to_owned()));
}

/// Over many cuts everything a disk may do happens: all, nothing, a torn end, holes.
#[test]
fn of_what_was_not_synced_some_may_survive() {
    let Some(mut disk) = Disk::mount() else { return };
    let path = disk.path().join("file");
    let (mut torn, mut holed, mut whole, mut gone) = (0, 0, 0, 0);
    for seed in 0..200 {
        let mut file = File::create(&path).unwrap();
        file.write_all(&[b's'; 1000]).unwrap();
        file.sync_all().unwrap();
        sync(disk.path());
        for _ in 0..4 {
            file.write_all(&[b'u'; 1500]).unwrap();
        }
        drop(file);
        disk.power_up(Unsynced::Drawn(fastrand::Rng::with_seed(seed)));
        let left = fs::read(&path).unwrap();
        assert!(left.len() <= 7000 && left.starts_with(&[b's'; 1000]), "seed {seed}");
        let is_full = left[1000..].iter().all(|byte| *byte == b'u');
        assert!(left[1000..].iter().all(|byte| [0, b'u'].contains(byte)), "seed {seed}");
        match (left.len(), is_full) {
            (1000, _) => gone += 1,
            (7000, true) => whole += 1,
            (_, true) => torn += 1,
            (_, false) => holed += 1,
        }
    }
    assert!([torn, holed, whole, gone].into_iter().all(|times| times > 10), "{torn} {holed} {whole} {gone}");
}

#[test]
fn entries_may_survive_too_and_a_rename_is_one_thing() {
    let Some(mut disk) = Disk::mount() else { return };
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        for name in names(disk.path()) {
            fs::remove_file(disk.path().join(name)).unwrap();
        }
        fs::write(disk.path().join("old"), "old").unwrap();
        fs::write(disk.path().join("other"), "other").unwrap();
        ["old", "other"].iter().for_each(|name| sync(&disk.path().join(name)));
        sync(disk.path());
        fs::write(disk.path().join("new"), "new").unwrap();
        sync(&disk.path().join("new"));
        fs::rename(disk.path().join("new"), disk.path().join("old")).unwrap();
        fs::remove_file(disk.path().join("other")).unwrap();
        disk.power_up(Unsynced::Drawn(fastrand::Rng::with_seed(seed)));
        let old = text(&disk.path().join("old"));
        assert!(["old", "new"].contains(&&*old), "seed {seed}: {old}");
        seen.insert((names(disk.path()), old));
    }
    assert!(seen.len() > 4, "{seen:?}");
}

/// The same tree and the same seed leave the same.
#[test]
fn a_seed_replays_a_cut() {
    let left = |seed| {
        let mut disk = Disk::mount()?;
        for n in 0..20 {
            fs::write(disk.path().join(n.to_string()), vec![b'x'; 3000]).unwrap();
        }
        disk.power_up(Unsynced::Drawn(fastrand::Rng::with_seed(seed)));
        Some(names(disk.path()).into_iter().map(|name| fs::read(disk.path().join(name)).unwrap()).collect::<Vec<_>>())
    };
    let Some(first) = left(1) else { return };
    assert_eq!(Some(&first), left(1).as_ref());
    assert_ne!(Some(&first), left(2).as_ref());
}

#[test]
fn nothing_is_answered_after_the_cut() {
    let Some(mut disk) = Disk::mount() else { return };
    let path = disk.path().join("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"before").unwrap();
    disk.cut();
    assert!(
        file.write_all(b"after").is_err() && file.sync_all().is_err() && File::create(disk.path().join("x")).is_err()
    );
    drop(file);
    disk.power_up(Unsynced::Lost);
    assert_eq!(names(disk.path()), [""; 0]);
}

#[test]
fn its_faults_are_those_of_disks() {
    let Some(mut disk) = Disk::mount() else { return };
    let path = disk.path().join("file");
    let mut file = File::create(&path).unwrap();
    sync(disk.path());
    file.write_all(b"one").unwrap();
    file.sync_all().unwrap();

    disk.set(Fault::Writes, true);
    assert_eq!(file.write_all(b"x").unwrap_err().raw_os_error(), Some(5));
    disk.set(Fault::Writes, false);
    disk.set(Fault::ReadOnly, true);
    assert_eq!(file.write_all(b"x").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(File::create(disk.path().join("x")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(text(&path), "one");
    disk.set(Fault::ReadOnly, false);

    disk.leave_room(8192);
    let free = rustix::fs::statvfs(disk.path()).unwrap();
    assert_eq!(free.f_bavail * free.f_frsize, 8192);
    assert_eq!(file.write_all(&[b'x'; 20_000]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.metadata().unwrap().len(), 3 * 4096, "what fitted was written");
    file.set_len(3).unwrap();
    disk.make_room();

    // A sync that failed is not made good by the next one, though what it was about can be read.
    file.seek(SeekFrom::Start(3)).unwrap();
    file.write_all(b"two").unwrap();
    disk.set(Fault::Syncs, true);
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(5));
    disk.set(Fault::Syncs, false);
    file.write_all(b"six").unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(text(&path), "onetwosix");
    assert!(disk.failed() > 4);
    disk.power_up(Unsynced::Lost);
    assert_eq!(text(&path), "one\0\0\0six");
}
