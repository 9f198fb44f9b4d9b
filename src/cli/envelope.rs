//! A message as the admin API shows it to operators. Its body is kept as it was sent: any JSON may be one, also
//! what no number or string of ours can hold.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::table;

/// New fields may be added by the daemon, and old ones are not missed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Envelope {
    pub(super) seq: u64,
    pub(super) from: Option<String>,
    pub(super) id: Option<String>,
    pub(super) ts_ms: Option<u64>,
    pub(super) body_bytes: u64,
    #[serde(deserialize_with = "as_written")]
    body: Option<Box<RawValue>>,
}

impl Envelope {
    /// The body as a cell; `-` when it did not come along.
    pub(super) fn body(&self) -> String {
        self.body.as_deref().map_or_else(nothing, |body| table::clip(body.get()))
    }
}

/// A text from a client as a cell; nothing is `-`.
pub(super) fn text(text: Option<&str>) -> String {
    text.map_or_else(nothing, table::clip)
}

fn nothing() -> String {
    "-".to_owned()
}

/// An `Option` would take the body `null` for none.
fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_it_was_sent_whatever_it_is() {
        for body in [r#"{"x": 1.50,  "a":1}"#, r#"{"a":1,"a":2}"#, "1e999", r#""\ud800""#, "null", r#""hi""#] {
            let envelope: Envelope = serde_json::from_str(&format!(r#"{{"seq":1,"body":{body}}}"#)).unwrap();
            assert_eq!(envelope.body(), body);
        }
        assert_eq!(Envelope::default().body(), "-");
    }
}
