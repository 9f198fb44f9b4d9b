//! Reads the crate's sources as text for the tests that hold them to the rules of the house.
//! Must never be fooled by comments and literals; it does not try to understand more than that.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file.
pub struct Source {
    /// Relative to the root of the repository, with `/`.
    pub path: String,
    pub text: String,
}

/// Every Rust file below `folder` of the repository, in a stable order.
pub fn rust_files(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join(folder), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no Rust files below {folder}: this test would prove nothing");
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // What a compiler left there is nobody's source.
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The code alone: comments and the contents of literals become spaces, lines stay where they are.
pub fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word_goes_on = code.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        let blank = blank_len(rest, word_goes_on);
        let taken = if blank > 0 { blank } else { first.len_utf8() };
        let (piece, after) = rest.split_at(taken);
        code.extend(piece.chars().map(|c| if blank > 0 && c != '\n' { ' ' } else { c }));
        rest = after;
    }
    code
}

/// How many bytes at the start of `rest` are a comment or a literal.
fn blank_len(rest: &str, word_goes_on: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_len(rest);
    }
    let prefixed = if word_goes_on { rest } else { rest.trim_start_matches(['b', 'c']) };
    if let Some(raw) = prefixed.strip_prefix('r').filter(|_| !word_goes_on) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let opening = rest.len() - raw.len() + hashes + 1;
            return rest[opening..].find(&end).map_or(rest.len(), |at| opening + at + end.len());
        }
    }
    let prefix = rest.len() - prefixed.len();
    if prefixed.starts_with('"') {
        return prefix + quoted_len(prefixed, '"');
    }
    if prefixed.starts_with('\'') { char_literal_len(prefixed).map_or(0, |len| prefix + len) } else { 0 }
}

fn block_comment_len(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let Some(mark) = rest[at..].find("/*").into_iter().chain(rest[at..].find("*/")).min() else {
            return rest.len();
        };
        depth = if rest[at + mark..].starts_with("/*") { depth + 1 } else { depth - 1 };
        at += mark + 2;
        if depth == 0 {
            return at;
        }
    }
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A quote begins a character unless it is a lifetime: `'a'` and `'\n'` are, `'a` alone is not.
fn char_literal_len(rest: &str) -> Option<usize> {
    let mut chars = rest.chars().skip(1);
    let (first, second) = (chars.next()?, chars.next()?);
    (first == '\\' || second == '\'').then(|| quoted_len(rest, '\''))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        let text =
            "a /* b /* c */ d */ e // f\n\"g \\\" { h\" i 'j' '\\'' &'k str r#\"l \" m\"# b\"n\" r\"o\" for\"p\"";
        let code = code_of(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "e", "i", "&'k", "str", "for"]);
        assert_eq!((code.lines().count(), code.find('i')), (2, text.find(" i ").map(|at| at + 1)));
    }
}
