//! Text of a client into the fields that some frame has, each as it stands in the text.
//!
//! Nearly every frame is written plainly: an object without white space between its parts, without escapes in
//! names. Such a one is split right here. Any other, and whatever is not JSON, goes to the parser, and both come to
//! the same: the properties of the fuzz targets hold them against each other.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::plain::plain_length;

/// Every field that some client frame has: one JSON value each.
#[derive(Default)]
pub struct Fields<'a> {
    pub kind: Raw<'a>,
    pub id: Raw<'a>,
    pub to: Raw<'a>,
    pub body: Raw<'a>,
    pub ttl_ms: Raw<'a>,
    pub retry: Raw<'a>,
    pub ephemeral: Raw<'a>,
    pub receipt: Raw<'a>,
    pub seq: Raw<'a>,
    pub token: Raw<'a>,
    pub user: Raw<'a>,
    pub device: Raw<'a>,
    pub status: Raw<'a>,
    pub window: Raw<'a>,
    pub state: Raw<'a>,
    pub text: Raw<'a>,
    pub users: Raw<'a>,
    pub n: Raw<'a>,
    /// The first field that came twice. Parsers differ in which of two they believe, so neither is.
    pub twice: Option<String>,
    /// False when none of them is more than a string, a number or a word.
    pub may_nest: bool,
    /// No string among them has an escape in it.
    pub is_plain: bool,
}

pub type Raw<'a> = Option<&'a str>;

impl<'a> Fields<'a> {
    /// Unknown fields are skipped.
    ///
    /// # Errors
    /// Not one JSON object.
    pub fn read(text: &'a str) -> serde_json::Result<Self> {
        split(text).map_or_else(|| serde_json::from_str(text), Ok)
    }

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

    fn put(&mut self, key: &str, value: &'a str) {
        let Some(slot) = self.slot(key) else { return };
        if slot.replace(value).is_some() && self.twice.is_none() {
            self.twice = Some(key.to_owned());
        }
    }
}

/// None for what is not written plainly.
fn split(text: &str) -> Option<Fields<'_>> {
    let mut fields = Fields { is_plain: true, ..Fields::default() };
    let mut rest = text.strip_prefix('{')?;
    loop {
        let (key, after_key) = plain_string(rest)?;
        let (value, after_value) = value(after_key.strip_prefix(':')?, &mut fields.may_nest)?;
        // The name without its quotes.
        fields.put(key.get(1..key.len() - 1)?, value);
        match after_value.as_bytes() {
            [b'}'] => return Some(fields),
            [b',', ..] => rest = after_value.get(1..)?,
            _ => return None,
        }
    }
}

/// A value and what follows it.
#[inline]
pub fn value<'a>(text: &'a str, may_nest: &mut bool) -> Option<(&'a str, &'a str)> {
    match text.as_bytes().first()? {
        b'"' => plain_string(text),
        b'{' | b'[' => {
            *may_nest = true;
            let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
            let value = values.next()?.ok()?.get();
            Some((value, text.get(value.len()..)?))
        }
        _ => {
            // What it is the last of may have been taken off.
            let end = text.bytes().position(|byte| matches!(byte, b',' | b'}')).unwrap_or(text.len());
            let (value, rest) = text.split_at_checked(end)?;
            let is_word = matches!(value, "true" | "false" | "null");
            (is_word || is_plain_integer(value)).then_some((value, rest))
        }
    }
}

/// A string with its quotes, and what follows it; none if it has an escape in it, or what has to be written as one.
fn plain_string(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?.as_bytes();
    let length = plain_length(inner);
    text.split_at_checked(length + 2).filter(|_| inner.get(length) == Some(&b'"'))
}

/// Digits that JSON has as a number.
#[inline]
pub fn is_plain_integer(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0'))
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
        let mut fields = Fields { may_nest: true, ..Fields::default() };
        while let Some(Key(key)) = map.next_key()? {
            if fields.slot(&key).is_some() {
                fields.put(&key, map.next_value::<&RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

/// What a JSON string says; borrowed unless it is written with escapes, which it cannot be if it `is_plain`. None when it
/// is no string, or has half a surrogate pair in it.
pub fn string(raw: &str, is_plain: bool) -> Option<Cow<'_, str>> {
    match raw.strip_prefix('"')?.strip_suffix('"') {
        Some(inner) if is_plain || !inner.contains('\\') => Some(Cow::Borrowed(inner)),
        _ => serde_json::from_str::<Key<'_>>(raw).ok().map(|Key(text)| text),
    }
}

/// Borrowed unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_clients_write_is_split_without_the_parser() {
        for (text, nests) in [
            (r#"{"type":"ack","seq":1795760198591399}"#, false),
            (r#"{"type":"send","id":"1","to":"böb 😀","body":"hi, }{","ttl_ms":0,"retry":true}"#, false),
            (r#"{"type":"send","id":"1","to":"bob","body":{"text":"\"","of":[1.5,-0]},"ephemeral":false}"#, true),
            (r#"{"n":null,"type":"ping"}"#, false),
        ] {
            let fields = split(text).expect(text);
            assert_eq!(fields.may_nest, nests, "{text}");
        }
    }

    #[test]
    fn whatever_else_it_may_be_is_left_to_the_parser() {
        for text in [
            "",
            "{",
            "{}",
            r#" {"n":1}"#,
            r#"{"n":1} "#,
            r#"{"n": 1}"#,
            r#"{"n":1 }"#,
            r#"{"n":1,}"#,
            r#"{"n":1,"#,
            r#"{,"n":1}"#,
            r#"{"n":1}}"#,
            r#"{"n":}"#,
            r#"{"n":01}"#,
            r#"{"n":+1}"#,
            r#"{"n":-1}"#,
            r#"{"n":1.0}"#,
            r#"{"n":True}"#,
            r#"{"n":"\u0061"}"#,
            "{\"n\":\"\t\"}",
            "{\"n\":\"\0\"}",
            r#"{"n":"}"#,
            r#"{"n":"a"b}"#,
            r#"{"n":{"a":1}"#,
            r#"{"n":{"a"}}"#,
            r#"{"\u006e":1}"#,
            r#"{"n"}"#,
            r#"{n:1}"#,
            r#"["n"]"#,
        ] {
            assert!(split(text).is_none(), "{text}");
        }
    }
}
