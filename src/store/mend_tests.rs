//! Goal: what a power cut leaves is mended, and every other damage or loss is refused with its path and left as it is.
//! Method: a small store that fjall wrote, copied into a temporary directory and broken there in one place.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use super::*;
use crate::ids::Seq;
use crate::store::FjallEngine;
use crate::store::batch::Batch;
use crate::store::engine::{Engine, Keyspace};

/// A store after its orderly end, read into memory.
#[derive(Default)]
struct Written {
    folders: Vec<PathBuf>,
    /// Without the journal.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Without the room that was taken in advance.
    journal: Vec<u8>,
    /// Where its batches end. The last of them is the mark of the orderly end.
    ends: [usize; 3],
}

static WRITTEN: LazyLock<Written> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join(FIRST_JOURNAL);
    let engine = FjallEngine::open(dir.path(), 1 << 20).unwrap();
    let commit = |fill: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::default();
        fill(&mut batch);
        engine.commit(&batch.changes()).unwrap();
        Sound::of(&fs::read(&journal).unwrap()).length
    };
    let put =
        |key: &'static [u8]| move |batch: &mut Batch| batch.put(Keyspace::Inbox, key, |value| value.extend([7; 2_000]));
    let ends = [commit(&put(b"a")), commit(&put(b"b")), commit(&|batch| meta::put_clean(batch, Seq(1)))];
    drop(engine);
    let mut written = Written { ends, journal: fs::read(&journal).unwrap(), ..Written::default() };
    written.journal.truncate(ends[2]);
    fs::remove_file(journal).unwrap();
    read_into(&mut written, dir.path(), Path::new(""));
    written
});

fn read_into(written: &mut Written, store: &Path, folder: &Path) {
    for entry in fs::read_dir(store.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            written.folders.push(path.clone());
            read_into(written, store, &path);
        } else {
            written.files.push((path, fs::read(entry.path()).unwrap()));
        }
    }
}

/// A folder in which a store is, or is not.
struct Place(tempfile::TempDir);

impl Place {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The store as it was written, with the first so many bytes of its journal.
    fn with(journal_bytes: usize) -> Self {
        let place = Self::empty();
        WRITTEN.folders.iter().for_each(|folder| fs::create_dir(place.path(folder)).unwrap());
        WRITTEN.files.iter().for_each(|(file, bytes)| place.write(file, bytes));
        place.write(FIRST_JOURNAL, &WRITTEN.journal[..journal_bytes]);
        place
    }

    fn whole() -> Self {
        Self::with(WRITTEN.journal.len())
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Even root cannot read a folder as a file.
    fn make_unreadable(&self, name: &str) {
        let _never_there = fs::remove_file(self.path(name)).is_err();
        fs::create_dir(self.path(name)).unwrap();
    }

    /// The names in the store's own folder, in order.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn claim(&self, journal: u64, bytes: usize) {
        Reach { journal, bytes: bytes as u64 }.write(self.0.path());
    }

    fn claimed(&self) -> Option<(u64, usize)> {
        let claimed = Reach::read(self.0.path()).unwrap();
        claimed.map(|reach| (reach.journal, usize::try_from(reach.bytes).unwrap()))
    }

    fn mend(&self) -> Result<(), MendError> {
        mend(self.0.path())
    }

