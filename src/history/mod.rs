//! The history checker: what senders were told against what devices received. Recording and judging
//! are apart: handles write down what happened as it happens, [`History::check`] is a pure function of
//! that record. Must never ask the daemon anything, and must never excuse what the contract does not.
//!
//! Record a send or an ack *before* writing it to the socket and a frame right after reading it;
//! then whatever is written down earlier did happen earlier. Check when everything has been drained:
//! a message still on its way counts as lost. Who records millions lets [`History::settle`] forget what
//! is done with.
//!
//! The tests of the daemon and `doorstep bench` judge by this module, and by nothing else.
#![allow(clippy::indexing_slicing, reason = "numbers are places in the record that they were taken from")]

mod facts;
mod fault;
mod rules;
mod settle;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use fault::Fault;
use settle::Settled;

/// A place in the record, to tell later what had been observed by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// The record. A clone is another handle on the same one.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    sessions: Vec<SessionInfo>,
    /// Each with its number, which is its moment.
    events: Vec<(usize, Event)>,
    /// The number of the next event.
    next: usize,
    settled: Settled,
}

impl Record {
    fn push(&mut self, event: Event) {
        self.events.push((self.next, event));
        self.next += 1;
    }
}

#[derive(Debug)]
struct SessionInfo {
    user: Arc<str>,
    device: Arc<str>,
    /// The cursor that `welcome` named.
    cursor: u64,
    /// This hello registered the device.
    registered: bool,
    /// Taken just before `hello` was written.
    hello: Mark,
}

#[derive(Debug)]
enum Event {
    Attached { session: usize },
    Ended { session: usize },
    Sent { session: usize, id: Arc<str>, to: Arc<str>, body: u64 },
    Accepted { session: usize, id: Arc<str>, to: Arc<str>, seq: u64, stored: bool },
    Rejected { session: usize, id: Arc<str>, to: Arc<str>, code: Arc<str> },
    Delivered { session: usize, seq: u64, id: Arc<str>, from: Arc<str>, body: u64, redelivered: bool },
    Acked { session: usize, seq: u64 },
    CaughtUp { session: usize },
    Presence { session: usize, user: Arc<str>, version: u64, state: Arc<str> },
    PresenceIs { user: Arc<str>, version: u64, state: Arc<str> },
    DeadLetter { user: Arc<str>, device: Option<Arc<str>>, seq: u64 },
    Forgotten { user: Arc<str>, device: Arc<str> },
}

/// What a history comes to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub faults: Vec<Fault>,
    pub sent: u64,
    pub accepted_stored: u64,
    pub accepted_handed_over: u64,
    /// Negative answers by code.
    pub rejected: BTreeMap<String, u64>,
    /// Sends whose session ended before an answer came.
    pub unanswered: u64,
    pub deliveries: u64,
    pub redeliveries: u64,
}

impl Report {
    pub fn accepted(&self) -> u64 {
        self.accepted_stored + self.accepted_handed_over
    }

    fn add(&mut self, counted: &Self) {
        self.sent += counted.sent;
        self.accepted_stored += counted.accepted_stored;
        self.accepted_handed_over += counted.accepted_handed_over;
        for (code, count) in &counted.rejected {
            *self.rejected.entry(code.clone()).or_default() += count;
        }
        self.deliveries += counted.deliveries;
        self.redeliveries += counted.redeliveries;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent, {} accepted stored, ", self.sent, self.accepted_stored)?;
        write!(f, "{} handed over, {} unanswered, ", self.accepted_handed_over, self.unanswered)?;
        writeln!(f, "{} delivered ({} marked), rejected: {:?}", self.deliveries, self.redeliveries, self.rejected)?;
        writeln!(f, "{} faults", self.faults.len())?;
        self.faults.iter().take(20).try_for_each(|fault| writeln!(f, "  {fault:?}"))
    }
}

