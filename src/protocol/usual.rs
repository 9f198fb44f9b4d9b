//! The two frames that nearly all traffic is made of, in the form in which most clients write them: `send` and `ack` without
//! white space, without options, and with their fields in the order of the documentation.
//!
//! Such a one is read without looking up names. Whatever differs, be it right or wrong, is none of this file's
//! business: it says nothing about it, and the reader of all frames has to.

use std::borrow::Cow;

use super::fields::{is_plain_integer, value};
use super::frames::{ClientFrame, SendFrame};
use super::plain::plain_length;
use crate::ids::Seq;

/// None for what is not written like that.
pub fn usual(text: &str) -> Option<ClientFrame<'_>> {
    let text = text.strip_prefix(r#"{"type":""#)?.strip_suffix('}')?;
    match text.strip_prefix(r#"send","id":""#) {
        Some(rest) => send(rest),
        None => ack(text.strip_prefix(r#"ack","seq":"#)?),
    }
}

fn send(text: &str) -> Option<ClientFrame<'_>> {
    let (id, rest) = name(text)?;
    let (to, rest) = name(rest.strip_prefix(r#","to":""#)?)?;
    let rest = rest.strip_prefix(r#","body":"#)?;
    // How deep a body may nest is judged with the frame around it.
    if rest.starts_with(['{', '[']) {
        return None;
    }
    let (body, rest) = value(rest, &mut false)?;
    rest.is_empty().then_some(ClientFrame::Send(SendFrame {
        id: Some(Cow::Borrowed(id)),
        to: Cow::Borrowed(to),
        body,
        ttl_ms: None,
        retry: false,
        ephemeral: false,
    }))
}

fn ack(seq: &str) -> Option<ClientFrame<'_>> {
    let seq = is_plain_integer(seq).then(|| seq.parse().ok())??;
    (seq <= Seq::MAX.0).then_some(ClientFrame::Ack { seq })
}

/// A string up to its second quote, and what follows that.
#[inline]
fn name(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_at_checked(plain_length(text.as_bytes()))?;
    Some((name, rest.strip_prefix('"')?))
}

#[cfg(test)]
mod tests {
    use super::super::decode::client_frame;
    use super::*;

    #[test]
    fn what_clients_mostly_write_is_read_here_and_means_what_it_means_elsewhere() {
        for text in [
            r#"{"type":"send","id":"01J","to":"bob","body":"hi, }{"}"#,
            r#"{"type":"send","id":"","to":"böb 😀","body":null}"#,
            r#"{"type":"send","id":"1","to":"bob","body":1795}"#,
            r#"{"type":"ack","seq":0}"#,
            r#"{"type":"ack","seq":9007199254740991}"#,
        ] {
            let here = usual(text).expect(text);
            let spaced = format!(" {text}");
            let elsewhere = client_frame(&spaced).unwrap();
            assert_eq!(format!("{here:?}"), format!("{elsewhere:?}"));
        }
    }

    #[test]
    fn whatever_else_it_may_be_is_left_to_others() {
        for text in [
            "",
            "{}",
            r#"{"type":"send"}"#,
            r#"{"type":"send","id":"1"}"#,
            r#"{"type":"send","id":"1","to":"bob"}"#,
            r#"{"type":"send","id":"1","to":"bob","body":}"#,
            r#"{"type":"send","id":"1","to":"bob","body":-0}"#,
            r#"{"type":"send","id":"1","to":"bob","body":1,}"#,
            r#"{"type":"send","id":"1","to":"bob","body":1}}"#,
            r#"{"type":"send","id":"1","to":"bob","body":"a"b}"#,
            r#"{"type":"send","id":"1","to":"bob","body":"a}"#,
            r#"{"type":"send","id":"1","to":"bob","body":{"a":1}}"#,
            r#"{"type":"send","id":"1","to":"bob","body":"\n"}"#,
            r#"{"type":"send","id":"\u0061","to":"bob","body":1}"#,
            r#"{"type":"send","id":"1","to":"bob","body":1,"retry":true}"#,
            r#"{"type":"send","id":1,"to":"bob","body":1}"#,
            r#"{"type":"send","to":"bob","id":"1","body":1}"#,
            r#"{"type":"sendx","id":"1","to":"bob","body":1}"#,
            "{\"type\":\"send\",\"id\":\"\t\",\"to\":\"bob\",\"body\":1}",
            r#"{"type":"ack","seq":}"#,
            r#"{"type":"ack","seq":01}"#,
            r#"{"type":"ack","seq":+1}"#,
            r#"{"type":"ack","seq":-1}"#,
            r#"{"type":"ack","seq":1.0}"#,
            r#"{"type":"ack","seq":"1"}"#,
            r#"{"type":"ack","seq":1,"seq":2}"#,
            r#"{"type":"ack","seq":9007199254740992}"#,
            r#"{"type":"ack","seq":99999999999999999999999}"#,
            r#" {"type":"ack","seq":1}"#,
            r#"{"type":"ack","seq":1} "#,
        ] {
            assert!(usual(text).is_none(), "{text}");
        }
    }
}
