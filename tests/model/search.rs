//! The worlds as a model for the checker: a node is the list of acts that leads to a world, and a digest of it.
//!
//! The real state cannot be copied, so every step goes the whole way again from the beginning, on a fresh one.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use doorstep::planted::{Bug, plant};
use stateright::{Model, Property};

use super::books::{Kept, Promise};
use super::cast::Cast;
use super::mistakes::Mistake;
use super::scope::Scope;
use super::sights::Sight;
use super::world::{Act, World};

/// A world, and how to get there.
#[derive(Clone)]
pub struct Node {
    pub path: Vec<Act>,
    pub acts: Vec<Act>,
    pub digest: u128,
    pub seen: u32,
    pub broken: Option<Promise>,
}

/// Worlds with the same digest have the same future.
impl Hash for Node {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.digest.hash(h);
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

pub struct Search {
    pub scope: Scope,
    /// What goes wrong around the core, and in it.
    pub mistake: Option<Mistake>,
    pub bug: Option<Bug>,
    pub cast: Cast,
}

impl Search {
    pub fn new(scope: Scope) -> Self {
        Self { scope, mistake: None, bug: None, cast: Cast::new() }
    }

    fn start(&self) -> World<'_> {
        plant(self.bug);
        World::new(&self.cast, &self.scope, self.mistake)
    }

    /// Goes where the acts lead, and says what breaks on the way or there.
    pub fn go(&self, path: &[Act]) -> (World<'_>, Kept) {
        let mut world = self.start();
        let kept = path.iter().try_for_each(|act| world.step(*act));
        let kept = kept.and_then(|()| world.check());
        (world, kept)
    }

    pub fn node(&self, path: Vec<Act>) -> Node {
        let Ok((world, kept)) = catch_unwind(AssertUnwindSafe(|| self.go(&path))) else {
            return Node { path, acts: Vec::new(), digest: 0, seen: 0, broken: Some(Promise::Panics) };
        };
        let broken = kept.err().map(|(promise, _)| promise);
        let acts = if broken.is_some() { Vec::new() } else { world.acts() };
        let digest = xxhash_rust::xxh3::xxh3_128(&bytes(&world, broken));
        Node { acts, digest, seen: world.seen, broken, path }
    }

    /// Whether everything comes to its end from here, once everybody comes back and is honest.
    pub fn rests(&self, path: &[Act]) -> Kept {
        catch_unwind(AssertUnwindSafe(|| self.go(path).0.rest()))
            .unwrap_or_else(|_| Err((Promise::Panics, "a panic".into())))
    }
}

/// All that decides the future of a world.
fn bytes(world: &World, broken: Option<Promise>) -> Vec<u8> {
    let mut poured = Poured(Vec::with_capacity(4096));
    broken.map(|promise| promise as u8).hash(&mut poured);
    // A world in which something broke goes nowhere.
    if broken.is_none() {
        world.pour(&mut poured);
    }
    poured.0
}

/// Keeps what is poured into it.
struct Poured(Vec<u8>);

impl Hasher for Poured {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn finish(&self) -> u64 {
        0
    }
}

impl Model for Search {
    type State = Node;
    type Action = Act;

    fn init_states(&self) -> Vec<Node> {
        vec![self.node(Vec::new())]
    }

    fn actions(&self, node: &Node, acts: &mut Vec<Act>) {
        acts.extend_from_slice(&node.acts);
    }

    fn next_state(&self, node: &Node, act: Act) -> Option<Node> {
        let mut path = Vec::with_capacity(node.path.len() + 1);
        path.extend_from_slice(&node.path);
        path.push(act);
        Some(self.node(path))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let promises = [
            Property::always(Promise::Safe.text(), keeps::<{ Promise::Safe as u8 }>),
            Property::always(Promise::Ordered.text(), keeps::<{ Promise::Ordered as u8 }>),
            Property::always(Promise::NoSeqTwice.text(), keeps::<{ Promise::NoSeqTwice as u8 }>),
            Property::always(Promise::Marked.text(), keeps::<{ Promise::Marked as u8 }>),
            Property::always(Promise::CaughtUp.text(), keeps::<{ Promise::CaughtUp as u8 }>),
            Property::always(Promise::Answered.text(), keeps::<{ Promise::Answered as u8 }>),
            Property::always(Promise::Store.text(), keeps::<{ Promise::Store as u8 }>),
            Property::always(Promise::Invariants.text(), keeps::<{ Promise::Invariants as u8 }>),
            Property::always(Promise::Panics.text(), keeps::<{ Promise::Panics as u8 }>),
            Property::always(Promise::ComesToRest.text(), |search: &Self, node: &Node| {
                node.broken.is_some() || search.rests(&node.path).is_ok()
            }),
        ];
        let sights = self.scope.sights.iter().map(|sight| Property::sometimes(sight.text(), witness(*sight)));
        promises.into_iter().chain(sights).collect()
    }
}

fn keeps<const PROMISE: u8>(_: &Search, node: &Node) -> bool {
    node.broken.is_none_or(|broken| broken as u8 != PROMISE)
}

fn sees<const SIGHT: u32>(_: &Search, node: &Node) -> bool {
    node.seen & 1 << SIGHT != 0
}

fn witness(sight: Sight) -> fn(&Search, &Node) -> bool {
    match sight {
        Sight::Stored => sees::<{ Sight::Stored as u32 }>,
        Sight::HandedOver => sees::<{ Sight::HandedOver as u32 }>,
        Sight::HandedOverAndWritten => sees::<{ Sight::HandedOverAndWritten as u32 }>,
        Sight::Refused => sees::<{ Sight::Refused as u32 }>,
        Sight::Redelivered => sees::<{ Sight::Redelivered as u32 }>,
        Sight::CalledBack => sees::<{ Sight::CalledBack as u32 }>,
        Sight::PassedOver => sees::<{ Sight::PassedOver as u32 }>,
        Sight::Spilled => sees::<{ Sight::Spilled as u32 }>,
        Sight::Evicted => sees::<{ Sight::Evicted as u32 }>,
        Sight::CrashBeforeReport => sees::<{ Sight::CrashBeforeReport as u32 }>,
        Sight::CrashHalfWritten => sees::<{ Sight::CrashHalfWritten as u32 }>,
        Sight::Takeover => sees::<{ Sight::Takeover as u32 }>,
        Sight::TakeoverWithPage => sees::<{ Sight::TakeoverWithPage as u32 }>,
        Sight::StalePage => sees::<{ Sight::StalePage as u32 }>,
    }
}
