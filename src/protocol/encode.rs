//! What the server says, appended to a buffer as finished JSON.
//!
//! Nothing here allocates beyond the buffer itself, and nothing looks into a body: it goes out as the bytes
//! that came in. Never writes half a frame: every function appends one complete JSON object.

use serde::Serialize;

use super::server_frames::WelcomeFrame;
use crate::codes::{CloseCode, Code};
use crate::ids::{MessageId, Seq, UserId};
use crate::limits;
use crate::message::Message;
use crate::presence::PresenceInfo;

/// `message`, a durable one.
pub fn message(buf: &mut Vec<u8>, message: &Message, redelivered: bool) {
    open(buf, "message");
    number(buf, "seq", message.seq.0);
    plain(buf, "id", message.id.as_str());
    text(buf, "from", message.from.as_str());
    number(buf, "ts_ms", message.ts_ms);
    truth(buf, "redelivered", redelivered);
    body(buf, &message.body);
    close(buf);
}

/// `message`, one that is neither stored nor acknowledged.
pub fn ephemeral(buf: &mut Vec<u8>, id: Option<&MessageId>, from: &UserId, bytes: &[u8], ts_ms: u64) {
    open(buf, "message");
    if let Some(id) = id {
        plain(buf, "id", id.as_str());
    }
    text(buf, "from", from.as_str());
    number(buf, "ts_ms", ts_ms);
    truth(buf, "ephemeral", true);
    body(buf, bytes);
    close(buf);
}

/// `caught_up`.
pub fn caught_up(buf: &mut Vec<u8>, seq: Seq) {
    open(buf, "caught_up");
    number(buf, "seq", seq.0);
    close(buf);
}

/// `accepted`.
pub fn accepted(buf: &mut Vec<u8>, id: &MessageId, to: &UserId, seq: Seq, stored: bool) {
    open(buf, "accepted");
    plain(buf, "id", id.as_str());
    text(buf, "to", to.as_str());
    number(buf, "seq", seq.0);
    field(buf, "stored");
    json(buf, &stored);
    close(buf);
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
    open(buf, "rejected");
    if let Some(id) = id.filter(|id| id.len() <= limits::MESSAGE_ID_BYTES_MAX) {
        text(buf, "id", id);
    }
    if let Some(to) = to.filter(|to| to.len() <= limits::USER_BYTES_MAX) {
        text(buf, "to", to);
    }
    coded(buf, &code, reason);
    optional(buf, "retry_after_ms", retry_after_ms);
    close(buf);
}

/// `presence`: at most [`limits::WATCH_USERS_MAX`] users, the caller splits what is more.
pub fn presence(buf: &mut Vec<u8>, users: &[PresenceInfo]) {
    debug_assert!(users.len() <= limits::WATCH_USERS_MAX, "{} users in one presence frame", users.len());
    open(buf, "presence");
    field(buf, "users");
    json(buf, users);
    close(buf);
}

/// `token_ok`.
pub fn token_ok(buf: &mut Vec<u8>, expires_ms: u64) {
    open(buf, "token_ok");
    number(buf, "expires_ms", expires_ms);
    close(buf);
}

/// `pong`.
pub fn pong(buf: &mut Vec<u8>, n: Option<u64>) {
    open(buf, "pong");
    optional(buf, "n", n);
    close(buf);
}

/// `error`; `reference` says what it is about.
pub fn error(buf: &mut Vec<u8>, code: Code, reason: &str, reference: Option<&str>) {
    open(buf, "error");
    coded(buf, &code, reason);
    if let Some(reference) = reference {
        text(buf, "ref", reference);
    }
    close(buf);
}

/// `goodbye`; its `code` is the number that the WebSocket close will carry.
pub fn goodbye(buf: &mut Vec<u8>, code: CloseCode, reason: &str, retry_after_ms: Option<u64>) {
    open(buf, "goodbye");
    coded(buf, &code.number(), reason);
    optional(buf, "retry_after_ms", retry_after_ms);
    close(buf);
}

/// `welcome`.
pub fn welcome(buf: &mut Vec<u8>, frame: &WelcomeFrame) {
    json(buf, frame);
}

fn open(buf: &mut Vec<u8>, kind: &str) {
    buf.extend_from_slice(b"{\"type\":\"");
    buf.extend_from_slice(kind.as_bytes());
    buf.push(b'"');
}

fn close(buf: &mut Vec<u8>) {
    buf.push(b'}');
}

fn field(buf: &mut Vec<u8>, name: &str) {
    buf.extend_from_slice(b",\"");
    buf.extend_from_slice(name.as_bytes());
    buf.extend_from_slice(b"\":");
}

fn text(buf: &mut Vec<u8>, name: &str, value: &str) {
    // All of it at a glance: most text is a name, and hardly a name has to be written with an escape.
    let needs_none = |byte: &u8| (*byte >= b' ') & (*byte != b'"') & (*byte != b'\\');
    if value.as_bytes().iter().fold(true, |all, byte| all & needs_none(byte)) {
        return plain(buf, name, value);
    }
    field(buf, name);
    json(buf, value);
}

/// Text whose characters are known to need no escape.
fn plain(buf: &mut Vec<u8>, name: &str, value: &str) {
    field(buf, name);
    buf.push(b'"');
    buf.extend_from_slice(value.as_bytes());
    buf.push(b'"');
}

fn number(buf: &mut Vec<u8>, name: &str, value: u64) {
    field(buf, name);
    json(buf, &value);
}

fn optional(buf: &mut Vec<u8>, name: &str, value: Option<u64>) {
    if let Some(value) = value {
        number(buf, name, value);
    }
}

/// A flag that is left out when it is false.
fn truth(buf: &mut Vec<u8>, name: &str, value: bool) {
    if value {
        field(buf, name);
        buf.extend_from_slice(b"true");
    }
}

fn coded(buf: &mut Vec<u8>, code: &impl Serialize, reason: &str) {
    field(buf, "code");
    json(buf, code);
    text(buf, "reason", reason);
}

/// Last, so that a person who reads a trace sees the envelope before a long body.
fn body(buf: &mut Vec<u8>, bytes: &[u8]) {
    field(buf, "body");
    buf.extend_from_slice(bytes);
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
