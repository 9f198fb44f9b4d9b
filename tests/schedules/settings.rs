//! The bounds under which a schedule runs: roomy ones, and some so small that they are met.

use doorstep::routing::core::Settings;
use fastrand::Rng;

use super::cast::DEVICES;

/// Bounds that nobody meets.
pub fn roomy() -> Settings {
    Settings {
        commit_delay_us: 2_000,
        commit_delay_max_us: 2_000,
        accept_timeout_us: 60_000,
        linger_us: 10_000,
        evict_after_us: 15_000,
        expiry_grace_us: 5_000,
        device_expiry_ms: 1_000_000_000,
        max_messages: 1_000,
        max_bytes: 1_000_000,
        max_total_bytes: 10_000_000,
        max_devices: DEVICES,
        connections_per_user: 8,
        page_messages: 4,
        page_bytes: 100_000,
        pending_appends: 100,
        pending_append_bytes: 100_000,
        load_queue: 20,
        users: 1_000,
        dedupe_window_us: 1_000_000_000,
        dedupe_max: 1_000,
    }
}

/// Small bounds, so that every one of them is met.
pub fn drawn(rng: &mut Rng) -> Settings {
    let small = rng.u8(..) < 100;
    let roomy = roomy();
    Settings {
        linger_us: if rng.bool() { roomy.linger_us } else { 0 },
        device_expiry_ms: if rng.u8(..) < 40 { 200 } else { roomy.device_expiry_ms },
        max_messages: if small { 6 } else { roomy.max_messages },
        max_bytes: if rng.u8(..) < 40 { 3_000 } else { roomy.max_bytes },
        max_total_bytes: if rng.u8(..) < 20 { 8_000 } else { roomy.max_total_bytes },
        connections_per_user: if rng.u8(..) < 30 { 1 } else { roomy.connections_per_user },
        page_messages: rng.usize(1..5),
        page_bytes: if rng.bool() { 600 } else { roomy.page_bytes },
        pending_appends: if rng.u8(..) < 30 { 4 } else { roomy.pending_appends },
        load_queue: rng.usize(2..20),
        dedupe_window_us: if rng.u8(..) < 60 { 100_000 } else { roomy.dedupe_window_us },
        dedupe_max: if rng.u8(..) < 40 { 3 } else { roomy.dedupe_max },
        commit_delay_us: if rng.u8(..) < 40 { 0 } else { roomy.commit_delay_us },
        commit_delay_max_us: if rng.bool() { 10_000 } else { roomy.commit_delay_max_us },
        ..roomy
    }
}
