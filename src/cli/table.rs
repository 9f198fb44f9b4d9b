//! Aligned columns, sizes and ages for people. Pure.

use std::fmt::Write;

use serde_json::Value;

/// Between columns.
const GAP: &str = "  ";
/// Characters of a text from a client in a table cell.
const CELL_CHARS_MAX: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under a head; columns as wide as their widest cell.
pub(super) struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A column whose name begins with `>` holds numbers and is aligned to the right.
    pub(super) fn new(columns: &[&'static str]) -> Self {
        let column = |name: &&'static str| match name.strip_prefix('>') {
            Some(name) => (name, Align::Right),
            None => (*name, Align::Left),
        };
        Self { head: columns.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, or `nothing` as a sentence when it has no rows.
    pub(super) fn render(&self, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let head: Vec<String> = self.head.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let cells = self.head.iter().zip(row).enumerate();
            let line: Vec<_> =
                cells.map(|(column, ((_, align), cell))| pad(cell, self.width(column), *align)).collect();
            text.push_str(line.join(GAP).trim_end());
            text.push('\n');
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let head = self.head.get(column).map_or(0, |(name, _)| name.chars().count());
        self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).fold(head, usize::max)
    }
}

fn pad(cell: &str, width: usize, align: Align) -> String {
    match align {
        Align::Left => format!("{cell:<width$}"),
        Align::Right => format!("{cell:>width$}"),
    }
}

/// `name  value` lines, aligned.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    facts.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _never = writeln!(text, "{name:<width$}{GAP}{value}").is_err();
        text
    })
}

/// `1 message`, `2 messages`.
pub(super) fn count(n: impl Into<u64>, what: &str) -> String {
    match n.into() {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// A size: `512 B`, `1.5 KiB`, `3.2 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut amount, mut units) = (bytes as f64, UNITS.iter());
    let mut unit = units.next();
    // 1023.95 would be shown as 1024.0.
    while amount >= 1023.95
        && let Some(greater) = units.next()
    {
        amount /= 1024.0;
        unit = Some(greater);
    }
    let unit = unit.copied().unwrap_or_default();
    if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") }
}

/// A span of time in its two greatest units: `250 ms`, `12 s`, `3 m 20 s`, `5 h 1 m`, `12 d 3 h`.
pub(super) fn span(ms: u64) -> String {
    let (seconds, minutes, hours, days) = (ms / 1000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match () {
        () if seconds == 0 => format!("{ms} ms"),
        () if minutes == 0 => format!("{seconds} s"),
        () if hours == 0 => format!("{minutes} m {} s", seconds % 60),
        () if days == 0 => format!("{hours} h {} m", minutes % 60),
        () => format!("{days} d {} h", hours % 24),
    }
}

/// How long ago; `-` when it never was.
pub(super) fn age(then_ms: Option<u64>, now_ms: u64) -> String {
    match then_ms {
        None | Some(0) => "-".to_owned(),
        Some(then_ms) => span(now_ms.saturating_sub(then_ms)),
    }
}

/// A JSON value as a cell; nothing is `-`. Control characters are made visible, for a text from a client
/// must not be able to move the cursor of an operator's terminal.
pub(super) fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => clip(text),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(other) => clip(&other.to_string()),
    }
}

/// A text from a client as a cell.
pub(super) fn clip(text: &str) -> String {
    let visible = text.chars().flat_map(|c| {
        let escaped = (c.is_control() || is_bidi(c)).then(|| c.escape_default());
        let plain = escaped.is_none().then_some(c);
        escaped.into_iter().flatten().chain(plain)
    });
    let mut clipped: String = visible.clone().take(CELL_CHARS_MAX).collect();
    if visible.count() > CELL_CHARS_MAX {
        clipped.push('…');
    }
    clipped
}

/// Characters that turn the direction of what follows them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A field of a JSON object as a number; 0 when it is not there.
pub(super) fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or(0)
}

/// The entries of a JSON list; none when it is not there.
pub(super) fn entries<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The line under a list that goes on.
pub(super) fn more(page: &Value) -> String {
    go_on(page.get("next").and_then(Value::as_str))
}

/// The same for a list whose `next` is known.
pub(super) fn go_on(next: Option<&str>) -> String {
    next.map_or_else(String::new, |next| format!("more: --after {}\n", quoted(next)))
}

/// Ready to be pasted into a shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-' | '@' | '/');
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["user", ">messages", "state"]);
        table.row(vec!["bob".into(), "1".into(), "online".into()]);
        table.row(vec!["Jürgen Müller".into(), "100000000".into(), "-".into()]);
        let expected = "\
user            messages  state
bob                    1  online
Jürgen Müller  100000000  -
";
        assert_eq!(table.render("nobody"), expected);
        assert_eq!(Table::new(&["user"]).render("nobody is there"), "nobody is there\n");
    }

    #[test]
    fn facts_are_aligned() {
        assert_eq!(facts(&[("a", "1".into()), ("long name", "2".into())]), "a          1\nlong name  2\n");
    }

    #[test]
    fn sizes_have_one_decimal_and_the_right_unit() {
        let shown = [0, 1023, 1024, 1536, 1024 * 1024 - 1, 3 << 30, u64::MAX].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "3.0 GiB", "16384.0 PiB"]);
    }

    #[test]
    fn spans_show_two_units() {
        let shown = [0, 999, 1000, 59_999, 60_000, 200_000, 18_060_000, 1_047_600_000].map(span);
        assert_eq!(shown, ["0 ms", "999 ms", "1 s", "59 s", "1 m 0 s", "3 m 20 s", "5 h 1 m", "12 d 3 h"]);
        assert_eq!(age(Some(5_000), 3_000), "0 ms", "a clock that stepped back");
        assert_eq!(age(Some(0), 3_000), "-");
    }

    #[test]
    fn a_cell_cannot_touch_the_terminal() {
        assert_eq!(cell(Some(&json!("a\u{1b}[2Jb\nc\u{202e}"))), "a\\u{1b}[2Jb\\nc\\u{202e}");
        assert_eq!(cell(Some(&json!("x".repeat(100)))).chars().count(), CELL_CHARS_MAX + 1);
        assert_eq!(cell(Some(&json!("Jürgen 👋"))), "Jürgen 👋");
        assert_eq!(cell(Some(&json!(true))), "yes");
        assert_eq!(cell(None), "-");
    }

    #[test]
    fn the_place_to_go_on_can_be_pasted() {
        assert_eq!(more(&json!({ "next": "it's me" })), "more: --after 'it'\\''s me'\n");
        assert_eq!(more(&json!({ "next": "alice" })), "more: --after alice\n");
        assert_eq!(more(&json!({ "next": null })), "");
    }
}
