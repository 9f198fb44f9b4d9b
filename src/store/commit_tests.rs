//! Goal: what the commit thread does beside what it is told: its stamps, free space, old letters, the ceiling.
//! Method: no thread, but its steps called by hand, on the engine in memory. Time is moved by moving what is
//! remembered of it, so far that it does not matter how long the test takes.

use std::sync::Mutex;

use super::*;
use crate::ids::UserId;
use crate::metrics::Metrics;
use crate::store::dedupe::{self, Epochs};
use crate::store::engine::{Change, Engine, KeyRange, Order, Visitor};
use crate::store::memory::MemoryEngine;
use crate::store::{DeadLetter, DeadReason, Op};

const HOUR: Duration = Duration::from_secs(3600);

type Reclaim = (Vec<(Keyspace, u64)>, bool);

/// The engine in memory, and what it was told for giving space back.
#[derive(Default)]
struct Disk {
    memory: MemoryEngine,
    reclaims: Mutex<Vec<Reclaim>>,
}

impl Engine for Disk {
    fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        self.memory.commit(changes)
    }

    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.get(keyspace, key)
    }

    fn scan(&self, at: Keyspace, range: &KeyRange, order: Order, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.memory.scan(at, range, order, visit)
    }

    fn clear(&self, keyspace: Keyspace) -> Result<(), StoreError> {
        self.memory.clear(keyspace)
    }

    fn is_poisoned(&self) -> bool {
        self.memory.is_poisoned()
    }

    fn reclaim(&self, live: &[(Keyspace, u64)], short_of_space: bool) {
        self.reclaims.lock().unwrap().push((live.to_vec(), short_of_space));
    }

    fn disk_bytes(&self) -> u64 {
        self.memory.disk_bytes()
    }

    fn disk_free(&self) -> Result<u64, StoreError> {
        self.memory.disk_free()
    }
}

/// The ceilings that were told.
#[derive(Default)]
struct Ceilings(Mutex<Vec<Seq>>);

impl Reporter for Ceilings {
    fn committed(&self, _shard: usize, _report: CommitReport) {}

    fn ceiling(&self, ceiling: Seq) {
        self.0.lock().unwrap().push(ceiling);
    }

    fn state(&self, _state: StoreState) {}
}

struct Bench {
    committer: Committer,
    disk: Arc<Disk>,
    told: Arc<Ceilings>,
}

impl Bench {
    fn new() -> Self {
        let (disk, told) = (Arc::<Disk>::default(), Arc::<Ceilings>::default());
        let (clock, books) = (Clock::start(0), Books::default());
        let epochs = Epochs::new(HOUR, ([None; 2], dedupe::window_ms(HOUR)), clock.now().wall_ms);
        let shared = Arc::new(Shared::new(disk.clone(), Metrics::new(), epochs, &books));
        let announcer = Arc::new(Announcer::new(shared.clone(), told.clone()));
        let settings = Settings { min_free: 0, dead_letters_bytes: u64::MAX, dead_letters_age: HOUR };
        let telling = (told.clone() as Arc<dyn Reporter>, announcer);
        let committer = Committer::start((shared, Arc::default()), telling, settings, clock, (books, books)).unwrap();
        Self { committer, disk, told }
    }

    fn wall_ms(&self) -> u64 {
        self.committer.clock.now().wall_ms
    }

    fn commit(&mut self, op: Op) {
        let user = UserId::new("bob").unwrap();
        let writes = vec![Write { user, what: What::Change { token: 0, ops: vec![op] } }];
        self.committer.commit(vec![Submission { shard: 0, writes }]);
    }

    fn bury(&mut self, buried_ms: u64) {
        let (reason, user) = (DeadReason::Purged, UserId::new("bob").unwrap());
        self.commit(Op::Bury {
            letter: DeadLetter { reason, user, device: None, seq: Seq(1), message: None, buried_ms },
        });
    }

    /// A tick, when the last one was so long ago.
    fn tick_after(&mut self, time: Duration) {
        self.committer.ticked = ago(time);
        self.committer.tick();
    }

    /// How many letters have fallen out at a tick, when their age was looked at so long ago.
    fn fallen_out(&mut self, time: Duration) -> u64 {
        let before = self.committer.books.dead.head;
        self.committer.dead_checked = ago(time);
        self.tick_after(TICK);
        self.committer.books.dead.head - before
    }
}

/// No time at all lies ahead, where it stays no time for the whole test.
fn ago(time: Duration) -> Instant {
    if time.is_zero() { Instant::now() + HOUR } else { Instant::now() - time }
}

