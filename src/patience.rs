//! Work that can wait gives way to work that somebody waits for, where there are not cores enough for both.

/// How much a thread in the background yields: about a tenth of a core is left to it while others want all of it.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// The calling thread, and every one that it starts, gives way from now on. Where that is not allowed, or cannot be
/// asked of a single thread, nothing is lost but time.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread in the background does not give way");
    }
}

/// Does something on a thread that gives way, and waits for it.
pub fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let patient = || {
        give_way();
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

    use super::*;

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    fn only_the_thread_itself_and_what_it_starts_give_way() {
        let before = nice();
        let inherited = || std::thread::spawn(nice).join().unwrap();
        assert_eq!(in_background(|| (nice(), inherited())), (NICE, NICE));
        assert_eq!((nice(), inherited()), (before, before));
    }
}