    /// The name of the file that is missing.
    fn missed(&self) -> PathBuf {
        match self.mend() {
            Err(MendError::Missing { path }) => path.strip_prefix(self.0.path()).unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

/// The journal with a bit of it flipped.
fn flipped(at: usize) -> Vec<u8> {
    let mut journal = WRITTEN.journal.clone();
    journal[at] ^= 1 << 6;
    journal
}

#[test]
fn a_store_that_came_to_an_orderly_end_stays_as_it_is() {
    let place = Place::whole();
    let with_room = [&WRITTEN.journal[..], &[0; 10_000]].concat();
    place.write(FIRST_JOURNAL, &with_room);
    let mut names = place.names();
    place.mend().unwrap();
    assert_eq!(place.read(FIRST_JOURNAL), with_room);
    assert_eq!(place.claimed(), Some((0, WRITTEN.journal.len())));
    names.push("synced".to_owned());
    names.sort();
    assert_eq!(place.names(), names, "nothing was put beside but how far it reaches");
}

#[test]
fn where_no_store_is_nothing_is_claimed() {
    let place = Place::empty();
    place.claim(3, 70_000);
    place.mend().unwrap();
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_store_without_its_lock_is_refused() {
    let place = Place::whole();
    place.remove("lock");
    assert_eq!(place.missed(), Path::new("lock"));
}

#[test]
fn a_lock_that_cannot_be_opened_is_left_to_fjall() {
    let place = Place::empty();
    place.make_unreadable("lock");
    place.claim(3, 70_000);
    place.mend().unwrap();
    assert_eq!(place.claimed(), Some((3, 70_000)), "there may be a store");
}

#[test]
fn a_store_that_somebody_else_holds_is_not_touched() {
    let torn_bytes = WRITTEN.ends[1] - 100;
    let place = Place::with(torn_bytes);
    let held = File::open(place.path("lock")).unwrap();
    held.lock().unwrap();
    assert!(matches!(place.mend(), Err(MendError::Locked)));
    assert_eq!(place.read(FIRST_JOURNAL).len(), torn_bytes);
    drop(held);
    place.mend().unwrap();
}

#[test]
fn what_a_first_start_left_that_was_cut_off_is_removed() {
    for version in [None, Some(""), Some("FJ"), Some("FJL"), Some("\0\0\0\0")] {
        for journal in [None, Some(0), Some(10_000)] {
            for keyspaces in [false, true] {
                let place = Place::empty();
                place.write("lock", "");
                version.into_iter().for_each(|text| place.write("version", text));
                journal.into_iter().for_each(|length| place.write(FIRST_JOURNAL, vec![0; length]));
                place.claim(0, 10_000);
                if keyspaces {
                    fs::create_dir(place.path("keyspaces")).unwrap();
                }
                place.mend().unwrap();
                let left = if keyspaces { &["keyspaces", "lock"][..] } else { &["lock"] };
                assert_eq!(place.names(), left, "{version:?} {journal:?}");
            }
        }
    }
}

#[test]
fn a_store_that_holds_anything_is_refused_without_its_version() {
    for version in [None, Some(""), Some("FJL"), Some("\0\0\0\0")] {
        let keyspaces = Place::with(0);
        let journal = Place::whole();
        fs::remove_dir_all(journal.path("keyspaces")).unwrap();
        for place in [keyspaces, journal] {
            place.remove("version");
            version.into_iter().for_each(|text| place.write("version", text));
            let names = place.names();
            assert_eq!(place.missed(), Path::new("version"), "{version:?} {names:?}");
            assert_eq!(place.names(), names, "nothing was removed");
        }
    }
}

#[test]
fn a_version_is_known_by_its_first_four_bytes() {
    let place = Place::whole();
    place.write("version", "FJL\x03");
    place.mend().unwrap();
    assert_eq!(place.read(FIRST_JOURNAL), WRITTEN.journal);
}

/// What it holds is not known, so it is not called nothing.
#[test]
fn what_cannot_be_read_is_not_called_missing() {
    for unreadable in ["version", FIRST_JOURNAL, "synced"] {
        let place = Place::whole();
        place.make_unreadable(unreadable);
        let refused = place.mend();
        assert!(matches!(refused, Err(MendError::Io { .. })), "{unreadable}: {refused:?}");
    }
    let place = Place::whole();
    fs::remove_dir_all(place.path("keyspaces")).unwrap();
    // Nor can root look into a file as if it were a folder.
    place.write("keyspaces", "");
    assert!(matches!(place.mend(), Err(MendError::Io { .. })));
}

#[test]
fn the_newest_journal_is_missed_and_older_ones_may_be_gone() {
    let place = Place::whole();
    place.claim(3, WRITTEN.ends[0]);
    assert_eq!(place.missed(), Path::new("3.jnl"));
    for newest in ["3.jnl", "11.jnl"] {
        place.write(newest, &WRITTEN.journal);
        place.mend().unwrap();
    }
    assert_eq!(place.claimed(), Some((11, WRITTEN.journal.len())), "numbers are compared, not names");
    place.remove(FIRST_JOURNAL);
    place.remove("3.jnl");
    place.mend().unwrap();
    place.remove("11.jnl");
    assert_eq!(place.missed(), Path::new(FIRST_JOURNAL));
}

#[test]
fn tables_are_refused_without_what_says_which_of_them_count() {
    let place = Place::whole();
    place.remove("keyspaces/1/current");
    place.mend().unwrap();
    place.write("keyspaces/1/tables/5", "");
    assert_eq!(place.missed(), Path::new("keyspaces/1/current"));
}

#[test]
fn keyspaces_are_refused_without_their_names() {
    let place = Place::whole();
    fs::remove_dir_all(place.path("keyspaces/0")).unwrap();
    assert_eq!(place.missed(), Path::new("keyspaces/0/current"));
}

#[test]
fn a_keyspace_of_names_that_was_being_made_is_not_missed() {
    let place = Place::whole();
    fs::remove_dir_all(place.path("keyspaces")).unwrap();
    place.mend().unwrap();
    fs::create_dir_all(place.path("keyspaces/0")).unwrap();
    place.mend().unwrap();
}

/// Names are in tables from the first start on.
#[test]
fn a_table_that_is_gone_or_cut_short_is_refused_by_its_name() {
    let place = Place::whole();
    let tables = entries(&place.path("keyspaces/0/tables")).unwrap();
    for table in &tables {
        fs::write(table, "not a table").unwrap();
    }
    assert!(matches!(place.mend(), Err(MendError::Cut { path }) if tables.contains(&path)));
    tables.iter().for_each(|table| fs::remove_file(table).unwrap());
    assert!(tables.contains(&place.path(place.missed())));
}

#[test]
fn a_torn_last_batch_is_cut_off_and_kept_beside() {
    let [first, second, _] = WRITTEN.ends;
    for (sound, torn) in [(0, first / 2), (first, first + 1), (first, second - 100)] {
        for room in [0, 10_000] {
            let place = Place::whole();
            place.write(FIRST_JOURNAL, [&WRITTEN.journal[..torn], &vec![0; room]].concat());
            place.mend().unwrap();
            assert_eq!(place.read(FIRST_JOURNAL), &WRITTEN.journal[..sound], "{torn} bytes, and {room}");
            assert_eq!(place.read(&format!("0.jnl.{sound}.torn")), &WRITTEN.journal[sound..torn]);
            assert_eq!(place.claimed(), Some((0, sound)));
        }
    }
}

#[test]
fn damage_with_a_sound_batch_behind_it_is_refused() {
    let [first, second, _] = WRITTEN.ends;
    for (damage, sound) in [(first - 100, 0), (first + 100, first), (second - 1, first)] {
        let place = Place::whole();
        place.write(FIRST_JOURNAL, flipped(damage));
        let refused = place.mend();
        let is_told = matches!(&refused, Err(MendError::Damaged { path, at })
            if *path == place.path(FIRST_JOURNAL) && *at == sound);
        assert!(is_told, "a bit at {damage}: {refused:?}");
        assert_eq!(place.read(FIRST_JOURNAL), flipped(damage), "nothing was changed");
    }
}

#[test]
fn a_last_batch_that_was_damaged_after_it_was_written_is_refused() {
    let [first, second, _] = WRITTEN.ends;
    let place = Place::whole();
    place.write(FIRST_JOURNAL, &flipped(second - 100)[..second]);
    let refused = place.mend();
    let is_told = matches!(&refused, Err(MendError::DamagedLast { path, at })
        if *path == place.path(FIRST_JOURNAL) && *at == first);
    assert!(is_told, "{refused:?}");
    assert_eq!(place.read(FIRST_JOURNAL), &flipped(second - 100)[..second], "nothing was changed");
}

#[test]
fn a_journal_that_begins_as_none_does_is_refused() {
    let place = Place::whole();
    place.write(FIRST_JOURNAL, "something else altogether");
    assert!(matches!(place.mend(), Err(MendError::Unknown { path }) if path == place.path(FIRST_JOURNAL)));
    assert_eq!(place.read(FIRST_JOURNAL), b"something else altogether", "nothing was changed");
}

/// It was synced before the next one was begun.
#[test]
fn the_end_of_an_older_journal_is_left_to_fjall_and_damage_within_it_is_refused() {
    let torn = &WRITTEN.journal[..WRITTEN.ends[1] - 100];
    let place = Place::whole();
    place.write("1.jnl", &WRITTEN.journal);
    place.write(FIRST_JOURNAL, torn);
    let names = place.names().len();
    place.mend().unwrap();
    assert_eq!((place.read(FIRST_JOURNAL), place.names().len()), (torn.to_vec(), names + 1));
    assert_eq!(place.claimed(), Some((1, WRITTEN.journal.len())));
    place.write(FIRST_JOURNAL, flipped(100));
    assert!(matches!(place.mend(), Err(MendError::Damaged { path, at: 0 }) if path == place.path(FIRST_JOURNAL)));
}

#[test]
fn a_journal_that_ends_before_it_was_synced_to_is_refused() {
    let [first, second, _] = WRITTEN.ends;
    for bytes in [first, second - 100] {
        let place = Place::with(bytes);
        place.claim(0, second);
        let refused = place.mend();
        let is_told = matches!(&refused, Err(MendError::Shortened { path, sound, synced })
            if *path == place.path(FIRST_JOURNAL) && *sound == first && *synced == second as u64);
        assert!(is_told, "{bytes} bytes: {refused:?}");
        assert_eq!(place.read(FIRST_JOURNAL).len(), bytes, "nothing was changed");
        assert_eq!(place.claimed(), Some((0, second)));
    }
    let place = Place::with(second);
    place.claim(0, second);
    place.mend().unwrap();
    // What is claimed of one journal says nothing of another.
    place.write("1.jnl", &WRITTEN.journal[..first]);
    place.mend().unwrap();
    assert_eq!(place.claimed(), Some((1, first)));
}

/// Whether a file is written again can be told from its time.
#[test]
fn nothing_is_written_again_but_the_newest_journal_after_an_unclean_end() {
    let unclean = WRITTEN.ends[1];
    let is_written_again = |place: &Place, journal: &str| {
        let (file, before) = (File::options().write(true).open(place.path(journal)).unwrap(), place.read(journal));
        file.set_modified(UNIX_EPOCH).unwrap();
        place.mend().unwrap();
        assert_eq!(place.read(journal), before);
        file.metadata().unwrap().modified().unwrap() != UNIX_EPOCH
    };
    assert!(!is_written_again(&Place::whole(), FIRST_JOURNAL));
    assert!(is_written_again(&Place::with(unclean), FIRST_JOURNAL));
    let place = Place::with(unclean);
    place.write("1.jnl", &WRITTEN.journal[..unclean]);
    assert!(!is_written_again(&place, FIRST_JOURNAL));
    assert!(is_written_again(&place, "1.jnl"));
}

#[test]
fn how_far_the_newest_journal_reaches_is_written_down() {
    let place = Place::whole();
    place.write("1.jnl", [&WRITTEN.journal[..WRITTEN.ends[1]], &[0; 10_000]].concat());
    note_reach(place.0.path()).unwrap();
    assert_eq!(place.claimed(), Some((1, WRITTEN.ends[1])));
    let place = Place::empty();
    note_reach(place.0.path()).unwrap();
    assert_eq!(place.claimed(), None, "no journal");
}
