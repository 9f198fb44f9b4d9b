//! Whether what came is what a scenario describes.
//!
//! An object matches when every field that is named matches; others may be there. `"$any"` stands for any value,
//! `"$absent"` for a field that must not be there, and `"$name"` for any value the first time and the same value
//! later. `"$fresh:name"` is that for an id as clients make them, a ULID or a UUIDv7 that no other name stands for. In what is sent, `"$now+5000"` is the time in so many milliseconds.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// The values that `$name`s stand for.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<String, Value>);

impl Names {
    /// Holds `found` against `pattern`. Names are remembered only when all of it matches.
    ///
    /// # Errors
    /// What does not match, and where.
    pub fn check(&mut self, pattern: &Value, found: &Value) -> Result<(), String> {
        let mut names = self.clone();
        names.compare("", pattern, Some(found))?;
        *self = names;
        Ok(())
    }

    /// `template` with the values that its names stand for.
    ///
    /// # Errors
    /// When a name stands for nothing yet.
    pub fn fill(&self, template: &Value) -> Result<Value, String> {
        match template {
            Value::String(text) if text.starts_with('$') => self.value_of(text),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect::<Result<_, _>>().map(Value::Array),
            Value::Object(fields) => {
                let filled = fields.iter().map(|(name, value)| Ok((name.clone(), self.fill(value)?)));
                filled.collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            other => Ok(other.clone()),
        }
    }

    fn value_of(&self, name: &str) -> Result<Value, String> {
        if let Some(ms) = name.strip_prefix("$now+") {
            let ms: u64 = ms.parse().map_err(|error| format!("{name}: {error}"))?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
            return Ok(Value::from(u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(ms)));
        }
        self.0.get(name).cloned().ok_or_else(|| format!("{name} stands for nothing yet"))
    }

    fn compare(&mut self, at: &str, pattern: &Value, found: Option<&Value>) -> Result<(), String> {
        match (pattern, found) {
            (Value::String(name), None) if name == "$absent" => Ok(()),
            (Value::String(name), Some(found)) if name == "$absent" => Err(format!("{at} is there: {found}")),
            (_, None) => Err(format!("{at} is missing")),
            (Value::String(name), Some(found)) if name.starts_with('$') => self.compare_name(at, name, found),
            (Value::Object(fields), Some(Value::Object(found))) => fields
                .iter()
                .try_for_each(|(name, field)| self.compare(&format!("{at}.{name}"), field, found.get(name))),
            (Value::Array(items), Some(Value::Array(found))) if items.len() == found.len() => items
                .iter()
                .zip(found)
                .enumerate()
                .try_for_each(|(n, (item, found))| self.compare(&format!("{at}[{n}]"), item, Some(found))),
            (pattern, Some(found)) if same(pattern, found) => Ok(()),
            (pattern, Some(found)) => Err(format!("{at} is {found} and not {pattern}")),
        }
    }

    fn compare_name(&mut self, at: &str, name: &str, found: &Value) -> Result<(), String> {
        if name == "$any" {
            return Ok(());
        }
        let fresh = name.strip_prefix("$fresh:").map(|name| format!("${name}"));
        if fresh.is_some() && !(is_ulid_or_uuid_v7(found) && self.0.values().all(|known| known != found)) {
            return Err(format!("{at} is {found}, which is no ULID or UUIDv7 that was not seen before"));
        }
        let name = fresh.as_deref().unwrap_or(name);
        match self.0.get(name) {
            Some(known) if same(known, found) => Ok(()),
            Some(known) => Err(format!("{at} is {found} and not {known} ({name})")),
            None => {
                self.0.insert(name.to_owned(), found.clone());
                Ok(())
            }
        }
    }
}

/// Languages differ in whether they write 1 or 1.0.
fn same(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
}

fn is_ulid_or_uuid_v7(id: &Value) -> bool {
    let id = id.as_str().unwrap_or_default();
    let hex = |c: char| c.is_ascii_hexdigit();
    let parts: Vec<&str> = id.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_uuid_v7 = lengths == [8, 4, 4, 4, 12] && id.split('-').all(|part| part.chars().all(hex));
    let is_uuid_v7 = is_uuid_v7 && parts.get(2).is_some_and(|version| version.starts_with('7'));
    let crockford = |c: char| c.is_ascii_alphanumeric() && !matches!(c.to_ascii_uppercase(), 'I' | 'L' | 'O' | 'U');
    is_uuid_v7 || (id.len() == 26 && id.starts_with(|c| ('0'..='7').contains(&c)) && id.chars().all(crockford))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(pattern: Value, found: Value) -> bool {
        Names::default().check(&pattern, &found).is_ok()
    }

    #[test]
    fn fields_that_are_not_named_may_be_there() {
        assert!(matches(json!({"a": 1}), json!({"a": 1, "b": 2})));
        assert!(matches(json!({"a": {"b": [1, {"c": 2}]}}), json!({"a": {"b": [1, {"c": 2, "d": 3}]}, "e": 4})));
        assert!(matches(json!(1), json!(1.0)));
    }

    #[test]
    fn every_difference_is_found() {
        let pairs = [
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": 1}), json!({"b": 1})),
            (json!({"a": "1"}), json!({"a": 1})),
            (json!([1, 2]), json!([1, 2, 3])),
            (json!([1, 2]), json!([2, 1])),
            (json!({"a": "$any"}), json!({})),
            (json!({"a": "$absent"}), json!({"a": null})),
            (json!({"a": true}), json!({"a": 1})),
            (json!({}), json!([])),
            (json!(null), json!(false)),
        ];
        for (pattern, found) in pairs {
            assert!(!matches(pattern.clone(), found.clone()), "{pattern} matches {found}");
        }
    }

    #[test]
    fn a_name_is_the_same_value_everywhere_once_all_of_it_matched() {
        let mut names = Names::default();
        assert!(names.check(&json!({"a": "$x", "b": 1}), &json!({"a": 7, "b": 2})).is_err());
        names.check(&json!({"a": "$x"}), &json!({"a": 8})).unwrap();
        assert!(names.check(&json!({"b": "$x"}), &json!({"b": 7})).is_err());
        names.check(&json!({"b": "$x"}), &json!({"b": 8})).unwrap();
        assert!(names.check(&json!(["$y", "$y"]), &json!([1, 2])).is_err());
        assert_eq!(names.fill(&json!({"to": ["$x"]})), Ok(json!({"to": [8]})));
        assert!(names.fill(&json!("$z")).is_err());
        assert!(names.fill(&json!("$now+1000")).unwrap().as_u64().unwrap() > 1_700_000_000_000);
    }

    #[test]
    fn a_fresh_id_is_a_ulid_or_a_uuid_v7_that_is_new() {
        let mut names = Names::default();
        let (ulid, uuid) = (json!("01KAW3B7N4XJ6T0R5V9QZ2M8YE"), json!("01935c6e-7c3a-7b21-9f00-0a1b2c3d4e5f"));
        names.check(&json!("$fresh:a"), &ulid).unwrap();
        assert!(names.check(&json!("$fresh:b"), &ulid).is_err());
        names.check(&json!("$fresh:b"), &uuid).unwrap();
        names.check(&json!(["$a", "$b"]), &json!([ulid, uuid])).unwrap();
        for bad in ["1", "01935c6e-7c3a-4b21-9f00-0a1b2c3d4e5f", "81KAW3B7N4XJ6T0R5V9QZ2M8YE", "", "-------"] {
            assert!(names.check(&json!("$fresh:c"), &json!(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn absence_and_any_value_can_be_asked_for() {
        assert!(matches(json!({"a": "$absent", "b": "$any"}), json!({"b": {"c": null}})));
    }
}
