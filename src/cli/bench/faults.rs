//! Broken promises, counted by kind.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::history::Fault;

/// How many of every kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Faults(BTreeMap<&'static str, u64>);

impl Faults {
    /// One more. The kinds are those of the history checker.
    pub(super) fn count(&mut self, kind: &'static str) {
        debug_assert!(Fault::KINDS.contains(&kind), "{kind}");
        *self.0.entry(kind).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub(super) fn sum<'a>(found: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        found.into_iter().for_each(|found| sum.add(found));
        sum
    }

    /// The kinds that were found.
    pub(super) fn found(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }

    pub(super) fn json(&self) -> Value {
        let counts = Fault::KINDS.into_iter().map(|kind| (kind, self.0.get(kind).copied().unwrap_or_default()));
        counts.map(|(kind, count)| (kind.to_owned(), json!(count))).collect()
    }

    /// What people are told at the end of a run.
    pub(super) fn verdict(&self) -> String {
        let found: Vec<_> = self.found().map(|(kind, count)| format!("{count} {kind}")).collect();
        match found.is_empty() {
            true => "everything accepted arrived, once and in order".to_owned(),
            false => format!("FAULTS: {}", found.join(", ").replace('_', " ")),
        }
    }
}
