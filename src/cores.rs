//! The cores of the machine: a runtime of one thread for each, on which whoever is ready has its turn in order.
//!
//! A runtime that spreads its tasks over threads by itself keeps a list of 256 for each of them. Whoever does not fit
//! into it waits until those in it have nothing more to say; with thousands of clients who always have, that took longer
//! than `store.commit_delay`. Here nobody has a second turn before everybody had one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Threads of a core for work that blocks: reads of the store, mostly. They are there only while there is such work.
const BLOCKING_THREADS_MAX: usize = 16;
/// Whoever is woken by another core stands in a list of its own; one of so many turns is for that.
const TURNS_TO_OTHERS: u32 = 2;

/// As many as this process may use at the same time.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A runtime for one core. Its thread is the one that calls `block_on`.
///
/// # Errors
/// When the system has no more descriptors.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .global_queue_interval(TURNS_TO_OTHERS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
}

/// Where tasks may run. There is at least one core, and the first is that of the caller who made this.
#[derive(Debug, Clone)]
pub struct Cores {
    first: Arc<Core>,
    further: Arc<[Arc<Core>]>,
}

#[derive(Debug)]
struct Core {
    runtime: Handle,
    seats: AtomicUsize,
}

/// The threads of all cores but the first. They end when this is dropped, and what runs on them with them.
#[derive(Debug)]
pub struct Threads(#[expect(dead_code, reason = "dropping them is what ends the threads")] Vec<oneshot::Sender<()>>);

impl Cores {
    /// Only the runtime that calls.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn here() -> Self {
        Self { first: Core::new(Handle::current()), further: Arc::default() }
    }

    /// `first`, and a thread for each further one of `count` cores.
    ///
    /// # Errors
    /// When the system has no more threads or descriptors.
    pub fn start(first: &Handle, count: usize) -> io::Result<(Self, Threads)> {
        let (mut further, mut ends) = (Vec::new(), Vec::new());
        for _ in 1..count {
            let (end, ended) = oneshot::channel::<()>();
            let runtime = runtime()?;
            further.push(Core::new(runtime.handle().clone()));
            ends.push(end);
            thread::Builder::new().name("core".to_owned()).spawn(move || {
                // Nobody says anything; it is over when nobody can.
                let _over = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
        }
        Ok((Self { first: Core::new(first.clone()), further: further.into() }, Threads(ends)))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Core>> {
        std::iter::once(&self.first).chain(self.further.iter())
    }

    /// The runtime for the task with this number; neighbours are spread.
    pub fn of(&self, index: usize) -> &Handle {
        let at = index % (1 + self.further.len());
        &self.all().nth(at).unwrap_or(&self.first).runtime
    }

    /// A seat where the fewest are taken.
    pub fn seat(&self) -> Seat {
        let emptiest = self.all().min_by_key(|core| core.seats.load(Ordering::Relaxed));
        let core = emptiest.unwrap_or(&self.first).clone();
        core.seats.fetch_add(1, Ordering::Relaxed);
        Seat(core)
    }
}

impl Core {
    fn new(runtime: Handle) -> Arc<Self> {
        Arc::new(Self { runtime, seats: AtomicUsize::new(0) })
    }
}

/// A place on a core, taken until it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Core>);

impl Seat {
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: everybody who is ready has a turn, wherever the tasks are and whoever woke them. Method: tasks that are always
    //! ready count their turns; nothing here depends on how long a turn takes.

    use std::future::poll_fn;
    use std::sync::mpsc;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    /// More than fit into any list of a scheduler that has several threads.
    const TALKERS: usize = 2_000;
    const TURNS: usize = 20;

    /// Lets everyone else who is ready go first.
    async fn next_turn() {
        let mut had = false;
        poll_fn(|context| {
            context.waker().wake_by_ref();
            if std::mem::replace(&mut had, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Tasks that are always ready, on the core that calls, and the turns that each had.
    fn talkers() -> Arc<Vec<AtomicUsize>> {
        let turns: Arc<Vec<AtomicUsize>> = Arc::new((0..TALKERS).map(|_| AtomicUsize::new(0)).collect());
        for index in 0..TALKERS {
            let turns = turns.clone();
            tokio::spawn(async move {
                loop {
                    turns[index].fetch_add(1, Ordering::Relaxed);
                    next_turn().await;
                }
            });
        }
        turns
    }

    #[test]
    fn nobody_has_a_second_turn_before_everybody_had_one() {
        let turns = runtime().unwrap().block_on(async {
            let turns = talkers();
            while turns[0].load(Ordering::Relaxed) < TURNS {
                next_turn().await;
            }
            turns
        });
        let had: Vec<_> = turns.iter().map(|turns| turns.load(Ordering::Relaxed)).collect();
        let (fewest, most) = (had.iter().min().unwrap(), had.iter().max().unwrap());
        assert!(most - fewest <= 1, "{fewest} to {most} turns");
    }

    /// All of them while the core stands still, so that it does not matter how long the waking takes.
    #[test]
    fn who_is_woken_by_another_core_has_turns_like_everybody() {
        let first = runtime().unwrap();
        let (cores, _threads) = Cores::start(first.handle(), 2).unwrap();
        let bell = Arc::new(tokio::sync::Semaphore::new(0));
        let (answer, answered) = mpsc::channel();
        let (stands, is_still) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let rung = bell.clone();
        cores.of(1).spawn(async move {
            let turns = talkers();
            for _ in 0..TALKERS {
                let (bell, turns, answer) = (rung.clone(), turns.clone(), answer.clone());
                tokio::spawn(async move {
                    bell.acquire().await.unwrap().forget();
                    answer.send(turns[0].load(Ordering::Relaxed)).unwrap();
                });
            }
            // Everybody listens by then.
            next_turn().await;
            next_turn().await;
            stands.send(turns[0].load(Ordering::Relaxed)).unwrap();
            goes.recv().unwrap();
        });
        let before = is_still.recv_timeout(LIMIT).unwrap();
        bell.add_permits(TALKERS);
        go.send(()).unwrap();
        let last = (0..TALKERS).map(|_| answered.recv_timeout(LIMIT).unwrap()).max().unwrap();
        assert!(last <= before + 3, "the core stood still in turn {before}, the last was awake in turn {last}");
    }

    #[test]
    fn seats_are_given_where_the_fewest_are_taken_and_tasks_spread_by_number() {
        let first = runtime().unwrap();
        let (cores, _threads) = Cores::start(first.handle(), 3).unwrap();
        let sits_at = |seat: &Seat| cores.all().position(|core| Arc::ptr_eq(core, &seat.0)).unwrap();
        let mut seats: Vec<_> = (0..4).map(|_| cores.seat()).collect();
        assert_eq!(seats.iter().map(sits_at).collect::<Vec<_>>(), [0, 1, 2, 0]);
        drop(seats.remove(1));
        seats.extend([cores.seat(), cores.seat()]);
        assert_eq!(seats.iter().map(sits_at).collect::<Vec<_>>(), [0, 2, 0, 1, 1]);
        for index in 0..7 {
            assert_eq!(cores.of(index).id(), cores.all().nth(index % 3).unwrap().runtime.id());
        }
    }

    #[test]
    fn what_runs_on_a_core_ends_with_its_thread() {
        let first = runtime().unwrap();
        let (cores, threads) = Cores::start(first.handle(), 2).unwrap();
        let (holds, is_dropped) = mpsc::channel::<()>();
        let (up, is_up) = mpsc::channel();
        cores.of(1).spawn(async move {
            up.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(holds);
        });
        is_up.recv_timeout(LIMIT).unwrap();
        drop(threads);
        assert_eq!(is_dropped.recv_timeout(LIMIT), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
