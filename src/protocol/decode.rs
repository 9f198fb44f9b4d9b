//! Text of a client into a [`ClientFrame`].
//!
//! The usual frames are read as they stand. For all others one pass finds the known fields as raw slices of the text;
//! each is then read as what the frame's type says it is. Nested values are skipped without recursion, so no text can
//! overflow the stack. The body is never interpreted, never copied, and never allowed to nest deeper than a common
//! parser can follow.

use std::borrow::Cow;

use super::fields::{self, Fields, Raw};
use super::frames::{ClientFrame, FrameError, Hello, SendFrame};
use super::usual::usual;
use crate::codes::Code;
use crate::ids::Seq;
use crate::limits;
use crate::presence::PresenceState;

/// Reads one frame. Unknown fields are skipped.
///
/// # Errors
/// `UnknownType` for a type that version 1 does not have, else `BadRequest` with a reason that names the
/// field: not one JSON object, nested too deeply, a known field twice, missing, or of the wrong type.
pub fn client_frame(text: &str) -> Result<ClientFrame<'_>, FrameError> {
    usual(text).map_or_else(|| any_frame(text), Ok)
}

fn any_frame(text: &str) -> Result<ClientFrame<'_>, FrameError> {
    let fields = read_fields(text)?;
    let kind = match required("type", fields.kind).and_then(|raw| fields.text_of("type", raw)) {
        Ok(kind) => kind,
        Err(reason) => return Err(fields.error(None, Code::BadRequest, reason)),
    };
    let frame = match fields.check(text) {
        Err(reason) => Err(reason),
        Ok(()) => match &*kind {
            "send" => fields.send().map(ClientFrame::Send),
            "ack" => fields.ack(),
            "hello" => fields.hello().map(ClientFrame::Hello),
            "status" => fields.status(),
            "watch" => fields.users().map(|users| ClientFrame::Watch { users }),
            "unwatch" => fields.users().map(|users| ClientFrame::Unwatch { users }),
            "token" => fields.token(),
            "forget" => Ok(ClientFrame::Forget),
            "ping" => fields.ping(),
            other => {
                let reason = format!("there is no frame of type {:?}", shortened(other));
                return Err(fields.error(Some(other), Code::UnknownType, reason));
            }
        },
    };
    frame.map_err(|reason| fields.error(Some(&kind), Code::BadRequest, reason))
}

/// Whether `text`, which is valid JSON, nests deeper than `max` levels.
///
/// serde_json skips raw values without a depth limit, so whoever lets a raw body in has to ask here. Nearly every frame is
/// cleared by the count of brackets alone, which is cheap; only a suspect is walked.
pub fn nests_deeper_than(text: &str, max: usize) -> bool {
    memchr::memchr2_iter(b'[', b'{', text.as_bytes()).nth(max).is_some() && depth(text) > max
}

/// What is wrong, in words for the developer of the client.
type Reason = String;

impl<'a> Fields<'a> {
    /// What holds for every type of frame.
    fn check(&self, text: &str) -> Result<(), Reason> {
        if let Some(key) = &self.twice {
            return Err(format!("{key} is there twice"));
        }
        if self.may_nest && nests_deeper_than(text, limits::JSON_DEPTH_MAX) {
            return Err(format!("a frame may nest at most {} levels deep", limits::JSON_DEPTH_MAX));
        }
        Ok(())
    }

