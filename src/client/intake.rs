//! What came in: each message once to the application, and acks for what it is done with.
//!
//! Pure: time is handed in. It must never ack a message that the application may still be
//! working on, nor one that this connection did not bring (the server refuses such acks).

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::ids::{MessageId, Seq, UserId};

use super::storage::NAMES_MAX;

/// Most messages that one ack waits for.
const ACK_BATCH_MAX: usize = 32;
/// Longest time that an ack waits for company, while the application works on what came behind it.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// The same when the application is done with all that came: only what is on its way could be company, and whoever awaits
/// each send waits for this ack.
const IDLE_ACK_DELAY: Duration = Duration::from_millis(1);
/// Names of messages remembered, to recognise a redelivery that has a new seq.
const SEEN_MAX: usize = NAMES_MAX;

/// What became of a message that came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// New: hand it to the application.
    Fresh,
    /// The application had it already; it is acked in its turn.
    Known,
    /// More messages are unacked than the server promised to send.
    BeyondWindow,
}

/// The receiving side's memory. It outlives connections.
#[derive(Debug)]
pub(super) struct Intake {
    /// Highest seq ever handed on.
    handed: Seq,
    /// What was handed on and is not done, in order, with its name; no more than windows bring.
    working: VecDeque<(Seq, u128)>,
    /// Highest seq that the application is done with and that is known to be so in every later process.
    safe: Seq,
    /// What this connection brought and was not acked on it, in order; at most a window.
    unacked: VecDeque<Seq>,
    window: usize,
    /// When the last ack went; none on this connection.
    acked_at: Option<Instant>,
    seen: Seen,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            handed: Seq::ZERO,
            working: VecDeque::new(),
            safe: Seq::ZERO,
            unacked: VecDeque::new(),
            window: 0,
            acked_at: None,
            seen: Seen::default(),
        }
    }

    /// What was done in earlier processes: up to `done`, and these names, oldest first.
    pub(super) fn restore(&mut self, done: Seq, names: &[u128]) {
        self.handed = done;
        self.safe = done;
        names.iter().for_each(|name| self.seen.insert(*name));
    }

    /// A new connection: everything unacked will come again, up to `window` at a time.
    pub(super) fn connected(&mut self, window: usize) {
        self.unacked.clear();
        self.window = window.max(1);
        self.acked_at = None;
    }

    /// Takes note of a message and says whether the application shall have it.
    pub(super) fn admit(&mut self, seq: Seq, from: &UserId, id: &MessageId, redelivered: bool) -> Admission {
        if self.unacked.len() >= self.window {
            return Admission::BeyondWindow;
        }
        if self.unacked.back().is_none_or(|last| *last < seq) {
            self.unacked.push_back(seq);
        }
        if seq <= self.handed {
            return Admission::Known;
        }
        let name = digest(from, id);
        if redelivered && self.seen.contains(name) {
            return Admission::Known;
        }
        self.handed = seq;
        self.working.push_back((seq, name));
        self.seen.insert(name);
        Admission::Fresh
    }

    /// The application is done with everything up to `seq`; returns what that is. It is acked when it is
    /// [`Self::safe`].
    #[must_use]
    pub(super) fn done(&mut self, seq: Seq) -> Vec<(Seq, u128)> {
        let count = self.working.partition_point(|(working, _)| *working <= seq);
        self.working.drain(..count).collect()
    }

    /// Everything up to `seq` is done, and no later process will do it again.
    pub(super) fn safe(&mut self, seq: Seq) {
        self.safe = self.safe.max(seq);
    }

    /// The ack that is due at `now`.
    pub(super) fn take_ack(&mut self, now: Instant) -> Option<Seq> {
        self.ack_at(now).filter(|at| *at <= now)?;
        self.take_ack_now(now)
    }

    /// The ack for everything done, due or not: the last word before leaving.
    pub(super) fn take_ack_now(&mut self, now: Instant) -> Option<Seq> {
        let count = self.ackable();
        let seq = self.unacked.drain(..count).next_back()?;
        self.acked_at = Some(now);
        Some(seq)
    }

    /// When the next ack is due; `None` while there is nothing to ack.
    pub(super) fn ack_at(&self, now: Instant) -> Option<Instant> {
        // A batch above the window would never fill; half of it keeps the server pushing.
        let batch = ACK_BATCH_MAX.min(self.window / 2).max(1);
        match self.ackable() {
            0 => None,
            count if count >= batch => Some(now),
            count => {
                let delay = if count == self.unacked.len() { IDLE_ACK_DELAY } else { ACK_DELAY };
                Some(self.acked_at.map_or(now, |acked_at| acked_at + delay))
            }
        }
    }

    /// How many of the unacked, from the front, may be acked. Known messages behind the last fresh
    /// one wait for it: acks are cumulative.
    fn ackable(&self) -> usize {
        if self.safe >= self.handed {
            return self.unacked.len();
        }
        self.unacked.partition_point(|seq| *seq <= self.safe)
    }
}

