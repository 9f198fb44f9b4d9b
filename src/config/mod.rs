//! What was written (`router.toml`, the environment) → what it means (`Config`).
//!
//! Every key is documented once, in `router.toml` at the root of the repository, which is built in as the default,
//! and declared once, in `sections`. Promises: every mistake is reported, not the first one; each with its file and
//! line or the name of its variable; and no value is bent into its range behind the operator's back.

mod check;
mod error;
mod keys;
mod kinds;
mod layers;
mod sections;
mod units;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value as Json;

pub use error::{ConfigError, ConfigErrors, Place};
pub use keys::{KeyError, checking_key, read_secret};
pub use sections::{Admin, Auth, Gateway, Jwt, JwtAlgorithm, Limits, Log, LogFormat};
pub use sections::{Presence, Queue, Routing, Shutdown, Store};
pub use units::{format_bytes, format_duration, parse_bytes, parse_duration};

use layers::{Layer, Reader};
use sections::{AuthKeys, Entry};

/// The file that is read from the working directory when none is named.
pub const FILE_NAME: &str = "router.toml";
/// The built-in defaults, comments included.
pub const DEFAULT_TOML: &str = include_str!("../../router.toml");

const FILE_BYTES_MAX: u64 = 1 << 20;

/// The whole configuration. One that came from `load` is checked; one that a program put together may ask `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub gateway: Gateway,
    pub auth: Auth,
    pub limits: Limits,
    pub routing: Routing,
    pub queue: Queue,
    pub store: Store,
    pub presence: Presence,
    pub admin: Admin,
    pub shutdown: Shutdown,
    pub log: Log,
}

/// The built-in defaults, overridden by the file, overridden by `DOORSTEP__SECTION__KEY` variables.
///
/// Without a `path`, `router.toml` in the working directory is read if it is there; a `path` that is given must exist.
/// Pass `std::env::vars_os()` as the environment. Fails with every mistake that was found.
pub fn load<K: Into<OsString>, V: Into<OsString>>(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (K, V)>,
) -> Result<Config, ConfigErrors> {
    layered(path, environment, |_, _| None)
}

/// The same for whoever is to serve by it, or to say whether one could: the key file must be usable as well. Other
/// commands do not need the key, and may not be allowed to read it.
pub fn load_to_serve<K: Into<OsString>, V: Into<OsString>>(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (K, V)>,
) -> Result<Config, ConfigErrors> {
    layered(path, environment, unusable_key)
}

/// The effective configuration for programs; secrets are in files of their own and never part of it.
pub fn to_json(config: &Config) -> Json {
    let mut root = serde_json::Map::new();
    for entry in config.entries() {
        let (section, key) = entry.key.split_once('.').unwrap_or(("", entry.key));
        let table = root.entry(section).or_insert_with(|| Json::Object(serde_json::Map::new()));
        if let Json::Object(table) = table {
            table.insert(key.to_owned(), entry.value);
        }
    }
    Json::Object(root)
}

impl Default for Config {
    /// The built-in `router.toml`.
    #[allow(clippy::expect_used, reason = "the file is part of the program, and a test holds it to this")]
    fn default() -> Self {
        let defaults = Layer::from_toml(FILE_NAME, DEFAULT_TOML);
        resolve(&defaults, &[], |_, _| None).expect("the built-in router.toml is complete and without mistakes")
    }
}

impl Config {
    /// Checks ranges and what must hold between keys, for configurations that did not come from `load`.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let complain = |fault: Fault| ConfigError { place: Place::Unwritten, message: fault.message };
        let mut faults = self.out_of_range(&BTreeMap::new());
        faults.extend(self.contradictions(&faults));
        ConfigErrors::unless_empty(faults.into_iter().map(complain).collect())
    }

    /// Whether the gateway serves the demo page. It lets people name themselves, which only auth mode `none` does.
    pub fn has_demo(&self) -> bool {
        self.gateway.demo && matches!(self.auth, Auth::None)
    }

    /// The effective configuration as a file that `load` reads back; a key that is not at its default says so.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut open = "";
        for (entry, default) in self.entries().into_iter().zip(Self::default().entries()) {
            let (section, key) = entry.key.split_once('.').unwrap_or(("", entry.key));
            if section != open {
                text += if open.is_empty() { "" } else { "\n" };
                text += &format!("[{section}]\n");
                open = section;
            }
            text += &format!("{key} = {}", toml_value(&entry.value));
            if entry.value != default.value {
                text += &format!("  # default: {}", toml_value(&default.value));
            }
            text.push('\n');
        }
        text
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        let gateway = Gateway::read(reader);
        let auth = AuthKeys::read(reader).map(AuthKeys::meaning);
        let limits = Limits::read(reader);
        let routing = Routing::read(reader);
        let queue = Queue::read(reader);
        let store = Store::read(reader);
        let presence = Presence::read(reader);
        let admin = Admin::read(reader);
        let shutdown = Shutdown::read(reader);
        let log = Log::read(reader);
        Some(Self {
            gateway: gateway?,
            auth: auth?,
            limits: limits?,
            routing: routing?,
            queue: queue?,
            store: store?,
            presence: presence?,
            admin: admin?,
            shutdown: shutdown?,
            log: log?,
        })
    }

    /// Every key with its value, in the order of `router.toml`.
    fn entries(&self) -> Vec<Entry> {
        let Self { gateway, auth, limits, routing, queue, store, presence, admin, shutdown, log } = self;
        let sections = [
            gateway.entries(),
            AuthKeys::of(auth).entries(),
            limits.entries(),
            routing.entries(),
            queue.entries(),
            store.entries(),
            presence.entries(),
            admin.entries(),
            shutdown.entries(),
            log.entries(),
        ];
        sections.into_iter().flatten().collect()
    }

    /// What is out of range, but for keys that hold a default because they could not be read.
    fn out_of_range(&self, unread: &BTreeMap<&'static str, String>) -> Vec<Fault> {
        let read = self.entries().into_iter().filter(|entry| !unread.contains_key(entry.key));
        read.filter_map(|entry| Some(Fault::new([entry.key; 2], &entry.fault?))).collect()
    }

    /// What contradicts what, as far as it does not follow from a key that is at fault already.
    fn contradictions(&self, known: &[Fault]) -> Vec<Fault> {
        let is_known = |key: &&'static str| known.iter().any(|fault| fault.keys.contains(key));
        let found = check::contradictions(self).into_iter().filter(|found| !found.keys.iter().any(is_known));
        found.map(|found| Fault::new(found.keys, &found.message)).collect()
    }
}

