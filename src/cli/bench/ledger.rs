//! What one pair sent, was told, and received: when, for the figures, and what, for the history that makes the
//! figures worth something.
//!
//! Pure. Messages are numbered from 0 in the order sent; a number stays here until it has its answer and its
//! delivery. The history judges, and lets go of what is done with.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use crate::history::{Fault, History, Session};

/// Sends after which the history is asked to let go.
const SETTLE_EVERY: u64 = 512;

/// Broken promises, by their kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Faults(BTreeMap<&'static str, u64>);

impl Faults {
    pub(super) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// How many of every kind.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::KINDS.into_iter().map(|kind| (kind, self.0.get(kind).copied().unwrap_or_default()))
    }
}

/// Who is on which end of a pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) user: &'a str,
    pub(super) device: &'a str,
    /// As its welcome said.
    pub(super) cursor: u64,
}

#[derive(Debug)]
struct Entry {
    sent_at: Instant,
    answered: bool,
    /// Refused, so that no delivery will come of it.
    refused: bool,
    delivered: bool,
}

#[derive(Debug)]
pub(super) struct Ledger {
    history: History,
    sender: Session,
    receiver: Session,
    from: String,
    to: String,
    body: String,
    /// Number of the first entry; everything below has its answer and its delivery.
    base: u64,
    entries: VecDeque<Entry>,
    unanswered: usize,
}

impl Ledger {
    pub(super) fn new(from: End<'_>, to: End<'_>, body: &str) -> Self {
        let history = History::new();
        let attach = |end: End<'_>| history.attached(history.mark(), end.user, end.device, end.cursor, true);
        Self {
            sender: attach(from),
            receiver: attach(to),
            history,
            from: from.user.to_owned(),
            to: to.user.to_owned(),
            body: body.to_owned(),
            base: 0,
            entries: VecDeque::new(),
            unanswered: 0,
        }
    }

    /// The number of a message that goes out now.
    pub(super) fn sent(&mut self, now: Instant) -> u64 {
        self.entries.push_back(Entry { sent_at: now, answered: false, refused: false, delivered: false });
        self.unanswered += 1;
        let number = self.base + self.entries.len() as u64 - 1;
        self.sender.sent(&number.to_string(), &self.to, &self.body);
        if number % SETTLE_EVERY == SETTLE_EVERY - 1 {
            self.history.settle();
        }
        number
    }

    /// When the message was sent that is accepted now; `None` when it had its answer.
    pub(super) fn accepted(&mut self, number: u64, seq: u64, stored: bool) -> Option<Instant> {
        self.sender.accepted(&number.to_string(), &self.to, seq, stored);
        self.answered(number, false)
    }

    /// The same for one that is turned down.
    pub(super) fn rejected(&mut self, number: u64, code: &str) -> Option<Instant> {
        self.sender.rejected(&number.to_string(), &self.to, code);
        self.answered(number, code != "unknown_outcome")
    }

    fn answered(&mut self, number: u64, refused: bool) -> Option<Instant> {
        let entry = self.entry(number).filter(|entry| !entry.answered)?;
        (entry.answered, entry.refused) = (true, refused);
        let sent_at = entry.sent_at;
        self.unanswered -= 1;
        self.let_go();
        Some(sent_at)
    }

    /// When the message was sent that arrives now; `None` when it had arrived before.
    pub(super) fn delivered(&mut self, number: u64, seq: u64, body: &str, redelivered: bool) -> Option<Instant> {
        self.receiver.delivered(seq, &number.to_string(), &self.from, body, redelivered);
        let entry = self.entry(number).filter(|entry| !entry.delivered)?;
        entry.delivered = true;
        let sent_at = entry.sent_at;
        self.let_go();
        Some(sent_at)
    }

    pub(super) fn acked(&self, seq: u64) {
        self.receiver.acked(seq);
    }

    pub(super) fn caught_up(&self) {
        self.receiver.caught_up();
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered
    }

    pub(super) fn is_settled(&self) -> bool {
        self.entries.is_empty()
    }

    /// The end of it all: what is not here by now is lost.
    pub(super) fn close(self) -> Faults {
        let mut faults = Faults::default();
        for fault in self.history.check().faults {
            *faults.0.entry(fault.kind()).or_default() += 1;
        }
        faults
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.entries.get_mut(at)
    }

    fn let_go(&mut self) {
        let is_done = |entry: &Entry| entry.answered && (entry.delivered || entry.refused);
        while self.entries.front().is_some_and(is_done) {
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(sends: u64) -> Ledger {
        let [from, to] = ["alice", "bob"].map(|user| End { user, device: "bench", cursor: 0 });
        let mut ledger = Ledger::new(from, to, "hi");
        (0..sends).for_each(|number| assert_eq!(ledger.sent(Instant::now()), number));
        ledger
    }

    fn exchange(ledger: &mut Ledger, number: u64) {
        assert!(ledger.delivered(number, number + 1, "hi", false).is_some());
        ledger.acked(number + 1);
        assert!(ledger.accepted(number, number + 1, false).is_some());
    }

    #[test]
    fn what_arrives_and_is_answered_settles_in_any_order() {
        let mut ledger = ledger(3);
        exchange(&mut ledger, 0);
        assert!(ledger.accepted(2, 3, true).is_some());
        assert!(ledger.accepted(1, 2, true).is_some());
        assert_eq!(ledger.unanswered(), 0);
        assert!(!ledger.is_settled());
        assert!(ledger.delivered(1, 2, "hi", false).is_some());
        assert!(ledger.delivered(2, 3, "hi", false).is_some());
        assert!(ledger.is_settled());
        assert_eq!(ledger.close(), Faults::default());
    }

    #[test]
    fn a_repeat_within_a_session_is_a_step_back_even_when_it_is_marked() {
        let mut ledger = ledger(1);
        exchange(&mut ledger, 0);
        assert!(ledger.delivered(0, 1, "hi", true).is_none(), "it has arrived before");
        let faults = ledger.close();
        let found: Vec<_> = faults.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, [("disordered", 1)]);
    }

    #[test]
    fn every_broken_promise_is_counted() {
        let mut ledger = ledger(7);
        exchange(&mut ledger, 1);
        // After a later one, and another body.
        ledger.accepted(0, 1, true);
        ledger.delivered(0, 1, "ha", false);
        // Twice, and lost.
        ledger.accepted(2, 3, true);
        ledger.delivered(2, 3, "hi", false);
        ledger.delivered(2, 4, "hi", false);
        ledger.accepted(3, 5, true);
        ledger.rejected(4, "queue_full");
        ledger.delivered(4, 6, "hi", false);
        ledger.rejected(5, "unknown_outcome");
        let faults = ledger.close();
        let count = |kind: &str| faults.0.get(kind).copied().unwrap_or_default();
        let kinds =
            ["lost", "disordered", "duplicated", "misplaced", "invented", "refused_but_delivered", "unanswered"];
        assert!(kinds.into_iter().all(|kind| count(kind) == 1), "{faults:?}");
        assert_eq!(faults.counts().map(|(_, count)| count).sum::<u64>(), 7);
    }

    #[test]
    fn what_is_long_done_with_is_still_known_to_have_come() {
        let mut ledger = ledger(0);
        for number in 0..2 * SETTLE_EVERY {
            ledger.sent(Instant::now());
            exchange(&mut ledger, number);
        }
        assert!(ledger.is_settled());
        ledger.delivered(3, 4, "hi", false);
        let faults = ledger.close();
        let found: Vec<_> = faults.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, [("disordered", 1), ("duplicated", 1)]);
    }
}
