//! What a send is known by: its recipient, its sender and the id that the sender gave it, folded to 128 bits.

use crate::ids::{MessageId, UserId};
use crate::limits::{MESSAGE_ID_BYTES_MAX, USER_BYTES_MAX};

/// A send's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SendKey(pub(super) u128);

impl SendKey {
    /// All of it is a hash; half of it is as good.
    pub(super) fn hash(self) -> u64 {
        self.0 as u64
    }
}

/// Makes the keys of a process, with a seed of its own, so that nobody can aim at a collision with a name and an id of
/// his own choosing.
#[derive(Debug, Clone, Copy)]
pub struct SendKeys {
    seed: u64,
}

/// Both users, the message's id, and what parts them.
const KEY_TEXT_BYTES_MAX: usize = 2 * USER_BYTES_MAX + MESSAGE_ID_BYTES_MAX + 3;

impl SendKeys {
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    pub fn key(&self, recipient: &UserId, from: &UserId, id: &MessageId) -> SendKey {
        let mut text = [0; KEY_TEXT_BYTES_MAX];
        let mut length = 0;
        for part in [recipient.as_str(), from.as_str(), id.as_str()] {
            if let Some(place) = text.get_mut(length..length + part.len()) {
                place.copy_from_slice(part.as_bytes());
            }
            // No name has a zero in it.
            length += part.len() + 1;
        }
        SendKey(xxhash_rust::xxh3::xxh3_128_with_seed(text.get(..length).unwrap_or_default(), self.seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_read_the_same_one_after_the_other_are_told_apart() {
        let keys = SendKeys::new(1);
        let key = |to, from, id| {
            keys.key(&UserId::new(to).unwrap(), &UserId::new(from).unwrap(), &MessageId::new(id).unwrap())
        };
        let keys = [key("ab", "c", "de"), key("a", "bc", "de"), key("ab", "cd", "e")];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }

    #[test]
    fn the_longest_names_are_told_apart_at_their_last_letter() {
        let keys = SendKeys::new(1);
        let user = |last| UserId::new(&format!("{}{last}", "u".repeat(USER_BYTES_MAX - 1))).unwrap();
        let id = |last| MessageId::new(&format!("{}{last}", "i".repeat(MESSAGE_ID_BYTES_MAX - 1))).unwrap();
        let key = keys.key(&user('a'), &user('a'), &id('a'));
        assert_ne!(key, keys.key(&user('b'), &user('a'), &id('a')));
        assert_ne!(key, keys.key(&user('a'), &user('b'), &id('a')));
        assert_ne!(key, keys.key(&user('a'), &user('a'), &id('b')));
    }
}
