//! Goal: whatever is missing or cut short in a keyspace is found and named, and nothing else is called a fault.
//! Method: keyspaces made by hand in a temporary directory, after the layout that is written above the code;
//! and one that fjall made, to see that this is its layout.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use super::*;
use crate::store::FjallEngine;

/// Where the tables are: two runs in the first level, none in the second, one in the third.
const LEVELS: &[&[&[u64]]] = &[&[&[1, 2], &[300]], &[], &[&[4]]];

fn bytes_of(length: usize) -> Vec<u8> {
    u32::try_from(length).unwrap().to_le_bytes().to_vec()
}

fn archive(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut contents = [CONTENTS, &bytes_of(sections.len())].concat();
    for (name, section) in sections {
        contents.extend((bytes.len() as u64).to_le_bytes());
        contents.extend((section.len() as u64).to_le_bytes());
        contents.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        contents.extend(name.as_bytes());
        bytes.extend(*section);
    }
    let place = [bytes.len(), contents.len()].map(|number| (number as u64).to_le_bytes()).concat();
    [&bytes[..], &contents, ARCHIVE, &[7; 18], &place].concat()
}

fn section(levels: &[&[&[u64]]]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(levels.len()).unwrap()];
    for runs in levels {
        bytes.push(u8::try_from(runs.len()).unwrap());
        for tables in *runs {
            bytes.extend(bytes_of(tables.len()));
            for table in *tables {
                bytes.extend(table.to_le_bytes());
                bytes.extend([7; TABLE_REST_BYTES]);
            }
        }
    }
    bytes
}

/// A folder with all that belongs there, at its fourth version.
struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        fs::create_dir(made.path("tables")).unwrap();
        fs::write(made.path("current"), [&4_u64.to_le_bytes()[..], b"checksum"].concat()).unwrap();
        fs::write(made.path("v4"), archive(&[("tree_type", b"0"), ("tables", &section(LEVELS)), ("x", b"y")])).unwrap();
        for table in LEVELS.concat().concat() {
            fs::write(made.table(table), archive(&[("data", b"what somebody wrote")])).unwrap();
        }
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn table(&self, number: u64) -> PathBuf {
        self.path("tables").join(number.to_string())
    }

    fn fault(&self) -> Option<Fault> {
        fault(self.0.path()).unwrap()
    }
}

#[test]
fn every_table_of_every_level_has_to_be_there_with_its_end() {
    let made = Made::new();
    assert_eq!(made.fault(), None);
    for number in LEVELS.concat().concat() {
        let table = made.table(number);
        let whole = fs::read(&table).unwrap();
        fs::remove_file(&table).unwrap();
        assert_eq!(made.fault(), Some(Fault::Missing(table.clone())));
        for length in 0..whole.len() {
            fs::write(&table, &whole[..length]).unwrap();
            assert_eq!(made.fault(), Some(Fault::Short(table.clone())), "{length} bytes of table {number}");
        }
        fs::write(&table, whole).unwrap();
        assert_eq!(made.fault(), None);
    }
}

#[test]
fn a_table_that_no_version_names_is_not_looked_at() {
    let made = Made::new();
    fs::write(made.table(5), "not even a table").unwrap();
    assert_eq!(made.fault(), None);
}

#[test]
fn a_keyspace_that_was_being_made_has_no_fault() {
    let made = Made::new();
    fs::remove_file(made.path("current")).unwrap();
    assert_eq!(made.fault(), None);
    assert_eq!(fault(&made.path("never there")).unwrap(), None);
}

#[test]
fn what_says_which_version_is_the_current_one_has_to_say_it_all() {
    let made = Made::new();
    fs::write(made.path("current"), &4_u64.to_le_bytes()[..7]).unwrap();
    assert_eq!(made.fault(), Some(Fault::Short(made.path("current"))));
    fs::write(made.path("current"), 4_u64.to_le_bytes()).unwrap();
    assert_eq!(made.fault(), None);
}

#[test]
fn the_version_that_is_the_current_one_has_to_be_there_with_its_end() {
    let made = Made::new();
    let version = made.path("v4");
    let whole = fs::read(&version).unwrap();
    fs::rename(&version, made.path("v3")).unwrap();
    assert_eq!(made.fault(), Some(Fault::Missing(version.clone())));
    for length in 0..whole.len() {
        fs::write(&version, &whole[..length]).unwrap();
        assert_eq!(made.fault(), Some(Fault::Short(version.clone())), "{length} bytes");
    }
}

/// A version that names no tables is not one without them.
#[test]
fn a_list_of_tables_that_is_not_all_there_is_not_taken_for_a_short_one() {
    let made = Made::new();
    let listed = section(LEVELS);
    for length in 0..listed.len() {
        fs::write(made.path("v4"), archive(&[("tables", &listed[..length])])).unwrap();
        assert_eq!(made.fault(), Some(Fault::Short(made.path("v4"))), "{length} bytes of the list");
    }
    fs::write(made.path("v4"), archive(&[("blobs", &listed)])).unwrap();
    assert_eq!(made.fault(), Some(Fault::Short(made.path("v4"))), "no list at all");
    fs::write(made.path("v4"), archive(&[("tables", &section(&[]))])).unwrap();
    assert_eq!(made.fault(), None, "a list of none");
}

/// It may be there and whole: that is an error, and not a fault.
#[test]
fn what_cannot_be_read_is_not_called_missing() {
    for file in ["current", "v4"] {
        let made = Made::new();
        fs::remove_file(made.path(file)).unwrap();
        // Even root cannot read a folder as a file.
        fs::create_dir(made.path(file)).unwrap();
        assert!(fault(made.0.path()).is_err(), "{file}");
    }
    let made = Made::new();
    fs::remove_dir_all(made.path("tables")).unwrap();
    // Nor look into a file as if it were a folder.
    fs::write(made.path("tables"), "").unwrap();
    assert!(fault(made.0.path()).is_err());
}

/// fjall writes the names of the keyspaces into tables at once.
#[test]
fn the_tables_that_fjall_writes_are_known_and_missed() {
    let dir = tempfile::tempdir().unwrap();
    drop(FjallEngine::open(dir.path(), 1 << 20).unwrap());
    for keyspace in fs::read_dir(dir.path().join("keyspaces")).unwrap() {
        assert_eq!(fault(&keyspace.unwrap().path()).unwrap(), None);
    }
    let names = dir.path().join("keyspaces/0");
    let tables: Vec<_> = fs::read_dir(names.join(TABLES)).unwrap().map(|table| table.unwrap().path()).collect();
    for table in &tables {
        let table = File::options().write(true).open(table).unwrap();
        table.set_len(table.metadata().unwrap().len() - 1).unwrap();
    }
    assert!(matches!(fault(&names).unwrap(), Some(Fault::Short(table)) if tables.contains(&table)));
    tables.iter().for_each(|table| fs::remove_file(table).unwrap());
    assert!(matches!(fault(&names).unwrap(), Some(Fault::Missing(table)) if tables.contains(&table)));
}
