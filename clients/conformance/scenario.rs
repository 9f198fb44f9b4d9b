//! A scenario as it is written in `proto-docs/conformance`.
//!
//! Fields and steps that are not known are refused, or a step with a slip of the pen would never be tried.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::command::Command;

/// One idea of what a client must do, step by step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// The rules of `proto-docs/clients.md` that it tries.
    pub rules: Vec<u32>,
    /// Features of a driver without which it is left out.
    #[serde(default)]
    pub needs: Vec<String>,
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// As it stands in the file.
    pub written: Value,
    pub deed: Deed,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    Tell(Command),
    Act(Act),
}

/// What the runner does itself, or waits for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Waits for a connection and upgrades it.
    Accept(Accept),
    /// Waits for a connection and answers it with an HTTP status.
    Refuse(Refuse),
    /// `accept`, a `hello`, and a `welcome` with these fields.
    Session(Map<String, Value>),
    /// Answers the last `hello`, with these fields instead of the usual ones.
    Welcome(Map<String, Value>),
    In(Value),
    InAny(Vec<Value>),
    Acked(u64),
    Out(Value),
    OutText(String),
    /// Sends messages whose bodies are their seqs.
    Deliver(Series),
    /// Waits for the `message` events of them.
    Delivered(Series),
    Event(Value),
    /// One event of these has to come.
    EventOf(Vec<Value>),
    QuietMs(u64),
    Close(Close),
    Drop(Nothing),
    /// The client must end the connection: with this code, or in any way.
    Closed(Closed),
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Not sooner than this after the last connection ended, milliseconds.
    #[serde(default)]
    pub after_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refuse {
    pub status: u16,
}

/// Messages `m<seq>` from alice, one for each seq.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    pub first: u64,
    pub last: u64,
    #[serde(default)]
    pub redelivered: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    pub code: u16,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    pub code: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Value::deserialize(deserializer)?;
        let deed = if written.get("do").is_some() {
            serde_json::from_value(written.clone()).map(Deed::Tell)
        } else {
            serde_json::from_value(written.clone()).map(Deed::Act)
        };
        Ok(Self { written, deed: deed.map_err(serde::de::Error::custom)? })
    }
}

/// A scenario and where it is written.
#[derive(Debug, Clone)]
pub struct File {
    pub path: PathBuf,
    pub scenario: Scenario,
}

/// Every `.json` of `folder`, by name.
///
/// # Errors
/// When the folder or one of the files cannot be read, or there is none.
pub fn read_all(folder: &Path) -> Result<Vec<File>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: there is no scenario", folder.display()));
    }
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Result<File, String> {
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let scenario = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(File { path, scenario })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let bad = [
            r#"{"in":{"type":"ack"},"event":{}}"#,
            r#"{"accept":{"after":3}}"#,
            r#"{"expect":{}}"#,
            r#"{"do":"dance"}"#,
            r#"{"do":"send","ref":"a","to":"bob","body":1,"tll_ms":3}"#,
            r#"{"do":"connect","options":{"windows":3}}"#,
            r#"{"do":"hold","in":{}}"#,
            "{}",
        ];
        for step in bad {
            assert!(serde_json::from_str::<Step>(step).is_err(), "{step}");
        }
        let good = [
            r#"{"do":"connect","user":"me","options":{"window":3}}"#,
            r#"{"accept":{}}"#,
            r#"{"do":"hold"}"#,
            r#"{"closed":{}}"#,
            r#"{"quiet_ms":100}"#,
        ];
        for step in good {
            serde_json::from_str::<Step>(step).unwrap_or_else(|error| panic!("{error}: {step}"));
        }
    }
}
