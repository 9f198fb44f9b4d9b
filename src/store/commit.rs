//! The commit thread: one synced batch after another, and the store's own books along with them.
//!
//! It is the only one that writes. It must never report what was not synced, never try again after a
//! failed sync, and never judge a message: what expires or overflows is decided by owners.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::dead::Bounds;
use super::draft::Draft;
use super::due::DueMemory;
use super::engine::Keyspace;
use super::meta::{self, Books};
use super::queue::{Next, Queue, Submission};
use super::shared::Shared;
use super::watch::Announcer;
use super::{CommitReport, Reporter, StoreError, StoreState, What, Write, Written};
use crate::clock::{Clock, Now};
use crate::ids::Seq;

/// How far ahead the ceiling is raised; it is raised again when half of that is left.
const CEILING_AHEAD_US: u64 = 3_600_000_000;
/// A burst for one user may be given seqs ahead of the clock, one microsecond a message. No burst
/// gets this far ahead: a message costs an owner more than the microsecond that it borrows.
const BURST_US: u64 = 1_000_000;
/// How stale the alive stamp may get while batches go out.
const ALIVE_MS: u64 = 60_000;
/// How often free space and the ceiling are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often the age of dead letters is looked at.
const DEAD_AGE_CHECK: Duration = Duration::from_secs(60);
/// `Low` ends when there is an eighth more than `min_free`, so that it does not flicker.
const FREE_AGAIN_DIVISOR: u64 = 8;

/// What the configuration says about committing.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub min_free: u64,
    pub dead_letters_bytes: u64,
    pub dead_letters_age: Duration,
}

pub struct Committer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    reporter: Arc<dyn Reporter>,
    announcer: Arc<Announcer>,
    settings: Settings,
    clock: Clock,
    started: Now,
    /// As they are on disk.
    books: Books,
    due: DueMemory,
    /// The highest seq that was ever handed over, cancelled ones included.
    highest: Seq,
    /// The ceiling that the reporter was told last.
    announced: Seq,
    ticked: Instant,
    dead_checked: Instant,
}

impl Committer {
    /// Removes the clean mark, goes over from the first books (those on disk) to the second ones and sets
    /// a fresh ceiling: one batch, synced when this returns.
    pub fn start(
        (shared, queue): (Arc<Shared>, Arc<Queue>),
        (reporter, announcer): (Arc<dyn Reporter>, Arc<Announcer>),
        settings: Settings,
        clock: Clock,
        (books, first): (Books, Books),
    ) -> Result<Self, StoreError> {
        let (started, instant) = (clock.now(), Instant::now());
        let mut committer = Self {
            shared,
            queue,
            reporter,
            announcer,
            settings,
            clock,
            started,
            books,
            due: DueMemory::default(),
            highest: Seq::ZERO,
            announced: Seq::ZERO,
            ticked: instant,
            dead_checked: instant,
        };
        let mut draft = Draft::new(first);
        meta::drop_clean(&mut draft.batch);
        draft.books.ceiling = raised(first.ceiling, started);
        draft.books.alive_ms = started.wall_ms;
        committer.sync(draft)?;
        committer.shared.epochs.advance(started.wall_ms);
        committer.look_at_free_space();
        Ok(committer)
    }

    /// Until the queue is closed.
    pub fn run(mut self) -> Result<(), StoreError> {
        let (shared, queue, announcer) = (self.shared.clone(), self.queue.clone(), self.announcer.clone());
        let _alarm = Alarm { shared, queue, announcer };
        self.announce();
        loop {
            match self.queue.next(TICK) {
                Next::Commit(submissions) => self.commit(submissions),
                // Nobody may be waiting for the answer any more; then it is not needed.
                Next::ClearDead(reply) => drop(reply.send(self.clear_dead())),
                Next::Idle => {}
                Next::Close { clean } => {
                    let outcome = self.close(clean);
                    // That the last sync failed must be known before anyone asks how it ended.
                    self.announce();
                    return outcome;
                }
            }
            self.tick();
            self.announce();
        }
    }

    fn commit(&mut self, submissions: Vec<Submission>) {
        let poisoned = self.is_poisoned();
        let mut draft = self.draft();
        let mut reports: Vec<(usize, Vec<Written>)> = Vec::new();
        for Submission { shard, writes } in submissions {
            let written = writes.into_iter().map(|write| self.take(write, &mut draft, poisoned));
            match reports.iter_mut().find(|(known, _)| *known == shard) {
                Some((_, earlier)) => earlier.extend(written),
                None => reports.push((shard, written.collect())),
            }
        }
        let outcome = if poisoned { Err(StoreError::Poisoned) } else { self.finish(draft) };
        let error = outcome.err();
        for (shard, written) in reports {
            self.reporter.committed(shard, CommitReport { written, error: error.clone() });
        }
    }

