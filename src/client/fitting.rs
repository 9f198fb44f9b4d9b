//! What a router takes from this client on this connection.
//!
//! Pure. A frame that would end the session, or that counts towards its end, must never pass: the
//! client would come to its end, and with it everything that waits, for one mistake of the application.

use crate::codes::Code;
use crate::ids::UserId;
use crate::limits::{JSON_DEPTH_MAX, WATCH_USERS_MAX};
use crate::protocol::client_encode::client_frame;
use crate::protocol::decode::nests_deeper_than;
use crate::protocol::frames::{ClientFrame, SendFrame};
use crate::protocol::server_frames::WelcomeLimits;

/// `{"type":"unwatch","users":[]}`.
const WATCH_FRAME_BYTES: u64 = 29;

/// Why something stays here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) code: Code,
    pub(super) reason: &'static str,
}

const FRAME_TOO_LARGE: Unfit = Unfit { code: Code::TooLarge, reason: "larger than a frame of this router may be" };
const BODY_TOO_LARGE: Unfit = Unfit { code: Code::TooLarge, reason: "larger than a body may be for this router" };
const BODY_TOO_DEEP: Unfit = Unfit { code: Code::BadRequest, reason: "the body nests too deeply" };

pub(super) fn send_text(frame: SendFrame<'_>, limits: WelcomeLimits) -> Result<String, Unfit> {
    let body = frame.body;
    if body.len() as u64 > limits.body_bytes {
        return Err(BODY_TOO_LARGE);
    }
    // The frame itself is the first level.
    if nests_deeper_than(body, JSON_DEPTH_MAX - 1) {
        return Err(BODY_TOO_DEEP);
    }
    text(&ClientFrame::Send(frame), limits)
}

pub(super) fn text(frame: &ClientFrame<'_>, limits: WelcomeLimits) -> Result<String, Unfit> {
    let text = client_frame(frame);
    if text.len() as u64 > limits.frame_bytes { Err(FRAME_TOO_LARGE) } else { Ok(text) }
}

/// The `type` of a frame, as an `error` about it names it.
pub(super) fn kind(frame: &ClientFrame<'_>) -> &'static str {
    match frame {
        ClientFrame::Hello(_) => "hello",
        ClientFrame::Send(_) => "send",
        ClientFrame::Ack { .. } => "ack",
        ClientFrame::Status { .. } => "status",
        ClientFrame::Watch { .. } => "watch",
        ClientFrame::Unwatch { .. } => "unwatch",
        ClientFrame::Token { .. } => "token",
        ClientFrame::Forget => "forget",
        ClientFrame::Ping { .. } => "ping",
    }
}

/// `users` in as few parts as `watch` or `unwatch` frames of this router need.
pub(super) fn portions(users: &[UserId], frame_bytes: u64) -> Vec<Vec<String>> {
    let mut portions: Vec<Vec<String>> = Vec::new();
    let mut left = 0;
    for user in users {
        let bytes = written_bytes(user);
        match portions.last_mut() {
            Some(portion) if bytes <= left && portion.len() < WATCH_USERS_MAX => {
                portion.push(user.to_string());
                left -= bytes;
            }
            _ => {
                portions.push(vec![user.to_string()]);
                left = frame_bytes.saturating_sub(WATCH_FRAME_BYTES + bytes);
            }
        }
    }
    portions
}

/// With quotes and a comma. A name has no control characters, so these two alone are escaped.
fn written_bytes(user: &UserId) -> u64 {
    let escaped = user.as_str().bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    (user.as_str().len() + escaped + 3) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WelcomeLimits =
        WelcomeLimits { frame_bytes: 1200, body_bytes: 400, window: 1, sends_in_flight: 1, heartbeat_ms: 1000 };

    #[test]
    fn names_are_parted_by_number_and_by_what_a_frame_holds() {
        let short: Vec<UserId> = (0..600).map(|n| UserId::new(&n.to_string()).unwrap()).collect();
        let sizes: Vec<usize> = portions(&short, 1 << 20).iter().map(Vec::len).collect();
        assert_eq!(sizes, [256, 256, 88]);
        let long: Vec<UserId> = (0..50).map(|n| UserId::new(&format!("{n:\"<128}")).unwrap()).collect();
        let portions = portions(&long, LIMITS.frame_bytes);
        assert_eq!(portions.concat(), long.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(portions.len() <= 13, "four of them fit: {}", portions.len());
        for users in portions {
            text(&ClientFrame::Unwatch { users }, LIMITS).unwrap();
        }
    }

    #[test]
    fn a_body_stays_here_when_it_is_too_large_or_too_deep() {
        let send = |body: &str| {
            let body = serde_json::value::RawValue::from_string(body.to_owned()).unwrap();
            let to = "x".repeat(128).into();
            let frame = SendFrame { id: None, to, body: body.get(), ttl_ms: None, retry: false, ephemeral: true };
            send_text(frame, LIMITS).map_err(|unfit| unfit.code)
        };
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        send(&nested(JSON_DEPTH_MAX - 1)).unwrap();
        assert_eq!(send(&nested(JSON_DEPTH_MAX)), Err(Code::BadRequest));
        assert_eq!(send(&format!("\"{}\"", "x".repeat(400))), Err(Code::TooLarge));
    }
}
