//! What one shard remembers of recent sends, to recognise repeats: bounded in number and in time.
//!
//! Entries of stored messages are a cache of what is on disk; entries of messages that were handed
//! over exist here only, and are gone after a restart (clients mark their repeats for that case).

use std::collections::{HashMap, VecDeque};

use super::faded::Faded;
use crate::ids::{MessageId, Seq, UserId};

/// A send's identity, folded to 128 bits with a seed of the process, so that nobody can aim at a
/// collision with a name and an id of his own choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SendKey(pub(super) u128);

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
    /// Handed over and never stored: known here only.
    HandedOver,
    Stored,
}

#[derive(Debug)]
pub struct Dedupe {
    pub(super) seed: u64,
    pub(super) max: usize,
    pub(super) window_us: u64,
    pub(super) entries: HashMap<SendKey, Known>,
    /// In order of admission; may name entries that were withdrawn since.
    pub(super) order: VecDeque<(u64, Seq, SendKey, UserId)>,
    /// Those that had to go before their time and are on disk, or may get there.
    pub(super) faded: Faded,
}

/// An entry that was known here only and had to go; its recipient's bookkeeping follows it.
#[derive(Debug)]
pub struct Forgotten {
    pub recipient: UserId,
    pub seq: Seq,
    pub key: SendKey,
    /// It had to go before its time, for want of room.
    pub early: bool,
}

impl Dedupe {
    pub fn new(max: usize, window_us: u64, seed: u64) -> Self {
        let faded = Faded::new(max, window_us);
        Self { seed, max, window_us, entries: HashMap::new(), order: VecDeque::new(), faded }
    }

    pub fn key(&self, recipient: &UserId, from: &UserId, id: &MessageId) -> SendKey {
        let mut text = smallvec::SmallVec::<[u8; 192]>::new();
        for part in [recipient.as_str(), from.as_str(), id.as_str()] {
            text.extend_from_slice(part.as_bytes());
            text.push(0);
        }
        SendKey(xxhash_rust::xxh3::xxh3_128_with_seed(&text, self.seed))
    }

    pub fn look(&self, key: SendKey) -> Option<Known> {
        self.entries.get(&key).copied()
    }

    /// Whether the store may know a send that is not known here, of those that were admitted here.
    pub fn may_be_stored(&self, key: SendKey) -> bool {
        self.faded.may_have(key)
    }

    /// The store may know this one, which is known here no longer.
    pub fn fades(&mut self, key: SendKey, now_us: u64) {
        self.faded.note(key, now_us);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Remembers a send that was just routed.
    pub fn admit(&mut self, key: SendKey, recipient: &UserId, seq: Seq, digest: u64, now_us: u64) {
        self.entries.insert(key, Known { seq, digest, state: KnownState::Pending });
        self.order.push_back((now_us + self.window_us, seq, key, recipient.clone()));
    }

    /// Notes what became of the message `seq`. False when it is not remembered any more; the key may
    /// by then belong to a later message with the same id.
    pub fn settle(&mut self, key: SendKey, seq: Seq, state: KnownState) -> bool {
        let known = self.entries.get_mut(&key).filter(|known| known.seq == seq);
        known.map(|known| known.state = state).is_some()
    }

    /// Takes out what is too old or too much, and tells of those that nobody else knows, one at a time; call until
    /// None.
    pub fn forget(&mut self, now_us: u64) -> Option<Forgotten> {
        loop {
            let (until, seq, key, _) = self.order.front()?;
            if *until > now_us && self.order.len() <= self.max {
                return None;
            }
            let (seq, key, early) = (*seq, *key, *until > now_us);
            // A pending one may not be forgotten: a repeat of it would be a second message. It moves
            // to the end of the line; pending ones are bounded by themselves.
            let known = self.entries.get(&key).copied().filter(|known| known.seq == seq);
            let (_, _, _, recipient) = self.order.pop_front()?;
            match known {
                Some(known) if known.state == KnownState::Pending => {
                    self.order.push_back((now_us + self.window_us, seq, key, recipient));
                    return None;
                }
                Some(known) => {
                    self.entries.remove(&key);
                    match known.state {
                        KnownState::HandedOver => return Some(Forgotten { recipient, seq, key, early }),
                        // One that has had its time need not be known any more.
                        _ if early => self.fades(key, now_us),
                        _ => {}
                    }
                }
                None => {}
            }
        }
    }
}
