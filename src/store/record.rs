//! The encoding of records: a version, a checksum, then the fields.
//!
//! Decoding never panics and never trusts a length: a short, damaged or newer record is an error
//! value, so that one bad record costs one message and not the inbox. Numbers are big-endian.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{DeadLetter, DeadReason, DedupeRecord, DeviceRecord, Stored, UserRecord};
use crate::ids::{DeviceId, IdError, MessageId, Seq, UserId};
use crate::message::{ENVELOPE_WEIGHT, Message, Tally};

/// The version that every record begins with.
const VERSION: u8 = 1;
/// Version and checksum.
const HEADER_BYTES: usize = 1 + 8;

/// A message's record but for the id, the sender and the body: header, flags, four numbers, two lengths.
const MESSAGE_FIXED_BYTES: u64 = HEADER_BYTES as u64 + 1 + 4 * 8 + 2;

const FLAG_RETRY: u8 = 1;
const FLAG_GAP: u8 = 1;

/// Why a record could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record ends too early")]
    Short,
    #[error("the checksum is wrong")]
    Checksum,
    #[error("the record has version {0}, this doorstep knows up to {VERSION}")]
    Newer(u8),
    #[error("a field has a value that it cannot have")]
    Field,
}

impl From<IdError> for RecordError {
    fn from(_: IdError) -> Self {
        Self::Field
    }
}

/// `flags ts_ms expires_ms tally.messages tally.bytes id from body`
pub fn put_message(message: &Message, tally: Tally, into: &mut Vec<u8>) {
    let mut record = Encoder::begin(into);
    record.message(message, tally);
    record.seal();
}

/// What the message in a record of this size weighed: decay changes bytes, not how many there are. With
/// the raw size instead, every damaged record would leave its difference in the totals for good.
pub fn weight_of_record(bytes: u64) -> u64 {
    bytes.saturating_sub(MESSAGE_FIXED_BYTES) + ENVELOPE_WEIGHT
}

/// The seq is in the key.
pub fn decode_message(seq: Seq, record: &[u8]) -> Result<Stored, RecordError> {
    take_message(seq, &mut Decoder::open(record)?)
}

/// `flags start cursor pushed_upto last_seen_ms`
pub fn put_device(device: &DeviceRecord, into: &mut Vec<u8>) {
    let mut record = Encoder::begin(into);
    record.u8(if device.gap { FLAG_GAP } else { 0 });
    record.u64(device.start.0);
    record.u64(device.cursor.0);
    record.u64(device.pushed_upto.0);
    record.u64(device.last_seen_ms);
    record.seal();
}

pub fn decode_device(record: &[u8]) -> Result<DeviceRecord, RecordError> {
    let mut fields = Decoder::open(record)?;
    let gap = fields.u8()? & FLAG_GAP != 0;
    let [start, cursor, pushed_upto, last_seen_ms] = [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
    Ok(DeviceRecord { start: Seq(start), cursor: Seq(cursor), pushed_upto: Seq(pushed_upto), last_seen_ms, gap })
}

/// `last_seen_ms presence_version`
pub fn put_user(user: &UserRecord, into: &mut Vec<u8>) {
    put_numbers([user.last_seen_ms, user.presence_version], into);
}

pub fn decode_user(record: &[u8]) -> Result<UserRecord, RecordError> {
    let [last_seen_ms, presence_version] = decode_numbers(record)?;
    Ok(UserRecord { last_seen_ms, presence_version })
}

/// `seq digest`
pub fn put_dedupe(dedupe: DedupeRecord, into: &mut Vec<u8>) {
    put_numbers([dedupe.seq.0, dedupe.digest], into);
}

pub fn decode_dedupe(record: &[u8]) -> Result<DedupeRecord, RecordError> {
    let [seq, digest] = decode_numbers(record)?;
    Ok(DedupeRecord { seq: Seq(seq), digest })
}

/// `reason seq buried_ms user device message?`; a device of no length stands for none.
pub fn put_dead(letter: &DeadLetter, into: &mut Vec<u8>) {
    let mut record = Encoder::begin(into);
    record.u8(reason_number(letter.reason));
    record.u64(letter.seq.0);
    record.u64(letter.buried_ms);
    record.text(letter.user.as_str());
    record.text(letter.device.as_ref().map_or("", DeviceId::as_str));
    record.u8(u8::from(letter.message.is_some()));
    if let Some(message) = &letter.message {
        record.message(message, Tally::default());
    }
    record.seal();
}

pub fn decode_dead(record: &[u8]) -> Result<DeadLetter, RecordError> {
    let mut fields = Decoder::open(record)?;
    let reason = reason_of(fields.u8()?).ok_or(RecordError::Field)?;
    let seq = Seq(fields.u64()?);
    let buried_ms = fields.u64()?;
    let user = UserId::new(fields.text()?)?;
    let device = match fields.text()? {
        "" => None,
        name => Some(DeviceId::new(name)?),
    };
    let message = match fields.u8()? {
        0 => None,
        _ => Some(take_message(seq, &mut fields)?.message),
    };
    Ok(DeadLetter { reason, user, device, seq, message, buried_ms })
}

/// A record that is a row of numbers.
pub fn put_numbers<const N: usize>(numbers: [u64; N], into: &mut Vec<u8>) {
    let mut record = Encoder::begin(into);
    for number in numbers {
        record.u64(number);
    }
    record.seal();
}

/// How long a record is that is a row of so many numbers.
pub fn numbers_bytes(count: usize) -> usize {
    HEADER_BYTES + 8 * count
}

pub fn decode_numbers<const N: usize>(record: &[u8]) -> Result<[u64; N], RecordError> {
    let mut fields = Decoder::open(record)?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = fields.u64()?;
    }
    Ok(numbers)
}

