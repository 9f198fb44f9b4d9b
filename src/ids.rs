//! Names of things: users, devices, sessions, messages, and places in an inbox.
//!
//! Every id is validated where it enters (the constructors are the only way in), so the
//! rest of the house never asks again. Names are shared (`Arc<str>`): cloning one copies a pointer, not the text.
//! The id of a message lies in the message itself.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("{what} must have 1 to {max} bytes, not {len}")]
    Length { what: &'static str, max: usize, len: usize },
    #[error("{what} must not contain {found:?}")]
    Character { what: &'static str, found: char },
    #[error("a session id is a ULID of 26 letters and digits, such as 01M84ZYWMNWKGW9WFPDNG3A0M0")]
    Session,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident($text:ty) from $make:expr, $what:literal, $max:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($text);

        impl $name {
            /// Checks `text` against the rules above.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() || text.len() > $max {
                    return Err(IdError::Length { what: $what, max: $max, len: text.len() });
                }
                match text.chars().find(|c| !allowed(*c)) {
                    Some(found) => Err(IdError::Character { what: $what, found }),
                    None => Ok(Self($make(text))),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(
    /// An identity: 1 to 128 bytes of UTF-8 without control characters or `/`.
    UserId(Arc<str>) from Arc::from, "a user name", limits::USER_BYTES_MAX, |c| c != '/' && !c.is_control()
);
text_id!(
    /// One installation of a client of a user: 1 to 64 bytes, same characters as a user name.
    DeviceId(Arc<str>) from Arc::from, "a device name", limits::DEVICE_BYTES_MAX, |c| c != '/' && !c.is_control()
);
text_id!(
    /// The sender's name for a message: 1 to 64 of `A-Z a-z 0-9 . _ : -`.
    MessageId(ArrayString<{ limits::MESSAGE_ID_BYTES_MAX }>) from short, "a message id", limits::MESSAGE_ID_BYTES_MAX,
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-')
);

/// Its length has been looked at.
fn short<const BYTES: usize>(text: &str) -> ArrayString<BYTES> {
    ArrayString::from(text).unwrap_or_default()
}

/// One live connection of one device. Minted at attach (a ULID), never reused, so it serves
/// as the generation token as well: what carries another session's id does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(pub u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ulid::Ulid(self.0).fmt(f)
    }
}

impl std::str::FromStr for SessionId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        ulid::Ulid::from_string(text).map(|ulid| Self(ulid.0)).map_err(|_| IdError::Session)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A message's place in its recipient's inbox: strictly increasing for that user, never
/// reused, below 2^53. Microseconds of the hybrid clock; 0 stands before every message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before every message.
    pub const ZERO: Self = Self(0);
    /// The largest a JSON number carries without loss.
    pub const MAX: Self = Self((1 << 53) - 1);
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
