//! What a driver is told: one JSON object a line. `proto-docs/clients.md` describes it.
//!
//! It must refuse what it does not know: a slip of the pen in a scenario would otherwise be a rule that nobody tries.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line for a driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Make a client and connect.
    Connect {
        /// Filled in by the runner.
        #[serde(default)]
        url: String,
        /// Left out where a token says it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        #[serde(default)]
        options: Box<ConnectOptions>,
    },
    /// What comes of it is told under `ref`.
    Send {
        #[serde(rename = "ref")]
        reference: String,
        to: String,
        body: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
    },
    Ephemeral {
        to: String,
        body: Value,
    },
    Watch {
        users: Vec<String>,
    },
    Unwatch {
        users: Vec<String>,
    },
    Status {
        state: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// The handler is to fail so many times for the message with this id.
    Fail {
        id: String,
        times: u32,
    },
    /// Handlers wait before they return.
    Hold {},
    /// They may return.
    Release {},
    Close {},
    Forget {},
    /// The client is dropped as if its process had ended.
    Abandon {},
}

/// How a client is to be made; a client's own defaults stand for what is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_min_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_max_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler_attempts: Option<u32>,
    /// The token provider goes through them, the last one again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<String>>,
    /// Clients of the same name in one process share what is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}
