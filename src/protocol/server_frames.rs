//! Server frames as types, for clients and tests: what [`super::encode`] writes, read back.
//!
//! A frame of an unknown type is no error here, and unknown fields are skipped: a client of this version
//! must live with a server of a later one.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::codes::Code;
use crate::ids::{DeviceId, MessageId, Seq, SessionId, UserId};
use crate::presence::PresenceInfo;

/// What a server may say.
#[derive(Debug, Clone)]
pub enum ServerFrame {
    Welcome(WelcomeFrame),
    Message(MessageFrame),
    CaughtUp(CaughtUpFrame),
    Accepted(AcceptedFrame),
    Rejected(RejectedFrame),
    Presence(PresenceFrame),
    TokenOk(TokenOkFrame),
    Pong(PongFrame),
    Error(ErrorFrame),
    Goodbye(GoodbyeFrame),
    /// Something a later server says; to be ignored.
    Unknown {
        kind: String,
    },
}

/// The answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "welcome")]
pub struct WelcomeFrame {
    pub user: UserId,
    pub device: DeviceId,
    #[serde(deserialize_with = "session_id")]
    pub session: SessionId,
    pub protocol: u32,
    /// Name and version of the server, as `doorstep/0.1.0`.
    pub server: Cow<'static, str>,
    /// This hello registered the device.
    pub registered: bool,
    /// The device had lapsed: messages that it missed are in the dead letters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
    /// Messages waiting; may be an upper bound.
    pub pending: u64,
    pub cursor: Seq,
    /// When the token ends, unless renewed; none without a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    pub limits: WelcomeLimits,
}

/// The bounds that hold for this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeLimits {
    pub frame_bytes: u64,
    pub body_bytes: u64,
    /// Messages that may be pushed and not yet acked.
    pub window: u32,
    pub sends_in_flight: u32,
    pub heartbeat_ms: u64,
}

/// A delivery. A durable one has `seq` and `id`; an ephemeral one has no `seq`.
#[derive(Debug, Clone, Deserialize)]
pub struct MessageFrame {
    pub seq: Option<Seq>,
    pub id: Option<MessageId>,
    pub from: UserId,
    /// As the sender wrote it. Kept raw, so that a body which this client cannot read still has a `seq` to ack.
    pub body: Box<RawValue>,
    pub ts_ms: u64,
    #[serde(default)]
    pub redelivered: bool,
    #[serde(default)]
    pub ephemeral: bool,
}

/// Everything that waited at connect has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CaughtUpFrame {
    pub seq: Seq,
}

/// The message is safe.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AcceptedFrame {
    pub id: MessageId,
    pub to: UserId,
    pub seq: Seq,
    pub stored: bool,
}

/// The message was not taken, or its outcome is unknown. Names are as the client wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RejectedFrame {
    pub id: Option<String>,
    pub to: Option<String>,
    pub code: Code,
    pub reason: String,
    pub retry_after_ms: Option<u64>,
}

/// A snapshot, or coalesced changes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresenceFrame {
    pub users: Vec<PresenceInfo>,
}

/// The new token holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenOkFrame {
    pub expires_ms: u64,
}

/// The answer to `ping`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PongFrame {
    pub n: Option<u64>,
}

/// Something that was not a `send` went wrong; the session goes on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorFrame {
    pub code: Code,
    pub reason: String,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
}

/// The server is about to close with `code`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GoodbyeFrame {
    pub code: u16,
    pub reason: String,
    pub retry_after_ms: Option<u64>,
}

impl ServerFrame {
    /// Reads one frame.
    ///
    /// # Errors
    /// Not JSON, no `type`, or a known type without its fields.
    pub fn from_text(text: &str) -> serde_json::Result<Self> {
        let Head { kind } = serde_json::from_str(text)?;
        Ok(match &*kind {
            "message" => Self::Message(serde_json::from_str(text)?),
            "accepted" => Self::Accepted(serde_json::from_str(text)?),
            "rejected" => Self::Rejected(serde_json::from_str(text)?),
            "welcome" => Self::Welcome(serde_json::from_str(text)?),
            "caught_up" => Self::CaughtUp(serde_json::from_str(text)?),
            "presence" => Self::Presence(serde_json::from_str(text)?),
            "token_ok" => Self::TokenOk(serde_json::from_str(text)?),
            "pong" => Self::Pong(serde_json::from_str(text)?),
            "error" => Self::Error(serde_json::from_str(text)?),
            "goodbye" => Self::Goodbye(serde_json::from_str(text)?),
            _ => Self::Unknown { kind: kind.into_owned() },
        })
    }
}

impl<'de> Deserialize<'de> for ServerFrame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_text(raw.get()).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

fn session_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SessionId, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_server_is_understood_as_far_as_it_goes() {
        let later = ServerFrame::from_text(r#"{"type":"moved","to":[1]}"#).unwrap();
        assert!(matches!(later, ServerFrame::Unknown { kind } if kind == "moved"));
        let known = ServerFrame::from_text(r#"{"type":"pong","n":1,"zone":"eu"}"#).unwrap();
        assert!(matches!(known, ServerFrame::Pong(PongFrame { n: Some(1) })));
    }

    #[test]
    fn a_body_that_cannot_be_parsed_still_has_a_seq_to_ack() {
        let text = r#"{"type":"message","seq":3,"id":"1","from":"a","ts_ms":1,"body":{"n":1e999,"s":"\ud800"}}"#;
        let ServerFrame::Message(frame) = ServerFrame::from_text(text).unwrap() else { panic!("not a message") };
        assert_eq!((frame.seq, frame.body.get()), (Some(Seq(3)), r#"{"n":1e999,"s":"\ud800"}"#));
    }

    #[test]
    fn a_null_body_is_a_body() {
        let text = r#"{"type":"message","from":"a","ts_ms":1,"ephemeral":true,"body":null}"#;
        let ServerFrame::Message(frame) = ServerFrame::from_text(text).unwrap() else { panic!("not a message") };
        assert_eq!(frame.body.get(), "null");
    }
}
