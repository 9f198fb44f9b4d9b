//! What the server said, as far as a bench wants to know.
//!
//! The frames that come by the hundred thousand are taken apart by hand, in the very form in which this router writes
//! them; whatever looks different is left to a JSON parser, which is several times slower and knows every form.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::CliError;

/// The number of a message that no bench has sent: its id is none.
pub(super) const NO_NUMBER: u64 = u64::MAX;

/// One frame. Messages are known by the number that is their id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    Message {
        number: u64,
        seq: u64,
        redelivered: bool,
        body: &'a [u8],
    },
    Accepted {
        number: u64,
        seq: u64,
        stored: bool,
    },
    Rejected {
        number: u64,
        code: String,
        retry_after: Option<Duration>,
    },
    Welcome {
        cursor: u64,
    },
    CaughtUp,
    Presence {
        users: Vec<Seen<'a>>,
    },
    /// Said before the server closes.
    Goodbye {
        code: u64,
        reason: String,
    },
    /// An error that is no answer to a send, in the server's words.
    Error {
        reason: String,
    },
    /// Nothing that matters to a bench.
    Other,
}

/// An entry of a `presence` frame.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Seen<'a> {
    pub(super) user: &'a str,
    pub(super) state: &'a str,
    pub(super) version: u64,
}

/// The fields of all server frames that matter here, read in one pass.
#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    seq: Option<u64>,
    id: Option<&'a str>,
    code: Option<serde_json::Value>,
    #[serde(default)]
    stored: bool,
    #[serde(default)]
    redelivered: bool,
    retry_after_ms: Option<u64>,
    reason: Option<String>,
    cursor: Option<u64>,
    #[serde(borrow, default)]
    users: Vec<Seen<'a>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl<'a> Said<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    /// When it is no frame of this protocol.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, CliError> {
        match message(text).or_else(|| accepted(text)) {
            Some(said) => Ok(said),
            None => Self::read_slowly(text),
        }
    }

    fn read_slowly(text: &'a [u8]) -> Result<Self, CliError> {
        let frame: Frame<'_> =
            serde_json::from_slice(text).map_err(|error| CliError::new(format!("unreadable frame: {error}")))?;
        let number = frame.id.and_then(|id| id.parse().ok()).unwrap_or(NO_NUMBER);
        let seq = frame.seq.unwrap_or_default();
        let reason = frame.reason.unwrap_or_default();
        Ok(match frame.kind {
            "message" => {
                let body = frame.body.map_or("", RawValue::get).as_bytes();
                Self::Message { number, seq, redelivered: frame.redelivered, body }
            }
            "accepted" => Self::Accepted { number, seq, stored: frame.stored },
            "rejected" => Self::Rejected {
                number,
                code: frame.code.and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default(),
                retry_after: frame.retry_after_ms.map(Duration::from_millis),
            },
            "welcome" => Self::Welcome { cursor: frame.cursor.unwrap_or_default() },
            "caught_up" => Self::CaughtUp,
            "presence" => Self::Presence { users: frame.users },
            "goodbye" => Self::Goodbye { code: frame.code.and_then(|code| code.as_u64()).unwrap_or_default(), reason },
            "error" => Self::Error { reason },
            _ => Self::Other,
        })
    }
}

fn message(text: &[u8]) -> Option<Said<'_>> {
    let mut at = Place(text);
    at.skip(b"{\"type\":\"message\",\"seq\":")?;
    let seq = at.number()?;
    at.skip(b",\"id\":\"")?;
    let number = at.number()?;
    at.skip(b"\",\"from\":\"")?;
    at.name()?;
    at.skip(b"\",\"ts_ms\":")?;
    at.number()?;
    let redelivered = at.skip(b",\"redelivered\":true").is_some();
    at.skip(b",\"body\":")?;
    let body = at.0.strip_suffix(b"}")?;
    Some(Said::Message { number, seq, redelivered, body })
}

fn accepted(text: &[u8]) -> Option<Said<'_>> {
    let mut at = Place(text);
    at.skip(b"{\"type\":\"accepted\",\"id\":\"")?;
    let number = at.number()?;
    at.skip(b"\",\"to\":\"")?;
    at.name()?;
    at.skip(b"\",\"seq\":")?;
    let seq = at.number()?;
    let stored = match at.0 {
        b",\"stored\":true}" => true,
        b",\"stored\":false}" => false,
        _ => return None,
    };
    Some(Said::Accepted { number, seq, stored })
}

/// What of a frame is still to be read.
struct Place<'a>(&'a [u8]);

