//! What the commit thread publishes and readers look at. Holds no message and decides nothing.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::StoreState;
use super::dedupe::Epochs;
use super::due::DueHint;
use super::engine::Engine;
use super::keys::HashKey;
use super::meta::Books;
use crate::ids::Seq;
use crate::metrics::Metrics;

pub struct Shared {
    pub engine: Arc<dyn Engine>,
    pub metrics: Arc<Metrics>,
    pub epochs: Epochs,
    pub hash_key: HashKey,
    pub due: DueHint,
    /// Set from outside; the commit thread writes it down.
    pub expiry_paused: Arc<AtomicBool>,
    /// When the commit that is under way began.
    commit_began: Mutex<Option<Instant>>,
    state: AtomicU8,
    ceiling: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Shared {
    pub fn new(engine: Arc<dyn Engine>, metrics: Arc<Metrics>, epochs: Epochs, books: &Books) -> Self {
        let shared = Self {
            engine,
            metrics,
            epochs,
            hash_key: books.hash_key,
            due: DueHint::default(),
            expiry_paused: Arc::new(AtomicBool::new(books.expiry_paused)),
            commit_began: Mutex::new(None),
            state: AtomicU8::new(state_number(StoreState::Ok)),
            ceiling: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        shared.publish(books);
        shared
    }

    /// Shows books that are synced.
    pub fn publish(&self, books: &Books) {
        self.ceiling.store(books.ceiling.0, Ordering::Release);
        self.messages.store(books.totals.messages, Ordering::Relaxed);
        self.bytes.store(books.totals.bytes, Ordering::Relaxed);
        let level = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.stored_messages.set(level(books.totals.messages));
        self.metrics.stored_bytes.set(level(books.totals.bytes));
    }

    /// The commit thread is in the engine from now on, or no longer.
    pub fn note_commit(&self, began: Option<Instant>) {
        *self.commit_began.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// How long the commit under way has taken so far; zero when there is none.
    pub fn commit_running(&self) -> Duration {
        let began = *self.commit_began.lock().unwrap_or_else(PoisonError::into_inner);
        began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    pub fn ceiling(&self) -> Seq {
        Seq(self.ceiling.load(Ordering::Acquire))
    }

    pub fn totals(&self) -> (u64, u64) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    pub fn state(&self) -> StoreState {
        match self.state.load(Ordering::Acquire) {
            0 => StoreState::Ok,
            1 => StoreState::Low,
            _ => StoreState::Poisoned,
        }
    }

    /// A poisoned store stays poisoned.
    pub fn enter(&self, state: StoreState) {
        let unless_poisoned = |now| (now != state_number(StoreState::Poisoned)).then(|| state_number(state));
        // An error means poisoned, and that is what it stays.
        let _unchanged = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, unless_poisoned).is_err();
    }
}

fn state_number(state: StoreState) -> u8 {
    match state {
        StoreState::Ok => 0,
        StoreState::Low => 1,
        StoreState::Poisoned => 2,
    }
}
