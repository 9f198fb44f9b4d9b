//! The layout of keys: big-endian numbers, names ended by a zero byte.
//!
//! Names hold no control characters, so a zero byte ends them without doubt: all keys of one user lie
//! together, in seq order, and no user's keys lie between another's. Changing anything here changes
//! the format on disk.
//!
//! Where messages go, keys begin with a few bytes of a hash. The engine compares keys again and again while
//! it sorts them, and looks at their first bytes before it goes to where the rest lies: names are much alike
//! there, and hashes differ. Keys of twenty bytes have no other place to go to at all.

use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::{SmallVec, ToSmallVec};
use xxhash_rust::xxh3::xxh3_64;

use super::DedupeKey;
use super::engine::KeyRange;
use crate::ids::{DeviceId, Seq, UserId};

const END_OF_NAME: u8 = 0;
/// Greater than the end of a name and less than any character of one.
const PAST_NAME: u8 = 1;
const MINUTE_MS: u64 = 60_000;
/// What spreads users over a keyspace.
const SPREAD_BYTES: usize = 4;

/// Room for a name of usual length.
pub type Key = SmallVec<[u8; 56]>;

/// `spread user 00 seq`
pub fn inbox(user: &UserId, seq: Seq) -> Key {
    let mut key = inbox_of(user);
    key.extend_from_slice(&seq.0.to_be_bytes());
    key
}

/// `spread user 00`
fn inbox_of(user: &UserId) -> Key {
    let mut key = Key::from_slice(&spread(user));
    key.extend_from_slice(user.as_str().as_bytes());
    key.push(END_OF_NAME);
    key
}

/// The part of a user's inbox with `after < seq <= upto`.
pub fn inbox_range(user: &UserId, after: Seq, upto: Seq) -> KeyRange {
    let next = |seq: Seq| Seq(seq.0.saturating_add(1));
    KeyRange { from: inbox(user, next(after)).into_vec(), to: inbox(user, next(upto)).into_vec() }
}

/// All messages of this user.
pub fn whole_inbox(user: &UserId) -> KeyRange {
    KeyRange { from: inbox_of(user).into_vec(), to: past_inbox(user) }
}

/// Above every key of this inbox, at or below every key of the next one.
pub fn past_inbox(user: &UserId) -> Vec<u8> {
    let mut key = inbox_of(user);
    key.pop();
    key.push(PAST_NAME);
    key.into_vec()
}

/// From `from` to the end of all inboxes.
pub fn inboxes_from(from: Vec<u8>) -> KeyRange {
    // No UTF-8 text has the byte 0xff.
    KeyRange { from, to: vec![0xff; SPREAD_BYTES + 1] }
}

/// Not with another user's spread: who goes from user to user by [`past_inbox`] would come back to it.
pub fn split_inbox(key: &[u8]) -> Option<(UserId, Seq)> {
    let (start, rest) = key.split_first_chunk()?;
    let (user, seq) = split_name(rest)?;
    (spread(&user) == *start).then_some((user, Seq(u64::from_be_bytes(seq.try_into().ok()?))))
}

/// The seq of an inbox key whose user is known. What follows a name and is no seq is no such key.
pub fn inbox_seq(key: &[u8]) -> Option<Seq> {
    let key = key.get(SPREAD_BYTES..)?;
    let end = key.iter().position(|byte| *byte == END_OF_NAME)?;
    Some(Seq(u64::from_be_bytes(key.get(end + 1..)?.try_into().ok()?)))
}

/// Anyone can tell it; who takes names with the same one is only slower.
fn spread(user: &UserId) -> [u8; SPREAD_BYTES] {
    (xxh3_64(user.as_str().as_bytes()) as u32).to_be_bytes()
}

/// `user 00 device`
pub fn device(user: &UserId, device: &DeviceId) -> Key {
    let mut key = device_of(user);
    key.extend_from_slice(device.as_str().as_bytes());
    key
}

/// `user 00`
fn device_of(user: &UserId) -> Key {
    let mut key = self::user(user);
    key.push(END_OF_NAME);
    key
}

pub fn split_device(key: &[u8]) -> Option<(UserId, DeviceId)> {
    let (name, rest) = split_name(key)?;
    Some((name, DeviceId::new(std::str::from_utf8(rest).ok()?).ok()?))
}

/// `user`
pub fn user(user: &UserId) -> Key {
    user.as_str().as_bytes().to_smallvec()
}

/// What makes the hashes of one store its own: whoever does not know it cannot look for a sender and an id
/// that pass for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HashKey(pub [u64; 2]);

impl HashKey {
    pub fn random() -> Self {
        let random = RandomState::new();
        Self([0, 1].map(|number: u64| random.hash_one(number)))
    }
}

/// `spread hash`, the hash that of `recipient 00 sender 00 id`
pub fn dedupe(HashKey([first, second]): HashKey, key: &DedupeKey) -> [u8; 20] {
    let mut hasher = SipHasher13::new_with_keys(first, second);
    hasher.write(key.recipient.as_str().as_bytes());
    hasher.write(&[END_OF_NAME]);
    hasher.write(key.from.as_str().as_bytes());
    hasher.write(&[END_OF_NAME]);
    hasher.write(key.id.as_str().as_bytes());
    let mut all = [0; 20];
    let (start, end) = all.split_at_mut(SPREAD_BYTES);
    start.copy_from_slice(&spread(&key.recipient));
    end.copy_from_slice(&hasher.finish128().as_u128().to_be_bytes());
    all
}

/// Where everything lies that dedupe knows of what was sent to this user, and perhaps to some others.
pub fn dedupe_range(user: &UserId) -> KeyRange {
    let from = spread(user).to_vec();
    let to = [&from[..], &[0xff; 17]].concat();
    KeyRange { from, to }
}

