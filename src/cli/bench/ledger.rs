//! What one sender sent to one recipient, was told, and what arrived: when, for the figures, and whether, so that the
//! figures are worth something.
//!
//! Pure. Messages are numbered from 0 in the order sent. A number stays here until it has its answer and its delivery,
//! and is judged as it goes: that each message is answered once, arrives once unless it is marked, in order, unchanged
//! and in the place that its sender was told. [`super::witness`] judges by all of the contract, and costs as much as
//! the rest of a bench together.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::faults::Faults;
use super::witness::Witness;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Accepted,
    /// No delivery will come of it.
    Refused,
    /// `unknown_outcome`: it may still arrive.
    Open,
}

#[derive(Debug)]
struct Entry {
    sent_at: Instant,
    answer: Answer,
    delivered: bool,
    /// Its seq as first heard, from whichever side; 0 before.
    place: u64,
}

impl Entry {
    fn is_done(&self) -> bool {
        match self.answer {
            Answer::None => false,
            Answer::Refused => true,
            Answer::Accepted | Answer::Open => self.delivered,
        }
    }

    /// False when it is elsewhere already.
    fn takes(&mut self, place: u64) -> bool {
        let free = self.place == 0;
        if free {
            self.place = place;
        }
        free || self.place == place
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Number of the first entry; everything below has its answer and its delivery.
    base: u64,
    entries: VecDeque<Entry>,
    unanswered: usize,
    /// The highest number that has arrived, and one more.
    arrived: u64,
    /// Of the last delivery.
    seq: u64,
    /// What was refused and is not among the entries any more. Refusals are rare, because a pause follows each.
    refused: BTreeSet<u64>,
    caught_up: bool,
    faults: Faults,
    witness: Option<Witness>,
}

impl Ledger {
    /// With a witness it is the witness who judges in the end.
    pub(super) fn new(witness: Option<Witness>) -> Self {
        Self { witness, ..Self::default() }
    }

    /// The number of a message that goes out now, or was due at this time.
    pub(super) fn sent(&mut self, at: Instant) -> u64 {
        self.entries.push_back(Entry { sent_at: at, answer: Answer::None, delivered: false, place: 0 });
        self.unanswered += 1;
        let number = self.next() - 1;
        if let Some(witness) = &self.witness {
            witness.sent(number);
        }
        number
    }

    /// When the message was sent that is accepted now; `None` when it had its answer.
    pub(super) fn accepted(&mut self, number: u64, seq: u64, stored: bool) -> Option<Instant> {
        if let Some(witness) = &self.witness {
            witness.accepted(number, seq, stored);
        }
        let sent_at = self.answered(number, Answer::Accepted)?;
        if self.entry(number).is_some_and(|entry| !entry.takes(seq)) {
            self.faults.count("misplaced");
        }
        self.let_go();
        Some(sent_at)
    }

    /// The same for one that is turned down.
    pub(super) fn rejected(&mut self, number: u64, code: &str) -> Option<Instant> {
        if let Some(witness) = &self.witness {
            witness.rejected(number, code);
        }
        let answer = if code == "unknown_outcome" { Answer::Open } else { Answer::Refused };
        let sent_at = self.answered(number, answer)?;
        if answer == Answer::Refused {
            self.refused.insert(number);
            if self.entry(number).is_some_and(|entry| entry.delivered) {
                self.faults.count("refused_but_delivered");
            }
        }
        self.let_go();
        Some(sent_at)
    }

    fn answered(&mut self, number: u64, answer: Answer) -> Option<Instant> {
        let Some(entry) = self.entry(number).filter(|entry| entry.answer == Answer::None) else {
            self.faults.count("invented");
            return None;
        };
        entry.answer = answer;
        let sent_at = entry.sent_at;
        self.unanswered -= 1;
        Some(sent_at)
    }

    /// When the message was sent that arrives now; `None` when it had arrived before, or was never sent.
    pub(super) fn delivered(
        &mut self,
        number: u64,
        seq: u64,
        is_unchanged: bool,
        redelivered: bool,
    ) -> Option<Instant> {
        let went_back = seq <= self.seq || number < self.arrived && self.entry(number).is_some_and(|e| !e.delivered);
        self.seq = self.seq.max(seq);
        if went_back {
            self.faults.count("disordered");
        }
        if number >= self.next() || !is_unchanged {
            self.faults.count("invented");
        }
        if self.refused.contains(&number) {
            self.faults.count("refused_but_delivered");
        }
        let done_with = number < self.base && !self.refused.contains(&number);
        let Some(entry) = self.entry(number).filter(|entry| !entry.delivered) else {
            let again = done_with || self.entry(number).is_some();
            if again && !redelivered {
                self.faults.count("duplicated");
            }
            return None;
        };
        entry.delivered = true;
        let (sent_at, in_place) = (entry.sent_at, entry.takes(seq));
        if !in_place {
            self.faults.count("misplaced");
        }
        self.arrived = self.arrived.max(number + 1);
        self.let_go();
        Some(sent_at)
    }

    /// The witness hears what was said in full; the ledger has no need to.
    pub(super) fn witness(&self) -> Option<&Witness> {
        self.witness.as_ref()
    }

