//! Places for a store, and the hands that reach into one while no router has it open. Records are
//! written here as `proto-docs/store-format.md` describes them, not with the code that is tested.

use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use doorstep::store::FjallEngine;
use doorstep::store::engine::{Change, Engine, KeyRange, Keyspace, Order};
use xxhash_rust::xxh3::xxh3_64;

const CACHE_BYTES: u64 = 8 << 20;

/// Opens the store in `dir` for as long as `work` takes; no router may have it open.
pub fn inside<T>(dir: &Path, work: impl FnOnce(&FjallEngine) -> T) -> T {
    work(&FjallEngine::open(dir, CACHE_BYTES).unwrap())
}

/// Everything in a keyspace, in order.
pub fn all(engine: &FjallEngine, keyspace: Keyspace) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let everything = KeyRange { from: Vec::new(), to: vec![0xff; 16] };
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    engine.scan(keyspace, &everything, Order::Ascending, &mut visit).unwrap();
    found
}

pub fn put(engine: &FjallEngine, keyspace: Keyspace, key: &[u8], value: Vec<u8>) {
    engine.commit(vec![Change { keyspace, key: key.to_vec(), value: Some(value) }]).unwrap();
}

/// One of the store's own records: a header, and a row of numbers.
pub fn put_numbers(engine: &FjallEngine, key: &str, numbers: &[u64]) {
    let fields: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let mut record = vec![1];
    record.extend_from_slice(&xxh3_64(&fields).to_be_bytes());
    record.extend_from_slice(&fields);
    put(engine, Keyspace::Meta, key.as_bytes(), record);
}

/// One of the store's own records, read back.
pub fn numbers(engine: &FjallEngine, key: &str) -> Vec<u64> {
    let record = engine.get(Keyspace::Meta, key.as_bytes()).unwrap().unwrap();
    record[9..].chunks(8).map(|number| u64::from_be_bytes(number.try_into().unwrap())).collect()
}

/// A small file system in memory; unmounted when dropped.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// None, and a word about it, where this user may not mount.
    pub fn mount(mib: u32) -> Option<Self> {
        let disk = Self { dir: tempfile::Builder::new().prefix("doorstep-disk-").tempdir().unwrap() };
        let options = format!("size={mib}m,mode=700");
        let mounted = disk.mount_command(&["-t", "tmpfs", "-o", &options, "tmpfs"]);
        if !mounted {
            eprintln!("not run: a small file system cannot be mounted here");
        }
        mounted.then_some(disk)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory for the store.
    pub fn store(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn set_read_only(&self, read_only: bool) {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        assert!(self.mount_command(&["-o", how]), "remounting must work where mounting did");
    }

    pub fn free_bytes(&self) -> u64 {
        let figures = rustix::fs::statvfs(self.path()).unwrap();
        figures.f_bavail * figures.f_frsize
    }

    /// Writes a file until no more than `free_bytes` are left; [`Self::make_room`] removes it.
    pub fn fill(&self, free_bytes: u64) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        let block = vec![b'x'; 4096];
        while self.free_bytes() > free_bytes {
            if file.write_all(&block).is_err() {
                return;
            }
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn mount_command(&self, args: &[&str]) -> bool {
        let command = Command::new("mount").args(args).arg(self.path()).output();
        command.is_ok_and(|output| output.status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a router that is just being killed may still hold it. Where nothing was mounted this
        // fails, which is as well.
        let _unmounted = Command::new("umount").arg("--lazy").arg(self.path()).output().is_ok();
    }
}
