//! Goal: imports point down only, so that every room can be understood with the rooms below it alone.
//! Method: every path that begins with `crate::`, `super::` or `doorstep::` in any file under `src` is
//! resolved to the room it leads to, and must be on the list of what the room may use.

use crate::source::{Source, code_of, rust_files};

/// Every room may stand on these; they know one another and nothing else.
const GROUND: [&str; 15] = [
    "ids", "message", "presence", "codes", "limits", "logged", "maps", "patience", "clock", "shutdown", "metrics",
    "cores", "planted", "history", "pages",
];

/// Each room and what it may use beside the ground, from the ground up.
const ROOMS: [(&str, &[&str]); 11] = [
    ("protocol", &[]),
    ("config", &[]),
    ("store", &["config"]),
    ("routing", &["config", "store"]),
    ("gateway", &["config", "protocol", "routing"]),
    ("admin", &["config", "routing", "store"]),
    ("client", &["protocol"]),
    ("telemetry", &["config"]),
    ("daemon", &["config", "protocol", "store", "routing", "gateway", "admin", "telemetry"]),
    ("cli", &["config", "protocol", "client", "telemetry", "daemon"]),
    ("main", &["cli", "config", "telemetry", "daemon"]),
];

/// Rooms that hold decisions only: no I/O, no clock, no randomness, nothing to wait for.
const PURE: [&str; 2] = ["src/routing/", "src/protocol/"];

/// The shell around the pure core: what runs the owners, carries their mail and reads for them.
const SHELL: [&str; 4] =
    ["src/routing/shard.rs", "src/routing/reads.rs", "src/routing/router.rs", "src/routing/reporter.rs"];

/// What a pure file must not name.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "fastrand",
    "tokio::time",
    "tokio::spawn",
    ".await",
];

#[test]
fn every_import_points_down() {
    let mut faults = Vec::new();
    for file in rust_files("src").iter().filter(|file| !is_test(&file.path)) {
        faults.extend(paths_of(file).iter().filter_map(|path| fault_in(&file.path, path)));
    }
    assert!(faults.is_empty(), "imports that do not point down:\n  {}", faults.join("\n  "));
}

/// A room's own tests may build what the room only uses.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs") || path.ends_with("/testing.rs")
}

#[test]
fn every_room_is_on_the_list() {
    let unknown: Vec<_> =
        rust_files("src").iter().map(|file| room_of(&file.path)).filter(|room| !is_known(room)).collect();
    assert!(unknown.is_empty(), "rooms without a layer: {unknown:?}");
}

#[test]
fn what_decides_is_pure() {
    let mut faults = Vec::new();
    let pure = |file: &Source| PURE.iter().any(|room| file.path.starts_with(room)) && !SHELL.contains(&&*file.path);
    for file in rust_files("src").into_iter().filter(pure) {
        let words = format!(" {} ", words_of(&code_of(&file.text)).join(" "));
        let named = IMPURE.iter().filter(|mark| words.contains(&format!(" {} ", words_of(mark).join(" "))));
        faults.extend(named.map(|mark| format!("{}: {mark}", file.path)));
    }
    assert!(faults.is_empty(), "these belong in a shell:\n  {}", faults.join("\n  "));
}

#[test]
fn one_file_names_the_storage_engine() {
    let names_it = |file: &Source| code_of(&file.text).contains("fjall::");
    let named: Vec<_> = rust_files("src").into_iter().filter(names_it).map(|file| file.path).collect();
    assert!(named.len() <= 1, "the engine can only be changed if one file knows it: {named:?}");
}

/// What is wrong with `file` using `path`, if anything.
fn fault_in(file: &str, path: &[String]) -> Option<String> {
    let room = room_of(file);
    let target = path.first()?.as_str();
    let named = || format!("{file}: crate::{}", path.join("::"));
    // Items of the crate root, such as macros, and names that are no rooms are not edges.
    if target == room || !is_known(target) || room == "lib" {
        return None;
    }
    let below = ROOMS.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, below)| below);
    if !GROUND.contains(&target) && !below.contains(&target) {
        return Some(format!("{} ({room} must not know {target})", named()));
    }
    if room == "admin" && target == "store" && !reads_only(path) {
        return Some(format!("{} (admin may read the store and do nothing else to it)", named()));
    }
    if room == "cli" && target == "daemon" && file != "src/cli/serve.rs" {
        return Some(format!("{} (commands talk to the daemon through its sockets; only serve runs it)", named()));
    }
    None
}

/// `store::reader…` and the types of the contract; not the module as a whole, which leads anywhere.
fn reads_only(path: &[String]) -> bool {
    path.get(1).is_some_and(|next| next == "reader" || next.starts_with(char::is_uppercase))
}

