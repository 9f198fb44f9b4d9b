//! Journals that a power cut, decay or another program left. What is mended begins with the same whole batches and
//! has nothing behind them; what is refused is not touched. Nothing is cut off that may have been synced: no batch
//! that is whole, and none that was written to its end.
//!
//! The layout of batches is written down here once more, so that what judges journals is not held to itself.

use std::fs;
use std::path::{Path, PathBuf};

use doorstep::store::{MendError, mend};
use xxhash_rust::xxh3::xxh3_64;

use super::bytes::Bytes;
use super::{Verdict, scratch};

const TRAILER: &[u8] = b"FJL\x03";
const SECTOR_BYTES: usize = 512;
/// Longer ones cost time and say nothing new.
const JOURNAL_BYTES_MAX: usize = 8 * 1024;

pub fn hold(data: &[u8]) -> Verdict {
    let mut journal = journal(data);
    journal.truncate(JOURNAL_BYTES_MAX);
    scratch::empty(|folder| judged(folder, &journal))
}

fn judged(folder: &Path, journal: &[u8]) -> Verdict {
    let path = store(folder, journal);
    let outcome = mend(folder);
    let after = fs::read(&path).unwrap();
    let before = entries(folder);
    let sound = sound_bytes(journal);
    let written = &journal[..journal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
    match outcome {
        Ok(()) => {
            is_mended(&path, journal, sound, &after);
            // Twice is once.
            mend(folder).unwrap();
            assert_eq!(fs::read(&path).unwrap(), after);
            assert_eq!(entries(folder), before);
            Verdict::Accepted
        }
        Err(error) => {
            assert_eq!(after, journal, "refused, and changed all the same: {error}");
            assert_eq!(before, 4, "something was put beside what was refused");
            let (has_more, is_complete) = (has_batch(&journal[sound..]), is_written_to_its_end(written, sound));
            match error {
                MendError::Damaged { at, .. } => assert!(at == sound && has_more),
                MendError::DamagedLast { at, .. } => assert!(at == sound && !has_more && is_complete),
                MendError::Unknown { .. } => assert!(sound == 0 && !has_more && !written.is_empty()),
                error => panic!("{error}"),
            }
            Verdict::Refused
        }
    }
}

fn is_mended(path: &Path, journal: &[u8], sound: usize, after: &[u8]) {
    let tail = &journal[sound..];
    let Some(last) = tail.iter().rposition(|byte| *byte != 0) else {
        return assert_eq!(after, journal, "nothing but room was behind the last batch");
    };
    assert_eq!(after, &journal[..sound], "what is whole stays, and nothing else");
    assert!(!has_batch(tail), "a whole batch was cut off");
    assert!(!is_written_to_its_end(&journal[..=sound + last], sound), "a batch was cut off that may have been synced");
    let kept = path.with_extension(format!("jnl.{sound}.torn"));
    assert_eq!(fs::read(kept).unwrap(), &tail[..=last], "what was cut off is kept beside");
}

/// A store with one journal, as fjall leaves it; returns the path of the journal.
fn store(folder: &Path, journal: &[u8]) -> PathBuf {
    fs::write(folder.join("lock"), b"").unwrap();
    fs::write(folder.join("version"), b"FJL\x03").unwrap();
    fs::create_dir(folder.join("keyspaces")).unwrap();
    let path = folder.join("0.jnl");
    fs::write(&path, journal).unwrap();
    path
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// The length of the whole batches at the beginning.
fn sound_bytes(journal: &[u8]) -> usize {
    let mut sound = 0;
    while let Some(length) = batch_bytes(&journal[sound..]) {
        sound += length;
    }
    sound
}

fn has_batch(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| batch_bytes(&bytes[at..]).is_some())
}

/// The last bytes of a batch are there, and so is every sector that it lies in.
fn is_written_to_its_end(written: &[u8], from: usize) -> bool {
    let mut at = from;
    while at < written.len() {
        let end = written.len().min((at / SECTOR_BYTES + 1) * SECTOR_BYTES);
        if written[at..end].iter().all(|byte| *byte == 0) {
            return false;
        }
        at = end;
    }
    written[from..].ends_with(TRAILER)
}

fn batch_bytes(bytes: &[u8]) -> Option<usize> {
    let count = u32::from_le_bytes(bytes.get(1..5)?.try_into().unwrap());
    let mut at = 13;
    if bytes[0] != 1 {
        return None;
    }
    for _ in 0..count {
        at += match bytes.get(at)? {
            2 => {
                let key = u16::from_le_bytes(bytes.get(at + 11..at + 13)?.try_into().unwrap());
                let value = u32::from_le_bytes(bytes.get(at + 17..at + 21)?.try_into().unwrap());
                21 + usize::from(key) + value as usize
            }
            4 => 9,
            _ => return None,
        };
    }
    let items = bytes.get(13..at)?;
    let end = [&[3][..], &xxh3_64(items).to_le_bytes(), TRAILER].concat();
    bytes.get(at..)?.starts_with(&end).then_some(at + end.len())
}

/// Either the bytes as they are, or batches put together and damaged as they say.
fn journal(data: &[u8]) -> Vec<u8> {
    let mut bytes = Bytes(data);
    let mut journal = Vec::new();
    if bytes.byte() % 8 == 0 {
        return bytes.0.to_vec();
    }
    while !bytes.is_empty() && journal.len() < JOURNAL_BYTES_MAX {
        match bytes.byte() % 8 {
            0..3 => journal.extend(batch(&mut bytes)),
            3 => journal.extend_from_slice(bytes.short()),
            4 => journal.resize(journal.len() + 16 * usize::from(bytes.byte()), 0),
            5 => {
                let at = bytes.number() % journal.len().max(1);
                journal.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8));
            }
            6 => {
                let sectors = journal.len().div_ceil(SECTOR_BYTES).max(1);
                let lost = usize::from(bytes.byte()) % sectors;
                journal.iter_mut().skip(lost * SECTOR_BYTES).take(SECTOR_BYTES).for_each(|byte| *byte = 0);
            }
            _ => journal.truncate(bytes.number() % (journal.len() + 1)),
        }
    }
    journal
}

/// A whole batch of a few items.
fn batch(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let count = bytes.byte() % 4;
    let mut items = Vec::new();
    for _ in 0..count {
        let kind = bytes.byte();
        let keyspace = u64::from(kind >> 1);
        if kind & 1 == 1 {
            items.push(4);
            items.extend(keyspace.to_le_bytes());
            continue;
        }
        let (key, value) = (bytes.short(), bytes.short());
        // So long that a batch may lie in several sectors.
        let value = value.repeat(1 + usize::from(kind >> 6) * 4);
        let value_bytes = u32::try_from(value.len()).unwrap().to_le_bytes();
        items.extend([2, 0, 0]);
        items.extend(keyspace.to_le_bytes());
        items.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
        items.extend([value_bytes, value_bytes].concat());
        items.extend_from_slice(key);
        items.extend(value);
    }
    let head = [&[1][..], &u32::from(count).to_le_bytes(), &9_u64.to_le_bytes()].concat();
    [&head[..], &items, &[3], &xxh3_64(&items).to_le_bytes(), TRAILER].concat()
}
