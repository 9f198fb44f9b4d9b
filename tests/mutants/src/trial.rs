//! Runs the tests with one mistake on, until a test notices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Tests that are run together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suite {
    /// The test program, `lib` for the unit tests.
    pub program: &'static str,
    /// What the names of its tests contain; all of them when empty.
    pub like: &'static str,
    /// How many tests run at once: more where they wait most of the time.
    threads: u32,
    pub turn: Turn,
}

/// All mistakes have the first turn before any has the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// The tests of the room: seconds.
    Near,
    /// Those of the whole house: a minute.
    Far,
}

const fn near(program: &'static str, like: &'static str, threads: u32) -> Suite {
    Suite { program, like, threads, turn: Turn::Near }
}

const fn far(program: &'static str, like: &'static str) -> Suite {
    Suite { program, like, threads: 8, turn: Turn::Far }
}

/// The rooms, and what holds them to their word.
pub const ROOMS: [(&str, &[Suite]); 2] = [
    (
        "src/routing/",
        &[
            near("lib", "routing::", 2),
            near("schedules", "the_contract_holds", 2),
            far("schedules", "planted"),
            far("daemon", "delivery::"),
            far("model", ""),
            far("daemon", ""),
        ],
    ),
    (
        "src/store/",
        &[
            near("lib", "store::", 4),
            near("store", "contract::in_memory", 4),
            near("store", "books::", 4),
            near("store", "faults::", 4),
            near("store", "contract::on_disk", 4),
            far("store", "disk::"),
            far("daemon", ""),
            far("crashes", ""),
        ],
    ),
];

/// The test programs that are needed.
pub fn programs() -> BTreeSet<&'static str> {
    ROOMS.iter().flat_map(|(_, suites)| suites.iter().map(|suite| suite.program)).collect()
}

/// What became of a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// By this test, or by the limit of time.
    Noticed { by: String },
    /// No suite failed.
    Survived,
}

pub struct Trials {
    tree: PathBuf,
    programs: BTreeMap<String, PathBuf>,
    /// What each suite comes by, and how long it takes without a mistake.
    known: BTreeMap<Suite, (BTreeSet<usize>, Duration)>,
}

impl Trials {
    pub fn new(tree: &Path, programs: BTreeMap<String, PathBuf>) -> Trials {
        Trials { tree: tree.to_owned(), programs, known: BTreeMap::new() }
    }

    /// Runs every suite that has this turn once without a mistake.
    ///
    /// # Errors
    ///
    /// A suite fails without a mistake.
    pub fn prepare(&mut self, turn: Turn) -> Result<(), String> {
        let suites: BTreeSet<Suite> = ROOMS.iter().flat_map(|(_, suites)| suites.iter().copied()).collect();
        for suite in suites.into_iter().filter(|suite| suite.turn == turn) {
            let record = self.tree.join("reached");
            let _ = std::fs::remove_file(&record);
            let began = Instant::now();
            let output =
                self.run(suite, Duration::from_secs(1800), &[("DOORSTEP_MUTANTS_REACHED", record.as_os_str())])?;
            if !output.status.success() {
                return Err(format!("{suite:?} fails without a mistake:\n{}", String::from_utf8_lossy(&output.stdout)));
            }
            let text = std::fs::read_to_string(&record).unwrap_or_default();
            let reached: BTreeSet<usize> = text.lines().filter_map(|line| line.parse().ok()).collect();
            eprintln!(
                "{} {}: {} s, comes by {} mistakes",
                suite.program,
                suite.like,
                began.elapsed().as_secs(),
                reached.len()
            );
            self.known.insert(suite, (reached, began.elapsed()));
        }
        Ok(())
    }

    /// Whether the tests that have this turn notice this mistake of this file.
    ///
    /// # Errors
    ///
    /// A suite cannot be run.
    pub fn attempt(&self, turn: Turn, number: usize, file: &str) -> Result<Verdict, String> {
        let Some((_, suites)) = ROOMS.iter().find(|(room, _)| file.starts_with(room)) else {
            return Err(format!("{file} is in no room that has suites"));
        };
        for suite in suites.iter().filter(|suite| suite.turn == turn) {
            let Some((reached, took)) = self.known.get(suite) else { continue };
            if !reached.contains(&number) {
                continue;
            }
            let limit = *took * 4 + Duration::from_secs(20);
            let output = self.run(*suite, limit, &[("DOORSTEP_MUTANT", number.to_string().as_ref())])?;
            if !output.status.success() {
                return Ok(Verdict::Noticed { by: what_failed(*suite, &output) });
            }
        }
        Ok(Verdict::Survived)
    }

    fn run(&self, suite: Suite, limit: Duration, with: &[(&str, &std::ffi::OsStr)]) -> Result<Output, String> {
        let program = self.programs.get(suite.program).ok_or(format!("there is no test program {}", suite.program))?;
        // A mistake may ask for all memory there is, or never come to an end; `timeout` ends what was started as well.
        let mut command = Command::new("bash");
        command.args(["-c", "ulimit -v 8000000; exec timeout --kill-after=5 \"$@\"", "bash"]);
        command.arg(limit.as_secs().to_string()).arg(program);
        if !suite.like.is_empty() {
            command.arg(suite.like);
        }
        command.env("RUST_TEST_THREADS", suite.threads.to_string()).env("CARGO_MANIFEST_DIR", &self.tree);
        command.envs(with.iter().copied()).current_dir(&self.tree).stdin(Stdio::null());
        command.output().map_err(|error| format!("{}: {error}", program.display()))
    }
}

fn what_failed(suite: Suite, output: &Output) -> String {
    const TIMED_OUT: [i32; 2] = [124, 137];
    if output.status.code().is_some_and(|code| TIMED_OUT.contains(&code)) {
        return format!("{}: the limit of time", suite.program);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = said.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    format!("{}: {}", suite.program, failed.unwrap_or("the program ended"))
}
