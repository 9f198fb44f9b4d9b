//! What one shard remembers of recent sends, to recognise repeats: bounded in number and in time.
//!
//! Entries of stored messages are a cache of what is on disk; entries of messages that were handed
//! over exist here only, and are gone after a restart (clients mark their repeats for that case).

use std::collections::VecDeque;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::faded::Faded;
use super::send_key::SendKey;
use crate::ids::Seq;

/// What is known of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub seq: Seq,
    pub digest: u64,
    pub state: KnownState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownState {
    /// Routed, not answered for good yet: repeats join it.
    Pending,
    /// Handed over and called back from the writer, which may have written it all the same.
    Withdrawn,
    /// Handed over and never stored: known here only.
    HandedOver,
    Stored,
}

/// Once there are too many, one in so many is forgotten at once.
const SLACK: usize = 256;

/// The first room for sends to remember.
const ROOM_MIN: usize = 64;

#[derive(Debug)]
pub struct Dedupe {
    pub(super) max: usize,
    pub(super) window_us: u64,
    /// In order of admission, so that what is written and what is forgotten lies side by side.
    pub(super) order: VecDeque<Admitted>,
    /// Place in `order` of the last one admitted with a key. Four bytes each: it is looked into at random, and small
    /// enough to stay near.
    pub(super) places: HashTable<Place>,
    /// The place that comes first in `order`.
    pub(super) first: Place,
    /// Those that had to go before their time and are on disk, or may get there.
    pub(super) faded: Faded,
}

/// Counts on from one to the next, round and round; far fewer than 2^32 are remembered at a time.
pub type Place = u32;

#[derive(Debug)]
pub(super) struct Admitted {
    pub key: SendKey,
    pub known: Known,
    pub until_us: u64,
}

impl Admitted {
    /// A repeat of a pending one would be a second message; so would be one of a message that gets to disk while nobody
    /// knows of it.
    fn has_to_stay(&self) -> bool {
        matches!(self.known.state, KnownState::Pending | KnownState::Withdrawn)
    }
}

impl Dedupe {
    pub fn new(max: usize, window_us: u64) -> Self {
        let faded = Faded::new(max, window_us);
        Self { max, window_us, order: VecDeque::new(), places: HashTable::new(), first: 0, faded }
    }

    /// Touches what it will take to look for a send, and does not wait for it: memory answers many such requests in
    /// hardly more time than one.
    pub fn touch(&self, key: SendKey) {
        std::hint::black_box(self.places.find(key.hash(), |_| true).copied());
        self.faded.touch(key);
    }

    pub fn look(&self, key: SendKey) -> Option<Known> {
        self.at(self.place_of(key)?).map(|admitted| admitted.known)
    }

    /// Whether the store may know a send that is not known here, of those that were admitted here.
    pub fn may_be_stored(&self, key: SendKey) -> bool {
        self.faded.may_have(key)
    }