    fn send(&self) -> Result<SendFrame<'a>, Reason> {
        if flag("receipt", self.receipt)? {
            return Err("receipt is reserved in this version: leave it out".to_owned());
        }
        let frame = SendFrame {
            id: self.id.map(|raw| self.text_of("id", raw)).transpose()?,
            to: self.text_of("to", required("to", self.to)?)?,
            body: required("body", self.body)?,
            ttl_ms: self.ttl_ms.map(|raw| integer("ttl_ms", raw, 1, Seq::MAX.0)).transpose()?,
            retry: flag("retry", self.retry)?,
            ephemeral: flag("ephemeral", self.ephemeral)?,
        };
        if frame.id.is_none() && !frame.ephemeral {
            return Err("id is missing: only an ephemeral send may go without".to_owned());
        }
        Ok(frame)
    }

    fn ack(&self) -> Result<ClientFrame<'a>, Reason> {
        let seq = integer("seq", required("seq", self.seq)?, 0, Seq::MAX.0)?;
        Ok(ClientFrame::Ack { seq })
    }

    fn hello(&self) -> Result<Hello, Reason> {
        let window = self.window.map(|raw| integer("window", raw, 1, u64::from(u32::MAX))).transpose()?;
        Ok(Hello {
            token: self.owned("token", self.token)?,
            user: self.owned("user", self.user)?,
            device: self.owned("device", self.device)?,
            status: self.status.map(|raw| state("status", raw)).transpose()?,
            window: window.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        })
    }

    fn status(&self) -> Result<ClientFrame<'a>, Reason> {
        let state = state("state", required("state", self.state)?)?;
        Ok(ClientFrame::Status { state, text: self.owned("text", self.text)? })
    }

    fn users(&self) -> Result<Vec<String>, Reason> {
        let raw = required("users", self.users)?;
        serde_json::from_str(raw).map_err(|_| "users must be a list of strings".to_owned())
    }

    fn token(&self) -> Result<ClientFrame<'a>, Reason> {
        let token = self.text_of("token", required("token", self.token)?)?.into_owned();
        Ok(ClientFrame::Token { token })
    }

    fn ping(&self) -> Result<ClientFrame<'a>, Reason> {
        let n = self.n.map(|raw| integer("n", raw, 0, Seq::MAX.0)).transpose()?;
        Ok(ClientFrame::Ping { n })
    }

    fn text_of(&self, key: &str, raw: &'a str) -> Result<Cow<'a, str>, Reason> {
        fields::string(raw, self.is_plain).ok_or_else(|| {
            let lack = if raw.starts_with('"') { "must not have half a surrogate pair" } else { "must be a string" };
            format!("{key} {lack}")
        })
    }

    fn owned(&self, key: &str, raw: Raw<'a>) -> Result<Option<String>, Reason> {
        Ok(raw.map(|raw| self.text_of(key, raw)).transpose()?.map(Cow::into_owned))
    }

    fn error(&self, kind: Option<&str>, code: Code, reason: Reason) -> FrameError {
        let send = (kind == Some("send") && self.twice.as_deref() != Some("type")).then(|| {
            (self.name("id", self.id, limits::MESSAGE_ID_BYTES_MAX), self.name("to", self.to, limits::USER_BYTES_MAX))
        });
        FrameError { code, reason, send, reference: kind.map(|kind| shortened(kind).to_owned()) }
    }

    /// A name to answer with. What is too long is no name, and echoing it would only cost room.
    fn name(&self, key: &str, raw: Raw<'a>, bytes_max: usize) -> Option<String> {
        let ambiguous = self.twice.as_deref() == Some(key);
        let text = raw.filter(|_| !ambiguous).and_then(|raw| self.text_of(key, raw).ok());
        text.filter(|text| text.len() <= bytes_max).map(Cow::into_owned)
    }
}

fn read_fields(text: &str) -> Result<Fields<'_>, FrameError> {
    let refuse = |reason: Reason| FrameError { code: Code::BadRequest, reason, send: None, reference: None };
    // Said here, because serde's own words would repeat the value, whatever it is and however long.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(refuse("a frame is one JSON object".to_owned()));
    }
    Fields::read(text).map_err(|error| refuse(format!("not JSON: {error}")))
}

fn required<'a>(key: &str, raw: Raw<'a>) -> Result<&'a str, Reason> {
    raw.ok_or_else(|| format!("{key} is missing"))
}

/// Plain digits only: `1.0` and `1e3` are no integers here, as they are none in many languages.
fn integer(key: &str, raw: &str, min: u64, max: u64) -> Result<u64, Reason> {
    let number = raw.parse().ok().filter(|n| (min..=max).contains(n));
    number.ok_or_else(|| format!("{key} must be an integer from {min} to {max}"))
}

fn flag(key: &str, raw: Raw<'_>) -> Result<bool, Reason> {
    match raw {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(format!("{key} must be true or false")),
    }
}

/// A state that a client may choose: `offline` is what the server says of those who are not here.
fn state(key: &str, raw: &str) -> Result<PresenceState, Reason> {
    let state = serde_json::from_str(raw).ok().filter(|state| *state != PresenceState::Offline);
    state.ok_or_else(|| format!("{key} must be online, away, busy or invisible"))
}

