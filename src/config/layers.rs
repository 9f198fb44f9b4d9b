//! Where values come from: the built-in file, a file, the environment. Later layers win, key by key.
//!
//! Remembers where each key was written, so that every mistake can be pointed at. Only known keys with a place get
//! into a layer; what a value may be is none of this file's business.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;

use config::{Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::kinds::Kind;
use super::sections::KEYS;

/// Names of variables begin so; sections and keys are joined by the same two underscores.
const VARIABLE_PREFIX: &str = "DOORSTEP__";

/// One source of values, by `section.key`.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    values: Map<String, Value>,
    pub(super) places: BTreeMap<&'static str, Place>,
    pub(super) errors: Vec<ConfigError>,
    /// It could not be read as a whole, so keys may be missing that somebody wrote.
    pub(super) is_broken: bool,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

impl Layer {
    /// Goes on behind a syntax error with what was understood, so that one pass shows every mistake.
    pub(super) fn from_toml(file: &str, text: &str) -> Self {
        let (root, broken) = DeTable::parse_recoverable(text);
        let mut layer = Self::default();
        for error in &broken {
            let place = place(file, text, error.span().unwrap_or_default());
            // The parser may stumble on through the rest of a line; where it fell first is what helps.
            if layer.errors.last().is_none_or(|last| last.place.line() != place.line()) {
                layer.complain(place, error.message().to_owned());
            }
        }
        layer.is_broken = !layer.errors.is_empty();
        let doubtful = layer.errors.iter().filter_map(|error| doubtful_lines(text, error.place.line()?)).collect();
        let mut toml = TomlFile { file, text, doubtful, layer };
        for (section, value) in root.get_ref() {
            toml.section(section, value);
        }
        toml.layer
    }

    /// Variables that do not begin with the prefix are none of ours.
    pub(super) fn from_environment(variables: impl Iterator<Item = (OsString, OsString)>, defaults: &Self) -> Self {
        let mut layer = Self::default();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            if let Some(path) = name.strip_prefix(VARIABLE_PREFIX) {
                layer.variable(&name, path, value, defaults);
            }
        }
        layer
    }

    /// Stands for a file that could not be read, so that the other layers are looked at all the same.
    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        let mut layer = Self { is_broken: true, ..Self::default() };
        layer.complain(Place::File { file: file.to_owned() }, format!("cannot be read: {error}"));
        layer
    }

    fn variable(&mut self, name: &str, path: &str, value: OsString, defaults: &Self) {
        let place = Place::Variable(name.to_owned());
        let dotted = path.to_lowercase().replace("__", ".");
        let Some(key) = known(&dotted).filter(|_| path == path.to_uppercase()) else {
            let hint = nearest(&dotted, KEYS.iter().copied())
                .map(|near| format!("; did you mean {VARIABLE_PREFIX}{}?", near.replace('.', "__").to_uppercase()));
            return self.complain(place, format!("unknown variable{}", hint.unwrap_or_default()));
        };
        match value.into_string() {
            Ok(text) => {
                let kind = like(defaults.values.get(key), text);
                self.put(key, kind, place);
            }
            Err(_) => self.complain(place, "is not UTF-8".to_owned()),
        }
    }

    fn put(&mut self, key: &'static str, kind: ValueKind, place: Place) {
        self.values.insert(key.to_owned(), Value::new(Some(&place.to_string()), kind));
        self.places.insert(key, place);
    }

    fn complain(&mut self, place: Place, message: String) {
        self.errors.push(ConfigError { place, message });
    }
}

/// A file on its way into a layer.
struct TomlFile<'a> {
    file: &'a str,
    text: &'a str,
    /// What the parser made of these lines is a guess: neither used nor complained about again.
    doubtful: Vec<Range<usize>>,
    layer: Layer,
}

impl TomlFile<'_> {
    fn section(&mut self, name: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let section = name.get_ref().as_ref();
        let known_section = sections().any(|known| known == section);
        match value.get_ref() {
            DeValue::Table(table) if known_section => {
                for (key, value) in table {
                    self.key(section, key, value.get_ref());
                }
            }
            DeValue::Table(_) => {
                let hint = nearest(section, sections()).map(|near| format!("; did you mean [{near}]?"));
                self.complain(name.span(), format!("unknown section [{section}]{}", hint.unwrap_or_default()));
            }
            _ if known_section => self.complain(name.span(), format!("{section} is a section; write [{section}]")),
            _ => {
                let hint = elsewhere(section).map(|home| format!("; it belongs in [{home}]"));
                let message = format!("{section} stands outside of any section{}", hint.unwrap_or_default());
                self.complain(name.span(), message);
            }
        }
    }

    fn key(&mut self, section: &str, name: &Spanned<Cow<'_, str>>, value: &DeValue<'_>) {
        let dotted = format!("{section}.{}", name.get_ref());
        let place = place(self.file, self.text, name.span());
        match known(&dotted) {
            _ if self.is_doubtful(&place) => {}
            Some(key) => self.layer.put(key, kind_of(value), place),
            None => self.layer.complain(place, format!("unknown key {dotted}{}", hint(section, name.get_ref()))),
        }
    }

    fn complain(&mut self, span: Range<usize>, message: String) {
        let place = place(self.file, self.text, span);
        if !self.is_doubtful(&place) {
            self.layer.complain(place, message);
        }
    }

    fn is_doubtful(&self, place: &Place) -> bool {
        place.line().is_some_and(|line| self.doubtful.iter().any(|lines| lines.contains(&line)))
    }
}

