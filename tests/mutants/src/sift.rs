//! Takes out again what does not compile: a compiler names the places of its errors, and a place belongs to a mistake.

use crate::plant::Planted;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

#[derive(Debug, Deserialize)]
struct Line {
    message: Option<Message>,
}

#[derive(Debug, Deserialize)]
struct Message {
    level: String,
    rendered: Option<String>,
    spans: Vec<Span>,
    #[serde(default)]
    children: Vec<Message>,
}

#[derive(Debug, Deserialize)]
struct Span {
    file_name: String,
    byte_start: usize,
    byte_end: usize,
    is_primary: bool,
}

impl Message {
    /// Where it points to, the main places first.
    fn spans(&self) -> Vec<&Span> {
        let mut spans: Vec<&Span> = self.spans.iter().collect();
        spans.sort_by_key(|span| !span.is_primary);
        spans.extend(self.children.iter().flat_map(Message::spans));
        spans
    }
}

/// Checks the tree, and answers which mistakes the compiler objects to; none when it compiles.
///
/// # Errors
///
/// The compiler objects to something that is not a mistake's.
pub fn objections(tree: &Path, target: &Path, planted: &BTreeMap<String, Planted>) -> Result<BTreeSet<usize>, String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["check", "--lib", "--locked", "--quiet", "--message-format=json"]);
    let output =
        cargo.current_dir(tree).env("CARGO_TARGET_DIR", target).output().map_err(|error| format!("cargo: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let errors: Vec<Message> =
        lines.filter_map(|line| line.message).filter(|message| message.level == "error").collect();
    let mut guilty = BTreeSet::new();
    for error in &errors {
        guilty.extend(guilty_of(error, planted));
    }
    if guilty.is_empty() && !output.status.success() {
        let texts: Vec<String> = errors.into_iter().filter_map(|error| error.rendered).collect();
        return Err(format!("{}\n{}", texts.join("\n"), String::from_utf8_lossy(&output.stderr)));
    }
    Ok(guilty)
}

/// The mistake in whose branch the error is; or else all mistakes of the place where it is.
fn guilty_of(error: &Message, planted: &BTreeMap<String, Planted>) -> Vec<usize> {
    let spans = error.spans();
    let at = |of: fn(&Planted) -> &Vec<(Range<usize>, usize)>| {
        spans.iter().find_map(|span| {
            let found = innermost(of(planted.get(&span.file_name)?), span);
            (!found.is_empty()).then_some(found)
        })
    };
    at(|planted| &planted.branches).or_else(|| at(|planted| &planted.sites)).unwrap_or_default()
}

fn innermost(places: &[(Range<usize>, usize)], span: &Span) -> Vec<usize> {
    let around = places.iter().filter(|(range, _)| range.start <= span.byte_start && span.byte_end <= range.end);
    let around: Vec<_> = around.collect();
    let shortest = around.iter().map(|(range, _)| range.len()).min();
    around.into_iter().filter(|(range, _)| Some(range.len()) == shortest).map(|(_, number)| *number).collect()
}
