//! Goal: what the fuzz targets hold is held by every `cargo test` as well, on what they have found so far.
//! Method: the properties of `tests/fuzz` are called with every file of their corpora, then with mutations of them
//! drawn at random. A failing seed is printed; with `DOORSTEP_SEED=<seed>` the mutations are those of that seed alone.

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use properties::{ALL, Hold, Verdict};

/// Mutations of each corpus; fewer where the time is up first.
const MUTATIONS: u64 = 5_000;
/// For the mutations of one corpus.
const TIME_MAX: Duration = Duration::from_millis(1_500);
/// Changes made to one input, at most.
const CHANGES_MAX: usize = 4;
/// All corpora together: they are cloned by everyone.
const CORPORA_BYTES_MAX: u64 = 1 << 20;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The inputs of a corpus in a stable order.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = fuzz().join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_corpus_holds_and_reaches_both_sides() {
    for (name, hold) in ALL {
        let inputs = corpus(name);
        let verdicts: BTreeSet<_> = inputs.iter().map(|input| hold(input)).collect();
        assert!(inputs.len() >= 10, "{name}: {} inputs", inputs.len());
        assert_eq!(verdicts, BTreeSet::from([Verdict::Accepted, Verdict::Refused]), "{name} is too one-sided");
    }
}

#[test]
fn mutations_of_every_corpus_hold() {
    let given = std::env::var("DOORSTEP_SEED").ok().map(|seed| seed.parse().expect("DOORSTEP_SEED is a number"));
    let first = given.unwrap_or_else(|| fastrand::u64(..1 << 48));
    let count = if given.is_some() { 1 } else { MUTATIONS };
    for (name, hold) in ALL {
        let inputs = corpus(name);
        let begun = Instant::now();
        let seeds = (first..first + count).take_while(|_| begun.elapsed() < TIME_MAX);
        let mut accepted = 0;
        let tried = seeds.inspect(|seed| accepted += u64::from(holds(name, hold, &inputs, *seed))).count();
        println!("{name}: {accepted} of {tried} mutations accepted");
        assert!(given.is_some() || accepted > 0 || tried < 1_000, "{name}: no mutation is ever accepted");
    }
}

/// Whether the mutation was accepted.
fn holds(name: &str, hold: Hold, inputs: &[Vec<u8>], seed: u64) -> bool {
    let input = mutated(inputs, &mut fastrand::Rng::with_seed(seed));
    let verdict = catch_unwind(AssertUnwindSafe(|| hold(&input)));
    let Ok(verdict) = verdict else {
        panic!("{name} does not hold; replay with DOORSTEP_SEED={seed}\n{}", input.escape_ascii());
    };
    verdict == Verdict::Accepted
}

/// An input of the corpus with a few changes: bits, bytes, pieces of itself and of others, its end.
fn mutated(inputs: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = rng.choice(inputs).unwrap().clone();
    for _ in 0..rng.usize(1..=CHANGES_MAX) {
        let at = rng.usize(0..=input.len());
        match rng.u8(0..6) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.u8(0..8)),
            1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.u8(..)),
            2 => input.insert(at, rng.u8(..)),
            3 => drop(input.drain(at..input.len().min(at + rng.usize(1..16)))),
            4 => input.truncate(at),
            _ => {
                let other = rng.choice(inputs).unwrap();
                let from = rng.usize(0..=other.len());
                let piece = &other[from..other.len().min(from + rng.usize(1..64))];
                input.splice(at..at, piece.iter().copied());
            }
        }
    }
    input
}

#[test]
fn every_property_has_its_target_and_its_corpus_and_no_other_has() {
    let named: BTreeSet<_> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!((names("targets"), names("corpus")), (named.clone(), named.clone()));
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in named {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name}");
        // Nobody else reads these: they are no part of this package, so no compiler and no formatter sees them.
        let target = fs::read_to_string(fuzz().join(format!("targets/{name}.rs"))).unwrap();
        let expected = format!(
            "//! Fuzzes `properties::{name}`.\n#![no_main]\n\n#[path = \"../properties/mod.rs\"]\nmod properties;\n\n\
             libfuzzer_sys::fuzz_target!(|data: &[u8]| {{\n    properties::{name}::hold(data);\n}});\n"
        );
        assert_eq!(target, expected);
    }
}

#[test]
fn the_corpora_stay_small() {
    let bytes: u64 = ALL.iter().flat_map(|(name, _)| corpus(name)).map(|input| input.len() as u64).sum();
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn the_fuzz_targets_use_the_dependencies_of_the_router() {
    let versions = |lock: PathBuf| -> BTreeSet<(String, String)> {
        let text = fs::read_to_string(lock).unwrap();
        let entries = text.split("[[package]]\n").skip(1);
        let field = |entry: &str, name: &str| {
            let line = entry.lines().find_map(|line| line.strip_prefix(&format!("{name} = \""))).unwrap_or_default();
            line.trim_end_matches('"').to_owned()
        };
        entries.map(|entry| (field(entry, "name"), field(entry, "version"))).collect()
    };
    let root = versions(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"));
    let known: BTreeSet<_> = root.iter().map(|(name, _)| name.clone()).collect();
    let others = versions(fuzz().join("Cargo.lock")).into_iter().filter(|(name, _)| known.contains(name));
    let differ: Vec<_> = others.filter(|entry| !root.contains(entry)).collect();
    assert!(differ.is_empty(), "of another version in tests/fuzz/Cargo.lock: {differ:?}");
}
