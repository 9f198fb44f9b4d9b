//! What must hold between several keys. Pure: opens no file and resolves no name.

use super::units::{format_bytes, format_duration};
use super::{Auth, Config};
use crate::limits::ENVELOPE_BYTES_MAX;

/// Two keys, each fine by itself, that cannot both be as they are.
pub(super) struct Contradiction {
    pub(super) keys: [&'static str; 2],
    pub(super) message: String,
}

pub(super) fn contradictions(config: &Config) -> Vec<Contradiction> {
    let mut found = unsafe_auth(config);
    found.extend(too_small_for_a_message(config));
    found.extend(out_of_time(config));
    found
}

fn unsafe_auth(config: &Config) -> Vec<Contradiction> {
    let listen = config.gateway.listen;
    match &config.auth {
        // An IPv4 address may be written as an IPv6 one, hence canonical.
        Auth::None if !listen.ip().to_canonical().is_loopback() => vec![Contradiction {
            keys: ["gateway.listen", "auth.mode"],
            message: format!(
                "{listen} can be reached from other machines, so auth.mode must not be \"none\"; \
                 set auth.mode = \"jwt\" or listen on 127.0.0.1"
            ),
        }],
        Auth::Jwt(jwt) if jwt.key_file.as_os_str().is_empty() => vec![Contradiction {
            keys: ["auth.mode", "auth.key_file"],
            message: "\"jwt\" needs auth.key_file".to_owned(),
        }],
        _ => vec![],
    }
}

/// The longest message has to fit wherever messages are held, or it could be accepted and never get out.
fn too_small_for_a_message(config: &Config) -> Vec<Contradiction> {
    let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let message = wide(config.limits.body_bytes).saturating_add(wide(ENVELOPE_BYTES_MAX));
    [
        ("limits.frame_bytes", wide(config.limits.frame_bytes)),
        ("limits.window_bytes", config.limits.window_bytes),
        ("routing.pending_append_bytes", config.routing.pending_append_bytes),
        ("queue.max_bytes", config.queue.max_bytes),
        ("queue.max_total_bytes", config.queue.max_total_bytes),
        ("store.page_bytes", config.store.page_bytes),
    ]
    .into_iter()
    .filter(|(_, room)| *room < message)
    .map(|(key, room)| Contradiction {
        keys: [key, "limits.body_bytes"],
        message: format!(
            "{} cannot hold a body of limits.body_bytes ({}) and its envelope; at least {} are needed",
            format_bytes(room),
            format_bytes(wide(config.limits.body_bytes)),
            format_bytes(message)
        ),
    })
    .collect()
}

fn out_of_time(config: &Config) -> Vec<Contradiction> {
    let answer = config.queue.accept_timeout;
    let mut found = vec![];
    let held =
        [("store.commit_delay", config.store.commit_delay), ("store.commit_delay_max", config.store.commit_delay_max)];
    for (key, _) in held.into_iter().filter(|(_, held)| *held >= answer) {
        found.push(Contradiction {
            keys: [key, "queue.accept_timeout"],
            message: format!("must be shorter than queue.accept_timeout ({})", format_duration(answer)),
        });
    }
    // A client repeats a send at the earliest when the answer is overdue; by then it must still be known.
    if config.queue.dedupe_window < answer {
        found.push(Contradiction {
            keys: ["queue.dedupe_window", "queue.accept_timeout"],
            message: format!("must not be shorter than queue.accept_timeout ({})", format_duration(answer)),
        });
    }
    found
}
