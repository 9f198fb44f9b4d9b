//! What a client says. A text is refused in few words that a client can read, or it is a frame that means what the
//! text said: written again it has the same fields, and its body has not changed by a byte.

use std::collections::BTreeMap;

use doorstep::codes::Code;
use doorstep::limits::{ENVELOPE_BYTES_MAX, MESSAGE_ID_BYTES_MAX, USER_BYTES_MAX};
use doorstep::protocol::frames::FrameError;
use doorstep::protocol::server_frames::ServerFrame;
use doorstep::protocol::{client_encode, decode, encode};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Verdict;

/// Nobody wants to read more about a mistake.
const REASON_BYTES_MAX: usize = 512;

/// Fields of the frames, but for `type`.
const FIELDS: [(&str, &[&str]); 9] = [
    ("hello", &["token", "user", "device", "status", "window"]),
    ("send", &["id", "to", "body", "ttl_ms", "retry", "ephemeral"]),
    ("ack", &["seq"]),
    ("status", &["state", "text"]),
    ("watch", &["users"]),
    ("unwatch", &["users"]),
    ("token", &["token"]),
    ("forget", &[]),
    ("ping", &["n"]),
];

/// Bytes that are not UTF-8 never get as far as a frame.
pub fn hold(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    however_it_is_spaced(text);
    match decode::client_frame(text) {
        Ok(frame) => {
            let again = client_encode::client_frame(&frame);
            means_the_same(text, &again);
            let frame = decode::client_frame(&again).unwrap();
            assert_eq!(client_encode::client_frame(&frame), again, "written twice");
            Verdict::Accepted
        }
        Err(error) => {
            is_said_in_few_words(&error);
            Verdict::Refused
        }
    }
}

/// A frame without white space takes a shorter way through the reader, and means what it would mean with some.
fn however_it_is_spaced(text: &str) {
    let spaced = format!(" {text}");
    match (decode::client_frame(text), decode::client_frame(&spaced)) {
        (Ok(tight), Ok(spaced)) => assert_eq!(format!("{tight:?}"), format!("{spaced:?}")),
        // What is not JSON is not at a place that is one further on.
        (Err(tight), Err(spaced)) if tight.reason.starts_with("not JSON") => assert_eq!(tight.code, spaced.code),
        (tight, spaced) => assert_eq!(tight.err(), spaced.err()),
    }
}

fn means_the_same(text: &str, again: &str) {
    let (said, meant) = (fields(text), fields(again));
    let kind = value(&meant["type"]);
    let (_, known) = FIELDS.iter().find(|(name, _)| *name == kind).unwrap();
    for (name, raw) in &meant {
        match name.as_str() {
            "body" => assert_eq!(raw.get(), said["body"].get(), "a body is relayed as it is"),
            name => assert_eq!(value(raw), value(&said[name]), "{name}"),
        }
    }
    for name in known.iter().filter(|name| !meant.contains_key(**name)) {
        // Only what means nothing may be left out.
        assert!(said.get(*name).is_none_or(|raw| raw.get() == "false"), "{name} was lost");
    }
}

/// The last of each name, as any parser has it; where it matters there is only one.
fn fields(text: &str) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(text).unwrap()
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap()
}

fn is_said_in_few_words(error: &FrameError) {
    assert!(matches!(error.code, Code::BadRequest | Code::UnknownType), "{error:?}");
    assert!(!error.reason.is_empty() && error.reason.len() <= REASON_BYTES_MAX, "{error:?}");
    let mut answer = Vec::new();
    if let Some((id, to)) = &error.send {
        assert!(id.as_ref().is_none_or(|id| id.len() <= MESSAGE_ID_BYTES_MAX));
        assert!(to.as_ref().is_none_or(|to| to.len() <= USER_BYTES_MAX));
        encode::rejected(&mut answer, id.as_deref(), to.as_deref(), error.code, &error.reason, None);
        let ServerFrame::Rejected(heard) = read(&answer) else { panic!("not a rejection") };
        assert_eq!(
            (heard.id, heard.to, heard.code, &heard.reason),
            (id.clone(), to.clone(), error.code, &error.reason)
        );
    } else {
        encode::error(&mut answer, error.code, &error.reason, error.reference.as_deref());
        let ServerFrame::Error(heard) = read(&answer) else { panic!("not an error") };
        assert_eq!((&heard.reason, &heard.reference), (&error.reason, &error.reference));
    }
    assert!(answer.len() <= ENVELOPE_BYTES_MAX + 6 * REASON_BYTES_MAX, "{} bytes", answer.len());
}

fn read(answer: &[u8]) -> ServerFrame {
    ServerFrame::from_text(std::str::from_utf8(answer).unwrap()).unwrap()
}
