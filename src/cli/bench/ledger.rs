//! What one pair sent, was told, and received: the check that makes the figures worth something.
//!
//! Pure. Messages are numbered from 0 in the order sent; a number stays here until its answer and its
//! delivery agree.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Broken promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Accepted and never delivered.
    pub(super) lost: u64,
    /// Delivered after a message that was sent later.
    pub(super) disordered: u64,
    /// Delivered again without being marked.
    pub(super) duplicated: u64,
    /// Refused for certain, and delivered.
    pub(super) refused_but_delivered: u64,
    /// Never answered.
    pub(super) unanswered: u64,
}

impl Faults {
    pub(super) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.disordered += other.disordered;
        self.duplicated += other.duplicated;
        self.refused_but_delivered += other.refused_but_delivered;
        self.unanswered += other.unanswered;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    /// Certainly not taken.
    Refused,
    /// `unknown_outcome`.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    sent_at: Instant,
    answer: Option<Answer>,
    delivered: bool,
}

impl Entry {
    fn is_settled(&self) -> bool {
        match self.answer {
            None => false,
            Some(Answer::Refused) => true,
            Some(Answer::Accepted | Answer::Unknown) => self.delivered,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Number of the first entry; everything below is settled.
    base: u64,
    entries: VecDeque<Entry>,
    unanswered: usize,
    latest: Option<u64>,
    faults: Faults,
}

impl Ledger {
    /// The number of a message that goes out now.
    pub(super) fn sent(&mut self, now: Instant) -> u64 {
        self.entries.push_back(Entry { sent_at: now, answer: None, delivered: false });
        self.unanswered += 1;
        self.base + self.entries.len() as u64 - 1
    }

    /// When the message was sent that is answered now; `None` when it had its answer.
    pub(super) fn answered(&mut self, number: u64, answer: Answer) -> Option<Instant> {
        let entry = self.entry(number).filter(|entry| entry.answer.is_none())?;
        entry.answer = Some(answer);
        let (sent_at, delivered) = (entry.sent_at, entry.delivered);
        self.unanswered -= 1;
        self.faults.refused_but_delivered += u64::from(answer == Answer::Refused && delivered);
        self.settle();
        Some(sent_at)
    }

    /// When the message was sent that arrives now; `None` when it had arrived before.
    pub(super) fn delivered(&mut self, number: u64, redelivered: bool) -> Option<Instant> {
        let Some(entry) = self.entry(number).filter(|entry| !entry.delivered) else {
            self.faults.duplicated += u64::from(!redelivered);
            return None;
        };
        entry.delivered = true;
        let (sent_at, refused) = (entry.sent_at, entry.answer == Some(Answer::Refused));
        self.faults.refused_but_delivered += u64::from(refused);
        self.faults.disordered += u64::from(self.latest.is_some_and(|latest| latest > number));
        self.latest = self.latest.max(Some(number));
        self.settle();
        Some(sent_at)
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered
    }

    pub(super) fn is_settled(&self) -> bool {
        self.entries.is_empty()
    }

    /// The end: what is not settled now never will be.
    pub(super) fn close(self) -> Faults {
        let lost = self.entries.iter().filter(|entry| entry.answer == Some(Answer::Accepted) && !entry.delivered);
        let unanswered = self.unanswered as u64;
        Faults { lost: lost.count() as u64, unanswered, ..self.faults }
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let index = number.checked_sub(self.base)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }

    fn settle(&mut self) {
        while self.entries.front().is_some_and(Entry::is_settled) {
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(sent: u64) -> Ledger {
        let mut ledger = Ledger::default();
        for number in 0..sent {
            assert_eq!(ledger.sent(Instant::now()), number);
        }
        ledger
    }

    #[test]
    fn a_clean_run_has_no_faults_whichever_of_answer_and_delivery_comes_first() {
        let mut ledger = ledger(3);
        for number in [0, 2] {
            ledger.delivered(number, false);
            ledger.answered(number, Answer::Accepted);
        }
        assert_eq!(ledger.unanswered(), 1);
        ledger.answered(1, Answer::Refused);
        assert!(ledger.is_settled());
        assert_eq!(ledger.close(), Faults::default());
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let mut ledger = ledger(6);
        ledger.answered(0, Answer::Accepted);
        ledger.delivered(2, false);
        ledger.delivered(1, false);
        ledger.delivered(2, false);
        ledger.delivered(2, true);
        ledger.answered(1, Answer::Accepted);
        ledger.answered(2, Answer::Accepted);
        ledger.answered(3, Answer::Refused);
        ledger.delivered(3, false);
        ledger.answered(4, Answer::Unknown);
        let expected = Faults { lost: 1, disordered: 1, duplicated: 1, refused_but_delivered: 1, unanswered: 1 };
        assert_eq!(ledger.close(), expected);
    }
}
