//! Brings the commit thread's word to the owners, through the same mailbox as everything else.

use crate::ids::Seq;
use crate::store::{CommitReport, Reporter, StoreState};

use super::command::{Command, Report};
use super::router::Router;

/// Called on the commit thread, which waits when an owner's mailbox is full.
pub struct OwnersReporter {
    router: Router,
}

impl OwnersReporter {
    pub fn new(router: Router) -> Self {
        Self { router }
    }

    fn tell(&self, shard: usize, command: Command) {
        // The owners are gone only at the very end, when nobody waits for the word any more.
        let _gone = self.router.send_blocking(shard, smallvec::smallvec![command]).is_err();
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for shard in 0..self.router.shards() {
            self.tell(shard, command());
        }
    }
}

impl Reporter for OwnersReporter {
    fn committed(&self, shard: usize, report: CommitReport) {
        self.tell(shard, Report::Committed(report).into());
    }

    fn ceiling(&self, ceiling: Seq) {
        self.tell_all(|| Command::Ceiling(ceiling));
    }

    fn state(&self, state: StoreState) {
        self.tell_all(|| Command::Storage(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_everyone_is_told_to_every_owner() {
        let (router, mut mail) = Router::to_test(3, 2);
        let reporter = OwnersReporter::new(router);
        reporter.ceiling(Seq(7));
        reporter.state(StoreState::Low);
        for batches in &mut mail {
            let told: Vec<Command> = std::iter::from_fn(|| batches.try_recv().ok()).flatten().collect();
            assert!(matches!(told[..], [Command::Ceiling(Seq(7)), Command::Storage(StoreState::Low)]));
        }
    }
}
