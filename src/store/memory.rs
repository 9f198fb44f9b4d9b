//! The engine in memory, with faults on demand: what tests and simulation run on.
//!
//! It tells apart what is on disk, what readers see, and what was written and not yet synced, so that
//! a crash can lose (or keep) exactly what a power cut may lose (or keep). It never poisons itself:
//! a caller that commits again after a failed sync is found out.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::engine::{Change, Engine, KeyRange, Keyspace, Order, Visitor};

/// What becomes of changes that were written but not synced when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// They never reached the disk, or the last batch did in part, was found torn and was dropped.
    Lost,
    /// They reached the disk after all.
    Kept,
}

#[derive(Default)]
pub struct MemoryEngine {
    disk: Mutex<Disk>,
    moved: Condvar,
}

/// While it lives, commits wait before their sync.
pub struct Gate(Arc<MemoryEngine>);

/// A change as it is kept: an entry, set to a value or removed.
type Put = ((Keyspace, Vec<u8>), Option<Vec<u8>>);

type Tables = BTreeMap<(Keyspace, Vec<u8>), Vec<u8>>;

#[derive(Default)]
struct Disk {
    synced: Tables,
    visible: Tables,
    /// In order; becomes part of `synced` with the next sync that succeeds.
    unsynced: Vec<Vec<Put>>,
    crashed: bool,
    gates: usize,
    waiting: usize,
    syncs_to_fail: u32,
    reads_fail: bool,
    poisoned: bool,
    free_bytes: Option<u64>,
    commits: u64,
}

impl MemoryEngine {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The power goes: this engine is dead from now on (commits that wait at a gate fail), and the
    /// one returned holds what is on disk.
    pub fn crash(&self, unsynced: Unsynced) -> Arc<Self> {
        let mut disk = self.lock();
        disk.crashed = true;
        self.moved.notify_all();
        let mut synced = disk.synced.clone();
        if unsynced == Unsynced::Kept {
            disk.unsynced.iter().for_each(|changes| apply(&mut synced, changes));
        }
        let visible = synced.clone();
        Arc::new(Self { disk: Mutex::new(Disk { synced, visible, ..Disk::default() }), moved: Condvar::new() })
    }

    /// The next `count` syncs fail: what they were to sync is in [`Unsynced`] limbo.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().syncs_to_fail = count;
    }

    /// Says from now on that it has failed, as when a thread of an engine has died. Commits do not notice.
    pub fn poison(&self) {
        self.lock().poisoned = true;
    }

    pub fn fail_reads(&self, fail: bool) {
        self.lock().reads_fail = fail;
    }

    /// Commits wait before their sync until every gate is dropped.
    pub fn hold_commits(self: &Arc<Self>) -> Gate {
        self.lock().gates += 1;
        Gate(self.clone())
    }

    /// Whether a commit waits at a gate: written, and not synced.
    pub fn holds_a_commit(&self) -> bool {
        let disk = self.lock();
        disk.gates > 0 && disk.waiting > 0
    }

    /// Whether a commit that puts something into `keyspace` waits at a gate.
    pub fn holds_commit_of(&self, keyspace: Keyspace) -> bool {
        let disk = self.lock();
        let puts = |((at, _), value): &Put| *at == keyspace && value.is_some();
        disk.gates > 0 && disk.waiting > 0 && disk.unsynced.iter().flatten().any(puts)
    }

    /// Blocks until a commit waits at a gate.
    pub fn wait_for_held_commit(&self) {
        let waiting = self.moved.wait_while(self.lock(), |disk| disk.waiting == 0);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    /// None stands for plenty.
    pub fn set_disk_free(&self, bytes: Option<u64>) {
        self.lock().free_bytes = bytes;
    }

    /// Commits that were tried, failed ones included.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Changes every record of a keyspace in place, on disk and for readers, as decay would.
    pub fn decay(&self, keyspace: Keyspace, mut change: impl FnMut(&[u8], &mut Vec<u8>)) {
        let disk = &mut *self.lock();
        for tables in [&mut disk.synced, &mut disk.visible] {
            for ((_, key), value) in tables.iter_mut().filter(|((at, _), _)| *at == keyspace) {
                change(key, value);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<MutexGuard<'_, Disk>, StoreError> {
        let disk = self.lock();
        if disk.crashed || disk.reads_fail {
            return Err(StoreError::Read("a fault was asked for".into()));
        }
        Ok(disk)
    }
}

impl Engine for MemoryEngine {
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let put = |change: &Change<'_>| ((change.keyspace, change.key.to_vec()), change.value.map(<[u8]>::to_vec));
        let changes: Vec<Put> = changes.iter().map(put).collect();
        let mut disk = self.lock();
        disk.commits += 1;
        disk.unsynced.push(changes.clone());
        disk.waiting += 1;
        self.moved.notify_all();
        disk =
            self.moved.wait_while(disk, |disk| disk.gates > 0 && !disk.crashed).unwrap_or_else(PoisonError::into_inner);
        disk.waiting -= 1;
        if disk.crashed {
            return Err(StoreError::Write("the power is gone".into()));
        }
        if disk.syncs_to_fail > 0 {
            disk.syncs_to_fail -= 1;
            return Err(StoreError::Write("a fault was asked for".into()));
        }
        for changes in std::mem::take(&mut disk.unsynced) {
            apply(&mut disk.synced, &changes);
        }
        apply(&mut disk.visible, &changes);
        Ok(())
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read()?.visible.get(&(keyspace, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        order: Order,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StoreError> {
        if range.to <= range.from {
            return Ok(());
        }
        let disk = self.read()?;
        let bounds = (Bound::Included((keyspace, range.from.clone())), Bound::Excluded((keyspace, range.to.clone())));
        let mut items = disk.visible.range(bounds);
        loop {
            let item = match order {
                Order::Ascending => items.next(),
                Order::Descending => items.next_back(),
            };
            let Some(((_, key), value)) = item else { return Ok(()) };
            if visit(key, value).is_break() {
                return Ok(());
            }
        }
    }

    fn clear(&self, keyspace: Keyspace) -> Result<(), StoreError> {
        let disk = &mut *self.lock();
        for tables in [&mut disk.synced, &mut disk.visible] {
            tables.retain(|(at, _), _| *at != keyspace);
        }
        Ok(())
    }

    fn is_poisoned(&self) -> bool {
        self.lock().poisoned
    }

    fn disk_bytes(&self) -> u64 {
        self.lock().synced.iter().map(|((_, key), value)| (key.len() + value.len()) as u64).sum()
    }

    fn disk_free(&self) -> Result<u64, StoreError> {
        Ok(self.lock().free_bytes.unwrap_or(u64::MAX))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.lock().gates -= 1;
        self.0.moved.notify_all();
    }
}

fn apply(tables: &mut Tables, changes: &[Put]) {
    for (key, value) in changes {
        match value {
            Some(value) => tables.insert(key.clone(), value.clone()),
            None => tables.remove(key),
        };
    }
}
