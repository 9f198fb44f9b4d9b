//! Pages and peeks; has no way to remove. Every call blocks: callers off the async threads only.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::{Engine, KeyRange, Keyspace, Order};
use super::shared::Shared;
use super::{
    DeadLetter, DedupeKey, DedupeRecord, DeviceRecord, FoundLetter, LoadedDevice, LoadedUser, Page, QueueSummary,
    StoreError, Stored, UserRecord,
};
use super::{dead, keys, record};
use crate::ids::{DeviceId, Seq, UserId};
use crate::message::Tally;

/// Damaged records at one end of an inbox that are looked past to find a tally.
const DAMAGED_MAX: u64 = 64;

/// A read-only handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// How [`Reader::queues`] sorts, greatest (or oldest) first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueSort {
    Depth,
    Bytes,
    Age,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All there is to know of a user, in a bounded number of reads. An unknown user is an empty answer.
    ///
    /// The inbox is looked at from the least cursor on: whoever moves a cursor removes what is no
    /// longer needed in the same [`What::Change`](super::What::Change).
    pub fn load(&self, user: &UserId) -> Result<LoadedUser, StoreError> {
        let mut devices = self.devices(user)?;
        // A device that cannot be read may lack everything.
        let cursor =
            |entry: &Result<(_, DeviceRecord), _>| entry.as_ref().map_or(Seq::ZERO, |(_, record)| record.cursor);
        let least = devices.iter().map(cursor).min().unwrap_or(Seq::ZERO);
        let first = self.edge(&inbox_after(user, least), Order::Ascending)?;
        let last = match first {
            Some(_) => self.edge(&inbox_after(user, least), Order::Descending)?,
            None => None,
        };
        let mut loaded = Vec::with_capacity(devices.len());
        for entry in devices.drain(..) {
            let (device, record) = match entry {
                Ok(sound) => sound,
                // Its cursor is lost: everything that is there goes out again, marked as redelivered.
                Err(device) => {
                    let pushed_upto = last.as_ref().map_or(Seq::ZERO, |edge| edge.seq);
                    (device, DeviceRecord { pushed_upto, ..DeviceRecord::default() })
                }
            };
            let base = match &first {
                Some(first) if record.cursor < first.seq => Some(first.before),
                _ => self.edge(&inbox_after(user, record.cursor), Order::Ascending)?.map(|edge| edge.before),
            };
            loaded.push(LoadedDevice { device, record, base });
        }
        Ok(LoadedUser {
            record: self.user(user)?,
            devices: loaded,
            first: first.map(|edge| (edge.seq, edge.tally, edge.weight)),
            last: last.map(|edge| (edge.seq, edge.tally)),
            has_dedupe: self.has_dedupe(user)?,
        })
    }

    /// Messages with `after < seq <= upto`, in order, at most `max_messages` and about `max_bytes`
    /// (always at least one when there is one).
    pub fn page(
        &self,
        user: &UserId,
        after: Seq,
        upto: Seq,
        max_messages: usize,
        max_bytes: u64,
    ) -> Result<Page, StoreError> {
        let mut page = Page { end: true, ..Page::default() };
        let mut bytes = 0;
        let range = keys::inbox_range(user, after, upto);
        self.engine().scan(Keyspace::Inbox, &range, Order::Ascending, &mut |key, value| {
            let Some(seq) = keys::inbox_seq(key) else { return ControlFlow::Continue(()) };
            let taken = page.messages.len() + page.corrupt.len();
            let size = value.len() as u64;
            if taken > 0 && (taken >= max_messages || bytes + size > max_bytes) {
                page.end = false;
                return ControlFlow::Break(());
            }
            bytes += size;
            match self.message(user, seq, value) {
                Some(stored) => page.messages.push(stored),
                None => page.corrupt.push((seq, record::weight_of_record(size))),
            }
            ControlFlow::Continue(())
        })?;
        Ok(page)
    }

    pub fn dedupe(&self, key: &DedupeKey) -> Result<Option<DedupeRecord>, StoreError> {
        let key = keys::dedupe(self.shared.hash_key, key);
        for keyspace in self.shared.epochs.readable() {
            let Some(value) = self.engine().get(keyspace, &key)? else { continue };
            match record::decode_dedupe(&value) {
                Ok(found) => return Ok(Some(found)),
                Err(error) => self.report_damage(keyspace, &error),
            }
        }
        Ok(None)
    }

    /// Users whose due time is at or before `now_ms`, oldest first, at most `limit`.
    pub fn due(&self, now_ms: u64, limit: usize) -> Result<Vec<(UserId, u64)>, StoreError> {
        let hint = self.shared.due.look();
        let upto = keys::minute_before(now_ms);
        let mut due = Vec::new();
        let mut beginning = upto.saturating_add(1);
        let range = keys::due_range(hint.beginning(), upto);
        self.engine().scan(Keyspace::Due, &range, Order::Ascending, &mut |key, _| {
            let Some((minute, user)) = keys::split_due(key) else { return ControlFlow::Continue(()) };
            beginning = beginning.min(minute);
            if due.len() < limit {
                due.push((user, keys::minute_ms(minute)));
            }
            if due.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.shared.due.raise(hint, beginning);
        Ok(due)
    }

    /// Users with a backlog; the flag is false when `deadline` cut the scan short.
    ///
    /// Costs two reads a user however long the queues are, and keeps at most `2 * limit` answers.
    pub fn queues(
        &self,
        sort: QueueSort,
        limit: usize,
        deadline: Instant,
    ) -> Result<(Vec<QueueSummary>, bool), StoreError> {
        let mut found = Vec::new();
        let mut rest = keys::inboxes_from(Vec::new());
        let mut complete = true;
        while let Some(user) = self.next_user(Keyspace::Inbox, &rest)? {
            if Instant::now() >= deadline {
                complete = false;
                break;
            }
            rest.from = keys::past_inbox(&user);
            found.extend(self.summary(user)?);
            if found.len() >= limit.saturating_mul(2).max(1) {
                keep_foremost(&mut found, sort, limit);
            }
        }
        keep_foremost(&mut found, sort, limit);
        Ok((found, complete))
    }

    /// Users with a registered device, in name order after `after`.
    pub fn users(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        let mut users = Vec::new();
        let mut rest = keys::devices_from(after.map(keys::past_devices).unwrap_or_default());
        while users.len() < limit {
            let Some(user) = self.next_user(Keyspace::Device, &rest)? else { break };
            rest.from = keys::past_devices(&user);
            users.push(user);
        }
        Ok(users)
    }

    /// Dead letters, oldest first, after the opaque key `after`; each with its own key.
    pub fn dead_letters(&self, after: Option<u64>, limit: usize) -> Result<Vec<(u64, DeadLetter)>, StoreError> {
        let mut letters = Vec::new();
        let range = keys::dead_from(after.map_or(0, |after| after.saturating_add(1)));
        if limit == 0 {
            return Ok(letters);
        }
        self.engine().scan(Keyspace::Dead, &range, Order::Ascending, &mut |key, value| {
            match (keys::split_dead(key), record::decode_dead(value)) {
                (Some(number), Ok(letter)) => letters.push((number, letter)),
                (_, Err(error)) => self.report_damage(Keyspace::Dead, &error),
                (None, _) => {}
            }
            if letters.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(letters)
    }

    /// One dead letter by the number that [`Reader::dead_letters`] gave for it.
    pub fn dead_letter(&self, number: u64) -> Result<FoundLetter, StoreError> {
        let Some(value) = self.engine().get(Keyspace::Dead, &keys::dead(number))? else {
            return Ok(FoundLetter::Absent);
        };
        let letter = record::decode_dead(&value).inspect_err(|error| self.report_damage(Keyspace::Dead, error)).ok();
        let whole = letter.and_then(|DeadLetter { user, message, .. }| {
            Some(FoundLetter::Whole { user, message: message?, bytes: dead::bytes_of(&value) })
        });
        Ok(whole.unwrap_or(FoundLetter::Unreadable))
    }

    /// Messages and bytes in all inboxes.
    pub fn totals(&self) -> (u64, u64) {
        self.shared.totals()
    }

    /// Free bytes on the file system that holds the store; 0 when that cannot be told.
    pub fn disk_free(&self) -> u64 {
        self.engine().disk_free().unwrap_or(0)
    }

    /// Bytes that the store takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.engine().disk_bytes()
    }

    /// How long the commit under way has taken so far; zero when there is none.
    pub fn commit_running(&self) -> Duration {
        self.shared.commit_running()
    }

    /// The highest seq that may be given out.
    pub fn ceiling(&self) -> Seq {
        self.shared.ceiling()
    }

    fn engine(&self) -> &dyn Engine {
        &*self.shared.engine
    }

    fn user(&self, user: &UserId) -> Result<UserRecord, StoreError> {
        let Some(value) = self.engine().get(Keyspace::User, &keys::user(user))? else {
            return Ok(UserRecord::default());
        };
        Ok(record::decode_user(&value).unwrap_or_else(|error| {
            self.report_damage(Keyspace::User, &error);
            UserRecord::default()
        }))
    }

    /// A device whose record is damaged is an `Err` with its name.
    #[allow(clippy::type_complexity, reason = "used once, right above")]
    fn devices(&self, user: &UserId) -> Result<Vec<Result<(DeviceId, DeviceRecord), DeviceId>>, StoreError> {
        let mut devices = Vec::new();
        let range = keys::devices(user);
        self.engine().scan(Keyspace::Device, &range, Order::Ascending, &mut |key, value| {
            if let Some((_, device)) = keys::split_device(key) {
                devices.push(match record::decode_device(value) {
                    Ok(record) => Ok((device, record)),
                    Err(error) => {
                        self.report_damage(Keyspace::Device, &error);
                        Err(device)
                    }
                });
            }
            ControlFlow::Continue(())
        })?;
        Ok(devices)
    }

    fn has_dedupe(&self, user: &UserId) -> Result<bool, StoreError> {
        let range = keys::dedupe_range(user);
        for keyspace in self.shared.epochs.readable() {
            let mut found = false;
            self.engine().scan(keyspace, &range, Order::Ascending, &mut |_, _| {
                found = true;
                ControlFlow::Break(())
            })?;
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The outermost message of a range. Damaged records out there count as the messages that they
    /// were, so that a message that cannot be read still shows as waiting.
    fn edge(&self, range: &KeyRange, order: Order) -> Result<Option<Edge>, StoreError> {
        let mut outermost = None;
        let mut damaged = Tally::default();
        let mut sound = None;
        self.engine().scan(Keyspace::Inbox, range, order, &mut |key, value| {
            let Some(seq) = keys::inbox_seq(key) else { return ControlFlow::Continue(()) };
            let decoded = record::decode_message(seq, value).ok();
            let weight =
                decoded.as_ref().map_or(record::weight_of_record(value.len() as u64), |stored| stored.message.weight());
            outermost.get_or_insert((seq, weight));
            sound = decoded;
            if sound.is_none() {
                damaged = damaged.plus(weight);
            }
            let enough = sound.is_some() || damaged.messages >= DAMAGED_MAX;
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(outermost.map(|(seq, weight)| Edge::new(seq, weight, sound.as_ref(), damaged, order)))
    }

    fn summary(&self, user: UserId) -> Result<Option<QueueSummary>, StoreError> {
        let range = keys::whole_inbox(&user);
        let (first, last) = (self.edge(&range, Order::Ascending)?, self.edge(&range, Order::Descending)?);
        let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
        let waiting = last.tally.since(first.before);
        let oldest_ms = first.ts_ms;
        Ok(Some(QueueSummary { user, messages: waiting.messages, bytes: waiting.bytes, oldest_ms }))
    }

    /// The user of the first key in a keyspace whose keys begin with names.
    fn next_user(&self, keyspace: Keyspace, range: &KeyRange) -> Result<Option<UserId>, StoreError> {
        let mut user = None;
        self.engine().scan(keyspace, range, Order::Ascending, &mut |key, _| {
            user = match keyspace {
                Keyspace::Inbox => keys::split_inbox(key).map(|(user, _)| user),
                _ => keys::split_device(key).map(|(user, _)| user),
            };
            if user.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(user)
    }

    fn message(&self, user: &UserId, seq: Seq, value: &[u8]) -> Option<Stored> {
        record::decode_message(seq, value)
            .inspect_err(|error| tracing::error!(?user, %seq, %error, "a stored message cannot be read"))
            .ok()
    }

    /// For what has no owner to count it.
    fn report_damage(&self, keyspace: Keyspace, error: &record::RecordError) {
        self.shared.metrics.corrupt.inc();
        tracing::error!(keyspace = keyspace.name(), %error, "a stored record cannot be read");
    }
}

/// One end of an inbox.
struct Edge {
    seq: Seq,
    weight: u64,
    /// When it was sent, milliseconds; 0 when it cannot be read.
    ts_ms: u64,
    tally: Tally,
    /// The tally just before it.
    before: Tally,
}

impl Edge {
    /// `damaged` is what lies between the end and the first `sound` message, the end included.
    fn new(seq: Seq, weight: u64, sound: Option<&Stored>, damaged: Tally, order: Order) -> Self {
        let inner = sound.map_or(Tally::default(), |stored| stored.tally);
        let ts_ms = sound.map_or(0, |stored| stored.message.ts_ms);
        let before = match (order, sound) {
            (Order::Ascending, Some(stored)) => {
                inner.since(Tally::default().plus(stored.message.weight())).since(damaged)
            }
            (Order::Ascending, None) => Tally::default(),
            (Order::Descending, _) => inner.with(damaged).since(Tally::default().plus(weight)),
        };
        Self { seq, weight, ts_ms, tally: before.plus(weight), before }
    }
}

/// Everything of an inbox behind a cursor.
fn inbox_after(user: &UserId, cursor: Seq) -> KeyRange {
    keys::inbox_range(user, cursor, Seq(u64::MAX))
}

fn keep_foremost(found: &mut Vec<QueueSummary>, sort: QueueSort, limit: usize) {
    found.sort_by(|a, b| {
        let order = match sort {
            QueueSort::Depth => b.messages.cmp(&a.messages),
            QueueSort::Bytes => b.bytes.cmp(&a.bytes),
            QueueSort::Age => a.oldest_ms.cmp(&b.oldest_ms),
        };
        order.then_with(|| a.user.cmp(&b.user))
    });
    found.truncate(limit);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;
    use crate::store::dedupe::Epochs;
    use crate::store::engine::Change;
    use crate::store::memory::MemoryEngine;
    use crate::store::meta::Books;

    fn reader(engine: Arc<MemoryEngine>) -> Reader {
        let epochs = Epochs::new(Duration::from_secs(1), ([None; 2], 1_000), 0);
        Reader::new(Arc::new(Shared::new(engine, Metrics::new(), epochs, &Books::default())))
    }

    /// The seqs on a page of at most so many bytes of an inbox whose records are 100 bytes long. None of them can be
    /// read, which makes no difference to the room that they take.
    fn page(max_bytes: u64) -> (Vec<u64>, bool) {
        let (engine, bob) = (MemoryEngine::new(), "bob".parse().unwrap());
        for seq in [1, 2, 3] {
            let key = keys::inbox(&bob, Seq(seq));
            engine.commit(&[Change { keyspace: Keyspace::Inbox, key: &key, value: Some(&[0; 100]) }]).unwrap();
        }
        let page = reader(engine).page(&bob, Seq::ZERO, Seq::MAX, 10, max_bytes).unwrap();
        (page.corrupt.iter().map(|corrupt| corrupt.0.0).collect(), page.end)
    }

    #[test]
    fn a_page_is_filled_to_its_last_byte_and_never_empty() {
        assert_eq!(page(300), (vec![1, 2, 3], true));
        assert_eq!(page(299), (vec![1, 2], false));
        assert_eq!(page(200), (vec![1, 2], false));
        assert_eq!(page(199), (vec![1], false));
        assert_eq!(page(0), (vec![1], false));
    }

    #[test]
    fn what_is_said_of_the_disk_comes_from_the_engine() {
        let engine = MemoryEngine::new();
        engine.set_disk_free(Some(7_000));
        engine.commit(&[Change { keyspace: Keyspace::Meta, key: b"key", value: Some(&[0; 100]) }]).unwrap();
        let reader = reader(engine);
        assert_eq!((reader.disk_free(), reader.disk_bytes()), (7_000, 103));
    }

    #[test]
    fn a_commit_runs_from_when_it_was_begun_until_it_is_over() {
        const HOUR: Duration = Duration::from_secs(3600);
        let reader = reader(MemoryEngine::new());
        assert_eq!(reader.commit_running(), Duration::ZERO);
        reader.shared.note_commit(Some(Instant::now() - HOUR));
        assert!(reader.commit_running() >= HOUR);
        reader.shared.note_commit(None);
        assert_eq!(reader.commit_running(), Duration::ZERO);
    }
}
