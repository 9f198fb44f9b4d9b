//! Looks at fjall's journals before fjall does, for the two kinds of damage that it does not handle well.
//!
//! A power cut may leave the last batch with a hole in the middle of a body, because pages reach the
//! disk in any order; fjall then refuses to open the store. Such a batch was never synced, so nothing
//! in it was ever called stored: it is cut off, and kept in a file beside. And where a journal is
//! damaged with sound batches behind the damage, fjall may silently cut those off as well; they were
//! synced, so that is refused here. Must never change a journal without holding the store's lock.
//!
//! The layout is that of fjall 3 (`FJL` 3), little-endian: a batch is `01`, `u32` items, `u64` number;
//! its items; `03`, `u64` XXH3-64 of the items, `FJL\x03`. An item is `02`, two bytes, `u64` keyspace,
//! `u16` length of the key, `u32` plain length, `u32` length of the value, key, value; or it is
//! `04`, `u64` keyspace.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const ZEROS: [u8; 4096] = [0; 4096];
const TRAILER: &[u8] = b"FJL\x03";

/// Why a journal must not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the store is in use")]
    Locked,
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} is damaged at byte {at} and has sound batches behind that; nothing was changed", path.display())]
    Damaged { path: PathBuf, at: usize },
}

/// Mends a torn end and refuses damage before the end.
pub fn mend(store: &Path) -> Result<(), JournalError> {
    let lock_path = store.join("lock");
    let lock = match OpenOptions::new().read(true).write(true).open(&lock_path) {
        Ok(lock) => lock,
        // There is no store yet; or it cannot be opened, which fjall will say.
        Err(_) => return Ok(()),
    };
    acquire(&lock).map_err(|error| match error {
        TryLockError::WouldBlock => JournalError::Locked,
        TryLockError::Error(error) => JournalError::Io { path: lock_path, error },
    })?;
    let journals = journals(store).map_err(|error| JournalError::Io { path: store.to_owned(), error })?;
    for (place, path) in journals.iter().enumerate() {
        mend_one(path, place + 1 == journals.len())?;
    }
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

/// Oldest first.
fn journals(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(store)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".jnl")?.parse::<u64>().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn mend_one(path: &Path, is_newest: bool) -> Result<(), JournalError> {
    let failed = |error| JournalError::Io { path: path.to_owned(), error };
    let bytes = std::fs::read(path).map_err(failed)?;
    let sound = sound_bytes(&bytes);
    let tail = bytes.get(sound..).unwrap_or_default();
    // Zeros are room that was taken in advance.
    let Some(last) = last_written(tail) else { return Ok(()) };
    let tail = tail.get(..=last).unwrap_or_default();
    if has_batch(tail) {
        return Err(JournalError::Damaged { path: path.to_owned(), at: sound });
    }
    // Older journals were synced before the next one was begun; their ends are fjall's to judge.
    if is_newest { cut(path, sound, tail).map_err(failed) } else { Ok(()) }
}

fn cut(path: &Path, sound: usize, tail: &[u8]) -> io::Result<()> {
    let kept = path.with_extension(format!("jnl.{sound}.torn"));
    std::fs::write(&kept, tail)?;
    File::open(&kept)?.sync_all()?;
    let journal = OpenOptions::new().write(true).open(path)?;
    journal.set_len(sound as u64)?;
    journal.sync_all()?;
    tracing::error!(
        journal = %path.display(), bytes = tail.len(), kept = %kept.display(),
        "the last batch was torn by a power cut; nothing in it was ever called stored"
    );
    Ok(())
}

/// Where the last byte is that is not zero. Whole blocks are compared first: up to 64 MiB of room are
/// looked through at every start.
fn last_written(bytes: &[u8]) -> Option<usize> {
    let block = bytes.chunks(ZEROS.len()).rposition(|block| !ZEROS.starts_with(block))?;
    let from = block * ZEROS.len();
    let within = bytes.get(from..)?.iter().take(ZEROS.len()).rposition(|byte| *byte != 0)?;
    Some(from + within)
}

/// How many bytes are whole batches, from the beginning on.
fn sound_bytes(bytes: &[u8]) -> usize {
    let mut sound = 0;
    while let Some(length) = bytes.get(sound..).and_then(batch_bytes) {
        sound += length;
    }
    sound
}

/// Whether a whole batch begins anywhere in here.
fn has_batch(bytes: &[u8]) -> bool {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == START);
    starts.into_iter().any(|(at, _)| bytes.get(at..).is_some_and(|rest| batch_bytes(rest).is_some()))
}

/// The length of the whole batch that these bytes begin with.
fn batch_bytes(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    if take::<1>(&mut rest)? != [START] {
        return None;
    }
    let count = u32::from_le_bytes(take(&mut rest)?);
    take::<8>(&mut rest)?;
    let items = rest;
    for _ in 0..count {
        skip_item(&mut rest)?;
    }
    let items = items.get(..items.len() - rest.len())?;
    if take::<1>(&mut rest)? != [END] || u64::from_le_bytes(take(&mut rest)?) != xxh3_64(items) {
        return None;
    }
    rest = rest.strip_prefix(TRAILER)?;
    Some(bytes.len() - rest.len())
}

fn skip_item(rest: &mut &[u8]) -> Option<()> {
    match take::<1>(rest)? {
        [CLEAR] => take::<8>(rest).map(drop),
        [ITEM] => {
            take::<10>(rest)?;
            let key_bytes = usize::from(u16::from_le_bytes(take(rest)?));
            take::<4>(rest)?;
            let value_bytes = u32::from_le_bytes(take(rest)?) as usize;
            *rest = rest.get(key_bytes.checked_add(value_bytes)?..)?;
            Some(())
        }
        _ => None,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_written_is_found_wherever_it_is() {
        assert_eq!((last_written(&[]), last_written(&[0; 10_000])), (None, None));
        for length in [1, 4095, 4096, 4097, 10_000] {
            for at in [0, 1, 4095, 4096, 4097, 8191, 8192, 9999] {
                let mut bytes = vec![0; length];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = 7;
                    bytes[0] |= 1;
                    assert_eq!(last_written(&bytes), Some(at), "of {length}");
                }
            }
        }
    }
}
