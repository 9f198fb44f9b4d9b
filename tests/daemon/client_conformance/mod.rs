//! Goal: the Rust client keeps the rules of `proto-docs/clients.md`, and the runner that says so would say otherwise of
//! one that does not.
//! Method: every scenario of `proto-docs/conformance` is played to a driver around the client, over a pipe in memory;
//! then to drivers with a fault planted, each of which must fail at the scenario made for it.

#[path = "../../../clients/conformance/command.rs"]
mod command;
#[path = "../../../clients/conformance/driver.rs"]
mod driver;
#[path = "../../../clients/conformance/matching.rs"]
mod matching;
#[path = "../../../clients/conformance/peer.rs"]
mod peer;
mod planted;
#[path = "../../../clients/conformance/play.rs"]
mod play;
mod rust_driver;
#[path = "../../../clients/conformance/scenario.rs"]
mod scenario;
#[path = "../../../clients/conformance/stage.rs"]
mod stage;

use std::collections::BTreeSet;
use std::path::Path;

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::common::schema;
use driver::Driver;
use play::{Verdict, frames, play, welcome};
use scenario::{Act, Deed, File, Scenario, read_all};

/// Scenarios at once: most of the time each of them waits.
const JOBS: usize = 8;
const PIPE_BYTES: usize = 64 << 10;
/// The last of `proto-docs/clients.md`.
const RULES: u32 = 23;

fn scenarios() -> Vec<File> {
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-docs/conformance")).unwrap()
}

fn rust_client() -> Driver {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let (input, output) = tokio::io::split(far);
    tokio::spawn(rust_driver::drive(input, output));
    let (output, input) = tokio::io::split(near);
    Driver::over(output, input)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_keeps_every_rule() {
    let files = scenarios();
    let played =
        files.iter().map(|File { scenario, .. }| async move { (scenario, play(scenario, rust_client()).await) });
    let verdicts: Vec<(&Scenario, Verdict)> = stream::iter(played).buffered(JOBS).collect().await;
    let mut faults = Vec::new();
    for (scenario, verdict) in verdicts {
        match verdict {
            Verdict::Passed => {}
            Verdict::LeftOut(feature) => assert_eq!(feature, "poison", "there are no handlers, and all else is there"),
            Verdict::Failed(fault) => faults.push(format!("{} (rules {:?}): {fault}", scenario.name, scenario.rules)),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_rule_has_a_scenario_and_every_scenario_its_name() {
    let mut tried = BTreeSet::new();
    for File { path, scenario } in scenarios() {
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), scenario.name);
        assert!(!scenario.steps.is_empty() && !scenario.rules.is_empty(), "{}", scenario.name);
        tried.extend(scenario.rules);
    }
    assert_eq!(tried, (1..=RULES).collect(), "the rules of clients.md, each of them");
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-docs/clients.md")).unwrap();
    let last = format!("\n{RULES}. ");
    assert!(page.contains(&last) && !page.contains(&format!("\n{}. ", RULES + 1)), "the page has other rules");
}

/// A frame that no server says would prove nothing. What is sent as text may be anything.
#[test]
fn what_scenarios_send_is_what_servers_say() {
    for File { scenario, .. } in scenarios() {
        let said = scenario.steps.iter().flat_map(|step| match &step.deed {
            Deed::Act(Act::Out(frame)) => vec![frame.clone()],
            Deed::Act(Act::Session(fields) | Act::Welcome(fields)) => vec![welcome(&Value::Null, fields)],
            Deed::Act(Act::Deliver(series)) => frames(series).collect(),
            _ => Vec::new(),
        });
        for frame in said.map(with_values) {
            // What is made up is there to be ignored.
            if frame["type"] != "fanfare" && scenario.rules != [23] {
                schema::validate_server(&frame).unwrap_or_else(|fault| panic!("{}: {fault}", scenario.name));
            }
        }
    }
}

/// Some value for every name.
fn with_values(frame: Value) -> Value {
    match frame {
        Value::String(name) if name.starts_with("$now") => json!(1_795_417_560_123_u64),
        Value::String(name) if name.starts_with('$') => json!("x"),
        Value::Array(items) => items.into_iter().map(with_values).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, with_values(value))).collect(),
        other => other,
    }
}