    /// Whatever is written takes the pause of expiry as it is now along.
    fn draft(&self) -> Draft {
        let expiry_paused = self.shared.expiry_paused.load(Ordering::Relaxed);
        Draft::new(Books { expiry_paused, ..self.books })
    }

    fn take(&mut self, write: Write, draft: &mut Draft, poisoned: bool) -> Written {
        if let What::Append { message, .. } | What::Requeue { message, .. } = &write.what {
            self.highest = self.highest.max(message.seq);
        }
        if poisoned {
            return untried(write);
        }
        let written = draft.write(write, &mut self.due);
        if matches!(written, Written::Append { stored: false, .. }) {
            self.shared.metrics.elided.inc();
        }
        written
    }

    /// Commits what owners asked for, with what goes along with it.
    fn finish(&mut self, mut draft: Draft) -> Result<(), StoreError> {
        // When all of it was cancelled before it was written, there is nothing to sync.
        if draft.batch.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let epoch = self.shared.epochs.advance(self.steady_ms(now));
        if let Err(error) = draft.put_dedupe(&*self.shared.engine, epoch) {
            return Err(self.poison(error));
        }
        if draft.books.dead.bytes > self.settings.dead_letters_bytes {
            self.trim_dead(&mut draft, Bounds::of_bytes(self.settings.dead_letters_bytes));
        }
        draft.books.ceiling = next_ceiling(draft.books.ceiling, now);
        if now.wall_ms.abs_diff(draft.books.alive_ms) >= ALIVE_MS {
            draft.books.alive_ms = now.wall_ms;
        }
        self.sync(draft)
    }

    /// Commits and publishes. What the draft says is true once this returned `Ok`.
    fn sync(&mut self, mut draft: Draft) -> Result<(), StoreError> {
        draft.books.write_changes(&self.books, &mut draft.batch);
        let (changes, begun) = (draft.batch.changes(), Instant::now());
        self.shared.note_commit(Some(begun));
        let committed = self.shared.engine.commit(&changes);
        self.shared.note_commit(None);
        if let Err(error) = committed {
            return Err(self.poison(error));
        }
        let metrics = &self.shared.metrics;
        metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        metrics.commit_changes.observe(changes.len() as f64);
        metrics.commits.inc();
        metrics.dead_letters_dropped.inc_by(draft.dropped_letters as u64);
        self.books = draft.books;
        self.shared.publish(&self.books);
        if let Some(epoch) = draft.epoch {
            self.shared.epochs.turned(epoch);
        }
        if let Some(minute) = draft.due_from {
            self.shared.due.added(minute);
        }
        Ok(())
    }

    /// Nobody knows what is on disk now: nothing more is written until a restart has looked.
    fn poison(&self, error: StoreError) -> StoreError {
        tracing::error!(%error, "the store could not be written and takes nothing more until a restart");
        self.shared.metrics.commit_failures.inc();
        self.shared.enter(StoreState::Poisoned);
        error
    }

    fn is_poisoned(&self) -> bool {
        self.shared.state() == StoreState::Poisoned
    }

    /// What is to be done about once a second, whether anything is committed or not.
    fn tick(&mut self) {
        if self.ticked.elapsed() < TICK || self.is_poisoned() {
            return;
        }
        self.ticked = Instant::now();
        let now = self.clock.now();
        self.shared.epochs.advance(self.steady_ms(now));
        self.look_at_free_space();
        self.reclaim();
        let mut draft = self.draft();
        if self.dead_checked.elapsed() >= DEAD_AGE_CHECK || self.books.dead.bytes > self.settings.dead_letters_bytes {
            self.dead_checked = Instant::now();
            let Settings { dead_letters_bytes, dead_letters_age, .. } = self.settings;
            self.trim_dead(&mut draft, Bounds::of_bytes_and_age(dead_letters_bytes, dead_letters_age, now.wall_ms));
        }
        draft.books.ceiling = next_ceiling(draft.books.ceiling, now);
        if draft.books != self.books {
            draft.books.alive_ms = now.wall_ms;
            // A failure poisons the store, and that is announced.
            let _poisoned = self.sync(draft).is_err();
        }
    }

