//! Bugs on demand: known mistakes that tests plant, to see that they would be found.
//!
//! Without the feature `planted`, which only the tests of this package turn on, [`planted`] is a constant
//! `false` and the mistakes are not in the binary. One is planted for the calling thread by
//! `plant`, or for a whole process by `DOORSTEP_PLANT=<name>` in its environment.

/// A mistake that may be planted. The place that makes it says what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Syncing the disk does nothing.
    NoSync,
}

impl Bug {
    pub const ALL: [Self; 1] = [Self::NoSync];

    /// As `DOORSTEP_PLANT` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSync => "no-sync",
        }
    }
}

/// Whether this mistake is to be made here and now.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use on_demand::plant;
#[cfg(feature = "planted")]
pub(crate) use on_demand::planted;

#[cfg(feature = "planted")]
mod on_demand {
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::Bug;

    thread_local! {
        static HERE: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants it for the calling thread, or takes out what was planted there.
    pub fn plant(bug: Option<Bug>) {
        HERE.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        HERE.get() == Some(bug) || in_process() == Some(bug)
    }

    fn in_process() -> Option<Bug> {
        static NAMED: OnceLock<Option<Bug>> = OnceLock::new();
        *NAMED.get_or_init(|| {
            let name = std::env::var("DOORSTEP_PLANT").ok()?;
            Bug::ALL.into_iter().find(|bug| bug.name() == name)
        })
    }
}
