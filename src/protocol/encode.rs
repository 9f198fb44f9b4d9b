//! What the server says, appended to a buffer as finished JSON.
//!
//! Nothing here allocates beyond the buffer itself, and nothing looks into a body: it goes out as the bytes
//! that came in. Never writes half a frame: every function appends one complete JSON object.

use serde::Serialize;

use super::plain::is_plain;
use super::server_frames::WelcomeFrame;
use crate::codes::{CloseCode, Code};
use crate::ids::{MessageId, Seq, UserId};
use crate::limits;
use crate::message::Message;
use crate::presence::PresenceInfo;

/// `message`, a durable one.
pub fn message(buf: &mut Vec<u8>, message: &Message, redelivered: bool) {
    put(buf, r#"{"type":"message","seq":"#);
    number(buf, message.seq.0);
    put(buf, r#","id":""#);
    put(buf, message.id.as_str());
    put(buf, r#"","from":"#);
    text(buf, message.from.as_str());
    put(buf, r#","ts_ms":"#);
    number(buf, message.ts_ms);
    if redelivered {
        put(buf, r#","redelivered":true"#);
    }
    body(buf, &message.body);
}

/// `message`, one that is neither stored nor acknowledged.
pub fn ephemeral(buf: &mut Vec<u8>, id: Option<&MessageId>, from: &UserId, bytes: &[u8], ts_ms: u64) {
    put(buf, r#"{"type":"message""#);
    if let Some(id) = id {
        put(buf, r#","id":""#);
        put(buf, id.as_str());
        put(buf, r#"""#);
    }
    put(buf, r#","from":"#);
    text(buf, from.as_str());
    put(buf, r#","ts_ms":"#);
    number(buf, ts_ms);
    put(buf, r#","ephemeral":true"#);
    body(buf, bytes);
}

/// `caught_up`.
pub fn caught_up(buf: &mut Vec<u8>, seq: Seq) {
    put(buf, r#"{"type":"caught_up","seq":"#);
    number(buf, seq.0);
    put(buf, "}");
}

/// `accepted`.
pub fn accepted(buf: &mut Vec<u8>, id: &MessageId, to: &UserId, seq: Seq, stored: bool) {
    put(buf, r#"{"type":"accepted","id":""#);
    put(buf, id.as_str());
    put(buf, r#"","to":"#);
    text(buf, to.as_str());
    put(buf, r#","seq":"#);
    number(buf, seq.0);
    put(buf, if stored { r#","stored":true}"# } else { r#","stored":false}"# });
}

/// `rejected`. `id` and `to` are as the client wrote them, and are left out where they are longer than such
/// a name may be: an answer must not be as large as whatever was sent.
pub fn rejected(
    buf: &mut Vec<u8>,
    id: Option<&str>,
    to: Option<&str>,
    code: Code,
    reason: &str,
    retry_after_ms: Option<u64>,
) {
    put(buf, r#"{"type":"rejected""#);
    if let Some(id) = id.filter(|id| id.len() <= limits::MESSAGE_ID_BYTES_MAX) {
        put(buf, r#","id":"#);
        text(buf, id);
    }
    if let Some(to) = to.filter(|to| to.len() <= limits::USER_BYTES_MAX) {
        put(buf, r#","to":"#);
        text(buf, to);
    }
    coded(buf, &code, reason);
    retry_after(buf, retry_after_ms);
    put(buf, "}");
}

/// `presence`: at most [`limits::WATCH_USERS_MAX`] users, the caller splits what is more.
pub fn presence(buf: &mut Vec<u8>, users: &[PresenceInfo]) {
    debug_assert!(users.len() <= limits::WATCH_USERS_MAX, "{} users in one presence frame", users.len());
    put(buf, r#"{"type":"presence","users":"#);
    json(buf, users);
    put(buf, "}");
}

/// `token_ok`.
pub fn token_ok(buf: &mut Vec<u8>, expires_ms: u64) {
    put(buf, r#"{"type":"token_ok","expires_ms":"#);
    number(buf, expires_ms);
    put(buf, "}");
}

/// `pong`.
pub fn pong(buf: &mut Vec<u8>, n: Option<u64>) {
    put(buf, r#"{"type":"pong""#);
    if let Some(n) = n {
        put(buf, r#","n":"#);
        number(buf, n);
    }
    put(buf, "}");
}

/// `error`; `reference` says what it is about.
pub fn error(buf: &mut Vec<u8>, code: Code, reason: &str, reference: Option<&str>) {
    put(buf, r#"{"type":"error""#);
    coded(buf, &code, reason);
    if let Some(reference) = reference {
        put(buf, r#","ref":"#);
        text(buf, reference);
    }
    put(buf, "}");
}

/// `goodbye`; its `code` is the number that the WebSocket close will carry.
pub fn goodbye(buf: &mut Vec<u8>, code: CloseCode, reason: &str, retry_after_ms: Option<u64>) {
    put(buf, r#"{"type":"goodbye""#);
    coded(buf, &code.number(), reason);
    retry_after(buf, retry_after_ms);
    put(buf, "}");
}

/// `welcome`.
pub fn welcome(buf: &mut Vec<u8>, frame: &WelcomeFrame) {
    json(buf, frame);
}

/// What is known to be JSON, or to stand between quotes as it is.
#[inline]
fn put(buf: &mut Vec<u8>, json: &str) {
    buf.extend_from_slice(json.as_bytes());
}

/// A string. Hardly a name has to be written with an escape.
#[inline]
fn text(buf: &mut Vec<u8>, value: &str) {
    if is_plain(value) {
        put(buf, "\"");
        put(buf, value);
        put(buf, "\"");
    } else {
        json(buf, value);
    }
}

#[inline]
fn number(buf: &mut Vec<u8>, value: u64) {
    put(buf, itoa::Buffer::new().format(value));
}

fn coded(buf: &mut Vec<u8>, code: &impl Serialize, reason: &str) {
    put(buf, r#","code":"#);
    json(buf, code);
    put(buf, r#","reason":"#);
    text(buf, reason);
}

fn retry_after(buf: &mut Vec<u8>, retry_after_ms: Option<u64>) {
    if let Some(retry_after_ms) = retry_after_ms {
        put(buf, r#","retry_after_ms":"#);
        number(buf, retry_after_ms);
    }
}

/// Last, so that a person who reads a trace sees the envelope before a long body.
#[inline]
fn body(buf: &mut Vec<u8>, bytes: &[u8]) {
    put(buf, r#","body":"#);
    buf.extend_from_slice(bytes);
    put(buf, "}");
}

fn json<T: Serialize + ?Sized>(buf: &mut Vec<u8>, value: &T) {
    // A vector takes every write and these types have no keys that are not text, so this cannot fail.
    let written = serde_json::to_writer(&mut *buf, value);
    debug_assert!(written.is_ok(), "{written:?}");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::server_frames::ServerFrame;
    use super::*;

    fn read(buf: &[u8]) -> ServerFrame {
        ServerFrame::from_text(std::str::from_utf8(buf).unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_appended_with_its_body_untouched_and_its_sender_escaped() {
        let body = b"{ \"a\": [ 1.0 ], \"a\":\"\\u0041\" }";
        let from = UserId::new("\"o\\hara\"\u{2028}😀").unwrap();
        let (id, seq) = (MessageId::new("m:1").unwrap(), Seq::MAX);
        let durable = Message {
            seq,
            id,
            from: from.clone(),
            body: Bytes::from_static(body),
            ts_ms: 5,
            expires_ms: 9,
            retry: false,
        };
        let mut buf = b"before".to_vec();
        message(&mut buf, &durable, true);
        assert!(buf.starts_with(b"before{"));
        let ServerFrame::Message(frame) = read(&buf[6..]) else { panic!("not a message") };
        assert_eq!((frame.seq, frame.from, frame.ts_ms), (Some(seq), from, 5));
        assert_eq!((frame.redelivered, frame.ephemeral, frame.body.get().as_bytes()), (true, false, &body[..]));
    }

    #[test]
    fn an_ephemeral_message_carries_no_seq() {
        let mut buf = Vec::new();
        ephemeral(&mut buf, None, &UserId::new("a").unwrap(), b"null", 5);
        assert_eq!(buf, br#"{"type":"message","from":"a","ts_ms":5,"ephemeral":true,"body":null}"#);
    }

    #[test]
    fn a_rejection_escapes_what_the_client_wrote_and_leaves_out_what_is_too_long() {
        let mut buf = Vec::new();
        let long = "x".repeat(limits::MESSAGE_ID_BYTES_MAX + 1);
        rejected(&mut buf, Some(&long), Some("\"\n\u{1}"), Code::QueueFull, "full", Some(250));
        let expected =
            r#"{"type":"rejected","to":"\"\n\u0001","code":"queue_full","reason":"full","retry_after_ms":250}"#;
        assert_eq!(std::str::from_utf8(&buf).unwrap(), expected);
    }

    #[test]
    fn a_goodbye_carries_the_number_of_the_close() {
        let mut buf = Vec::new();
        goodbye(&mut buf, CloseCode::Replaced, "replaced", None);
        assert_eq!(buf, br#"{"type":"goodbye","code":4409,"reason":"replaced"}"#);
    }
}