/// All devices of this user.
pub fn devices(user: &UserId) -> KeyRange {
    KeyRange { from: device_of(user).into_vec(), to: past_devices(user) }
}

/// Above every device of this user, at or below every one of the next user in name order.
pub fn past_devices(user: &UserId) -> Vec<u8> {
    let mut key = self::user(user);
    key.push(PAST_NAME);
    key.into_vec()
}

/// From `from` to the end of all devices.
pub fn devices_from(from: Vec<u8>) -> KeyRange {
    // No UTF-8 text has the byte 0xff.
    KeyRange { from, to: vec![0xff] }
}

/// `minute user`
pub fn due(minute: u64, user: &UserId) -> Key {
    let mut key = Key::from_slice(&minute.to_be_bytes());
    key.extend_from_slice(user.as_str().as_bytes());
    key
}

/// Everything due from one minute to another, both included.
pub fn due_range(from_minute: u64, upto_minute: u64) -> KeyRange {
    let from = from_minute.to_be_bytes().to_vec();
    KeyRange { from, to: upto_minute.saturating_add(1).to_be_bytes().to_vec() }
}

pub fn split_due(key: &[u8]) -> Option<(u64, UserId)> {
    let (minute, name) = key.split_first_chunk()?;
    Some((u64::from_be_bytes(*minute), UserId::new(std::str::from_utf8(name).ok()?).ok()?))
}

/// The first whole minute at or after this time.
pub fn minute_after(at_ms: u64) -> u64 {
    at_ms.div_ceil(MINUTE_MS)
}

/// The last whole minute at or before this time.
pub fn minute_before(at_ms: u64) -> u64 {
    at_ms / MINUTE_MS
}

pub fn minute_ms(minute: u64) -> u64 {
    minute.saturating_mul(MINUTE_MS)
}

/// `number`
pub fn dead(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub fn dead_from(number: u64) -> KeyRange {
    KeyRange { from: dead(number).to_vec(), to: vec![0xff; 9] }
}

pub fn split_dead(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

fn split_name(key: &[u8]) -> Option<(UserId, &[u8])> {
    let end = key.iter().position(|byte| *byte == END_OF_NAME)?;
    let (name, rest) = key.split_at_checked(end)?;
    let user = UserId::new(std::str::from_utf8(name).ok()?).ok()?;
    Some((user, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    #[test]
    fn keys_of_one_user_lie_together_and_in_order() {
        let users = ["a", "a b", "a!", "aa", "b", "é", "日本"];
        let mut keys: Vec<_> = users
            .iter()
            .flat_map(|user| [0, 1, 255, 256, 1 << 52].map(|seq| (inbox(&name(user), Seq(seq)), *user, seq)))
            .collect();
        keys.sort();
        let seqs_of = |chunk: &[(Key, &str, u64)]| {
            assert!(chunk.iter().all(|(_, user, _)| *user == chunk[0].1), "another user's key among {chunk:?}");
            chunk.iter().map(|(_, _, seq)| *seq).collect::<Vec<_>>()
        };
        assert!(keys.chunks(5).all(|chunk| seqs_of(chunk) == [0, 1, 255, 256, 1 << 52]));
        for (key, user, seq) in keys {
            assert_eq!((split_inbox(&key), inbox_seq(&key)), (Some((name(user), Seq(seq))), Some(Seq(seq))));
            assert_eq!(split_inbox(&[&[!key[0]], &key[1..]].concat()), None, "not where this user's keys lie");
            assert_eq!(inbox_seq(&key[..key.len() - 1]), None, "not a whole seq");
            assert_eq!(inbox_seq(&[&key[..], &[7]].concat()), None, "more than a seq");
            for other in users {
                let range = whole_inbox(&name(other));
                let is_within = range.from[..] <= key[..] && key[..] < range.to[..];
                assert_eq!(is_within, other == user, "{user} in the range of {other}");
            }
        }
    }

    #[test]
    fn a_range_of_seqs_excludes_its_start_and_includes_its_end() {
        let range = inbox_range(&name("bob"), Seq(5), Seq(9));
        let key = |seq| inbox(&name("bob"), Seq(seq)).into_vec();
        let within = |seq| range.from <= key(seq) && key(seq) < range.to;
        assert_eq!((4..=10).filter(|seq| within(*seq)).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }

    #[test]
    fn a_users_dedupe_keys_lie_together_and_are_another_stores_nowhere() {
        let entry = |recipient, from, id| DedupeKey {
            recipient: name(recipient),
            from: name(from),
            id: crate::ids::MessageId::new(id).unwrap(),
        };
        let entries = [("bob", "al", "m1"), ("bob", "al", "m2"), ("bob", "a", "lm1"), ("carol", "al", "m1")];
        let keys = entries.map(|(to, from, id)| dedupe(HashKey([1, 2]), &entry(to, from, id)));
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        let bobs = dedupe_range(&name("bob"));
        assert_eq!(keys.map(|key| bobs.from[..] <= key[..] && key[..] < bobs.to[..]), [true, true, true, false]);
        let others = dedupe(HashKey([1, 3]), &entry("bob", "al", "m1"));
        assert_eq!((&keys[0][..4], keys[0] == others), (&others[..4], false));
        assert_ne!(HashKey::random(), HashKey::random());
    }

    #[test]
    fn due_times_are_rounded_up_and_asked_rounded_down() {
        assert_eq!(minute_after(60_001), 2);
        assert_eq!(minute_after(minute_ms(2)), 2);
        assert_eq!(minute_before(119_999), 1);
    }
}
