//! That the digest is sound: worlds that it cannot tell apart behave alike. Where an exploration comes by a
//! state for the second time, on another way, every act has to lead both of them to the same.

use std::collections::{HashMap, VecDeque};

use super::scope::{self, Scope};
use super::search::{Node, Search};
use super::tell;

/// Meetings that are looked at, and which of those that happen.
const PAIRS: usize = 1_500;
const EVERY: usize = 7;

#[test]
fn worlds_with_the_same_digest_have_the_same_future() {
    scope::SHORT.into_iter().for_each(|scope| compare(scope()));
}

fn compare(scope: Scope) {
    let name = scope.name;
    let search = Search::new(scope);
    let first = search.node(Vec::new());
    let mut ways = HashMap::from([(first.digest, first.path.clone())]);
    let (mut todo, mut met, mut pairs) = (VecDeque::from([first]), 0, 0);
    while let Some(node) = todo.pop_front() {
        for act in &node.acts {
            let next = search.node(longer(&node, *act));
            let Some(way) = ways.get(&next.digest) else {
                ways.insert(next.digest, next.path.clone());
                todo.push_back(next);
                continue;
            };
            met += 1;
            if met % EVERY == 0 {
                pairs += 1;
                check_alike(&search, &next, &search.node(way.clone()));
            }
        }
        if pairs >= PAIRS {
            break;
        }
    }
    tell(&format!("{name}: {pairs} pairs of ways to the same state compared"));
    assert!(pairs >= PAIRS / 10, "{name}: too few to have shown anything");
}

fn check_alike(search: &Search, one: &Node, other: &Node) {
    let ways = || format!("{:?} and {:?}", one.path, other.path);
    assert_eq!(one.acts, other.acts, "not the same may happen after {}", ways());
    assert_eq!(search.rests(&one.path).is_ok(), search.rests(&other.path).is_ok(), "{}", ways());
    for act in &one.acts {
        let (a, b) = (search.node(longer(one, *act)), search.node(longer(other, *act)));
        let alike = a.digest == b.digest && a.seen == b.seen && a.broken == b.broken;
        assert!(alike, "{act:?} does not lead to the same after {}", ways());
    }
}

fn longer(node: &Node, act: super::world::Act) -> Vec<super::world::Act> {
    node.path.iter().copied().chain([act]).collect()
}