/// The merged values, with those of the built-in file to fall back on so that one mistake does not hide the next.
pub(super) struct Reader {
    values: Map<String, Value>,
    defaults: Map<String, Value>,
    pub(super) faults: BTreeMap<&'static str, String>,
}

impl Reader {
    pub(super) fn new(defaults: &Layer, layers: &[&Layer]) -> Self {
        let over = layers.iter().fold(merge(config::Config::builder(), defaults), |all, layer| merge(all, layer));
        Self {
            values: collect(over),
            defaults: collect(merge(config::Config::builder(), defaults)),
            faults: BTreeMap::new(),
        }
    }

    /// `None` only for a key that the built-in file lacks.
    pub(super) fn take<T>(&mut self, key: &'static str, kind: &impl Kind<T>) -> Option<T> {
        match kind.read(look_up(&self.values, key)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.faults.insert(key, message);
                kind.read(look_up(&self.defaults, key)?).ok()
            }
        }
    }
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

fn merge(builder: Builder, layer: &Layer) -> Builder {
    builder.add_source(layer.clone())
}

/// Building fails only when a source does, and a `Layer` has nothing left to fail at.
fn collect(builder: Builder) -> Map<String, Value> {
    builder.build().and_then(|merged| merged.collect()).unwrap_or_default()
}

fn look_up<'a>(values: &'a Map<String, Value>, dotted: &str) -> Option<&'a Value> {
    let (section, key) = dotted.split_once('.')?;
    match &values.get(section)?.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

/// A variable holds only text; what it stands for follows from what the key holds by default.
fn like(default: Option<&Value>, text: String) -> ValueKind {
    match default.map(|value| &value.kind) {
        Some(ValueKind::I128(_)) => text.trim().parse().map_or(ValueKind::String(text), ValueKind::I128),
        Some(ValueKind::Array(_)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            ValueKind::Array(items.map(|item| Value::new(None, item)).collect())
        }
        _ => ValueKind::String(text),
    }
}

fn kind_of(value: &DeValue<'_>) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| ValueKind::String(number.to_string()), ValueKind::I128),
        DeValue::Float(number) => number.as_str().parse().map_or(ValueKind::Nil, ValueKind::Float),
        DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Array(items) => {
            ValueKind::Array(items.iter().map(|item| Value::new(None, kind_of(item.get_ref()))).collect())
        }
        // No key holds a table, so what is in it does not matter.
        DeValue::Table(_) => ValueKind::Table(Map::new()),
    }
}

/// A broken line, and below the broken header of a section every line up to the next header, for it is open where
/// they belong.
fn doubtful_lines(text: &str, broken: usize) -> Option<Range<usize>> {
    let is_header = |content: &str| content.trim_start().starts_with('[');
    let mut lines = text.lines().zip(1..).skip_while(|(_, line)| *line < broken);
    let (content, _) = lines.next()?;
    let end = if is_header(content) {
        lines.find(|(content, _)| is_header(content)).map_or(usize::MAX, |(_, line)| line)
    } else {
        broken + 1
    };
    Some(broken..end)
}

fn place(file: &str, text: &str, span: Range<usize>) -> Place {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).map_or(0, |line| line.chars().count()) + 1;
    Place::Line { file: file.to_owned(), line: before.matches('\n').count() + 1, column }
}

fn known(dotted: &str) -> Option<&'static str> {
    KEYS.iter().copied().find(|key| *key == dotted)
}

fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(|key| key.split_once('.')).map(|(section, _)| section)
}

/// The section that has such a key.
fn elsewhere(key: &str) -> Option<&'static str> {
    KEYS.iter().filter_map(|dotted| dotted.split_once('.')).find(|(_, name)| *name == key).map(|(section, _)| section)
}

/// What may have been meant: the same name in another section before a similar one in this.
fn hint(section: &str, key: &str) -> String {
    let siblings = KEYS.iter().filter_map(|dotted| dotted.split_once('.')).filter(|(home, _)| *home == section);
    match (elsewhere(key), nearest(key, siblings.map(|(_, name)| name))) {
        (Some(home), _) => format!("; it belongs in [{home}]"),
        (None, Some(near)) => format!("; did you mean {near}?"),
        (None, None) => String::new(),
    }
}

fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