    pub(super) fn caught_up(&mut self) {
        if let Some(witness) = &self.witness {
            witness.caught_up();
        }
        if std::mem::replace(&mut self.caught_up, true) {
            self.faults.count("caught_up_early");
        }
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Everything has its answer and has arrived.
    pub(super) fn is_settled(&self) -> bool {
        self.entries.is_empty()
    }

    /// The end of it all: what is not here by now is lost.
    pub(super) fn close(mut self) -> Faults {
        if let Some(witness) = self.witness {
            return witness.judge();
        }
        for entry in &self.entries {
            match entry.answer {
                Answer::None => self.faults.count("unanswered"),
                Answer::Accepted if !entry.delivered => self.faults.count("lost"),
                _ => {}
            }
        }
        self.faults
    }

    fn next(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.entries.get_mut(at)
    }

    fn let_go(&mut self) {
        while self.entries.front().is_some_and(Entry::is_done) {
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(sends: u64) -> Ledger {
        let mut ledger = Ledger::new(None);
        (0..sends).for_each(|number| assert_eq!(ledger.sent(Instant::now()), number));
        ledger
    }

    fn exchange(ledger: &mut Ledger, number: u64) {
        assert!(ledger.delivered(number, number + 1, true, false).is_some());
        assert!(ledger.accepted(number, number + 1, false).is_some());
    }

    fn found(ledger: Ledger) -> Vec<(&'static str, u64)> {
        ledger.close().found().collect()
    }

    #[test]
    fn what_arrives_and_is_answered_settles_in_any_order() {
        let mut ledger = ledger(4);
        exchange(&mut ledger, 0);
        assert!(ledger.accepted(2, 3, true).is_some());
        assert!(ledger.accepted(1, 2, true).is_some());
        assert!(ledger.rejected(3, "queue_full").is_some());
        assert_eq!(ledger.unanswered(), 0);
        assert!(!ledger.is_settled());
        assert!(ledger.delivered(1, 2, true, false).is_some());
        assert!(ledger.delivered(2, 3, true, false).is_some());
        assert!(ledger.is_settled());
        assert_eq!(found(ledger), []);
    }

    #[test]
    fn gaps_in_seqs_and_what_may_have_been_taken_are_no_faults() {
        let mut ledger = ledger(2);
        assert!(ledger.rejected(0, "unknown_outcome").is_some());
        assert!(ledger.accepted(1, 90, true).is_some());
        assert!(ledger.delivered(1, 90, true, true).is_some());
        ledger.caught_up();
        assert_eq!(found(ledger), []);
    }

    /// Runs one exchange, then what `misdeed` does, and expects no other fault than this one.
    fn finds(kind: &'static str, misdeed: impl FnOnce(&mut Ledger)) {
        let mut ledger = ledger(4);
        exchange(&mut ledger, 0);
        misdeed(&mut ledger);
        for number in 1..4 {
            if ledger.entry(number).is_some_and(|entry| entry.answer == Answer::None) {
                ledger.rejected(number, "unknown_outcome");
            }
        }
        assert_eq!(found(ledger), [(kind, 1)], "{kind}");
    }

    #[test]
    fn a_broken_promise_of_every_kind_is_found() {
        finds("lost", |ledger| assert!(ledger.accepted(1, 2, true).is_some()));
        finds("disordered", |ledger| {
            exchange(ledger, 2);
            // The second message is placed behind the third.
            assert!(ledger.delivered(1, 9, true, false).is_some());
        });
        finds("disordered", |ledger| assert!(ledger.delivered(1, 1, true, false).is_some()));
        finds("duplicated", |ledger| assert!(ledger.delivered(0, 2, true, false).is_none()));
        finds("duplicated", |ledger| {
            assert!(ledger.delivered(1, 2, true, false).is_some());
            assert!(ledger.delivered(1, 3, true, false).is_none());
        });
        finds("misplaced", |ledger| {
            assert!(ledger.delivered(1, 2, true, false).is_some());
            assert!(ledger.accepted(1, 3, true).is_some());
        });
        finds("misplaced", |ledger| {
            assert!(ledger.accepted(1, 3, true).is_some());
            assert!(ledger.delivered(1, 2, true, false).is_some());
        });
        finds("invented", |ledger| assert!(ledger.delivered(9, 2, true, false).is_none()));
        finds("invented", |ledger| assert!(ledger.delivered(1, 2, false, false).is_some()));
        finds("invented", |ledger| assert!(ledger.accepted(9, 2, true).is_none()));
        finds("invented", |ledger| assert!(ledger.accepted(0, 1, false).is_none()));
        finds("refused_but_delivered", |ledger| {
            ledger.rejected(1, "queue_full");
            assert!(ledger.delivered(1, 2, true, false).is_none());
        });
        finds("refused_but_delivered", |ledger| {
            assert!(ledger.delivered(1, 2, true, false).is_some());
            ledger.rejected(1, "queue_full");
        });
        finds("caught_up_early", |ledger| {
            ledger.caught_up();
            ledger.caught_up();
        });
    }

    #[test]
    fn what_has_no_answer_is_counted() {
        assert_eq!(found(ledger(2)), [("unanswered", 2)]);
    }

    #[test]
    fn a_repeat_that_is_marked_still_must_not_step_back() {
        let mut stepped_back = ledger(1);
        exchange(&mut stepped_back, 0);
        assert!(stepped_back.delivered(0, 1, true, true).is_none());
        assert_eq!(found(stepped_back), [("disordered", 1)]);
        let mut marked = ledger(1);
        exchange(&mut marked, 0);
        assert!(marked.delivered(0, 2, true, true).is_none());
        assert_eq!(found(marked), []);
    }
}
