//! Phases of an orderly end, announced to everyone who needs to know.

use tokio::sync::watch;

/// Where the daemon stands; it only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Open for everything.
    Running,
    /// No new connections, no new sends; what was taken is being answered.
    Draining,
    /// Sessions are being told goodbye.
    Closing,
}

/// The daemon's side: moves the phase on.
#[derive(Debug)]
pub struct Announcer(watch::Sender<Phase>);

/// Everyone else's side: reads the phase, waits for a later one.
#[derive(Debug, Clone)]
pub struct Listener(watch::Receiver<Phase>);

/// A fresh pair, running.
pub fn channel() -> (Announcer, Listener) {
    let (announcer, listener) = watch::channel(Phase::Running);
    (Announcer(announcer), Listener(listener))
}

impl Announcer {
    /// Moves to `phase`; an earlier one than the present is ignored.
    pub fn announce(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    pub fn listener(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Returns once `phase` or a later one was announced, or the announcer is gone.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the announcer is gone, which only happens after the end.
        let _gone = self.0.wait_for(|now| *now >= phase).await.is_err();
    }
}
