//! Writes the history of a pair, to be judged by all of the contract. That costs the load generator more than all else
//! it does, so that it is for runs that are to prove something and not for those that are to be fast.

use crate::history::{History, Session};

use super::faults::Faults;

/// Sends after which the history is asked to let go.
const SETTLE_EVERY: u64 = 512;

/// Who is on which end of a pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) user: &'a str,
    pub(super) device: &'a str,
    /// As its welcome said.
    pub(super) cursor: u64,
}

#[derive(Debug)]
pub(super) struct Witness {
    history: History,
    sender: Session,
    receiver: Session,
    from: String,
    to: String,
    body: String,
}

impl Witness {
    pub(super) fn new(from: End<'_>, to: End<'_>, body: &[u8]) -> Self {
        let history = History::new();
        let attach = |end: End<'_>| history.attached(history.mark(), end.user, end.device, end.cursor, true);
        Self {
            sender: attach(from),
            receiver: attach(to),
            history,
            from: from.user.to_owned(),
            to: to.user.to_owned(),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }

    pub(super) fn sent(&self, number: u64) {
        self.sender.sent(&number.to_string(), &self.to, &self.body);
        if number % SETTLE_EVERY == SETTLE_EVERY - 1 {
            self.history.settle();
        }
    }

    pub(super) fn accepted(&self, number: u64, seq: u64, stored: bool) {
        self.sender.accepted(&number.to_string(), &self.to, seq, stored);
    }

    pub(super) fn rejected(&self, number: u64, code: &str) {
        self.sender.rejected(&number.to_string(), &self.to, code);
    }

    pub(super) fn delivered(&self, number: u64, seq: u64, body: &[u8], redelivered: bool) {
        self.receiver.delivered(seq, &number.to_string(), &self.from, &String::from_utf8_lossy(body), redelivered);
    }

    pub(super) fn acked(&self, seq: u64) {
        self.receiver.acked(seq);
    }

    pub(super) fn caught_up(&self) {
        self.receiver.caught_up();
    }

    /// The end of it all: what is not here by now is lost.
    pub(super) fn judge(self) -> Faults {
        let mut faults = Faults::default();
        self.history.check().faults.iter().for_each(|fault| faults.count(fault.kind()));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(sends: u64) -> Witness {
        let [from, to] = ["alice", "bob"].map(|user| End { user, device: "bench", cursor: 0 });
        let witness = Witness::new(from, to, b"hi");
        (0..sends).for_each(|number| witness.sent(number));
        witness
    }

    fn exchange(witness: &Witness, number: u64) {
        witness.delivered(number, number + 1, b"hi", false);
        witness.acked(number + 1);
        witness.accepted(number, number + 1, false);
    }

    #[test]
    fn every_broken_promise_is_counted() {
        let witness = witness(7);
        exchange(&witness, 1);
        // After a later one, and another body.
        witness.accepted(0, 1, true);
        witness.delivered(0, 1, b"ha", false);
        // Twice, and lost.
        witness.accepted(2, 3, true);
        witness.delivered(2, 3, b"hi", false);
        witness.delivered(2, 4, b"hi", false);
        witness.accepted(3, 5, true);
        witness.rejected(4, "queue_full");
        witness.delivered(4, 6, b"hi", false);
        witness.rejected(5, "unknown_outcome");
        let faults = witness.judge();
        let kinds =
            ["disordered", "duplicated", "invented", "lost", "misplaced", "refused_but_delivered", "unanswered"];
        assert_eq!(faults.found().collect::<Vec<_>>(), kinds.map(|kind| (kind, 1)));
    }

    #[test]
    fn what_is_long_done_with_is_still_known_to_have_come() {
        let witness = witness(0);
        for number in 0..2 * SETTLE_EVERY {
            witness.sent(number);
            exchange(&witness, number);
        }
        witness.delivered(3, 4, b"hi", false);
        assert_eq!(witness.judge().found().collect::<Vec<_>>(), [("disordered", 1), ("duplicated", 1)]);
    }
}