/// The names of the messages handed on last, oldest forgotten first.
#[derive(Debug, Default)]
struct Seen {
    digests: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Seen {
    fn contains(&self, digest: u128) -> bool {
        self.digests.contains(&digest)
    }

    fn insert(&mut self, digest: u128) {
        if !self.digests.insert(digest) {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }
}

/// 128 bits stand for the name: sixteen bytes instead of up to two hundred. `/` cannot occur in a
/// user name, so the joined text is unambiguous.
fn digest(from: &UserId, id: &MessageId) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(from.as_str().as_bytes());
    hasher.update(b"/");
    hasher.update(id.as_str().as_bytes());
    hasher.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(window: usize) -> Intake {
        let mut intake = Intake::new();
        intake.connected(window);
        intake
    }

    fn admit(intake: &mut Intake, seq: u64, id: &str, redelivered: bool) -> Admission {
        intake.admit(Seq(seq), &UserId::new("alice").unwrap(), &MessageId::new(id).unwrap(), redelivered)
    }

    /// Done, and safe at once.
    fn finish(intake: &mut Intake, seq: u64) {
        let _names = intake.done(Seq(seq));
        intake.safe(Seq(seq));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_acked_before_the_application_is_done() {
        let mut intake = intake(64);
        for seq in 1..=5 {
            assert_eq!(admit(&mut intake, seq, &format!("m{seq}"), false), Admission::Fresh);
        }
        assert_eq!(intake.take_ack_now(Instant::now()), None);
        finish(&mut intake, 3);
        assert_eq!(intake.take_ack(Instant::now()), Some(Seq(3)));
        assert_eq!(intake.take_ack_now(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_ack_after_idle_goes_at_once_and_later_ones_in_batches() {
        let mut intake = intake(128);
        for seq in 1..=100 {
            admit(&mut intake, seq, &format!("m{seq}"), false);
        }
        finish(&mut intake, 1);
        assert_eq!(intake.take_ack(Instant::now()), Some(Seq(1)));
        finish(&mut intake, 20);
        assert_eq!(intake.take_ack(Instant::now()), None, "19 messages within 10 ms wait");
        finish(&mut intake, 33);
        assert_eq!(intake.take_ack(Instant::now()), Some(Seq(33)), "32 messages do not wait");
        finish(&mut intake, 40);
        assert_eq!(intake.take_ack(Instant::now()), None);
        tokio::time::advance(ACK_DELAY).await;
        assert_eq!(intake.take_ack(Instant::now()), Some(Seq(40)), "10 ms are long enough");
    }

    #[tokio::test(start_paused = true)]
    async fn an_ack_hardly_waits_when_nothing_else_is_worked_on() {
        let mut intake = intake(128);
        for seq in 1..=2 {
            admit(&mut intake, seq, &format!("m{seq}"), false);
            finish(&mut intake, seq);
        }
        assert_eq!(intake.take_ack(Instant::now()), Some(Seq(2)));
        admit(&mut intake, 3, "m3", false);
        finish(&mut intake, 3);
        assert_eq!(intake.take_ack(Instant::now()), None, "what came with it may be read in this moment");
        tokio::time::advance(IDLE_ACK_DELAY).await;
        assert_eq!(intake.take_ack(Instant::now()), Some(Seq(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_window_is_not_slowed_by_batching() {
        let mut intake = intake(2);
        for seq in 1..=6 {
            assert_eq!(admit(&mut intake, seq, &format!("m{seq}"), false), Admission::Fresh);
            finish(&mut intake, seq);
            assert_eq!(intake.take_ack(Instant::now()), Some(Seq(seq)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_again_after_a_reconnect_is_acked_but_not_handed_on() {
        let mut intake = intake(64);
        for seq in 1..=4 {
            admit(&mut intake, seq, &format!("m{seq}"), false);
        }
        finish(&mut intake, 2);
        intake.connected(64);
        assert_eq!(intake.take_ack_now(Instant::now()), None, "this connection brought nothing yet");
        for seq in 1..=4 {
            assert_eq!(admit(&mut intake, seq, &format!("m{seq}"), true), Admission::Known);
        }
        assert_eq!(intake.take_ack_now(Instant::now()), Some(Seq(2)), "3 and 4 are still being worked on");
        finish(&mut intake, 4);
        assert_eq!(intake.take_ack_now(Instant::now()), Some(Seq(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeat_under_a_new_seq_is_known_by_name_and_acked_in_its_turn() {
        let mut intake = intake(64);
        admit(&mut intake, 1, "a", false);
        admit(&mut intake, 2, "b", false);
        finish(&mut intake, 1);
        assert_eq!(admit(&mut intake, 3, "a", true), Admission::Known);
        assert_eq!(intake.take_ack_now(Instant::now()), Some(Seq(1)), "acking 3 would ack the unfinished 2");
        finish(&mut intake, 2);
        assert_eq!(intake.take_ack_now(Instant::now()), Some(Seq(3)));
        assert_eq!(admit(&mut intake, 4, "a", false), Admission::Fresh, "unmarked is new: ids are the senders' affair");
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_window_is_refused_and_memory_of_names_is_bounded() {
        let mut intake = intake(3);
        for seq in 1..=3 {
            admit(&mut intake, seq, "x", false);
        }
        assert_eq!(admit(&mut intake, 4, "x", false), Admission::BeyondWindow);
        let mut seen = Seen::default();
        let alice = UserId::new("alice").unwrap();
        let name = |n: usize| digest(&alice, &MessageId::new(&n.to_string()).unwrap());
        for n in 0..SEEN_MAX + 10 {
            seen.insert(name(n));
        }
        assert_eq!((seen.digests.len(), seen.order.len()), (SEEN_MAX, SEEN_MAX));
        assert!(!seen.contains(name(9)));
        assert!(seen.contains(name(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_is_acked_when_it_is_safe_and_told_once() {
        let mut intake = intake(64);
        for seq in 1..=3 {
            admit(&mut intake, seq, &format!("m{seq}"), false);
        }
        let done = intake.done(Seq(2));
        assert_eq!(done.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), [1, 2]);
        assert!(intake.done(Seq(2)).is_empty());
        assert_eq!(intake.take_ack_now(Instant::now()), None, "a crash now would do them again");
        intake.safe(Seq(2));
        assert_eq!(intake.take_ack_now(Instant::now()), Some(Seq(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_process_did_is_known_by_place_and_by_name() {
        let mut before = intake(64);
        admit(&mut before, 4, "a", false);
        let (seq, name) = before.done(Seq(4))[0];
        let mut intake = intake(64);
        intake.restore(seq, &[name]);
        assert_eq!(admit(&mut intake, 4, "a", true), Admission::Known);
        assert_eq!(admit(&mut intake, 9, "a", true), Admission::Known);
        assert_eq!(intake.take_ack_now(Instant::now()), Some(Seq(9)), "nothing is being worked on");
        assert_eq!(admit(&mut intake, 10, "b", true), Admission::Fresh);
    }
}