impl Place<'_> {
    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit());
        let (mut value, mut taken) = (0_u64, 0);
        for digit in digits {
            value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            taken += 1;
        }
        self.0 = self.0.get(taken..)?;
        (taken > 0).then_some(value)
    }

    /// Passes over a name, up to its closing quote; none where it has an escape.
    fn name(&mut self) -> Option<()> {
        let end = self.0.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        self.0 = self.0.get(end..)?;
        self.0.starts_with(b"\"").then_some(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codes::{CloseCode, Code};
    use crate::ids::{MessageId, Seq, UserId};
    use crate::message::Message;
    use crate::protocol::encode;

    fn written(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut buf = Vec::new();
        encode(&mut buf);
        buf
    }

    fn a_message(id: &str, from: &str, body: &'static [u8], redelivered: bool) -> Vec<u8> {
        let message = Message {
            seq: Seq(1_795_417_560_123_001),
            id: MessageId::new(id).unwrap(),
            from: UserId::new(from).unwrap(),
            body: Bytes::from_static(body),
            ts_ms: 5,
            expires_ms: 9,
            retry: false,
        };
        written(|buf| encode::message(buf, &message, redelivered))
    }

    fn an_answer(to: &str, stored: bool) -> Vec<u8> {
        let (id, to) = (MessageId::new("17").unwrap(), UserId::new(to).unwrap());
        written(|buf| encode::accepted(buf, &id, &to, Seq(9), stored))
    }

    /// What is taken apart by hand is what the parser finds.
    #[test]
    fn the_frames_that_come_often_are_read_by_hand_and_to_the_same_end() {
        for redelivered in [false, true] {
            let frame = a_message("17", "bench-1", b"{ \"a\": \"}\" }", redelivered);
            let by_hand = message(&frame).unwrap();
            assert_eq!(by_hand, Said::read_slowly(&frame).unwrap());
            let Said::Message { number: 17, body: b"{ \"a\": \"}\" }", redelivered: said, .. } = by_hand else {
                panic!("{by_hand:?}")
            };
            assert_eq!(said, redelivered);
        }
        for stored in [false, true] {
            let frame = an_answer("bench-2", stored);
            let by_hand = accepted(&frame).unwrap();
            assert_eq!(by_hand, Said::read_slowly(&frame).unwrap());
            assert_eq!(by_hand, Said::Accepted { number: 17, seq: 9, stored });
        }
    }

    #[test]
    fn what_looks_different_is_left_to_the_parser() {
        let escaped = a_message("17", "\"o\\hara\"", b"1", false);
        assert_eq!(message(&escaped), None);
        assert!(matches!(Said::read(&escaped).unwrap(), Said::Message { number: 17, body: b"1", .. }));
        let escaped = an_answer("\"", true);
        assert_eq!(accepted(&escaped), None);
        assert_eq!(Said::read(&escaped).unwrap(), Said::Accepted { number: 17, seq: 9, stored: true });
        let foreign = a_message("a-17", "bob", b"1", false);
        assert!(matches!(Said::read(&foreign).unwrap(), Said::Message { number: NO_NUMBER, .. }));
        let spaced = br#"{ "type": "accepted", "seq": 9, "id": "17", "stored": false, "new": [] }"#;
        assert_eq!(Said::read(spaced).unwrap(), Said::Accepted { number: 17, seq: 9, stored: false });
        let huge = br#"{"type":"accepted","id":"99999999999999999999","to":"a","seq":9,"stored":true}"#;
        assert!(matches!(Said::read(huge).unwrap(), Said::Accepted { number: NO_NUMBER, .. }));
    }

    #[test]
    fn rare_frames_are_read() {
        let refused = written(|buf| encode::rejected(buf, Some("17"), None, Code::QueueFull, "full", Some(250)));
        let retry_after = Some(Duration::from_millis(250));
        assert_eq!(
            Said::read(&refused).unwrap(),
            Said::Rejected { number: 17, code: "queue_full".to_owned(), retry_after }
        );
        let goodbye = written(|buf| encode::goodbye(buf, CloseCode::Replaced, "replaced", None));
        assert_eq!(Said::read(&goodbye).unwrap(), Said::Goodbye { code: 4409, reason: "replaced".to_owned() });
        let error = written(|buf| encode::error(buf, Code::BadRequest, "no", Some("ack")));
        assert_eq!(Said::read(&error).unwrap(), Said::Error { reason: "no".to_owned() });
        assert_eq!(Said::read(&written(|buf| encode::caught_up(buf, Seq(3)))).unwrap(), Said::CaughtUp);
        let presence = br#"{"type":"presence","users":[{"user":"a","state":"online","version":7}]}"#;
        let users = vec![Seen { user: "a", state: "online", version: 7 }];
        assert_eq!(Said::read(presence).unwrap(), Said::Presence { users });
        assert_eq!(Said::read(br#"{"type":"pong"}"#).unwrap(), Said::Other);
        assert!(Said::read(b"{}").is_err());
    }
}
