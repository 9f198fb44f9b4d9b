//! The commit thread: takes what waits, drops what was cancelled meanwhile, one synced batch, reports back.

use std::sync::Arc;

use super::{Boot, Reporter, StoreError, StoreState, Write};
use crate::clock::Clock;
use crate::config;
use crate::metrics::Metrics;
use crate::store::reader::Reader;

/// An opened store whose commit thread does not run yet.
pub struct Cellar {
    pub boot: Boot,
    pub reader: Reader,
}

impl Cellar {
    /// Opens or creates the store, checks format, lock and clean mark; reads at most 100 records.
    pub fn open(_config: &config::Store, _queue: &config::Queue, _metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        unimplemented!()
    }

    /// Removes the clean mark (synced) and starts the commit thread.
    pub fn start(self, _shards: usize, _clock: Clock, _reporter: Arc<dyn Reporter>) -> Result<Writer, StoreError> {
        unimplemented!()
    }
}

/// The owners' handle on the commit thread; cheap to clone.
#[derive(Clone)]
pub struct Writer {}

impl Writer {
    /// Queues writes of one shard; returns at once. What may wait is bounded by the owners
    /// (`routing.pending_appends`, one change a user), so this never refuses.
    pub fn submit(&self, _shard: usize, _writes: Vec<Write>) {
        unimplemented!()
    }

    pub fn state(&self) -> StoreState {
        unimplemented!()
    }

    /// Empties the dead-letter list; returns how many there were. Blocks until synced.
    pub fn clear_dead_letters(&self) -> Result<u64, StoreError> {
        unimplemented!()
    }

    /// Commits what waits, writes the clean mark when `clean`, syncs, ends the thread. Blocks.
    pub fn close(&self, _clean: bool) -> Result<(), StoreError> {
        unimplemented!()
    }
}
