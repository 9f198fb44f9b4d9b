//! The kinds of values a key can have: how each is read, written back, and which range it must keep.
//!
//! A kind knows nothing of keys, files or other values. It never guesses: a duration without a unit is an error.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};
use serde_json::Value as Json;

use super::units::{format_bytes, format_duration, parse_bytes, parse_duration};
use crate::cores;

/// Reads and writes values of type `T`; errors are for people and do not name the key.
pub(super) trait Kind<T> {
    /// Type and unit; the range is left to `check`, which programs' configurations go through as well.
    fn read(&self, written: &Value) -> Result<T, String>;
    fn write(&self, value: &T) -> Json;
    fn check(&self, value: &T) -> Result<(), String>;
}

/// A whole number without a unit.
pub(super) struct Count(pub RangeInclusive<u64>);
/// As `Count`, where 0 is written for one per core and resolved on reading.
pub(super) struct PerCore(pub RangeInclusive<u64>);
/// A size in bytes.
pub(super) struct Bytes(pub RangeInclusive<u64>);
/// A duration; whole milliseconds.
pub(super) struct Span(pub RangeInclusive<Duration>);
/// As `Span`, in whole seconds.
pub(super) struct Seconds(pub RangeInclusive<Duration>);
/// Free text; empty stands for none where the field is an `Option`.
pub(super) struct Text;
/// A tracing filter.
pub(super) struct Filter;
/// A path that must not be empty.
pub(super) struct FilePath;
/// A path where empty is allowed, for another key decides whether it is needed.
pub(super) struct FilePathIfAny;
/// A path short enough for the address of a Unix socket.
pub(super) struct SocketPath;
/// IP address and port.
pub(super) struct Address;
/// Origins as browsers send them.
pub(super) struct Origins;
/// Yes or no.
pub(super) struct Flag;
/// One of a few words.
pub(super) struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

/// The unsigned integers of the configuration's fields.
pub(super) trait Number: Copy {
    fn fits(number: u64) -> Option<Self>;
    fn wide(self) -> u64;
}

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl Number for $number {
            fn fits(number: u64) -> Option<Self> {
                Self::try_from(number).ok()
            }
            fn wide(self) -> u64 {
                u64::try_from(self).unwrap_or(u64::MAX)
            }
        }
    )* };
}
numbers!(u32 u64 usize);

impl<N: Number> Kind<N> for Count {
    fn read(&self, written: &Value) -> Result<N, String> {
        let number = whole_number(&written.kind).ok_or_else(|| expected("a whole number", written))?;
        u64::try_from(number).ok().and_then(N::fits).ok_or_else(|| outside(&self.0, &number))
    }
    fn write(&self, value: &N) -> Json {
        value.wide().into()
    }
    fn check(&self, value: &N) -> Result<(), String> {
        within(&self.0, value.wide(), &value.wide())
    }
}

impl Kind<bool> for Flag {
    fn read(&self, written: &Value) -> Result<bool, String> {
        match &written.kind {
            ValueKind::Boolean(flag) => Ok(*flag),
            // What comes from the environment is text.
            ValueKind::String(text) if text == "true" => Ok(true),
            ValueKind::String(text) if text == "false" => Ok(false),
            _ => Err(expected("true or false", written)),
        }
    }
    fn write(&self, value: &bool) -> Json {
        (*value).into()
    }
    fn check(&self, _: &bool) -> Result<(), String> {
        Ok(())
    }
}

impl Kind<usize> for PerCore {
    fn read(&self, written: &Value) -> Result<usize, String> {
        match Count(self.0.clone()).read(written)? {
            0 => Ok(cores::count()),
            count => Ok(count),
        }
    }
    fn write(&self, value: &usize) -> Json {
        (*value).into()
    }
    fn check(&self, value: &usize) -> Result<(), String> {
        within(&self.0, value.wide(), value)
    }
}