/// A mistake in the values, not yet traced to where they were written.
struct Fault {
    /// The key it is about, and the other one it has to do with.
    keys: [&'static str; 2],
    message: String,
}

impl Fault {
    fn new(keys: [&'static str; 2], message: &str) -> Self {
        Self { keys, message: format!("{}: {message}", keys[0]) }
    }

    /// Points at the layer that won, and of two keys at one that somebody wrote.
    fn traced(self, layers: &[&Layer]) -> ConfigError {
        let written = |key| layers.iter().rev().find_map(|layer| layer.places.get(key));
        let place = self.keys.into_iter().find_map(written);
        ConfigError { place: place.cloned().unwrap_or(Place::Unwritten), message: self.message }
    }
}

/// Looks at what the configuration leads to, knowing what is wrong with it already.
type Look = fn(&Config, &[Fault]) -> Option<Fault>;

fn layered<K: Into<OsString>, V: Into<OsString>>(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (K, V)>,
    look: Look,
) -> Result<Config, ConfigErrors> {
    let defaults = Layer::from_toml(FILE_NAME, DEFAULT_TOML);
    let file = file_layer(path);
    let variables = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
    let environment = Layer::from_environment(variables, &defaults);
    resolve(&defaults, &[&file, &environment], look)
}

/// A key is tried only where it is sure which, and for what.
fn unusable_key(config: &Config, known: &[Fault]) -> Option<Fault> {
    const KEY_FILE: &str = "auth.key_file";
    let Auth::Jwt(jwt) = &config.auth else { return None };
    let about = |key: &&str| ["auth.mode", "auth.algorithm", KEY_FILE].contains(key);
    if known.iter().any(|fault| fault.keys.iter().any(about)) {
        return None;
    }
    let error = checking_key(jwt).err()?;
    Some(Fault::new([KEY_FILE; 2], &error.to_string()))
}

fn resolve(defaults: &Layer, layers: &[&Layer], look: Look) -> Result<Config, ConfigErrors> {
    let mut errors: Vec<_> = layers.iter().chain([&defaults]).flat_map(|layer| layer.errors.clone()).collect();
    let mut reader = Reader::new(defaults, layers);
    let Some(config) = Config::read(&mut reader) else {
        return Err(ConfigErrors::only(Place::Unwritten, "the built-in defaults lack a key"));
    };
    let mut faults: Vec<_> = reader.faults.iter().map(|(key, message)| Fault::new([key; 2], message)).collect();
    faults.extend(config.out_of_range(&reader.faults));
    // Behind a syntax error the key that would resolve the contradiction may have been lost.
    if !layers.iter().any(|layer| layer.is_broken) {
        faults.extend(config.contradictions(&faults));
        faults.extend(look(&config, &faults));
    }
    errors.extend(faults.into_iter().map(|fault| fault.traced(layers)));
    ConfigErrors::unless_empty(errors).map(|()| config)
}

fn file_layer(path: Option<&Path>) -> Layer {
    let named = path.unwrap_or(Path::new(FILE_NAME));
    match read_file(named) {
        Ok(text) => Layer::from_toml(&named.display().to_string(), &text),
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => Layer::default(),
        Err(error) => Layer::unreadable(&named.display().to_string(), &error),
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read <= FILE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "is longer than 1 MiB"))
    }
}

fn toml_value(value: &Json) -> String {
    toml::Value::try_from(value).map_or_else(|_| "\"\"".to_owned(), |value| value.to_string())
}
