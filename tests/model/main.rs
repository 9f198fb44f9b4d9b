//! Goal: in whatever order a few events come, the core of routing keeps the delivery contract.
//! Method: a model checker goes through every order of them, exhaustively within small bounds. What is checked
//! is the real `State::apply`; around it stand a model of the store and the books of what was promised. Two
//! worlds that cannot be told apart from there on are one state.
//!
//! `DOORSTEP_MODEL=<scope>` goes through one of the scopes only. The time stands still but for acts that let it pass; presence, expiry, quotas and operators stay outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "the models are small tables with fixed sizes")]

mod books;
mod cast;
mod disk;
mod mistakes;
mod reads;
mod rest;
mod scope;
mod search;
mod sights;
mod twins;
mod world;

use std::io::Write;

use doorstep::planted::plant;
use stateright::{Checker, HasDiscoveries, Model};

use mistakes::{BUGS, Mistake};
use scope::Scope;
use search::Search;
use world::Act;

#[test]
fn the_contract_holds_in_every_order_of_a_few_events() {
    match std::env::var("DOORSTEP_MODEL").ok() {
        None => scope::SHORT.into_iter().for_each(|scope| explore(scope())),
        Some(name) => {
            let scopes = scope::SHORT.into_iter().chain(scope::LONG).map(|scope| scope());
            explore(scopes.into_iter().find(|scope| scope.name == name).expect("a scope of that name"));
        }
    }
}

#[test]
fn mistakes_are_found() {
    for (mistake, scope) in Mistake::ALL {
        find(&format!("{mistake:?}"), Search { mistake: Some(mistake), ..Search::new(scope()) });
    }
    for (bug, scope) in BUGS {
        find(bug.name(), Search { bug: Some(bug), ..Search::new(scope()) });
    }
}

fn explore(scope: Scope) {
    let (name, sights) = (scope.name, scope.sights.clone());
    let begun = std::time::Instant::now();
    let checker = Search::new(scope).checker().threads(2).spawn_dfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    tell(&format!("{name}: {states} states, {steps} steps, depth {depth}, {:.1} s", begun.elapsed().as_secs_f32()));
    assert!(checker.is_done(), "{name}: some states were left out");
    let discoveries = checker.discoveries();
    for (promise, path) in &discoveries {
        if !sights.iter().any(|sight| sight.text() == *promise) {
            panic!("{name}: {}", said(checker.model(), promise, path.clone().into_actions()));
        }
    }
    let unseen: Vec<_> = sights.iter().filter(|sight| !discoveries.contains_key(sight.text())).collect();
    assert!(unseen.is_empty(), "{name}: never seen, so nothing was shown: {unseen:?}");
}

/// The shortest way to see it, or nearly so.
fn find(what: &str, search: Search) {
    let begun = std::time::Instant::now();
    let checker = search.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken = checker
        .discoveries()
        .into_iter()
        .filter(|(name, _)| checker.discovery_classification(name).to_string() == "counterexample");
    let found = broken.map(|(promise, path)| (promise, path.into_actions())).min_by_key(|(_, acts)| acts.len());
    let found = found.map(|(promise, acts)| said(checker.model(), promise, acts));
    plant(None);
    let seconds = begun.elapsed().as_secs_f32();
    tell(&format!(
        "{what}: {seconds:.1} s, {} states; {}",
        checker.unique_state_count(),
        found.as_deref().unwrap_or("NOT FOUND")
    ));
    assert!(found.is_some(), "{what} is not found");
}

/// What breaks, and how to get there.
fn said(search: &Search, promise: &str, acts: Vec<Act>) -> String {
    let found = search.go(&acts).1.and_then(|()| search.rests(&acts));
    let found = found.err().map(|(_, found)| found).unwrap_or_default();
    format!("it does not hold that {promise}: {found}; {} acts: {acts:?}", acts.len())
}

/// Prints past the test harness: whoever reads the log of a run that passed has to see what it went through.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{text}").unwrap();
}
