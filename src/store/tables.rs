//! Whether a keyspace has the tables that it says it has, seen from outside, so that a file that is missing or
//! was cut short is refused by its name. What is in the tables is fjall's matter.
//!
//! The layout is that of lsm-tree 3, little-endian: `current` begins with the `u64` of a version, `vN` lists the
//! tables of version N. That and a table are archives: sections; a table of contents (`TOC!`, `u32` entries, each
//! `u64` place, `u64` length, `u16` length of the name, name); and at the end `SFA!`, 18 bytes, and `u64` place and
//! `u64` length of that table of contents. The section `tables` is `u8` levels; each `u8` runs; each `u32` tables;
//! each `u64` number and 25 bytes more.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub const CURRENT: &str = "current";
pub const TABLES: &str = "tables";

const ARCHIVE: &[u8] = b"SFA!";
const TRAILER_BYTES: u64 = 38;
const CONTENTS: &[u8] = b"TOC!";
/// What follows the number of a table: its checksum and a seqno.
const TABLE_REST_BYTES: usize = 25;

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    Missing(PathBuf),
    /// It does not end as it was written.
    Short(PathBuf),
}

/// The first fault of this keyspace; one that was being made has no `current` and no fault.
pub fn fault(keyspace: &Path) -> io::Result<Option<Fault>> {
    let current = keyspace.join(CURRENT);
    let Some(bytes) = read(&current)? else { return Ok(None) };
    let Some(version) = bytes.first_chunk() else { return Ok(Some(Fault::Short(current))) };
    let version = keyspace.join(format!("v{}", u64::from_le_bytes(*version)));
    let Some(bytes) = read(&version)? else { return Ok(Some(Fault::Missing(version))) };
    let Some(tables) = listed(&bytes) else { return Ok(Some(Fault::Short(version))) };
    for table in tables {
        let table = keyspace.join(TABLES).join(table.to_string());
        match is_archive(&table) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(Fault::Short(table))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(Fault::Missing(table))),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_archive(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let Some(at) = file.metadata()?.len().checked_sub(TRAILER_BYTES) else { return Ok(false) };
    file.seek(SeekFrom::Start(at))?;
    let mut mark = [0; ARCHIVE.len()];
    file.read_exact(&mut mark)?;
    Ok(mark == ARCHIVE)
}

/// The numbers of the tables of a version.
fn listed(version: &[u8]) -> Option<Vec<u64>> {
    let trailer = version.last_chunk::<{ TRAILER_BYTES as usize }>()?;
    if !trailer.starts_with(ARCHIVE) {
        return None;
    }
    let contents = u64::from_le_bytes(*trailer.last_chunk::<16>()?.first_chunk()?);
    let mut rest = version.get(usize::try_from(contents).ok()?..)?.strip_prefix(CONTENTS)?;
    for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
        let (place, length) = (u64::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
        let name_bytes = u16::from_le_bytes(take(&mut rest)?);
        let (name, after) = rest.split_at_checked(usize::from(name_bytes))?;
        if name == TABLES.as_bytes() {
            let (place, length) = (usize::try_from(place).ok()?, usize::try_from(length).ok()?);
            return numbers(version.get(place..)?.get(..length)?);
        }
        rest = after;
    }
    None
}

fn numbers(mut section: &[u8]) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    let [levels] = take(&mut section)?;
    for _ in 0..levels {
        let [runs] = take(&mut section)?;
        for _ in 0..runs {
            for _ in 0..u32::from_le_bytes(take(&mut section)?) {
                numbers.push(u64::from_le_bytes(take(&mut section)?));
                take::<TABLE_REST_BYTES>(&mut section)?;
            }
        }
    }
    Some(numbers)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
