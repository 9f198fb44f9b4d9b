//! Work that can wait gives way to work that somebody waits for, where there are not cores enough for both.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// For how long work can wait while others want all of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Somebody waits for it, who comes after those who are there already: a tenth of the core is left to it.
    Short,
    /// Nobody does, or only so that something gets done in the end: a hundredth is left to it.
    Long,
}

impl Patience {
    #[cfg(target_os = "linux")]
    const fn nice(self) -> i32 {
        match self {
            Self::Short => 10,
            Self::Long => 19,
        }
    }
}

/// The calling thread, and every one that it starts, gives way from now on. Where that is not allowed, or cannot be
/// asked of a single thread, nothing is lost but time.
pub fn give_way(patience: Patience) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, patience.nice()) {
        tracing::debug!(%error, "a thread in the background does not give way");
    }
    #[cfg(not(target_os = "linux"))]
    let _cannot_be_asked = patience;
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads of short patience that take one job after the other. They end when nobody can give them one any more.
///
/// So few that together they have no more than their share: threads of the runtime's pool, each of which comes to its
/// turn rested, take more from those who talk.
#[derive(Debug, Clone)]
pub struct Background {
    jobs: Sender<Job>,
}

impl Background {
    /// # Errors
    /// When the system has no more threads.
    pub fn start(name: &str, threads: usize) -> io::Result<Self> {
        let (jobs, line) = channel();
        let line = Arc::new(Mutex::new(line));
        for _ in 0..threads {
            let line = line.clone();
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&line))?;
        }
        Ok(Self { jobs })
    }

    /// Returns at once. How many may stand in line is for the caller to bound.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        // The threads are there for as long as this is.
        let _taken = self.jobs.send(Box::new(job));
    }
}

fn work(line: &Mutex<Receiver<Job>>) {
    give_way(Patience::Short);
    let next = || line.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(job) = next() {
        // One that panics has said so, and is not to take those with it that come after it.
        let _panicked = catch_unwind(AssertUnwindSafe(job));
    }
}

/// Does something on a thread of long patience, and waits for it.
pub fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let patient = || {
        give_way(Patience::Long);
        work()
    };
    match std::thread::scope(|scope| scope.spawn(patient).join()) {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    fn only_the_thread_itself_and_what_it_starts_give_way() {
        let before = nice();
        let inherited = || std::thread::spawn(nice).join().unwrap();
        assert_eq!(in_background(|| (nice(), inherited())), (19, 19));
        assert_eq!((nice(), inherited()), (before, before));
    }

    #[test]
    fn jobs_are_done_beside_one_that_hangs_and_after_one_that_panics() {
        let background = Background::start("background", 2).unwrap();
        let (told, heard) = channel();
        let (release, hangs) = channel::<()>();
        let (begun, has_begun) = channel();
        background.run(move || {
            begun.send(()).unwrap();
            hangs.recv().unwrap_err();
        });
        has_begun.recv_timeout(LIMIT).unwrap();
        background.run(|| std::panic::resume_unwind(Box::new("as the test wants it")));
        for n in 0..3 {
            let told = told.clone();
            background.run(move || told.send((n, nice())).unwrap());
        }
        for n in 0..3 {
            assert_eq!(heard.recv_timeout(LIMIT), Ok((n, 10)));
        }
        drop(release);
    }

    #[test]
    fn its_threads_end_with_the_last_who_could_give_them_a_job() {
        struct Told(Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        thread_local!(static END: RefCell<Option<Told>> = const { RefCell::new(None) });
        let (told, heard) = channel();
        let background = Background::start("background", 1).unwrap();
        let other = background.clone();
        background.run(move || END.set(Some(Told(told))));
        drop(background);
        let (done, is_done) = channel();
        other.run(move || done.send(()).unwrap());
        is_done.recv_timeout(LIMIT).unwrap();
        assert!(heard.try_recv().is_err());
        drop(other);
        assert_eq!(heard.recv_timeout(LIMIT), Ok(()));
    }
}
