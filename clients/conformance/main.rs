//! Holds a client in any language against the rules of `proto-docs/clients.md`.
//!
//! `conformance [--scenarios DIR] [--only NAME] [--jobs N] -- COMMAND ARGS…` starts the command, a driver around the
//! client, once for each scenario, plays the router to it, and says which rule was broken and at which step. It ends
//! with 1 when one was.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it tells people what it found")]
#![allow(clippy::indexing_slicing, reason = "a field that a JSON value lacks is null")]
#![allow(clippy::panic, reason = "schemas that cannot be read are a broken checkout")]

mod command;
mod driver;
mod matching;
mod peer;
mod play;
mod scenario;
#[path = "../../tests/common/schema.rs"]
mod schema;
mod stage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use futures::{StreamExt, stream};

use driver::Driver;
use play::{Fault, Verdict, play};
use scenario::{File, Scenario, read_all};

/// Tries a client against the rules of proto-docs/clients.md.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder of the scenarios.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/proto-docs/conformance"))]
    scenarios: PathBuf,
    /// Only scenarios whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Scenarios that are played at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// The driver of the client, and its arguments.
    #[arg(last = true, required = true)]
    driver: Vec<OsString>,
}

#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    left_out: usize,
    failed: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut files = match read_all(&arguments.scenarios) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(only) = &arguments.only {
        files.retain(|file| file.scenario.name.contains(only));
    }
    let tally = try_all(&files, &arguments).await;
    println!("{} ok, {} left out, {} failed", tally.passed, tally.left_out, tally.failed);
    // A name that no scenario has would otherwise look like success.
    if tally.failed == 0 && tally.passed + tally.left_out > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn try_all(files: &[File], arguments: &Arguments) -> Tally {
    let verdicts = files.iter().map(|file| async move { (file, try_one(&file.scenario, &arguments.driver).await) });
    let mut verdicts = stream::iter(verdicts).buffered(arguments.jobs.into());
    let mut tally = Tally::default();
    while let Some((file, verdict)) = verdicts.next().await {
        report(file, &verdict);
        match verdict {
            Verdict::Passed => tally.passed += 1,
            Verdict::LeftOut(_) => tally.left_out += 1,
            Verdict::Failed(_) => tally.failed += 1,
        }
    }
    tally
}

async fn try_one(scenario: &Scenario, command: &[OsString]) -> Verdict {
    let started = match command.split_first() {
        Some((program, arguments)) => Driver::start(program, arguments),
        None => Err(std::io::Error::other("no command")),
    };
    match started {
        Ok(driver) => play(scenario, driver).await,
        Err(error) => {
            let expected = "a driver that can be started".to_owned();
            Verdict::Failed(Fault { step: 0, expected, came: error.to_string() })
        }
    }
}

fn report(File { path, scenario }: &File, verdict: &Verdict) {
    let name = &scenario.name;
    match verdict {
        Verdict::Passed => println!("ok       {name}"),
        Verdict::LeftOut(feature) => println!("left out {name}: needs {feature}"),
        Verdict::Failed(fault) => {
            let rules: Vec<String> = scenario.rules.iter().map(ToString::to_string).collect();
            println!("FAILED   {name}: rule {}; {}, {fault}", rules.join(", "), path.display());
        }
    }
}
