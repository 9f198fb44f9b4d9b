//! What is on the disk. A store of made-up keys and records is opened and read through everything that reads it: a
//! record is used only when its checksum is right and its fields are whole, the others are reported and cost nothing
//! but themselves.
//!
//! The layout is written down here once more, from `proto-docs/store-format.md`, so that it is held to the page and
//! not to itself.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use doorstep::config::Config;
use doorstep::ids::{MessageId, Seq, UserId};
use doorstep::metrics::Metrics;
use doorstep::store::engine::{Change, Engine, Keyspace};
use doorstep::store::memory::MemoryEngine;
use doorstep::store::reader::{QueueSort, Reader};
use doorstep::store::writer::Cellar;
use doorstep::store::{DedupeKey, HashKey, Page, dedupe_key};
use xxhash_rust::xxh3::xxh3_64;

use super::Verdict;
use super::bytes::Bytes;

/// The defaults; reading them takes longer than everything else.
static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

const META: [&str; 9] = ["format", "ceiling", "clean", "totals", "dead", "dedupe0", "dedupe1", "window", "unclean"];
const NOW_MS: u64 = 1_800_000_000_000;
/// Whom the made-up keys are about.
const USER: &str = "bob";
const SEQS: [Seq; 2] = [Seq::ZERO, Seq(u64::MAX)];
const HEADER_BYTES: usize = 9;
const FORMAT: u64 = 2;
const HASH_KEY: HashKey = HashKey([1, 2]);
/// `flags ts_ms expires_ms messages bytes` of a message.
const NUMBERS_BYTES: usize = 33;

type Entries = BTreeMap<(Keyspace, Vec<u8>), Vec<u8>>;

pub fn hold(data: &[u8]) -> Verdict {
    let entries = entries(data);
    let engine = MemoryEngine::new();
    let mut changes = Vec::new();
    for ((keyspace, key), value) in &entries {
        changes.push(Change { keyspace: *keyspace, key, value: Some(value) });
    }
    engine.commit(&changes).unwrap();
    let Config { store, queue, .. } = &*CONFIG;
    let Ok(cellar) = Cellar::open_on(engine.clone(), store, queue, Metrics::new(), NOW_MS) else {
        // Only these two are needed to be safe.
        assert!(["format", "ceiling"].iter().any(|key| is_unusable(&entries, key)), "refused without a reason");
        return Verdict::Refused;
    };
    assert!(!["format", "ceiling"].iter().any(|key| is_unusable(&entries, key)), "opened all the same");
    assert!(cellar.boot.records_read <= 100);
    let read = read_all(&cellar.reader, &entries);
    drop(engine);
    if read > 0 { Verdict::Accepted } else { Verdict::Refused }
}

/// Everything that can be asked of a store; returns how many records were of use.
fn read_all(reader: &Reader, entries: &Entries) -> usize {
    let user = UserId::new(USER).unwrap();
    let page = reader.page(&user, SEQS[0], SEQS[1], usize::MAX, u64::MAX).unwrap();
    is_what_lies_there(&page, &user, entries);
    let loaded = reader.load(&user).unwrap();
    let dedupe = reader.dedupe(&message()).unwrap();
    let due = reader.due(u64::MAX, usize::MAX).unwrap();
    let deadline = Instant::now() + Duration::from_secs(3600);
    for sort in [QueueSort::Depth, QueueSort::Bytes, QueueSort::Age] {
        reader.queues(sort, 2, deadline).unwrap();
    }
    let users = reader.users(None, usize::MAX).unwrap();
    assert!(users.is_sorted());
    let letters = reader.dead_letters(None, usize::MAX).unwrap();
    for (number, letter) in &letters {
        let record = &entries[&(Keyspace::Dead, number.to_be_bytes().to_vec())];
        assert!(is_sound(record), "a damaged letter was read: {letter:?}");
    }
    page.messages.len() + loaded.devices.len() + usize::from(dedupe.is_some()) + due.len() + letters.len()
}

