//! Frames: what clients say is read, what they are told is written.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use doorstep::ids::{MessageId, Seq, UserId};
use doorstep::message::Message;
use doorstep::protocol::{decode, encode};

/// Bytes of a body, quotes included.
pub const BODY_BYTES: usize = 200;
const ID: &str = "01JDQ0Z3N2V8W4X5Y6Z7A8B9CD";

pub fn body() -> String {
    format!("\"{}\"", "x".repeat(BODY_BYTES - 2))
}

pub fn read_sends(count: u64) {
    let text = format!(r#"{{"type":"send","id":"{ID}","to":"bob","body":{}}}"#, body());
    for _ in 0..count {
        black_box(decode::client_frame(black_box(&text)).is_ok());
    }
}

pub fn read_acks(count: u64) {
    for _ in 0..count {
        black_box(decode::client_frame(black_box(r#"{"type":"ack","seq":1795760198591399}"#)).is_ok());
    }
}

pub fn write_messages(count: u64) {
    let message = Arc::new(Message {
        seq: Seq(1_795_760_198_591_399),
        id: MessageId::new(ID).unwrap(),
        from: UserId::new("alice").unwrap(),
        body: Bytes::from(body()),
        ts_ms: 1_795_760_198_591,
        expires_ms: u64::MAX,
        retry: false,
    });
    let mut buffer = Vec::with_capacity(1024);
    for _ in 0..count {
        buffer.clear();
        encode::message(&mut buffer, black_box(&message), false);
        black_box(&buffer);
    }
}

pub fn write_accepted(count: u64) {
    let (id, to) = (MessageId::new(ID).unwrap(), UserId::new("bob").unwrap());
    let mut buffer = Vec::with_capacity(1024);
    for _ in 0..count {
        buffer.clear();
        encode::accepted(&mut buffer, black_box(&id), black_box(&to), Seq(1_795_760_198_591_399), false);
        black_box(&buffer);
    }
}