    fn trim_dead(&self, draft: &mut Draft, bounds: Bounds) {
        // The list stays longer than it should be for now; that is no reason to stop writing.
        if let Err(error) = draft.trim_dead(&*self.shared.engine, bounds) {
            tracing::error!(%error, "the oldest dead letters could not be read");
        }
    }

    fn clear_dead(&mut self) -> Result<u64, StoreError> {
        let mut cleared = 0;
        loop {
            if self.is_poisoned() {
                return Err(StoreError::Poisoned);
            }
            let mut draft = self.draft();
            let dropped = draft.trim_dead(&*self.shared.engine, Bounds::NOTHING)?;
            // An operator wanted them gone; they did not fall out.
            draft.dropped_letters = 0;
            if dropped == 0 {
                return Ok(cleared);
            }
            self.sync(draft)?;
            cleared += dropped as u64;
        }
    }

    fn look_at_free_space(&self) {
        let low = self.shared.state() == StoreState::Low;
        let needed = if low { self.free_again() } else { self.settings.min_free };
        match self.shared.engine.disk_free() {
            Ok(free) if (free < needed) != low => {
                let state = if low { StoreState::Ok } else { StoreState::Low };
                tracing::warn!(free_bytes = free, min_free_bytes = self.settings.min_free, ?state, "free disk space");
                self.shared.enter(state);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "free disk space cannot be told"),
        }
    }

    /// Whatever drains must make room on the disk in the end, or `Low` would last for ever.
    fn reclaim(&self) {
        let Books { totals, dead, .. } = self.books;
        let live = [(Keyspace::Inbox, totals.messages), (Keyspace::Dead, dead.next.saturating_sub(dead.head))];
        self.shared.engine.reclaim(&live, self.shared.state() == StoreState::Low);
    }

    fn free_again(&self) -> u64 {
        self.settings.min_free.saturating_add(self.settings.min_free / FREE_AGAIN_DIVISOR)
    }

    /// Tells the reporter what is news to it. After the reports of a batch, never before.
    fn announce(&mut self) {
        self.announcer.announce();
        let ceiling = self.books.ceiling;
        if std::mem::replace(&mut self.announced, ceiling) != ceiling {
            self.reporter.ceiling(ceiling);
        }
    }

    /// Wall time as it was at the start, plus what has passed since: no step of the clock can make
    /// dedupe forget early.
    fn steady_ms(&self, now: Now) -> u64 {
        self.started.wall_ms + now.us.saturating_sub(self.started.us) / 1000
    }

    fn close(&mut self, clean: bool) -> Result<(), StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let mut draft = self.draft();
        if !clean {
            // What an operator said of expiry counts, however the process ends.
            return if draft.books == self.books { Ok(()) } else { self.sync(draft) };
        }
        let now = self.clock.now();
        // Seqs that were elided were given out too, so what was written tells nothing: the clock does.
        let upto = Seq(now.us.saturating_add(BURST_US)).max(self.highest).min(self.books.ceiling);
        meta::put_clean(&mut draft.batch, upto);
        draft.books.alive_ms = now.wall_ms;
        self.sync(draft)?;
        self.shared.engine.seal();
        Ok(())
    }
}

/// The ceiling as it should be now: raised when half of what was ahead is used.
fn next_ceiling(ceiling: Seq, now: Now) -> Seq {
    let is_half_used = ceiling.0.saturating_sub(now.us) < CEILING_AHEAD_US / 2;
    if is_half_used { raised(ceiling, now) } else { ceiling }
}

/// The ceiling an hour ahead of the clock; never lower than it was.
fn raised(ceiling: Seq, now: Now) -> Seq {
    Seq(now.us.saturating_add(CEILING_AHEAD_US)).min(Seq::MAX).max(ceiling)
}

/// The report of a write that came after the store was poisoned: certainly not on disk.
fn untried(write: Write) -> Written {
    match write.what {
        What::Append { message, .. } | What::Requeue { message, .. } => {
            Written::Append { user: write.user, seq: message.seq, stored: false }
        }
        What::Change { token, .. } => Written::Change { user: write.user, token },
    }
}

/// Says that the store is gone when the thread ends by a panic, so that nobody waits for it forever.
struct Alarm {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    announcer: Arc<Announcer>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.enter(StoreState::Poisoned);
            self.queue.abandon();
            self.announcer.announce();
        }
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
