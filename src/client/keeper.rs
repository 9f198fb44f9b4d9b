//! Brings changes to the storage, one batch at a time, off the threads of the runtime.
//!
//! It must never say that something is safe before the storage said so. Without a storage everything is as safe as it
//! will ever be.

use std::io;
use std::mem;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::ids::Seq;

use super::storage::{Change, Kept, Storage};

/// Up to where a batch leads: what is safe once it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Safe {
    /// Sends with lower numbers.
    pub(super) sends_below: u64,
    /// Messages with this seq or a lower one.
    pub(super) done: Seq,
    /// How many answers to sends, of all that there were.
    pub(super) settled: u64,
}

pub(super) struct Keeper {
    storage: Option<Arc<dyn Storage>>,
    /// Bounded by what they are of: sends have places, messages a window.
    changes: Vec<Change>,
    safe_then: Safe,
    writing: Option<(JoinHandle<io::Result<()>>, Safe)>,
    failure: Option<String>,
}

impl Keeper {
    pub(super) fn new(storage: Option<Arc<dyn Storage>>) -> Self {
        Self { storage, changes: Vec::new(), safe_then: Safe::default(), writing: None, failure: None }
    }

    /// Whether anything outlives the process.
    pub(super) fn keeps(&self) -> bool {
        self.storage.is_some()
    }

    /// Why nothing can be kept any more.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.clone()
    }

    /// What an earlier process left.
    ///
    /// # Errors
    /// When the storage cannot tell; nothing can be kept any more.
    pub(super) async fn load(&mut self) -> Result<Kept, String> {
        let Some(storage) = self.storage.clone() else { return Ok(Kept::default()) };
        let loaded = tokio::task::spawn_blocking(move || storage.load()).await;
        loaded.map_err(io::Error::other).flatten().map_err(|error| self.fail(&error))
    }

    /// Has `change` written; it is safe no later than what `safe` adds to it.
    pub(super) fn note(&mut self, change: Change) {
        if self.keeps() {
            self.changes.push(change);
        }
    }

    pub(super) fn safe_below(&mut self, number: u64) {
        self.safe_then.sends_below = self.safe_then.sends_below.max(number);
    }

    pub(super) fn safe_done(&mut self, seq: Seq) {
        self.safe_then.done = self.safe_then.done.max(seq);
    }

    pub(super) fn safe_settled(&mut self) {
        self.safe_then.settled += 1;
    }

    /// Begins to write what is noted, unless a batch is on its way.
    pub(super) fn begin(&mut self) {
        let Some(storage) = self.storage.clone().filter(|_| self.writing.is_none() && !self.changes.is_empty()) else {
            return;
        };
        let changes = mem::take(&mut self.changes);
        self.writing = Some((tokio::task::spawn_blocking(move || storage.write(&changes)), self.safe_then));
    }

    /// Waits for the batch that is on its way; for ever when there is none. Nothing is lost when it is cancelled.
    ///
    /// # Errors
    /// When the storage failed; nothing can be kept any more.
    pub(super) async fn written(&mut self) -> Result<Safe, String> {
        let Some((writing, safe)) = self.writing.as_mut() else { return std::future::pending().await };
        let (written, safe) = (writing.await, *safe);
        self.writing = None;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => Ok(safe),
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Writes everything that is noted; returns what is safe then, if anything was to be written.
    ///
    /// # Errors
    /// When the storage failed; nothing can be kept any more.
    pub(super) async fn flush(&mut self) -> Result<Option<Safe>, String> {
        let mut safe = None;
        loop {
            self.begin();
            if self.writing.is_none() {
                return Ok(safe);
            }
            safe = Some(self.written().await?);
        }
    }

    fn fail(&mut self, error: &io::Error) -> String {
        let failure = format!("what must be kept cannot be kept: {error}");
        self.changes.clear();
        self.storage = None;
        self.failure = Some(failure.clone());
        failure
    }
}
