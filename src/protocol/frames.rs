//! Client frames as types. Decoding borrows from the text; nothing is copied that need not be.
//!
//! Only shapes live here, never a decision whether a name, a size or a wish is allowed.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::codes::Code;
use crate::presence::PresenceState;

/// What a client may say. Fields are as written: checking names and sizes is the gateway's work.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame<'a> {
    Hello(Hello),
    Send(SendFrame<'a>),
    Ack {
        seq: u64,
    },
    Status {
        state: PresenceState,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    Watch {
        users: Vec<String>,
    },
    Unwatch {
        users: Vec<String>,
    },
    Token {
        token: String,
    },
    Forget,
    Ping {
        #[serde(skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
    },
}

/// The first frame of a session.
///
/// Not readable with serde on purpose: `decode` refuses what a derived reader would let pass
/// (`window: 0`, `status: "offline"`, an explicit null).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hello {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PresenceState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
}

#[derive(Debug, Serialize)]
pub struct SendFrame<'a> {
    /// May only be missing when `ephemeral`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    pub to: Cow<'a, str>,
    /// The body byte for byte, borrowed from the frame: one JSON value.
    #[serde(serialize_with = "as_it_stands")]
    pub body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
}

/// serde_json writes a raw value only as one that it has read.
fn as_it_stands<S: Serializer>(body: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<&RawValue>(body).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// Why a text was no usable frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FrameError {
    /// `BadRequest` or `UnknownType`.
    pub code: Code,
    pub reason: String,
    /// There for every `send`: its `id` and `to`, each where it was a readable string no longer than such a
    /// name may be. With an `id` it is answered with `rejected` instead of `error`.
    pub send: Option<(Option<String>, Option<String>)>,
    /// The `type` it was about, for `error.ref`; cut short if it is unreasonably long.
    pub reference: Option<String>,
}
