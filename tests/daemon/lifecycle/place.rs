//! Places for a store, and the hands that reach into one while no router has it open. Records are
//! written here as `proto-docs/store-format.md` describes them, not with the code that is tested.

use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use doorstep::store::FjallEngine;
use doorstep::store::engine::{Change, Engine, KeyRange, Keyspace, Order};
use rustix::process::geteuid;
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

pub fn change<'a>((keyspace, key, value): &'a (Keyspace, Vec<u8>, &Vec<u8>)) -> Change<'a> {
    Change { keyspace: *keyspace, key, value: Some(value) }
}

pub fn put(engine: &FjallEngine, keyspace: Keyspace, key: &[u8], value: Vec<u8>) {
    engine.commit(&[Change { keyspace, key, value: Some(&value) }]).unwrap();
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

/// A small file system in memory; unmounted when dropped. Or a directory that can be locked, which is less.
pub struct SmallDisk {
    dir: tempfile::TempDir,
    mounted: bool,
}

impl SmallDisk {
    /// None where this user may not mount: said aloud, and a failure where everything has to be run.
    pub fn mount(mib: u32) -> Option<Self> {
        let mut disk =
            Self { dir: tempfile::Builder::new().prefix("doorstep-disk-").tempdir().unwrap(), mounted: false };
        let options = format!("size={mib}m,mode=700");
        disk.mounted = disk.mount_command(&["-t", "tmpfs", "-o", &options, "tmpfs"]);
        if !disk.mounted {
            skip("a small file system cannot be mounted here");
        }
        disk.mounted.then_some(disk)
    }

    /// For tests that need no more than [`Self::set_read_only`]: where this user may not mount, the
    /// permissions of a directory do, unless it is root, who does not heed them.
    pub fn mount_or_lock(mib: u32) -> Option<Self> {
        if geteuid().is_root() {
            return Self::mount(mib);
        }
        Some(Self { dir: tempfile::Builder::new().prefix("doorstep-disk-").tempdir().unwrap(), mounted: false })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory for the store.
    pub fn store(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn set_read_only(&self, read_only: bool) {
        if !self.mounted {
            return lock(self.path(), read_only);
        }
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

/// Past the capture of the test harness, which shows nothing of a test that passes.
fn skip(why: &str) {
    let said = format!("{}: NOT RUN: {why}\n", std::thread::current().name().unwrap_or("a test"));
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    assert!(std::env::var_os("CI").is_none(), "{said}");
}

/// Takes the right to write away from everything below, or gives it back.
fn lock(path: &Path, locked: bool) {
    let is_dir = path.is_dir();
    let mode = if is_dir { 0o500 } else { 0o400 } | if locked { 0 } else { 0o200 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if is_dir {
        fs::read_dir(path).unwrap().for_each(|entry| lock(&entry.unwrap().path(), locked));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if !self.mounted {
            return lock(self.path(), false);
        }
        // Lazily: a router that is just being killed may still hold it.
        let _unmounted = Command::new("umount").arg("--lazy").arg(self.path()).output().is_ok();
    }
}
