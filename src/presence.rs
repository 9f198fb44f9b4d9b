//! What can be known of a user's whereabouts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::UserId;

/// How available a user is. Ordered: the greater is the more available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    Offline,
    Invisible,
    Away,
    Busy,
    Online,
}

impl PresenceState {
    /// What watchers see: `invisible` looks like `offline`.
    #[must_use]
    pub fn visible(self) -> Self {
        if self == Self::Invisible { Self::Offline } else { self }
    }
}

/// One user's presence as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceInfo {
    pub user: UserId,
    pub state: PresenceState,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_seen_ms: Option<u64>,
    pub version: u64,
}