fn is_known(room: &str) -> bool {
    GROUND.contains(&room) || room == "lib" || ROOMS.iter().any(|(name, _)| *name == room)
}

/// `src/gateway/session.rs` → `gateway`, `src/ids.rs` → `ids`.
fn room_of(path: &str) -> String {
    modules_of(path).into_iter().next().unwrap_or_else(|| "lib".to_owned())
}

/// The module a file is: `src/gateway/session.rs` → `gateway`, `session`; `src/lib.rs` → nothing.
fn modules_of(path: &str) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
    let mut modules: Vec<_> = inner.split('/').map(str::to_owned).collect();
    if modules.last().is_some_and(|last| last == "mod" || inner == "lib") {
        modules.pop();
    }
    modules
}

/// Every path in the code that leaves its module, resolved to begin at the crate's root.
fn paths_of(file: &Source) -> Vec<Vec<String>> {
    let words = words_of(&code_of(&file.text));
    let mut paths = Vec::new();
    for at in 0..words.len() {
        let begins = words.get(at + 1).is_some_and(|next| next == "::") && (at == 0 || words[at - 1] != "::");
        if !begins {
            continue;
        }
        let mut from = match words[at].as_str() {
            "crate" | "doorstep" => Vec::new(),
            "super" => modules_of(&file.path),
            _ => continue,
        };
        let mut next = at;
        while words[next] == "super" {
            // One `super` too many for the file is a nested module's way to the file itself.
            from.pop();
            next += 2;
        }
        if words[next] == "crate" || words[next] == "doorstep" {
            next += 2;
        }
        branches(&words, &mut next, from, &mut paths);
    }
    paths
}

/// Follows one path from `words[*at]`, and every branch of its braces.
fn branches(words: &[String], at: &mut usize, mut path: Vec<String>, found: &mut Vec<Vec<String>>) {
    while let Some(word) = words.get(*at) {
        *at += 1;
        if word == "{" {
            while words.get(*at).is_some_and(|word| word != "}") {
                branches(words, at, path.clone(), found);
                // Whatever stands between two branches: a comma, or a new name after `as`.
                while words
                    .get(*at)
                    .is_some_and(|word| word != "}" && words.get(*at - 1).is_none_or(|before| before != ","))
                {
                    *at += 1;
                }
            }
            *at += 1;
            return;
        }
        if word != "self" {
            path.push(word.clone());
        }
        if words.get(*at).is_none_or(|next| next != "::") {
            break;
        }
        *at += 1;
    }
    found.push(path);
}

/// Names, `::`, and every other character that is not space.
fn words_of(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let taken = if rest.starts_with("::") { 2 } else { name.max(first.len_utf8()) };
        words.push(rest[..taken].to_owned());
        rest = rest[taken..].trim_start();
    }
    words
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = "
use crate::ids::{self, Seq, UserId as User};
use crate::{store::{reader::Reader, StoreError}, config};
use super::super::protocol::frames;
use super::shard;
// use crate::comment::X;
fn f(x: crate::gateway::Y) -> &str { \"crate::text::X\" }
mod tests { use super::super::inbox::*; }
";
    let file = Source { path: "src/routing/state.rs".to_owned(), text: text.to_owned() };
    let found: Vec<_> = paths_of(&file).iter().map(|path| path.join("::")).collect();
    let expected = [
        "ids",
        "ids::Seq",
        "ids::UserId",
        "store::reader::Reader",
        "store::StoreError",
        "config",
        "protocol::frames",
        "routing::shard",
        "gateway::Y",
        "inbox::*",
    ];
    assert_eq!(found, expected);
}

#[test]
fn upward_sideways_and_forbidden_edges_are_found() {
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let bad = [
        ("src/ids.rs", "config::Config"),
        ("src/store/writer.rs", "routing::command"),
        ("src/routing/state.rs", "protocol::frames"),
        ("src/gateway/mod.rs", "admin::X"),
        ("src/gateway/outbox.rs", "store::StoreError"),
        ("src/client/mod.rs", "config::Config"),
        ("src/cli/queues.rs", "daemon::serve"),
        ("src/cli/serve.rs", "routing::router"),
        ("src/admin/mod.rs", "store::writer::Writer"),
        ("src/admin/mod.rs", "store"),
    ];
    for (file, used) in bad {
        assert!(fault_in(file, &path(used)).is_some(), "{file} may use {used}");
    }
    let good = [
        ("src/ids.rs", "limits::X"),
        ("src/routing/shard.rs", "store::writer::Writer"),
        ("src/admin/queues.rs", "store::reader::Reader"),
        ("src/admin/queues.rs", "store::DeadLetter"),
        ("src/cli/serve.rs", "daemon::serve"),
        ("src/main.rs", "cli::run"),
    ];
    for (file, used) in good {
        assert_eq!(fault_in(file, &path(used)), None);
    }
}
