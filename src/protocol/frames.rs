//! Frames as types. Decoding borrows from the text; nothing is copied that need not be.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::codes::Code;
use crate::presence::PresenceState;

/// What a client may say. Fields are as written: checking names and sizes is the gateway's work.
#[derive(Debug)]
pub enum ClientFrame<'a> {
    Hello(Hello),
    Send(SendFrame<'a>),
    Ack { seq: u64 },
    Status { state: PresenceState, text: Option<String> },
    Watch { users: Vec<String> },
    Unwatch { users: Vec<String> },
    Token { token: String },
    Forget,
    Ping { n: Option<u64> },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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

#[derive(Debug)]
pub struct SendFrame<'a> {
    /// May only be missing when `ephemeral`.
    pub id: Option<Cow<'a, str>>,
    pub to: Cow<'a, str>,
    /// The body byte for byte, borrowed from the frame.
    pub body: &'a RawValue,
    pub ttl_ms: Option<u64>,
    pub retry: bool,
    pub ephemeral: bool,
}

/// Why a text was no usable frame. For a `send`, `id` and `to` are there when they could be read, so
/// that it can be answered with `rejected` instead of `error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FrameError {
    /// `BadRequest` or `UnknownType`.
    pub code: Code,
    pub reason: String,
    pub send: Option<(Option<String>, Option<String>)>,
    /// The `type` (or `id`) it was about, for `error.ref`.
    pub reference: Option<String>,
}
