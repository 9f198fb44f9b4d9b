//! The figures of a finished run: lines for people, one JSON document for machines.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::faults::Faults;
use crate::cli::stdout::print;
use crate::cli::{CliError, Global};

pub(super) struct Report {
    lines: Vec<String>,
    figures: Map<String, Value>,
    /// None where no message was sent that could have been lost.
    faults: Option<Faults>,
}

impl Report {
    /// `parts` are objects, which become one.
    pub(super) fn new(lines: Vec<String>, parts: impl IntoIterator<Item = Value>, faults: Faults) -> Self {
        let faults_part = json!({ "faults": faults.json() });
        let report = Self::without_messages(lines, parts.into_iter().chain([faults_part]));
        Self { faults: Some(faults), ..report }
    }

    pub(super) fn without_messages(lines: Vec<String>, parts: impl IntoIterator<Item = Value>) -> Self {
        let objects =
            parts.into_iter().filter_map(|part| if let Value::Object(part) = part { Some(part) } else { None });
        let figures: Map<String, Value> = objects.flatten().collect();
        Self { lines, figures, faults: None }
    }

    /// Prints it; with `must_be_clean` broken promises are an error.
    pub(super) fn print(self, global: &Global, must_be_clean: bool) -> Result<(), CliError> {
        print(&format!("{}\n", if global.json { self.json().to_string() } else { self.table() }))?;
        let faults = self.faults;
        match must_be_clean && faults.is_some_and(|faults| faults != Faults::default()) {
            true => Err(CliError::new("the router broke its word; see the faults above")),
            false => Ok(()),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!(self.figures)
    }

    pub(super) fn table(&self) -> String {
        let verdict = self.faults.as_ref().map(|faults| format!("\n\n{}", faults.verdict())).unwrap_or_default();
        format!("{}{verdict}", self.lines.join("\n"))
    }
}

pub(super) fn rate(count: u64, over: Duration) -> f64 {
    if over.is_zero() { 0.0 } else { count as f64 / over.as_secs_f64() }
}

/// To the millisecond.
pub(super) fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}