/// The first few characters: enough to recognise a typing error by.
fn shortened(text: &str) -> &str {
    const CHARS_MAX: usize = 32;
    text.char_indices().nth(CHARS_MAX).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> FrameError {
        client_frame(text).expect_err(text)
    }

    fn nested(levels: usize) -> String {
        format!("{}0{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn a_body_is_the_very_bytes_between_its_neighbours() {
        let body = "{ \"b\" : [1.0,\t1e400, \"\\u0041\\/\\ud800\"],\n \"b\": -0 }";
        let text = format!(r#"{{"body":  {body}  ,"to":"bob","type":"send","id":"1"}}"#);
        let Ok(ClientFrame::Send(frame)) = client_frame(&text) else { panic!("not a send") };
        assert_eq!(frame.body, body);
    }

    #[test]
    fn names_written_with_escapes_are_read_as_what_they_mean() {
        let text = r#"{"t\u0079pe":"se\u006ed","id":"\u0061-1","to":"b\u00f6b\ud83d\ude00","body":null}"#;
        let Ok(ClientFrame::Send(frame)) = client_frame(text) else { panic!("not a send") };
        assert_eq!((frame.id.as_deref(), &*frame.to, frame.body), (Some("a-1"), "böb😀", "null"));
    }

    #[test]
    fn names_written_plainly_are_borrowed() {
        let Ok(ClientFrame::Send(frame)) = client_frame(r#"{"type":"send","id":"1","to":"bob","body":0}"#) else {
            panic!("not a send")
        };
        assert!(matches!((frame.id, frame.to), (Some(Cow::Borrowed("1")), Cow::Borrowed("bob"))));
    }

    #[test]
    fn unknown_fields_are_skipped_even_twice_and_of_any_type() {
        let text = r#"{"x":{"seq":[]},"type":"ack","x":1e999,"seq":7,"body":{"seq":9}}"#;
        assert!(matches!(client_frame(text), Ok(ClientFrame::Ack { seq: 7 })));
    }

    #[test]
    fn nesting_ends_at_the_limit_wherever_it_stands() {
        let at = |body: &str| format!(r#"{{"type":"send","id":"1","to":"b","body":{body}}}"#);
        assert!(client_frame(&at(&nested(limits::JSON_DEPTH_MAX - 1))).is_ok());
        let error = refused(&at(&nested(limits::JSON_DEPTH_MAX)));
        assert_eq!((error.code, error.send), (Code::BadRequest, Some((Some("1".into()), Some("b".into())))));
        refused(&format!(r#"{{"type":"forget","unknown":{}}}"#, nested(limits::JSON_DEPTH_MAX)));
    }

    #[test]
    fn whatever_is_allowed_to_nest_can_be_read_by_a_parser_with_the_common_limit() {
        let text = format!(r#"{{"type":"forget","x":{}}}"#, nested(limits::JSON_DEPTH_MAX - 1));
        assert!(client_frame(&text).is_ok() && serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn a_million_brackets_do_not_overflow_the_stack() {
        for text in [
            "[".repeat(1_000_000),
            format!(r#"{{"type":"send","body":{}"#, "[".repeat(1_000_000)),
            format!(r#"{{"type":"send","body":{}}}"#, nested(1_000_000)),
            format!(r#"{{"type":"ping","x":{}}}"#, nested(1_000_000)),
            format!(r#"{{"type":"watch","users":{}}}"#, nested(1_000_000)),
            format!(r#"{{"type":{}}}"#, nested(1_000_000)),
        ] {
            assert_eq!(refused(&text).code, Code::BadRequest);
        }
    }

    #[test]
    fn brackets_inside_strings_are_not_nesting() {
        let text = format!(r#"{{"type":"send","id":"1","to":"b","body":"\"{}\\"}}"#, "[{".repeat(500));
        assert!(client_frame(&text).is_ok());
    }

    #[test]
    fn a_field_that_comes_twice_is_never_guessed_at() {
        let twice_id = refused(r#"{"type":"send","id":"1","to":"b","body":0,"id":"2"}"#);
        assert_eq!(twice_id.send, Some((None, Some("b".into()))));
        assert_eq!(twice_id.reason, "id is there twice");
        let twice_body = refused(r#"{"type":"send","body":0,"id":"1","to":"b","bod\u0079":1}"#);
        assert_eq!(twice_body.send, Some((Some("1".into()), Some("b".into()))));
        assert_eq!(refused(r#"{"type":"forget","type":"send","id":"1"}"#).send, None);
    }

    #[test]
    fn a_seq_is_plain_digits_below_two_to_the_53() {
        let ack = |seq: &str| format!(r#"{{"type":"ack","seq":{seq}}}"#);
        assert!(matches!(client_frame(&ack("9007199254740991")), Ok(ClientFrame::Ack { seq: 9_007_199_254_740_991 })));
        for seq in ["-1", "-0", "1.0", "1e3", "9007199254740992", "18446744073709551616", "\"7\"", "null", "[1]"] {
            let error = refused(&ack(seq));
            assert_eq!(error.reason, "seq must be an integer from 0 to 9007199254740991", "{seq}");
            assert_eq!((error.send, error.reference.as_deref()), (None, Some("ack")));
        }
        assert_eq!(refused(r#"{"type":"ack"}"#).reason, "seq is missing");
    }

    #[test]
    fn a_bad_send_is_answered_with_what_of_its_names_was_readable() {
        let long = "x".repeat(limits::USER_BYTES_MAX + 1);
        for (fields, id, to) in [
            (r#""id":"1","to":"b""#.to_owned(), Some("1"), Some("b")),
            (r#""id":"1","to":"b","body":0,"receipt":true"#.to_owned(), Some("1"), Some("b")),
            (r#""id":"1","to":"b","body":0,"ttl_ms":0"#.to_owned(), Some("1"), Some("b")),
            (r#""id":"1","to":"b","body":0,"retry":1"#.to_owned(), Some("1"), Some("b")),
            (r#""id":"1","to":7,"body":0"#.to_owned(), Some("1"), None),
            (r#""to":"b","body":0"#.to_owned(), None, Some("b")),
            (r#""id":"\ud800","to":"b","body":0"#.to_owned(), None, Some("b")),
            (format!(r#""id":"{long}","to":"{long}""#), None, None),
        ] {
            let error = refused(&format!(r#"{{"type":"send",{fields}}}"#));
            assert_eq!(error.code, Code::BadRequest);
            assert_eq!(error.send, Some((id.map(Into::into), to.map(Into::into))), "{fields}");
        }
    }

    #[test]
    fn only_an_ephemeral_send_goes_without_an_id() {
        assert!(client_frame(r#"{"type":"send","to":"b","body":0,"ephemeral":true,"receipt":false}"#).is_ok());
        refused(r#"{"type":"send","to":"b","body":0,"ephemeral":false}"#);
    }

    #[test]
    fn a_client_neither_names_itself_offline_nor_opens_no_window() {
        refused(r#"{"type":"status","state":"offline"}"#);
        refused(r#"{"type":"hello","status":"offline"}"#);
        refused(r#"{"type":"hello","window":0}"#);
        refused(r#"{"type":"hello","window":4294967296}"#);
        refused(r#"{"type":"hello","user":null}"#);
        let hello = client_frame(r#"{"type":"hello","window":1,"status":"invisible","device":"x"}"#);
        let Ok(ClientFrame::Hello(hello)) = hello else { panic!("not a hello") };
        assert_eq!((hello.window, hello.status), (Some(1), Some(PresenceState::Invisible)));
    }

    #[test]
    fn an_unknown_type_is_told_apart_and_not_echoed_at_length() {
        let error = refused(&format!(r#"{{"type":"{}","seq":-1}}"#, "é".repeat(9_000)));
        assert_eq!(error.code, Code::UnknownType);
        assert!(error.reason.len() < 200 && error.reference.is_some_and(|kind| kind == "é".repeat(32)));
        for server_frame in ["message", "receipt", "Send", ""] {
            assert_eq!(refused(&format!(r#"{{"type":"{server_frame}"}}"#)).code, Code::UnknownType);
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused_in_few_words() {
        let long = format!("\"{}\"", "x".repeat(60_000));
        for text in ["", " ", "null", "[]", "7", &long, "{", "{}", "{}{}", "{\"type\":\"ping\"} x", "{\"type\":null}"] {
            let error = refused(text);
            assert_eq!((error.code, error.send), (Code::BadRequest, None), "{text}");
            assert!(error.reason.len() < 100, "{}", error.reason);
        }
    }
}