#[test]
fn the_ceiling_is_raised_when_half_of_it_is_used_and_never_lowered() {
    let at = |us| Now { us, wall_ms: 0 };
    let ceiling = raised(Seq::ZERO, at(1_000));
    assert_eq!(ceiling, Seq(1_000 + CEILING_AHEAD_US));
    assert_eq!(next_ceiling(ceiling, at(1_000 + CEILING_AHEAD_US / 2)), ceiling);
    assert_eq!(next_ceiling(ceiling, at(1_001 + CEILING_AHEAD_US / 2)).0, 1_001 + CEILING_AHEAD_US / 2 * 3);
    assert_eq!(raised(ceiling, at(0)), ceiling);
    assert_eq!(next_ceiling(Seq::MAX, at(Seq::MAX.0)), Seq::MAX, "the last seq is the last ceiling");
}

#[test]
fn a_ceiling_is_told_once_and_the_next_one_when_it_was_raised() {
    let mut bench = Bench::new();
    let first = bench.committer.books.ceiling;
    bench.committer.announce();
    assert_eq!(*bench.told.0.lock().unwrap(), [first]);
    bench.committer.announce();
    bench.committer.books.ceiling = Seq(first.0 + 1);
    bench.committer.announce();
    assert_eq!(*bench.told.0.lock().unwrap(), [first, Seq(first.0 + 1)]);
}

#[test]
fn a_batch_takes_the_alive_stamp_along_when_that_is_a_minute_off() {
    let mut bench = Bench::new();
    let now_ms = bench.wall_ms();
    for (stamp, is_renewed) in
        [(now_ms - ALIVE_MS, true), (now_ms + ALIVE_MS - 1, false), (now_ms + 60 * ALIVE_MS, true)]
    {
        bench.committer.books.alive_ms = stamp;
        bench.commit(Op::PutDue { at_ms: 0 });
        assert_eq!(bench.committer.books.alive_ms != stamp, is_renewed, "{stamp} at {now_ms}");
    }
}

#[test]
fn free_space_is_looked_at_when_a_second_is_over() {
    let mut bench = Bench::new();
    bench.committer.settings.min_free = 8_000;
    bench.disk.memory.set_disk_free(Some(1));
    bench.tick_after(Duration::ZERO);
    assert_eq!(bench.committer.shared.state(), StoreState::Ok);
    bench.tick_after(TICK);
    assert_eq!(bench.committer.shared.state(), StoreState::Low);
}

#[test]
fn free_space_is_enough_again_when_there_is_an_eighth_more() {
    use StoreState::{Low, Ok};
    let mut bench = Bench::new();
    bench.committer.settings.min_free = 8_000;
    let states = [8_000, 7_999, 8_999, 9_000, 8_000].map(|free| {
        bench.disk.memory.set_disk_free(Some(free));
        bench.committer.look_at_free_space();
        bench.committer.shared.state()
    });
    assert_eq!(states, [Ok, Low, Low, Ok, Ok]);
}

#[test]
fn a_poisoned_store_writes_nothing_when_a_second_is_over() {
    let mut bench = Bench::new();
    let commits = bench.disk.memory.commits();
    bench.committer.shared.enter(StoreState::Poisoned);
    bench.committer.shared.expiry_paused.store(true, Ordering::Relaxed);
    bench.tick_after(TICK);
    assert_eq!(bench.disk.memory.commits(), commits);
}

#[test]
fn the_engine_is_told_what_is_live_and_whether_space_is_short() {
    let mut bench = Bench::new();
    bench.committer.books.totals.messages = 3;
    bench.committer.books.dead.head = 5;
    bench.committer.books.dead.next = 9;
    bench.committer.reclaim();
    bench.committer.shared.enter(StoreState::Low);
    bench.committer.reclaim();
    let live = vec![(Keyspace::Inbox, 3), (Keyspace::Dead, 4)];
    assert_eq!(*bench.disk.reclaims.lock().unwrap(), [(live.clone(), false), (live, true)]);
}

#[test]
fn old_letters_fall_out_when_a_minute_is_over_and_not_before() {
    let mut bench = Bench::new();
    bench.bury(0);
    let bytes = bench.committer.books.dead.bytes;
    for bound in [bytes + 1, bytes] {
        bench.committer.settings.dead_letters_bytes = bound;
        assert_eq!(bench.fallen_out(Duration::ZERO), 0, "{bytes} bytes where {bound} may be");
    }
    assert_eq!(bench.fallen_out(DEAD_AGE_CHECK), 1);
}

/// What is buried by the batch that makes them too many is not on the disk yet when that batch looks.
#[test]
fn too_many_bytes_of_letters_do_not_wait_for_the_minute_to_be_over() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.bury(bench.wall_ms());
    }
    bench.committer.settings.dead_letters_bytes = bench.committer.books.dead.bytes - 1;
    assert_eq!(bench.fallen_out(Duration::ZERO), 1);
}