impl<N: Number> Kind<N> for Bytes {
    fn read(&self, written: &Value) -> Result<N, String> {
        let bytes = match &written.kind {
            ValueKind::String(text) => parse_bytes(text),
            kind => whole_number(kind).and_then(|bytes| u64::try_from(bytes).ok()),
        };
        let bytes = bytes.ok_or_else(|| {
            format!("{}; units are B, KiB, MiB, GiB and TiB", expected("a size such as \"64KiB\"", written))
        })?;
        N::fits(bytes).ok_or_else(|| outside(&shown(&self.0, format_bytes), &format_bytes(bytes)))
    }
    fn write(&self, value: &N) -> Json {
        format_bytes(value.wide()).into()
    }
    fn check(&self, value: &N) -> Result<(), String> {
        self.0
            .contains(&value.wide())
            .then_some(())
            .ok_or_else(|| outside(&shown(&self.0, format_bytes), &format_bytes(value.wide())))
    }
}

impl Kind<Duration> for Span {
    fn read(&self, written: &Value) -> Result<Duration, String> {
        let text = if let ValueKind::String(text) = &written.kind { text } else { "" };
        parse_duration(text)
            .ok_or_else(|| format!("{}; units are ms, s, m, h and d", expected("a duration such as \"5s\"", written)))
    }
    fn write(&self, value: &Duration) -> Json {
        format_duration(*value).into()
    }
    fn check(&self, value: &Duration) -> Result<(), String> {
        self.0
            .contains(value)
            .then_some(())
            .ok_or_else(|| outside(&shown(&self.0, format_duration), &format_duration(*value)))
    }
}

impl Kind<Duration> for Seconds {
    fn read(&self, written: &Value) -> Result<Duration, String> {
        Span(self.0.clone()).read(written)
    }
    fn write(&self, value: &Duration) -> Json {
        format_duration(*value).into()
    }
    fn check(&self, value: &Duration) -> Result<(), String> {
        match value.subsec_nanos() {
            0 => Span(self.0.clone()).check(value),
            _ => Err(format!("must be whole seconds, not {}", format_duration(*value))),
        }
    }
}

impl Kind<Option<String>> for Text {
    fn read(&self, written: &Value) -> Result<Option<String>, String> {
        text(written, "text in quotes").map(|text| (!text.is_empty()).then(|| text.to_owned()))
    }
    fn write(&self, value: &Option<String>) -> Json {
        value.clone().unwrap_or_default().into()
    }
    fn check(&self, _: &Option<String>) -> Result<(), String> {
        Ok(())
    }
}

impl Kind<String> for Filter {
    fn read(&self, written: &Value) -> Result<String, String> {
        text(written, "a level such as \"info\"").map(str::to_owned)
    }
    fn write(&self, value: &String) -> Json {
        value.clone().into()
    }
    fn check(&self, value: &String) -> Result<(), String> {
        // The filter would take a misspelt level for the name of a module and then show nothing at all.
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let stray = value
            .split(',')
            .map(str::trim)
            .find(|part| !part.contains(['=', '[']) && !levels.iter().any(|level| level.eq_ignore_ascii_case(part)));
        if let Some(stray) = stray {
            return Err(format!("{stray:?} is not a level; levels are {}", levels.join(", ")));
        }
        let parsed = tracing_subscriber::EnvFilter::builder().parse(value);
        parsed.map(|_| ()).map_err(|error| format!("{value:?} is not a filter: {error}"))
    }
}

impl Kind<PathBuf> for FilePathIfAny {
    fn read(&self, written: &Value) -> Result<PathBuf, String> {
        text(written, "a path in quotes").map(PathBuf::from)
    }
    fn write(&self, value: &PathBuf) -> Json {
        value.to_string_lossy().into()
    }
    fn check(&self, _: &PathBuf) -> Result<(), String> {
        Ok(())
    }
}

impl Kind<PathBuf> for FilePath {
    fn read(&self, written: &Value) -> Result<PathBuf, String> {
        FilePathIfAny.read(written)
    }
    fn write(&self, value: &PathBuf) -> Json {
        FilePathIfAny.write(value)
    }
    fn check(&self, value: &PathBuf) -> Result<(), String> {
        if value.as_os_str().is_empty() { Err("must not be empty".to_owned()) } else { Ok(()) }
    }
}

