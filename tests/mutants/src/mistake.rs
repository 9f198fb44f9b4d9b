//! One mistake, as `cargo mutants --list --json` names it.

use serde::Deserialize;
use std::ops::Range;

/// What cargo-mutants would do to the source: this place, and the text that takes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Mistake {
    pub name: String,
    pub file: String,
    pub genre: Genre,
    pub replacement: String,
    span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Genre {
    /// The body of a function.
    FnValue,
    BinaryOperator,
    UnaryOperator,
    /// An arm left out.
    MatchArm,
    MatchArmGuard,
    /// A field left to the base of a struct expression.
    StructField,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Span {
    start: Place,
    end: Place,
}

/// Counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Place {
    line: usize,
    column: usize,
}

impl Mistake {
    /// The bytes of `text` that it replaces.
    pub fn bytes(&self, text: &str) -> Range<usize> {
        self.span.start.byte_of(text)..self.span.end.byte_of(text)
    }
}

impl Place {
    fn byte_of(self, text: &str) -> usize {
        let line: usize = text.split_inclusive('\n').take(self.line - 1).map(str::len).sum();
        let columns = text[line..].char_indices().nth(self.column - 1);
        columns.map_or(text.len(), |(at, _)| line + at)
    }
}
