//! The layout of keys: big-endian numbers, names ended by a zero byte.
//!
//! Names hold no control characters, so a zero byte ends them without doubt: all keys of one user lie
//! together, in seq order, and no user's keys lie between another's. Changing anything here changes
//! the format on disk.

use super::DedupeKey;
use super::engine::KeyRange;
use crate::ids::{DeviceId, Seq, UserId};

const END_OF_NAME: u8 = 0;
/// Greater than the end of a name and less than any character of one.
const PAST_NAME: u8 = 1;
const MINUTE_MS: u64 = 60_000;

/// `user 00 seq`
pub fn inbox(user: &UserId, seq: Seq) -> Vec<u8> {
    with_name(user.as_str(), &seq.0.to_be_bytes())
}

/// The part of a user's inbox with `after < seq <= upto`.
pub fn inbox_range(user: &UserId, after: Seq, upto: Seq) -> KeyRange {
    let next = |seq: Seq| Seq(seq.0.saturating_add(1));
    KeyRange { from: inbox(user, next(after)), to: inbox(user, next(upto)) }
}

pub fn split_inbox(key: &[u8]) -> Option<(UserId, Seq)> {
    let (name, rest) = split_name(key)?;
    Some((name, Seq(u64::from_be_bytes(rest.try_into().ok()?))))
}

/// The seq of an inbox key whose user is known. What follows a name and is no seq is no such key.
pub fn inbox_seq(key: &[u8]) -> Option<Seq> {
    let end = key.iter().position(|byte| *byte == END_OF_NAME)?;
    Some(Seq(u64::from_be_bytes(key.get(end + 1..)?.try_into().ok()?)))
}

/// `user 00 device`
pub fn device(user: &UserId, device: &DeviceId) -> Vec<u8> {
    with_name(user.as_str(), device.as_str().as_bytes())
}

pub fn split_device(key: &[u8]) -> Option<(UserId, DeviceId)> {
    let (name, rest) = split_name(key)?;
    Some((name, DeviceId::new(std::str::from_utf8(rest).ok()?).ok()?))
}

/// `user`
pub fn user(user: &UserId) -> Vec<u8> {
    user.as_str().as_bytes().to_vec()
}

/// `recipient 00 sender 00 id`
pub fn dedupe(key: &DedupeKey) -> Vec<u8> {
    let mut rest = with_name(key.from.as_str(), key.id.as_str().as_bytes());
    let mut all = with_name(key.recipient.as_str(), &[]);
    all.append(&mut rest);
    all
}

/// All keys that begin with this user's name.
pub fn all_of_user(user: &UserId) -> KeyRange {
    KeyRange { from: with_name(user.as_str(), &[]), to: past_user(user) }
}

/// Above every key of this user, at or below every key of the next one in name order.
pub fn past_user(user: &UserId) -> Vec<u8> {
    let mut key = self::user(user);
    key.push(PAST_NAME);
    key
}

/// From `from` to the end of a keyspace whose keys begin with names.
pub fn from_name(from: Vec<u8>) -> KeyRange {
    // No UTF-8 text has the byte 0xff.
    KeyRange { from, to: vec![0xff] }
}

/// `minute user`
pub fn due(minute: u64, user: &UserId) -> Vec<u8> {
    let mut key = minute.to_be_bytes().to_vec();
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
pub fn dead(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub fn dead_from(number: u64) -> KeyRange {
    KeyRange { from: dead(number), to: vec![0xff; 9] }
}

pub fn split_dead(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

fn with_name(name: &str, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1 + rest.len());
    key.extend_from_slice(name.as_bytes());
    key.push(END_OF_NAME);
    key.extend_from_slice(rest);
    key
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
        let order: Vec<_> = keys.iter().map(|(_, user, seq)| (*user, *seq)).collect();
        let mut expected = order.clone();
        expected.sort();
        assert_eq!(order, expected);
        for (key, user, seq) in keys {
            assert_eq!((split_inbox(&key), inbox_seq(&key)), (Some((name(user), Seq(seq))), Some(Seq(seq))));
            assert_eq!(inbox_seq(&key[..key.len() - 1]), None, "not a whole seq");
            assert_eq!(inbox_seq(&[&key[..], &[7]].concat()), None, "more than a seq");
            for other in users {
                let range = all_of_user(&name(other));
                assert_eq!(range.from <= key && key < range.to, other == user, "{user} in the range of {other}");
            }
        }
    }

    #[test]
    fn a_range_of_seqs_excludes_its_start_and_includes_its_end() {
        let range = inbox_range(&name("bob"), Seq(5), Seq(9));
        let within = |seq| range.from <= inbox(&name("bob"), Seq(seq)) && inbox(&name("bob"), Seq(seq)) < range.to;
        assert_eq!((4..=10).filter(|seq| within(*seq)).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }

    #[test]
    fn due_times_are_rounded_up_and_asked_rounded_down() {
        assert_eq!(minute_after(60_001), 2);
        assert_eq!(minute_after(minute_ms(2)), 2);
        assert_eq!(minute_before(119_999), 1);
    }
}