impl Kind<PathBuf> for SocketPath {
    fn read(&self, written: &Value) -> Result<PathBuf, String> {
        FilePathIfAny.read(written)
    }
    fn write(&self, value: &PathBuf) -> Json {
        FilePathIfAny.write(value)
    }
    fn check(&self, value: &PathBuf) -> Result<(), String> {
        FilePath.check(value)?;
        let address = std::os::unix::net::SocketAddr::from_pathname(value);
        address.map(|_| ()).map_err(|error| format!("cannot be the address of a Unix socket: {error}"))
    }
}

impl Kind<SocketAddr> for Address {
    fn read(&self, written: &Value) -> Result<SocketAddr, String> {
        let what = "an IP address and port such as \"127.0.0.1:7400\"";
        text(written, what)?.parse().map_err(|_| expected(what, written))
    }
    fn write(&self, value: &SocketAddr) -> Json {
        value.to_string().into()
    }
    fn check(&self, _: &SocketAddr) -> Result<(), String> {
        Ok(())
    }
}

impl Kind<Vec<String>> for Origins {
    fn read(&self, written: &Value) -> Result<Vec<String>, String> {
        let ValueKind::Array(items) = &written.kind else {
            return Err(expected("a list such as [\"https://app.example\"]", written));
        };
        items.iter().map(|item| text(item, "an origin in quotes").map(str::to_owned)).collect()
    }
    fn write(&self, value: &Vec<String>) -> Json {
        value.clone().into()
    }
    fn check(&self, value: &Vec<String>) -> Result<(), String> {
        let plain = |origin: &str| {
            origin.split_once("://").is_some_and(|(scheme, host)| {
                !scheme.is_empty() && !host.is_empty() && !origin.contains(char::is_whitespace) && !host.contains('/')
            })
        };
        match value.iter().find(|origin| !plain(origin)) {
            Some(odd) => {
                Err(format!("{odd:?} is not an origin; write scheme, host and port only: \"https://app.example\""))
            }
            None => Ok(()),
        }
    }
}

impl<T: Copy + PartialEq> Kind<T> for Choice<T> {
    fn read(&self, written: &Value) -> Result<T, String> {
        let word = if let ValueKind::String(word) = &written.kind { word.as_str() } else { "" };
        self.0.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|(name, _)| format!("{name:?}")).collect();
            expected(&format!("one of {}", names.join(", ")), written)
        })
    }
    fn write(&self, value: &T) -> Json {
        self.0.iter().find(|(_, choice)| choice == value).map(|(name, _)| *name).into()
    }
    fn check(&self, _: &T) -> Result<(), String> {
        Ok(())
    }
}

fn whole_number(kind: &ValueKind) -> Option<i128> {
    match *kind {
        ValueKind::I64(number) => Some(number.into()),
        ValueKind::U64(number) => Some(number.into()),
        ValueKind::I128(number) => Some(number),
        _ => None,
    }
}

fn text<'a>(written: &'a Value, what: &str) -> Result<&'a str, String> {
    if let ValueKind::String(text) = &written.kind { Ok(text) } else { Err(expected(what, written)) }
}

fn expected(what: &str, written: &Value) -> String {
    format!("expected {what}, found {}", found(&written.kind))
}

/// Names what stands there, with no more of it than helps to find it.
fn found(kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(text) if text.chars().count() > 40 => "a long text".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Nil => "nothing".to_owned(),
        plain => format!("{}", Value::new(None, plain.clone())),
    }
}

fn within<T: PartialOrd + Display>(range: &RangeInclusive<T>, value: T, shown: &impl Display) -> Result<(), String> {
    if range.contains(&value) { Ok(()) } else { Err(outside(range, shown)) }
}

fn outside<T: Display>(range: &RangeInclusive<T>, shown: &impl Display) -> String {
    format!("must be from {} to {}, not {shown}", range.start(), range.end())
}

fn shown<T: Copy>(range: &RangeInclusive<T>, format: impl Fn(T) -> String) -> RangeInclusive<String> {
    format(*range.start())..=format(*range.end())
}