/// Each record of the range is a message that says what it says, or is reported as damaged.
fn is_what_lies_there(page: &Page, user: &UserId, entries: &Entries) {
    assert!(page.end);
    let prefix = [&spread()[..], user.as_str().as_bytes(), &[0]].concat();
    let of_user = |key: &[u8]| key.len() == prefix.len() + 8 && key.starts_with(&prefix);
    let lies: BTreeMap<u64, &[u8]> = entries
        .iter()
        .filter(|((keyspace, key), _)| *keyspace == Keyspace::Inbox && of_user(key))
        .map(|((_, key), record)| (u64::from_be_bytes(*key.last_chunk().unwrap()), &record[..]))
        // What lies at zero is behind no cursor, and nothing can lie beyond the end.
        .filter(|(seq, _)| *seq != 0 && *seq != u64::MAX)
        .collect();
    for stored in &page.messages {
        let message = &stored.message;
        let record = lies[&message.seq.0];
        let expected = message_in(record).unwrap_or_else(|| panic!("not a message: {record:x?}"));
        assert_eq!((message.id.as_str(), message.from.as_str(), &message.body[..]), expected);
    }
    for (seq, _) in &page.corrupt {
        assert_eq!(message_in(lies[&seq.0]), None, "a sound record was called damaged");
    }
    let mut seqs: Vec<u64> = page.messages.iter().map(|stored| stored.message.seq.0).collect();
    assert!(seqs.is_sorted());
    seqs.extend(page.corrupt.iter().map(|(seq, _)| seq.0));
    seqs.sort_unstable();
    assert!(lies.into_keys().eq(seqs), "records were left out, or came twice");
}

/// Id, sender and body of a record that is a message.
fn message_in(record: &[u8]) -> Option<(&str, &str, &[u8])> {
    let fields = record.get(HEADER_BYTES..).filter(|_| is_sound(record))?;
    let (id, rest) = text(fields.get(NUMBERS_BYTES..)?)?;
    let (from, body) = text(rest)?;
    MessageId::new(id).ok()?;
    UserId::new(from).ok()?;
    Some((id, from, body))
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked((*length).into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// A record that the store cannot do without is there, and cannot be used: damaged, or of another format.
fn is_unusable(entries: &Entries, key: &str) -> bool {
    let numbers = if key == "format" { 3 } else { 2 };
    let Some(record) = entries.get(&(Keyspace::Meta, key.into())) else { return false };
    let Some(first) = record.get(HEADER_BYTES..HEADER_BYTES + 8) else { return true };
    let is_another = key == "format" && u64::from_be_bytes(first.try_into().unwrap()) != FORMAT;
    !is_sound(record) || record.len() < HEADER_BYTES + 8 * numbers || is_another
}

fn is_sound(record: &[u8]) -> bool {
    record.len() >= HEADER_BYTES && record[0] == 1 && record[1..9] == xxh3_64(&record[9..]).to_be_bytes()
}

/// Entries as the bytes have it: where each lies, whether its header is made right, its key, its record.
fn entries(data: &[u8]) -> Entries {
    let mut bytes = Bytes(data);
    // Other bytes may say something else.
    let format = [FORMAT, HASH_KEY.0[0], HASH_KEY.0[1]].map(u64::to_be_bytes).concat();
    let mut entries = Entries::from([((Keyspace::Meta, b"format".to_vec()), sealed(&format))]);
    while !bytes.is_empty() {
        let (place, how) = (bytes.byte(), bytes.byte());
        let keyspace = Keyspace::ALL[usize::from(place) % Keyspace::ALL.len()];
        let key = key(keyspace, how, bytes.short());
        let fields = bytes.short();
        let record = if how & 1 == 0 { sealed(fields) } else { fields.to_vec() };
        entries.insert((keyspace, key), record);
    }
    entries
}

/// Mostly keys that will be read; sometimes any bytes at all.
fn key(keyspace: Keyspace, how: u8, bytes: &[u8]) -> Vec<u8> {
    let name = [USER.as_bytes(), &[0]].concat();
    if how & 2 != 0 {
        return bytes.to_vec();
    }
    let mut number = [0; 8];
    number.iter_mut().rev().zip(bytes).for_each(|(place, byte)| *place = *byte);
    match keyspace {
        Keyspace::Inbox => [&spread()[..], &name, &number].concat(),
        Keyspace::Device => [&name[..], bytes].concat(),
        Keyspace::User => USER.into(),
        Keyspace::Dedupe0 | Keyspace::Dedupe1 => dedupe_key(HASH_KEY, &message()).to_vec(),
        Keyspace::Due => [&number[..], USER.as_bytes()].concat(),
        Keyspace::Dead => number.to_vec(),
        Keyspace::Meta => META[usize::from(number[7]) % META.len()].into(),
    }
}

/// What dedupe is asked about.
fn message() -> DedupeKey {
    let user = UserId::new(USER).unwrap();
    DedupeKey { recipient: user.clone(), from: user, id: MessageId::new("m").unwrap() }
}

/// What the keys of this user's messages begin with.
fn spread() -> [u8; 4] {
    (xxh3_64(USER.as_bytes()) as u32).to_be_bytes()
}

fn sealed(fields: &[u8]) -> Vec<u8> {
    [&[1][..], &xxh3_64(fields).to_be_bytes(), fields].concat()
}
