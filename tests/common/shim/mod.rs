//! A disk of the tests' own: a small file system in memory, served to the kernel through FUSE, that knows
//! what was synced. When its power is cut, what was not synced is lost, or kept as a disk may keep it.
//! Must never outlive its test: dropping it unmounts it.
#![allow(dead_code, reason = "every test that includes this uses its own part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test a broken expectation is a panic")]

mod content;
pub mod cut;
pub mod faults;
mod served;
pub mod tree;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use fuser::{BackgroundSession, Config, MountOption};
use tempfile::TempDir;

use cut::{Cut, Unsynced};
use faults::{Fault, Faults};
use served::Served;
use tree::Tree;

/// What the disk holds and how it is.
pub struct State {
    pub tree: Tree,
    pub faults: Faults,
    pub capacity_bytes: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
}

/// More than any test fills without meaning to.
const CAPACITY_BYTES: u64 = 1 << 30;

/// The disk, mounted on a temporary directory.
pub struct Disk {
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    dir: TempDir,
}

impl Disk {
    /// None where this user may not mount: said aloud, and a failure where everything has to be run.
    pub fn mount() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("doorstep-shim-").tempdir().unwrap();
        let mut disk = Self { state: state(Tree::new()), session: None, dir };
        match disk.serve() {
            Ok(()) => Some(disk),
            Err(error) => {
                skip(&format!("a file system of the test's own cannot be mounted here: {error}"));
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory for the store.
    pub fn store(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn set(&self, fault: Fault, present: bool) {
        self.state().faults.set(fault, present);
    }

    /// So many operations failed so far.
    pub fn failed(&self) -> usize {
        self.state().faults.met
    }

    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// From now on there is room for so much more than what it holds.
    pub fn leave_room(&self, bytes: u64) {
        let mut state = self.state();
        state.capacity_bytes = state.tree.allocated_bytes() + bytes;
    }

    pub fn make_room(&self) {
        self.state().capacity_bytes = CAPACITY_BYTES;
    }

    /// The power goes: every call fails from this moment on, and what comes later never happened.
    pub fn cut(&self) {
        self.state().faults.dead = true;
    }

    /// The power is back: what survived is mounted in the same place. Whoever had files open must be gone.
    pub fn power_up(&mut self, unsynced: Unsynced) -> Cut {
        self.cut();
        self.unmount();
        let (left, cut) = self.state().tree.after_a_cut(unsynced);
        self.state = state(left);
        self.serve().unwrap();
        cut
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&mut self) -> std::io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("doorstep-shim".to_owned()), MountOption::NoAtime];
        let served = Served { state: self.state.clone() };
        self.session = Some(fuser::spawn_mount(served, self.dir.path(), &config)?);
        Ok(())
    }

    fn unmount(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Lazily: a daemon that is just being killed may still hold it.
        let _unmounted = Command::new("umount").arg("--lazy").arg(self.dir.path()).output().is_ok();
        // Its thread ends when nobody holds the file system any more, and answers nothing but errors until then.
        drop(session);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nobody can be left waiting for an answer.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).faults.dead = true;
        self.unmount();
    }
}

fn state(tree: Tree) -> Arc<Mutex<State>> {
    let faults = Faults::default();
    Arc::new(Mutex::new(State { tree, faults, capacity_bytes: CAPACITY_BYTES, syncs: 0 }))
}

/// Past the capture of the test harness, which shows nothing of a test that passes.
fn skip(why: &str) {
    let said = format!("{}: NOT RUN: {why}\n", std::thread::current().name().unwrap_or("a test"));
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    assert!(std::env::var_os("CI").is_none(), "{said}");
}
