//! How much may happen in one exploration. Within its scope an exploration leaves nothing out.

use doorstep::routing::core::Settings;

use super::cast::{DEVICES, SENDERS};
use super::sights::Sight;

#[derive(Debug, Clone)]
pub struct Scope {
    pub name: &'static str,
    /// Devices that are registered from the beginning; the others are by their first hello.
    pub registered: usize,
    /// Messages of each sender.
    pub sends: [u8; SENDERS],
    /// Sessions of each device, and of both together.
    pub hellos: [u8; DEVICES],
    pub hellos_together: u8,
    /// Sessions may end by themselves.
    pub drops: bool,
    pub windows: [u32; DEVICES],
    pub repeats: u8,
    pub ticks: u8,
    pub fails: u8,
    pub raises: u8,
    pub crashes: u8,
    /// How far ahead the ceiling is raised, in microseconds.
    pub ahead_us: u64,
    /// Time passes only to a timer that is no further away, in microseconds.
    pub patience_us: u64,
    /// Something in this scope may be refused.
    pub refuses: bool,
    pub settings: Settings,
    /// What must have been seen.
    pub sights: Vec<Sight>,
}

/// Pages of one message, a hold of 20 ms, a record that leaves memory after 30 ms; everything else is roomy.
pub fn settings() -> Settings {
    Settings {
        commit_delay_us: 20_000,
        commit_delay_max_us: 20_000,
        accept_timeout_us: 10_000_000,
        linger_us: 0,
        evict_after_us: 30_000,
        expiry_grace_us: 600_000_000,
        device_expiry_ms: 1_000_000_000,
        max_messages: 1_000,
        max_bytes: 1_000_000,
        max_total_bytes: 10_000_000,
        max_devices: DEVICES,
        connections_per_user: 8,
        page_messages: 1,
        page_bytes: 100_000,
        pending_appends: 100,
        pending_append_bytes: 100_000,
        load_queue: 20,
        users: 10,
        dedupe_window_us: 3_600_000_000,
        dedupe_max: 1_000,
    }
}

impl Scope {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            registered: DEVICES,
            sends: [1, 1],
            hellos: [1, 1],
            hellos_together: 2,
            drops: true,
            windows: [1, 2],
            repeats: 0,
            ticks: 0,
            fails: 0,
            raises: 0,
            crashes: 0,
            ahead_us: 20_000_000,
            patience_us: 1_000_000,
            refuses: false,
            settings: settings(),
            sights: Vec::new(),
        }
    }
}

/// Two senders with a message each, two devices that come once and go, and a crash. For the long proofs.
pub fn crash() -> Scope {
    use Sight::*;
    let sights = vec![
        Stored,
        HandedOver,
        HandedOverAndWritten,
        Redelivered,
        CalledBack,
        PassedOver,
        CrashBeforeReport,
        CrashHalfWritten,
    ];
    Scope { crashes: 1, sights, ..Scope::new("crash") }
}

/// The same without sessions that end by themselves.
pub fn meeting() -> Scope {
    Scope { name: "meeting", drops: false, ..crash() }
}

/// A sender with two messages, and two sessions of a device, of which the second may replace the first.
pub fn takeover() -> Scope {
    use Sight::*;
    let sights = vec![Stored, HandedOver, Redelivered, Takeover, TakeoverWithPage, StalePage];
    let (registered, hellos, hellos_together) = (1, [2, 0], 2);
    Scope { registered, sends: [2, 0], hellos, hellos_together, sights, ..Scope::new("takeover") }
}

/// Two devices that the disk does not know yet, and a crash at any moment of their first hello.
pub fn registration() -> Scope {
    use Sight::*;
    let sights = vec![Stored, HandedOver, CrashBeforeReport, CrashHalfWritten];
    Scope { registered: 0, sends: [1, 0], ticks: 1, crashes: 1, sights, ..Scope::new("registration") }
}

/// A record leaves memory and is loaded again, around one message and a device that comes back.
pub fn eviction() -> Scope {
    use Sight::*;
    let sights = vec![Stored, HandedOver, Redelivered, Spilled, Evicted];
    let (hellos, hellos_together) = ([2, 0], 2);
    let scope = Scope { registered: 1, sends: [1, 0], hellos, hellos_together, ..Scope::new("eviction") };
    Scope { ticks: 3, crashes: 1, sights, ..scope }
}

/// A sync that fails, the end of the process after it, and a sender that repeats what was not answered.
pub fn failure() -> Scope {
    use Sight::*;
    let sights = vec![Stored, HandedOver, Refused, Redelivered, CrashBeforeReport, CrashHalfWritten];
    let (registered, hellos, hellos_together) = (1, [2, 0], 2);
    let scope = Scope { registered, sends: [1, 0], hellos, hellos_together, ..Scope::new("failure") };
    Scope { fails: 1, crashes: 1, repeats: 1, sights, ..scope }
}

/// One sender, one device, and a ceiling that is just above the last seq, and is raised or not.
pub fn ceiling() -> Scope {
    use Sight::*;
    let sights = vec![Stored, HandedOver, Refused, Redelivered, CrashBeforeReport];
    let scope = Scope { registered: 1, sends: [2, 0], hellos: [1, 0], ..Scope::new("ceiling") };
    Scope { raises: 1, crashes: 1, ahead_us: 1, refuses: true, sights, ..scope }
}

/// What every run of the tests goes through, and what takes longer.
pub const SHORT: [fn() -> Scope; 6] = [meeting, takeover, registration, eviction, failure, ceiling];
pub const LONG: [fn() -> Scope; 1] = [crash];
