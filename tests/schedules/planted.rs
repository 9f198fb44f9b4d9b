//! Every mistake that can be planted is found by the first few thousand schedules, and by what the contract says:
//! that the checks can fail is what their passing rests on.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use doorstep::planted::{Bug, plant};

use super::cast::Cast;
use super::meetings::Meetings;
use super::{schedule, tell};

/// Schedules within which each mistake has to be found.
const WITHIN: u64 = 2_000;
/// The disk of the schedules is a model, and a model cannot forget to sync.
const NOT_HERE: [Bug; 1] = [Bug::NoSync];
/// How panics begin that say nothing of the contract.
const ACCIDENTS: [&str; 6] = ["called `", "index out of", "attempt to", "range ", "slice index", "already "];

struct Found {
    bug: Bug,
    seed: u64,
    after: Duration,
    /// Where, and what was said.
    place: String,
    words: String,
}

#[test]
fn every_planted_mistake_is_found() {
    note_places();
    let bugs: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| !NOT_HERE.contains(bug)).collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let first = find(*bug);
                    found.lock().unwrap().extend(first);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|found| found.seed);
    tell(&table(&found));
    let missed: Vec<&Bug> = bugs.iter().filter(|bug| found.iter().all(|found| found.bug != **bug)).collect();
    assert!(missed.is_empty(), "not found within {WITHIN} schedules: {missed:?}");
    for Found { bug, seed, place, words, .. } in &found {
        let is_said = place.starts_with("tests/schedules/") && !ACCIDENTS.iter().any(|how| words.starts_with(how));
        assert!(is_said, "{bug:?} breaks seed {seed}, but no check says so: {place}: {words}");
    }
}

/// The first schedule that breaks with this mistake in place.
fn find(bug: Bug) -> Option<Found> {
    let (cast, begun) = (Cast::new(), Instant::now());
    plant(Some(bug));
    let found = (0..WITHIN).find_map(|seed| {
        let mut meetings = Meetings::default();
        let run = || schedule::run(seed, &cast, &mut meetings, false);
        let failure = catch_unwind(AssertUnwindSafe(run)).err()?;
        let (place, words) = (PLACE.take(), words(&*failure));
        Some(Found { bug, seed, after: begun.elapsed(), place, words })
    });
    plant(None);
    found
}

thread_local! {
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on a thread that panics knows where it did.
fn note_places() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PLACE.set(info.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default());
        before(info);
    }));
}

fn words(failure: &(dyn Any + Send)) -> String {
    let text = failure.downcast_ref::<String>().map(String::as_str).or(failure.downcast_ref::<&str>().copied());
    text.unwrap_or_default().lines().collect::<Vec<_>>().join(" ")
}

fn table(found: &[Found]) -> String {
    let heading = format!("{:<22}{:>10}{:>9}  what was said\n", "planted", "schedules", "ms");
    let row = |found: &Found| {
        let Found { bug, seed, after, place, words } = found;
        let place = place.rsplit('/').next().unwrap_or_default();
        format!("{:<22}{:>10}{:>9}  {place}: {words}\n", bug.name(), seed + 1, after.as_millis())
    };
    heading + &found.iter().map(row).collect::<String>()
}