    /// The store may know this one, which is known here no longer.
    fn fades(&mut self, key: SendKey, now_us: u64) {
        self.faded.note(key, now_us);
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Remembers a send that was just routed. Returns where, to be given back when it is settled.
    pub fn admit(&mut self, key: SendKey, seq: Seq, digest: u64, now_us: u64) -> Place {
        let known = Known { seq, digest, state: KnownState::Pending };
        self.remember(Admitted { key, known, until_us: now_us + self.window_us })
    }

    /// Notes what became of the message `seq`, admitted at `place`, if it is still remembered; the key may by now
    /// belong to a later message with the same id.
    pub fn settle(&mut self, place: Place, key: SendKey, seq: Seq, state: KnownState) {
        // One that was pending for very long has moved.
        let place = if self.is_at(place, key) { Some(place) } else { self.place_of(key) };
        let admitted = place.and_then(|place| self.order.get_mut(self.behind_first(place)));
        if let Some(admitted) = admitted.filter(|admitted| admitted.known.seq == seq) {
            admitted.known.state = state;
        }
    }

    /// Forgets what is too old, and what is too much some at a time. It stops at the first that has to stay: there may
    /// be as many of those as there may be sends that nobody could settle.
    pub fn forget(&mut self, now_us: u64) {
        let slack = self.max / SLACK;
        let is_too_much = self.order.len() > self.max;
        if is_too_much {
            self.touch_first(slack);
        }
        let enough = if is_too_much { self.max - slack } else { self.max };
        while self.forget_first(now_us, enough) {}
    }

    /// Sees to the first one, if it is too old or there are more than `enough`; false when that was all for now.
    fn forget_first(&mut self, now_us: u64, enough: usize) -> bool {
        let Some(first) = self.order.front() else { return false };
        let is_early = first.until_us > now_us;
        if is_early && self.order.len() <= enough {
            return false;
        }
        let place = self.first;
        let Some(mut admitted) = self.order.pop_front() else { return false };
        self.first = self.first.wrapping_add(1);
        let is_last = self.withdraw(admitted.key, place);
        if is_last && admitted.has_to_stay() {
            // To the end of the line; there they are bounded by themselves.
            admitted.until_us = now_us + self.window_us;
            self.remember(admitted);
            return false;
        }
        // One that has had its time need not be known any more.
        if is_last && is_early && admitted.known.state == KnownState::Stored {
            self.fades(admitted.key, now_us);
        }
        true
    }

    /// Touches what it will take to forget the first ones, one right after the other: memory answers many such
    /// requests at once in hardly more time than one, and this would wait for each of them otherwise.
    fn touch_first(&self, count: usize) {
        for admitted in self.order.iter().take(count).take_while(|admitted| !admitted.has_to_stay()) {
            std::hint::black_box(self.place_of(admitted.key));
        }
    }

    /// No more than it may need: then what is written next lies where something was forgotten just now, and is at hand.
    fn make_room(&mut self) {
        let (length, most) = (self.order.len(), self.max + 1);
        if length == self.order.capacity() {
            let more = length.max(ROOM_MIN);
            self.order.reserve_exact(if length < most { more.min(most - length) } else { more });
        }
    }

    fn remember(&mut self, admitted: Admitted) -> Place {
        self.make_room();
        let place = self.first.wrapping_add(self.order.len() as Place);
        let (order, first, key) = (&self.order, self.first, admitted.key);
        let key_at = |place: &Place| order.get(place.wrapping_sub(first) as usize).map(|admitted| admitted.key);
        let hash_at = |place: &Place| key_at(place).map_or(0, SendKey::hash);
        match self.places.entry(key.hash(), |place| key_at(place) == Some(key), hash_at) {
            Entry::Occupied(mut entry) => *entry.get_mut() = place,
            Entry::Vacant(entry) => drop(entry.insert(place)),
        }
        self.order.push_back(admitted);
        place
    }

    /// False when the key was admitted again since.
    fn withdraw(&mut self, key: SendKey, place: Place) -> bool {
        self.places.find_entry(key.hash(), |at| *at == place).map(|entry| entry.remove()).is_ok()
    }

    fn place_of(&self, key: SendKey) -> Option<Place> {
        self.places.find(key.hash(), |place| self.is_at(*place, key)).copied()
    }

    fn behind_first(&self, place: Place) -> usize {
        place.wrapping_sub(self.first) as usize
    }

    fn at(&self, place: Place) -> Option<&Admitted> {
        self.order.get(self.behind_first(place))
    }

    fn is_at(&self, place: Place, key: SendKey) -> bool {
        self.at(place).is_some_and(|admitted| admitted.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::send_key::SendKeys;
    use super::*;
    use crate::ids::{MessageId, UserId};

    const MAX: usize = 1024;
    const KEYS: SendKeys = SendKeys::new(1);

    /// Admits and settles one more send, and forgets what has to be forgotten. Returns how many that were.
    fn pass(dedupe: &mut Dedupe, number: u64, bob: &UserId) -> usize {
        let key = KEYS.key(bob, bob, &MessageId::new(&number.to_string()).unwrap());
        assert_eq!(dedupe.look(key), None);
        let place = dedupe.admit(key, Seq(number), 7, number);
        dedupe.settle(place, key, Seq(number), KnownState::HandedOver);
        assert_eq!(dedupe.look(key), Some(Known { seq: Seq(number), digest: 7, state: KnownState::HandedOver }));
        let known = dedupe.len();
        dedupe.forget(number);
        known - dedupe.len()
    }

    #[test]
    fn surplus_is_forgotten_a_little_at_a_time_and_never_more_than_that() {
        let (bob, mut dedupe) = (UserId::new("bob").unwrap(), Dedupe::new(MAX, 1_000_000));
        let slack = MAX / SLACK;
        for number in 0..10 * MAX as u64 {
            let forgotten = pass(&mut dedupe, number, &bob);
            assert!(forgotten == 0 || forgotten == slack + 1, "{forgotten}");
            assert!(dedupe.len() <= MAX && (number < MAX as u64 || dedupe.len() >= MAX - slack));
            assert!(dedupe.order.capacity() <= MAX + 1, "room that is never used");
        }
    }

    #[test]
    fn what_may_still_get_to_disk_is_known_for_as_long_as_that_is_open() {
        let (bob, mut dedupe) = (UserId::new("bob").unwrap(), Dedupe::new(4, 1_000_000));
        let key = KEYS.key(&bob, &bob, &MessageId::new("called-back").unwrap());
        let place = dedupe.admit(key, Seq(1), 7, 0);
        dedupe.settle(place, key, Seq(1), KnownState::Withdrawn);
        for number in 2..40 {
            pass(&mut dedupe, number, &bob);
        }
        assert_eq!(dedupe.look(key).map(|known| known.state), Some(KnownState::Withdrawn));
        dedupe.settle(place, key, Seq(1), KnownState::HandedOver);
        for number in 40..80 {
            pass(&mut dedupe, number, &bob);
        }
        assert_eq!(dedupe.look(key), None);
    }

    /// Regression: with more pending than there may be known, every command went round all of them.
    #[test]
    fn those_that_have_to_stay_go_round_one_at_a_time() {
        let (bob, mut dedupe) = (UserId::new("bob").unwrap(), Dedupe::new(MAX, 1_000_000));
        let keys: Vec<_> =
            (0..2 * MAX).map(|n| KEYS.key(&bob, &bob, &MessageId::new(&n.to_string()).unwrap())).collect();
        for (n, key) in keys.iter().enumerate() {
            dedupe.admit(*key, Seq(n as u64), 7, 0);
            let first = dedupe.first;
            dedupe.forget(0);
            assert!(dedupe.first.wrapping_sub(first) <= 1);
        }
        assert!(keys.iter().all(|key| dedupe.look(*key).is_some()));
    }

    #[test]
    fn what_is_pending_is_found_after_it_has_moved() {
        let (bob, mut dedupe) = (UserId::new("bob").unwrap(), Dedupe::new(4, 1_000_000));
        let key = KEYS.key(&bob, &bob, &MessageId::new("slow").unwrap());
        let place = dedupe.admit(key, Seq(1), 7, 0);
        for number in 2..40 {
            pass(&mut dedupe, number, &bob);
        }
        assert_eq!(dedupe.look(key).map(|known| known.state), Some(KnownState::Pending));
        dedupe.settle(place, key, Seq(2), KnownState::Stored);
        assert_eq!(
            dedupe.look(key).map(|known| known.state),
            Some(KnownState::Pending),
            "another message with the same id"
        );
        dedupe.settle(place, key, Seq(1), KnownState::Stored);
        assert_eq!(dedupe.look(key).map(|known| known.state), Some(KnownState::Stored));
    }

    #[test]
    fn a_send_is_known_until_its_window_is_over_and_no_longer() {
        let (bob, mut dedupe) = (UserId::new("bob").unwrap(), Dedupe::new(MAX, 100));
        let key = KEYS.key(&bob, &bob, &MessageId::new("m1").unwrap());
        let place = dedupe.admit(key, Seq(1), 7, 50);
        dedupe.settle(place, key, Seq(1), KnownState::HandedOver);
        for (now_us, is_known) in [(149, true), (150, false)] {
            dedupe.forget(now_us);
            assert_eq!(dedupe.look(key).is_some(), is_known, "at {now_us}");
        }
    }

    #[test]
    fn only_what_is_on_disk_and_had_to_go_before_its_time_is_looked_for_there() {
        use KnownState::{HandedOver, Stored};
        for (state, now_us, is_looked_for) in [(Stored, 99, true), (HandedOver, 99, false), (Stored, 100, false)] {
            let (bob, mut dedupe) = (UserId::new("bob").unwrap(), Dedupe::new(1, 100));
            let [first, second] = ["first", "second"].map(|id| KEYS.key(&bob, &bob, &MessageId::new(id).unwrap()));
            let place = dedupe.admit(first, Seq(1), 7, 0);
            dedupe.settle(place, first, Seq(1), state);
            dedupe.admit(second, Seq(2), 7, 0);
            dedupe.forget(now_us);
            assert_eq!((dedupe.look(first), dedupe.may_be_stored(first)), (None, is_looked_for), "{state:?} {now_us}");
        }
    }
}