impl History {
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the record stands. Taken just before `hello` is written, for [`Self::attached`].
    pub fn mark(&self) -> Mark {
        Mark(self.record().next)
    }

    /// A `welcome` came. The first one of a device, and each with `registered`, begins a registration.
    pub fn attached(&self, hello: Mark, user: &str, device: &str, cursor: u64, registered: bool) -> Session {
        let mut record = self.record();
        let number = record.sessions.len();
        record.sessions.push(SessionInfo { user: user.into(), device: device.into(), cursor, registered, hello });
        record.push(Event::Attached { session: number });
        Session { history: self.clone(), number }
    }

    /// The dead-letter list names a message; without a device it counts for all of them.
    pub fn dead_letter(&self, user: &str, device: Option<&str>, seq: u64) {
        self.push(Event::DeadLetter { user: user.into(), device: device.map(Arc::from), seq });
    }

    /// The device was unregistered: nothing is owed to it any more.
    pub fn forgotten(&self, user: &str, device: &str) {
        self.push(Event::Forgotten { user: user.into(), device: device.into() });
    }

    /// Judges what was recorded so far.
    pub fn check(&self) -> Report {
        let record = self.record();
        let mut report = rules::judge(&facts::gather(&record));
        report.add(&record.settled.counts);
        report
    }

    /// Lets go of what every device has acknowledged and nobody will ever speak of again, as long as nothing was
    /// wrong: a record of millions of messages stays as small as what is under way. For those who never repeat a
    /// send; of what was settled only its place is known.
    pub fn settle(&self) {
        self.record().settle();
    }

    /// [`Self::check`] for tests.
    ///
    /// # Panics
    /// When a promise was broken.
    pub fn assert_clean(&self) -> Report {
        let report = self.check();
        assert!(report.faults.is_empty(), "the contract was broken: {report}");
        report
    }

    /// What is to be seen of a user at the end, when all is quiet: whoever still watches must have been told.
    pub fn presence_is(&self, user: &str, version: u64, state: &str) {
        self.push(Event::PresenceIs { user: user.into(), version, state: state.into() });
    }

    fn push(&self, event: Event) {
        self.record().push(event);
    }

    /// Whoever panicked has left nothing half written here.
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down what one session says and hears. A clone is another handle on the same session.
#[derive(Debug, Clone)]
pub struct Session {
    history: History,
    number: usize,
}

impl Session {
    /// `body` is compared with what is delivered.
    pub fn sent(&self, id: &str, to: &str, body: &str) {
        self.push(Event::Sent { session: self.number, id: id.into(), to: to.into(), body: digest(body) });
    }

    pub fn accepted(&self, id: &str, to: &str, seq: u64, stored: bool) {
        self.push(Event::Accepted { session: self.number, id: id.into(), to: to.into(), seq, stored });
    }

    pub fn rejected(&self, id: &str, to: &str, code: &str) {
        self.push(Event::Rejected { session: self.number, id: id.into(), to: to.into(), code: code.into() });
    }

    pub fn delivered(&self, seq: u64, id: &str, from: &str, body: &str, redelivered: bool) {
        let (id, from, body) = (id.into(), from.into(), digest(body));
        self.push(Event::Delivered { session: self.number, seq, id, from, body, redelivered });
    }

    pub fn acked(&self, seq: u64) {
        self.push(Event::Acked { session: self.number, seq });
    }

    pub fn caught_up(&self) {
        self.push(Event::CaughtUp { session: self.number });
    }

    pub fn presence(&self, user: &str, version: u64, state: &str) {
        self.push(Event::Presence { session: self.number, user: user.into(), version, state: state.into() });
    }

    /// The connection is gone, for whatever reason: no answer is owed on it any more.
    pub fn ended(&self) {
        self.push(Event::Ended { session: self.number });
    }

    fn push(&self, event: Event) {
        self.history.push(event);
    }
}

fn digest(body: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(body.as_bytes())
}
