//! Words that routing and the wire share: reasons for refusing, reasons for closing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a send was not taken, or an `error` frame was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    UnknownType,
    TooLarge,
    Forbidden,
    IdReused,
    RateLimited,
    QueueFull,
    Overloaded,
    StorageUnavailable,
    ShuttingDown,
    UnknownOutcome,
    Expired,
}

/// The word on the wire.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Why a session is closed: a WebSocket close code with advice for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    Normal,
    GoingAway,
    NoWebSocket,
    BinaryFrame,
    NotUtf8,
    FrameTooLarge,
    Internal,
    Restarting,
    Malformed,
    NotAuthenticated,
    NotAllowed,
    Silent,
    Replaced,
    Removed,
    TooMany,
}

impl CloseCode {
    pub fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::NoWebSocket => 1002,
            Self::BinaryFrame => 1003,
            Self::NotUtf8 => 1007,
            Self::FrameTooLarge => 1009,
            Self::Internal => 1011,
            Self::Restarting => 1012,
            Self::Malformed => 4400,
            Self::NotAuthenticated => 4401,
            Self::NotAllowed => 4403,
            Self::Silent => 4408,
            Self::Replaced => 4409,
            Self::Removed => 4410,
            Self::TooMany => 4429,
        }
    }
}
