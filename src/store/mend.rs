//! Looks at fjall's files before fjall does, for what it does not handle well.
//!
//! A power cut may leave the last batch with a hole in the middle of a body, because pages reach the
//! disk in any order; fjall then refuses to open the store. Such a batch was never synced, so nothing
//! in it was ever called stored: it is cut off, and kept in a file beside. And where a journal is
//! damaged with sound batches behind the damage, fjall may silently cut those off as well; they were
//! synced, so that is refused here. So is a last batch that is all there and has a wrong checksum: it was not
//! torn, and may have been synced. So is a journal that does not even begin as it should: whoever cannot
//! read its first batch cannot know that nothing in it was synced.
//!
//! Where files are missing, fjall makes new ones, and what was in the others is gone: that is refused. So is a
//! journal that ends before the place that it is known to have been synced to, or a table without its end.
//! Where the very first start was cut off, it finds files that it did not expect: they hold nothing, and are
//! removed. Must never change a file without holding the store's lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::journal::{Sound, has_batch, is_torn_batch, is_written_to_its_end, last_written};
use super::meta;
use super::reach::Reach;
use super::tables::{self, CURRENT, TABLES};

/// Files and folders of fjall 3.
const VERSION: &str = "version";
const VERSION_BYTES: usize = 4;
const FIRST_JOURNAL: &str = "0.jnl";
const KEYSPACES: &str = "keyspaces";
const NAMES: &str = "0";

const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Why a store must not be opened.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    #[error("the store is in use")]
    Locked,
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} is damaged at byte {at} and has sound batches behind that; nothing was changed", path.display())]
    Damaged { path: PathBuf, at: usize },
    #[error(
        "{} is damaged in its last batch, at byte {at}, which was written to its end and may have been stored; \
         nothing was changed",
        path.display()
    )]
    DamagedLast { path: PathBuf, at: usize },
    #[error(
        "{} does not begin as a journal that this doorstep knows (was it written by another version?); nothing was changed",
        path.display()
    )]
    Unknown { path: PathBuf },
    #[error("{} is missing beside other files of the store; nothing was changed", path.display())]
    Missing { path: PathBuf },
    #[error("{} has {sound} bytes that are whole, and had {synced} when it was synced; nothing was changed", path.display())]
    Shortened { path: PathBuf, sound: usize, synced: u64 },
    #[error("{} is shorter than it was written, or damaged; nothing was changed", path.display())]
    Cut { path: PathBuf },
}

/// Mends what a power cut leaves, and refuses damage and loss of anything else.
pub fn mend(store: &Path) -> Result<(), MendError> {
    let lock_path = store.join("lock");
    let failed = |error| MendError::Io { path: store.to_owned(), error };
    let lock = match OpenOptions::new().read(true).write(true).open(&lock_path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound && holds_keyspaces(store) => {
            return Err(MendError::Missing { path: lock_path });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // There is no store yet.
            Reach::remove(store);
            return Ok(());
        }
        // It cannot be opened, which fjall will say.
        Err(_) => return Ok(()),
    };
    acquire(&lock).map_err(|error| match error {
        TryLockError::WouldBlock => MendError::Locked,
        TryLockError::Error(error) => MendError::Io { path: lock_path, error },
    })?;
    let journals = journals(store).map_err(failed)?;
    if !is_begun(store).map_err(failed)? {
        return remove_leftovers(store, &journals);
    }
    let known = Reach::read(store).map_err(failed)?;
    if let Some(path) = missing(store, &journals, known).map_err(failed)? {
        return Err(MendError::Missing { path });
    }
    for keyspace in entries(&store.join(KEYSPACES)).map_err(failed)? {
        match tables::fault(&keyspace).map_err(failed)? {
            Some(tables::Fault::Missing(path)) => return Err(MendError::Missing { path }),
            Some(tables::Fault::Short(path)) => return Err(MendError::Cut { path }),
            None => {}
        }
    }
    for (place, path) in journals.iter().enumerate() {
        let is_newest = place + 1 == journals.len();
        let number = number(path);
        let synced = known.filter(|known| Some(known.journal) == number).map_or(0, |known| known.bytes);
        let sound = mend_one(path, is_newest, synced)?;
        if let (true, Some(journal)) = (is_newest, number) {
            // A process that was killed when it had just begun a journal may not have synced that it is there.
            File::open(store).and_then(|folder| folder.sync_all()).map_err(failed)?;
            Reach { journal, bytes: sound as u64 }.write(store);
        }
    }
    Ok(())
}

/// Writes down how far the newest journal reaches. For when every commit has been synced.
pub fn note_reach(store: &Path) -> io::Result<()> {
    let journals = journals(store)?;
    let Some((path, journal)) = journals.last().and_then(|path| Some((path, number(path)?))) else { return Ok(()) };
    let bytes = Sound::of(&std::fs::read(path)?).length as u64;
    Reach { journal, bytes }.write(store);
    Ok(())
}

/// Is patient for a moment: whoever held it may be just ending.
fn acquire(lock: &File) -> Result<(), TryLockError> {
    for _ in 1..LOCK_TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            outcome => return outcome,
        }
    }
    lock.try_lock()
}

