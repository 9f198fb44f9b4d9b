//! What a client library hears. Whatever a server says, a client reads it or says that it cannot; and what it has
//! read means the same when it is said again.

use doorstep::limits::{MESSAGE_ID_BYTES_MAX, USER_BYTES_MAX};
use doorstep::protocol::encode;
use doorstep::protocol::server_frames::{MessageFrame, PongFrame, ServerFrame};

use super::Verdict;

pub fn hold(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    let Ok(frame) = ServerFrame::from_text(text) else { return Verdict::Refused };
    match frame {
        ServerFrame::Message(message) => comes_back(text, &message),
        ServerFrame::Unknown { .. } => {}
        frame => said_again(&frame),
    }
    Verdict::Accepted
}

/// The body is a part of the text, and no name is longer than a name may be.
fn comes_back(text: &str, message: &MessageFrame) {
    assert!(text.contains(message.body.get()));
    assert!(message.from.as_str().len() <= USER_BYTES_MAX);
    assert!(message.id.as_ref().is_none_or(|id| id.as_str().len() <= MESSAGE_ID_BYTES_MAX));
    let mut again = Vec::new();
    encode::ephemeral(&mut again, message.id.as_ref(), &message.from, message.body.get().as_bytes(), message.ts_ms);
    let ServerFrame::Message(heard) = read(&again) else { panic!("not a message") };
    assert_eq!((heard.from, heard.id, heard.ts_ms), (message.from.clone(), message.id.clone(), message.ts_ms));
    assert_eq!(heard.body.get(), message.body.get());
}

fn said_again(frame: &ServerFrame) {
    let mut buf = Vec::new();
    match frame {
        ServerFrame::Welcome(welcome) => encode::welcome(&mut buf, welcome),
        ServerFrame::CaughtUp(caught_up) => encode::caught_up(&mut buf, caught_up.seq),
        ServerFrame::Accepted(a) => encode::accepted(&mut buf, &a.id, &a.to, a.seq, a.stored),
        ServerFrame::TokenOk(token_ok) => encode::token_ok(&mut buf, token_ok.expires_ms),
        ServerFrame::Pong(PongFrame { n }) => encode::pong(&mut buf, *n),
        ServerFrame::Error(e) => encode::error(&mut buf, e.code, &e.reason, e.reference.as_deref()),
        // Too long a list, or names that no client wrote: a server of this version says no such thing.
        _ => return,
    }
    assert_eq!(format!("{:?}", read(&buf)), format!("{frame:?}"));
}

fn read(buf: &[u8]) -> ServerFrame {
    ServerFrame::from_text(std::str::from_utf8(buf).unwrap()).unwrap()
}
