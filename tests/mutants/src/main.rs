//! Tries all mistakes that cargo-mutants knows against the tests, with one build: each mistake is in it, behind a switch.
//!
//! `mutants LIST TREE TARGET OUTCOMES`: the list is that of `cargo mutants --list --json`; the tree is a copy of this
//! project, which is changed; what is built goes to the target; what became of each mistake is a line of the outcomes.
//! What has a line there already is not tried again.

mod mistake;
mod plant;
mod sift;
mod trial;

use mistake::Mistake;
use plant::Planted;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use trial::{Trials, Turn, Verdict};

/// Two at a time: the quick suites take a core each, the slow ones mostly wait.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    // Absolute: tests run in the tree.
    let args = std::env::args_os().skip(1).map(|path| std::path::absolute(path).unwrap_or_default());
    let args: Vec<PathBuf> = args.collect();
    let [list, tree, target, outcomes] = args.as_slice() else {
        eprintln!("usage: mutants LIST TREE TARGET OUTCOMES");
        return ExitCode::from(2);
    };
    match run(list, tree, target, outcomes) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every mistake was noticed.
fn run(list: &Path, tree: &Path, target: &Path, outcomes: &Path) -> Result<bool, String> {
    let mistakes: Vec<Mistake> =
        serde_json::from_str(&read(list)?).map_err(|error| format!("{}: {error}", list.display()))?;
    let outcomes = Outcomes::open(outcomes)?;
    // A tree that is planted already is gone on with.
    let planted = tree.join("planted");
    if !planted.exists() {
        let unplanted = plant_all(&mistakes, tree, target)?;
        unplanted.into_iter().for_each(|number| outcomes.note("not planted", &mistakes[number].name));
        write(&planted, "")?;
    }
    let mut trials = Trials::new(tree, build(tree, target)?);
    for (turn, waiting) in [(Turn::Near, None), (Turn::Far, Some(SURVIVED_NEAR))] {
        trials.prepare(turn)?;
        let known = outcomes.all()?;
        let ours: Vec<_> = mistakes
            .iter()
            .enumerate()
            .filter(|(_, mistake)| known.get(&mistake.name).map(String::as_str) == waiting)
            .collect();
        eprintln!("{turn:?}: {} of {} mistakes", ours.len(), mistakes.len());
        attempt_all(ours, |number, mistake| {
            match trials.attempt(turn, number, &mistake.file)? {
                Verdict::Noticed { by } => outcomes.note(&format!("noticed by {by}"), &mistake.name),
                Verdict::Survived if turn == Turn::Near => outcomes.note(SURVIVED_NEAR, &mistake.name),
                Verdict::Survived => outcomes.note("survived", &mistake.name),
            }
            Ok(())
        })?;
    }
    Ok(!outcomes.all()?.values().any(|verdict| verdict == "survived"))
}

/// Not a last word.
const SURVIVED_NEAR: &str = "survived near";

/// Does something with each, some at a time.
fn attempt_all(
    mistakes: Vec<(usize, &Mistake)>,
    attempt: impl Fn(usize, &Mistake) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let waiting = Mutex::new(mistakes.into_iter());
    let work = || {
        while let Some((number, mistake)) = waiting.lock().ok().and_then(|mut waiting| waiting.next()) {
            attempt(number, mistake)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err("a worker panicked".to_owned())))
    })
}

/// A line for what became of each mistake; a later one of the same mistake counts.
struct Outcomes {
    path: PathBuf,
    file: Mutex<File>,
}

impl Outcomes {
    fn open(path: &Path) -> Result<Outcomes, String> {
        let file = File::options().append(true).create(true).open(path);
        Ok(Outcomes {
            path: path.to_owned(),
            file: Mutex::new(file.map_err(|error| format!("{}: {error}", path.display()))?),
        })
    }

    fn note(&self, verdict: &str, name: &str) {
        if let Ok(mut file) = self.file.lock() {
            // What is not written down is tried again.
            let _ = file.write_all(format!("{verdict}\t{name}\n").as_bytes());
        }
    }

    fn all(&self) -> Result<BTreeMap<String, String>, String> {
        let text = read(&self.path)?;
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines.map(|(verdict, name)| (name.to_owned(), verdict.to_owned())).collect())
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Puts the mistakes into the tree, all that compile. Answers those that do not.
fn plant_all(mistakes: &[Mistake], tree: &Path, target: &Path) -> Result<BTreeSet<usize>, String> {
    let root = tree.join("src/lib.rs");
    write(&root, &format!("{}\npub mod mutants;\n", read(&root)?))?;
    let switch = include_str!("switch.rs").replace("COUNT", &mistakes.len().to_string());
    write(&tree.join("src/mutants.rs"), &switch)?;
    let files: BTreeSet<&str> = mistakes.iter().map(|mistake| mistake.file.as_str()).collect();
    let sources: BTreeMap<&str, String> =
        files.into_iter().map(|file| Ok((file, read(&tree.join(file))?))).collect::<Result<_, String>>()?;
    let mut out = BTreeSet::new();
    loop {
        let mut planted: BTreeMap<String, Planted> = BTreeMap::new();
        for (file, source) in &sources {
            let here: Vec<(usize, &Mistake)> =
                mistakes.iter().enumerate().filter(|(n, mistake)| mistake.file == *file && !out.contains(n)).collect();
            let done = plant::plant(source, &here).map_err(|error| format!("{file}: {error}"))?;
            write(&tree.join(file), &done.text)?;
            planted.insert((*file).to_owned(), done);
        }
        out.extend(planted.values().flat_map(|planted| planted.without_place.iter().copied()));
        let objections = sift::objections(tree, target, &planted)?;
        if objections.is_empty() {
            return Ok(out);
        }
        eprintln!("{} mistakes do not compile", objections.len());
        out.extend(objections);
    }
}

/// Builds the test programs; answers them by name.
fn build(tree: &Path, target: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--locked", "--no-run", "--message-format=json"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", target);
    for program in trial::programs() {
        match program {
            "lib" => cargo.arg("--lib"),
            name => cargo.args(["--test", name]),
        };
    }
    let output = cargo.stderr(std::process::Stdio::inherit()).output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not build".to_owned());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let built = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs = built.filter_map(|artifact| {
        let executable = PathBuf::from(artifact["executable"].as_str()?);
        let target = &artifact["target"];
        let kind = target["kind"][0].as_str()?;
        let name = if kind == "lib" { "lib" } else { target["name"].as_str()? };
        (artifact["profile"]["test"] == true && kind != "bin").then(|| (name.to_owned(), executable))
    });
    Ok(programs.collect())
}