/// Whether the file is there with which fjall ends the making of a store. It is short or empty when the
/// power went just then.
fn is_begun(store: &Path) -> io::Result<bool> {
    match std::fs::read(store.join(VERSION)) {
        Ok(version) => Ok(version.len() >= VERSION_BYTES && last_written(&version).is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The first start of all did not get as far as that. fjall would begin again, but not where it finds files.
fn remove_leftovers(store: &Path, journals: &[PathBuf]) -> Result<(), MendError> {
    let failed = |error| MendError::Io { path: store.to_owned(), error };
    let keyspaces = store.join(KEYSPACES);
    let mut holds_nothing = entries(&keyspaces).map_err(failed)?.is_empty();
    for journal in journals {
        holds_nothing &= last_written(&std::fs::read(journal).map_err(failed)?).is_none();
    }
    let version = store.join(VERSION);
    if !holds_nothing {
        return Err(MendError::Missing { path: version });
    }
    Reach::remove(store);
    for file in journals.iter().chain([&version]).filter(|file| file.exists()) {
        std::fs::remove_file(file).map_err(failed)?;
    }
    Ok(())
}

/// A file that a store has had from its first batch on, and this one has no more.
fn missing(store: &Path, journals: &[PathBuf], known: Option<Reach>) -> io::Result<Option<PathBuf>> {
    let Some(newest) = journals.last().and_then(|path| number(path)) else {
        return Ok(Some(store.join(FIRST_JOURNAL)));
    };
    // Older ones go when all that they hold is in tables, the newest never does.
    if let Some(known) = known.filter(|known| known.journal > newest) {
        return Ok(Some(store.join(format!("{}.jnl", known.journal))));
    }
    let keyspaces = entries(&store.join(KEYSPACES))?;
    for keyspace in &keyspaces {
        let current = keyspace.join(CURRENT);
        // One that was being made may have neither.
        if !current.exists() && !entries(&keyspace.join(TABLES))?.is_empty() {
            return Ok(Some(current));
        }
    }
    // Which of the others is which; made before any of them.
    let names = store.join(KEYSPACES).join(NAMES).join(CURRENT);
    let others = keyspaces.iter().any(|keyspace| !keyspace.ends_with(NAMES));
    Ok((others && !names.exists()).then_some(names))
}

fn holds_keyspaces(store: &Path) -> bool {
    entries(&store.join(KEYSPACES)).is_ok_and(|keyspaces| !keyspaces.is_empty())
}

/// What is in a folder; nothing when it is not there.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(found) => found.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Oldest first.
fn journals(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(store)? {
        let path = entry?.path();
        found.extend(number(&path).map(|number| (number, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn number(journal: &Path) -> Option<u64> {
    journal.file_name()?.to_str()?.strip_suffix(".jnl")?.parse().ok()
}

/// Returns how much of it is sound and synced. It was known to be synced up to `synced`.
fn mend_one(path: &Path, is_newest: bool, synced: u64) -> Result<usize, MendError> {
    let failed = |error| MendError::Io { path: path.to_owned(), error };
    let bytes = std::fs::read(path).map_err(failed)?;
    let sound = Sound::of(&bytes);
    let tail = bytes.get(sound.length..).unwrap_or_default();
    // Zeros are room that was taken in advance.
    let tail = last_written(tail).and_then(|last| tail.get(..=last)).unwrap_or_default();
    if !tail.is_empty() {
        judge(path, sound.length, bytes.get(..sound.length + tail.len()).unwrap_or_default())?;
    }
    if (sound.length as u64) < synced {
        return Err(MendError::Shortened { path: path.to_owned(), sound: sound.length, synced });
    }
    // Older journals were synced before the next one was begun; their ends are fjall's to judge.
    if is_newest && !tail.is_empty() {
        cut(path, sound.length, tail).map_err(failed)?;
    }
    if is_newest && !sound.ends_with(&bytes, meta::is_clean) {
        write_again(path, bytes.get(..sound.length).unwrap_or_default()).map_err(failed)?;
    }
    Ok(sound.length)
}

/// Whether what is written behind the first `sound` bytes may be cut off.
fn judge(path: &Path, sound: usize, written: &[u8]) -> Result<(), MendError> {
    let (path, tail) = (path.to_owned(), written.get(sound..).unwrap_or_default());
    if has_batch(tail) {
        return Err(MendError::Damaged { path, at: sound });
    }
    if sound == 0 && !is_torn_batch(tail) {
        return Err(MendError::Unknown { path });
    }
    if is_written_to_its_end(written, sound) {
        return Err(MendError::DamagedLast { path, at: sound });
    }
    Ok(())
}

/// After a failed sync the kernel takes pages that never reached the disk for clean: they are read back
/// whole, a later sync of theirs does nothing, and they are gone with the next power cut. What is in them
/// would be called stored. So after anything but an orderly end (before which every sync succeeded) what
/// was read is written again, in place, and synced, before anyone relies on it.
fn write_again(path: &Path, sound: &[u8]) -> io::Result<()> {
    let mut journal = OpenOptions::new().write(true).open(path)?;
    journal.write_all(sound)?;
    journal.sync_all()
}

fn cut(path: &Path, sound: usize, tail: &[u8]) -> io::Result<()> {
    let kept = path.with_extension(format!("jnl.{sound}.torn"));
    // A disk that was full when the power went is full now: a copy for the curious is no reason to stay away.
    if let Err(error) = keep(&kept, tail) {
        tracing::warn!(%error, kept = %kept.display(), "what is cut off the journal cannot be kept");
        let _never_begun = std::fs::remove_file(&kept).is_err();
    }
    let journal = OpenOptions::new().write(true).open(path)?;
    journal.set_len(sound as u64)?;
    journal.sync_all()?;
    tracing::error!(
        journal = %path.display(), bytes = tail.len(), kept = %kept.display(),
        "the last batch was torn by a power cut; nothing in it was ever called stored"
    );
    Ok(())
}

fn keep(kept: &Path, tail: &[u8]) -> io::Result<()> {
    let mut file = File::create(kept)?;
    file.write_all(tail)?;
    file.sync_all()
}

#[cfg(test)]
#[path = "mend_tests.rs"]
mod tests;