fn take_message(seq: Seq, fields: &mut Decoder<'_>) -> Result<Stored, RecordError> {
    let retry = fields.u8()? & FLAG_RETRY != 0;
    let (ts_ms, expires_ms) = (fields.u64()?, fields.u64()?);
    let tally = Tally { messages: fields.u64()?, bytes: fields.u64()? };
    let id = MessageId::new(fields.text()?)?;
    let from = UserId::new(fields.text()?)?;
    let body = Bytes::copy_from_slice(fields.0);
    Ok(Stored { message: Arc::new(Message { seq, id, from, body, ts_ms, expires_ms, retry }), tally })
}

fn reason_number(reason: DeadReason) -> u8 {
    match reason {
        DeadReason::Expired => 1,
        DeadReason::Purged => 2,
        DeadReason::Lapsed => 3,
        DeadReason::DeviceForgotten => 4,
        DeadReason::Corrupt => 5,
    }
}

fn reason_of(number: u8) -> Option<DeadReason> {
    use DeadReason::{Corrupt, DeviceForgotten, Expired, Lapsed, Purged};
    [Expired, Purged, Lapsed, DeviceForgotten, Corrupt].into_iter().find(|reason| reason_number(*reason) == number)
}

/// Writes one record behind what is in a buffer already.
struct Encoder<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Encoder<'a> {
    fn begin(bytes: &'a mut Vec<u8>) -> Self {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; HEADER_BYTES]);
        Self { bytes, start }
    }

    fn u8(&mut self, number: u8) {
        self.bytes.push(number);
    }

    fn u64(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    /// Ids are at most 128 bytes long, so one byte holds the length.
    fn text(&mut self, text: &str) {
        debug_assert!(text.len() <= usize::from(u8::MAX));
        self.u8(text.len() as u8);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn message(&mut self, message: &Message, tally: Tally) {
        self.u8(if message.retry { FLAG_RETRY } else { 0 });
        self.u64(message.ts_ms);
        self.u64(message.expires_ms);
        self.u64(tally.messages);
        self.u64(tally.bytes);
        self.text(message.id.as_str());
        self.text(message.from.as_str());
        self.bytes.extend_from_slice(&message.body);
    }

    fn seal(self) {
        let record = self.bytes.get_mut(self.start..).unwrap_or_default();
        if let Some((header, payload)) = record.split_first_chunk_mut::<HEADER_BYTES>() {
            let [version, checksum @ ..] = header;
            *version = VERSION;
            checksum.copy_from_slice(&xxh3_64(payload).to_be_bytes());
        }
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// The fields of a record whose version and checksum are right.
    fn open(record: &'a [u8]) -> Result<Self, RecordError> {
        let (header, payload) = record.split_first_chunk::<HEADER_BYTES>().ok_or(RecordError::Short)?;
        let [version, checksum @ ..] = header;
        match *version {
            VERSION if *checksum == xxh3_64(payload).to_be_bytes() => Ok(Self(payload)),
            VERSION | 0 => Err(RecordError::Checksum),
            newer => Err(RecordError::Newer(newer)),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(RecordError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        self.take(1)?.first().copied().ok_or(RecordError::Short)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        let bytes = self.take(8)?.try_into().map_err(|_| RecordError::Short)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<&'a str, RecordError> {
        let length = usize::from(self.u8()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| RecordError::Field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            seq: Seq(77),
            id: MessageId::new("m-1").unwrap(),
            from: UserId::new("żółw").unwrap(),
            body: Bytes::from_static(b"{\"a\":[1,2]}"),
            ts_ms: 1,
            expires_ms: u64::MAX,
            retry: true,
        }
    }

    fn record(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = b"the record before".to_vec();
        put(&mut bytes);
        assert!(bytes.starts_with(b"the record before"));
        bytes.split_off(b"the record before".len())
    }

    fn encoded(message: &Message, tally: Tally) -> Vec<u8> {
        record(|bytes| put_message(message, tally, bytes))
    }

    #[test]
    fn what_was_written_is_read() {
        let tally = Tally { messages: 3, bytes: 999 };
        let stored = decode_message(Seq(77), &encoded(&message(), tally)).unwrap();
        assert_eq!((&*stored.message, stored.tally), (&message(), tally));

        let device = DeviceRecord { start: Seq(4), cursor: Seq(1), pushed_upto: Seq(2), last_seen_ms: 3, gap: true };
        assert_eq!(decode_device(&record(|bytes| put_device(&device, bytes))), Ok(device));

        for message in [None, Some(Arc::new(message()))] {
            let (reason, device) = (DeadReason::Lapsed, message.as_ref().map(|_| DeviceId::new("phone").unwrap()));
            let user = UserId::new("bob").unwrap();
            let letter = DeadLetter { reason, user, device, seq: Seq(77), message, buried_ms: 8 };
            assert_eq!(decode_dead(&record(|bytes| put_dead(&letter, bytes))), Ok(letter));
        }
    }

    #[test]
    fn the_weight_can_be_told_from_the_size_alone() {
        let record = encoded(&message(), Tally::default());
        assert_eq!(weight_of_record(record.len() as u64), message().weight());
    }

    #[test]
    fn every_damage_is_an_error_and_no_panic() {
        let record = encoded(&message(), Tally::default());
        for length in 0..record.len() {
            assert!(decode_message(Seq(77), &record[..length]).is_err(), "cut to {length}");
        }
        for (at, bit) in (0..record.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = record.clone();
            damaged[at] ^= 1 << bit;
            assert!(decode_message(Seq(77), &damaged).is_err(), "bit {bit} of byte {at}");
        }
    }

    #[test]
    fn fields_are_checked_even_under_a_right_checksum() {
        let reseal = |change: fn(&mut Vec<u8>)| {
            let mut record = encoded(&message(), Tally::default());
            change(&mut record);
            Encoder { bytes: &mut record, start: 0 }.seal();
            decode_message(Seq(77), &record).map(|_| ())
        };
        assert_eq!(reseal(|record| record.truncate(HEADER_BYTES + 20)), Err(RecordError::Short));
        assert_eq!(reseal(|record| record[HEADER_BYTES + 33] = 0), Err(RecordError::Field));
        let mut newer = encoded(&message(), Tally::default());
        newer[0] = VERSION + 1;
        assert_eq!(decode_message(Seq(77), &newer).map(|_| ()), Err(RecordError::Newer(VERSION + 1)));
    }

    #[test]
    fn a_row_of_numbers_is_as_long_as_is_said() {
        let lengths = [
            record(|bytes| put_numbers([], bytes)),
            record(|bytes| put_numbers([7], bytes)),
            record(|bytes| put_numbers([7, 8, 9], bytes)),
        ]
        .map(|record| record.len());
        assert_eq!(lengths, [0, 1, 3].map(numbers_bytes));
    }
}
