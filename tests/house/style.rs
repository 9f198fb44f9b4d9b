//! Goal: the habits of the house that a machine can see are kept in every file.
//! Method: read the sources as text; comments and literals are blanked where only code counts.

use crate::source::{Source, code_of, rust_files};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// The one place that may sleep, because it looks again afterwards.
const SLEEPER: &str = "tests/common/wait.rs";

#[test]
fn every_file_opens_with_what_it_is_for() {
    let faults = rust_files("src").into_iter().chain(rust_files("tests")).filter(|file| !file.text.starts_with("//! "));
    complain(faults.map(|file| file.path).collect(), "these files do not open with `//! `");
}

#[test]
fn files_stay_short() {
    let faults = rust_files("src").into_iter().chain(rust_files("tests")).filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{} has {lines} lines", file.path))
    });
    complain(faults.collect(), "a file should be short enough to know");
}

#[test]
fn functions_stay_short() {
    let functions = rust_files("src").into_iter().flat_map(|file| functions_of(&file));
    let faults = functions.filter(|function| function.lines > FUNCTION_LINES_MAX);
    let named = faults.map(|f| format!("{}:{} fn {} has {} lines", f.path, f.line, f.name, f.lines));
    complain(named.collect(), "a function should be short enough to see whole");
}

#[test]
fn nothing_is_left_for_later() {
    // This file has to name what it looks for.
    let faults = rust_files("src").into_iter().chain(rust_files("tests")).filter(|file| file.path != file!());
    let faults = faults.flat_map(|file| lines_with(&file.path, &file.text, &["TODO", "FIXME"]));
    complain(faults.collect(), "do it or drop it");
}

#[test]
fn every_queue_has_a_bound() {
    let unbounded =
        ["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "mpsc::unbounded", "std::sync::mpsc::channel"];
    let faults =
        rust_files("src").into_iter().flat_map(|file| lines_with(&file.path, &code_of(&file.text), &unbounded));
    complain(faults.collect(), "these queues have no bound");
}

#[test]
fn tests_wait_for_conditions_and_never_sleep_a_guess() {
    let faults = rust_files("tests").into_iter().filter(|file| file.path != SLEEPER);
    let faults = faults.flat_map(|file| lines_with(&file.path, &code_of(&file.text), &["sleep("]));
    complain(faults.collect(), "wait for a condition (tests/common/wait.rs) instead");
}

fn complain(faults: Vec<String>, why: &str) {
    assert!(faults.is_empty(), "{why}:\n  {}", faults.join("\n  "));
}

fn lines_with(path: &str, text: &str, marks: &[&str]) -> Vec<String> {
    let hits = text.lines().enumerate().filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
    hits.map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim())).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    path: String,
    name: String,
    /// Where it begins, counted from 1.
    line: usize,
    lines: usize,
}

/// Every function with a body, nested ones and those of impl blocks included.
fn functions_of(file: &Source) -> Vec<Function> {
    let code = code_of(&file.text);
    let begins = code
        .match_indices("fn ")
        .filter(|(at, _)| code[..*at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_'));
    begins.filter_map(|(at, _)| function_at(file, &code, at)).collect()
}

fn function_at(file: &Source, code: &str, at: usize) -> Option<Function> {
    let rest = &code[at..];
    let name: String = rest[3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    // `fn(u8)` as a type has no name; a function without a body ends before any brace opens. A `;`
    // within brackets belongs to an array type.
    let mut brackets = 0;
    let open = rest.char_indices().find(|(_, c)| {
        brackets += i32::from(*c == '[') - i32::from(*c == ']');
        *c == '{' || (*c == ';' && brackets == 0)
    })?;
    if name.is_empty() || open.1 == ';' {
        return None;
    }
    let end = open.0 + closing_brace(&rest[open.0..])?;
    let line = 1 + code[..at].matches('\n').count();
    Some(Function { path: file.path.clone(), name, line, lines: rest[..=end].lines().count() })
}

fn closing_brace(block: &str) -> Option<usize> {
    let mut depth = 0;
    let closes = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    };
    block.find(closes)
}

#[test]
fn the_measure_of_functions_is_right() {
    let text = "\
trait T { fn no_body(&self, x: [u8; 2]); }
fn one(x: fn(u8)) -> [u8; 2] { \"}\"; x(1) }
impl X {
    fn three() {
        let c = '}'; // }
    }
}
";
    let file = Source { path: "x.rs".to_owned(), text: text.to_owned() };
    let found: Vec<_> = functions_of(&file).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(found, [("one".to_owned(), 2, 1), ("three".to_owned(), 4, 3)]);
}
