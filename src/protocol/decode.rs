//! Text of a client into a [`ClientFrame`].
//!
//! One pass finds the known fields as raw slices of the text; each is then read as what the frame's type
//! says it is. Nested values are skipped without recursion, so no text can overflow the stack. The body is
//! never interpreted, never copied, and never allowed to nest deeper than a common parser can follow.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::frames::{ClientFrame, FrameError, Hello, SendFrame};
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
    let fields = read_fields(text)?;
    let kind = match required("type", fields.kind).and_then(|raw| text_of("type", raw)) {
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

/// Every field that some client frame has, as it stands in the text.
#[derive(Default)]
struct Fields<'a> {
    kind: Raw<'a>,
    id: Raw<'a>,
    to: Raw<'a>,
    body: Raw<'a>,
    ttl_ms: Raw<'a>,
    retry: Raw<'a>,
    ephemeral: Raw<'a>,
    receipt: Raw<'a>,
    seq: Raw<'a>,
    token: Raw<'a>,
    user: Raw<'a>,
    device: Raw<'a>,
    status: Raw<'a>,
    window: Raw<'a>,
    state: Raw<'a>,
    text: Raw<'a>,
    users: Raw<'a>,
    n: Raw<'a>,
    /// The first field that came twice. Parsers differ in which of two they believe, so neither is.
    twice: Option<String>,
}

type Raw<'a> = Option<&'a RawValue>;
/// What is wrong, in words for the developer of the client.
type Reason = String;

impl<'a> Fields<'a> {
    fn slot(&mut self, key: &str) -> Option<&mut Raw<'a>> {
        Some(match key {
            "type" => &mut self.kind,
            "id" => &mut self.id,
            "to" => &mut self.to,
            "body" => &mut self.body,
            "ttl_ms" => &mut self.ttl_ms,
            "retry" => &mut self.retry,
            "ephemeral" => &mut self.ephemeral,
            "receipt" => &mut self.receipt,
            "seq" => &mut self.seq,
            "token" => &mut self.token,
            "user" => &mut self.user,
            "device" => &mut self.device,
            "status" => &mut self.status,
            "window" => &mut self.window,
            "state" => &mut self.state,
            "text" => &mut self.text,
            "users" => &mut self.users,
            "n" => &mut self.n,
            _ => return None,
        })
    }

    fn put(&mut self, key: &str, value: &'a RawValue) {
        let Some(slot) = self.slot(key) else { return };
        if slot.replace(value).is_some() && self.twice.is_none() {
            self.twice = Some(key.to_owned());
        }
    }

    /// What holds for every type of frame.
    fn check(&self, text: &str) -> Result<(), Reason> {
        if let Some(key) = &self.twice {
            return Err(format!("{key} is there twice"));
        }
        if nests_deeper_than(text, limits::JSON_DEPTH_MAX) {
            return Err(format!("a frame may nest at most {} levels deep", limits::JSON_DEPTH_MAX));
        }
        Ok(())
    }

    fn send(&self) -> Result<SendFrame<'a>, Reason> {
        if flag("receipt", self.receipt)? {
            return Err("receipt is reserved in this version: leave it out".to_owned());
        }
        let frame = SendFrame {
            id: self.id.map(|raw| text_of("id", raw)).transpose()?,
            to: text_of("to", required("to", self.to)?)?,
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
            token: owned("token", self.token)?,
            user: owned("user", self.user)?,
            device: owned("device", self.device)?,
            status: self.status.map(|raw| state("status", raw)).transpose()?,
            window: window.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        })
    }

    fn status(&self) -> Result<ClientFrame<'a>, Reason> {
        let state = state("state", required("state", self.state)?)?;
        Ok(ClientFrame::Status { state, text: owned("text", self.text)? })
    }

    fn users(&self) -> Result<Vec<String>, Reason> {
        let raw = required("users", self.users)?;
        serde_json::from_str(raw.get()).map_err(|_| "users must be a list of strings".to_owned())
    }

    fn token(&self) -> Result<ClientFrame<'a>, Reason> {
        let token = text_of("token", required("token", self.token)?)?.into_owned();
        Ok(ClientFrame::Token { token })
    }

    fn ping(&self) -> Result<ClientFrame<'a>, Reason> {
        let n = self.n.map(|raw| integer("n", raw, 0, Seq::MAX.0)).transpose()?;
        Ok(ClientFrame::Ping { n })
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
        let text = raw.filter(|_| !ambiguous).and_then(|raw| text_of(key, raw).ok());
        text.filter(|text| text.len() <= bytes_max).map(Cow::into_owned)
    }
}

fn read_fields(text: &str) -> Result<Fields<'_>, FrameError> {
    let refuse = |reason: Reason| FrameError { code: Code::BadRequest, reason, send: None, reference: None };
    // Said here, because serde's own words would repeat the value, whatever it is and however long.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(refuse("a frame is one JSON object".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| refuse(format!("not JSON: {error}")))
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(Key(key)) = map.next_key()? {
            if fields.slot(&key).is_some() {
                fields.put(&key, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

/// Borrowed unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn required<'a>(key: &str, raw: Raw<'a>) -> Result<&'a RawValue, Reason> {
    raw.ok_or_else(|| format!("{key} is missing"))
}

fn text_of<'a>(key: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, Reason> {
    serde_json::from_str::<Key<'a>>(raw.get()).map(|Key(text)| text).map_err(|_| {
        let string = raw.get().starts_with('"');
        let lack = if string { "must not have half a surrogate pair" } else { "must be a string" };
        format!("{key} {lack}")
    })
}

fn owned(key: &str, raw: Raw<'_>) -> Result<Option<String>, Reason> {
    Ok(raw.map(|raw| text_of(key, raw)).transpose()?.map(Cow::into_owned))
}

/// Plain digits only: `1.0` and `1e3` are no integers here, as they are none in many languages.
fn integer(key: &str, raw: &RawValue, min: u64, max: u64) -> Result<u64, Reason> {
    let number = raw.get().parse().ok().filter(|n| (min..=max).contains(n));
    number.ok_or_else(|| format!("{key} must be an integer from {min} to {max}"))
}

fn flag(key: &str, raw: Raw<'_>) -> Result<bool, Reason> {
    match raw.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(format!("{key} must be true or false")),
    }
}

/// A state that a client may choose: `offline` is what the server says of those who are not here.
fn state(key: &str, raw: &RawValue) -> Result<PresenceState, Reason> {
    let state = serde_json::from_str(raw.get()).ok().filter(|state| *state != PresenceState::Offline);
    state.ok_or_else(|| format!("{key} must be online, away, busy or invisible"))
}

/// The first few characters: enough to recognise a typing error by.
fn shortened(text: &str) -> &str {
    const CHARS_MAX: usize = 32;
    text.char_indices().nth(CHARS_MAX).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// Whether `text`, which is valid JSON, nests deeper than `max` levels.
///
/// serde_json skips raw values without a depth limit, so it is looked at here. Nearly every frame is
/// cleared by the count of brackets alone, which is cheap; only a suspect is walked.
fn nests_deeper_than(text: &str, max: usize) -> bool {
    let opening = |byte: &u8| matches!(byte, b'[' | b'{');
    text.as_bytes().iter().filter(|byte| opening(byte)).count() > max && depth(text) > max
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
