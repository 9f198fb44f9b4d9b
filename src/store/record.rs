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
pub fn encode_message(message: &Message, tally: Tally) -> Vec<u8> {
    let mut record = Encoder::with_capacity(message.weight() as usize);
    put_message(&mut record, message, tally);
    record.seal()
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
pub fn encode_device(device: &DeviceRecord) -> Vec<u8> {
    let mut record = Encoder::with_capacity(33);
    record.u8(if device.gap { FLAG_GAP } else { 0 });
    record.u64(device.start.0);
    record.u64(device.cursor.0);
    record.u64(device.pushed_upto.0);
    record.u64(device.last_seen_ms);
    record.seal()
}

pub fn decode_device(record: &[u8]) -> Result<DeviceRecord, RecordError> {
    let mut fields = Decoder::open(record)?;
    let gap = fields.u8()? & FLAG_GAP != 0;
    let [start, cursor, pushed_upto, last_seen_ms] = [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
    Ok(DeviceRecord { start: Seq(start), cursor: Seq(cursor), pushed_upto: Seq(pushed_upto), last_seen_ms, gap })
}

/// `last_seen_ms presence_version`
pub fn encode_user(user: &UserRecord) -> Vec<u8> {
    encode_numbers([user.last_seen_ms, user.presence_version])
}

pub fn decode_user(record: &[u8]) -> Result<UserRecord, RecordError> {
    let [last_seen_ms, presence_version] = decode_numbers(record)?;
    Ok(UserRecord { last_seen_ms, presence_version })
}

/// `seq digest`
pub fn encode_dedupe(dedupe: DedupeRecord) -> Vec<u8> {
    encode_numbers([dedupe.seq.0, dedupe.digest])
}

pub fn decode_dedupe(record: &[u8]) -> Result<DedupeRecord, RecordError> {
    let [seq, digest] = decode_numbers(record)?;
    Ok(DedupeRecord { seq: Seq(seq), digest })
}

/// `reason seq buried_ms user device message?`; a device of no length stands for none.
pub fn encode_dead(letter: &DeadLetter) -> Vec<u8> {
    let mut record = Encoder::with_capacity(256);
    record.u8(reason_number(letter.reason));
    record.u64(letter.seq.0);
    record.u64(letter.buried_ms);
    record.text(letter.user.as_str());
    record.text(letter.device.as_ref().map_or("", DeviceId::as_str));
    record.u8(u8::from(letter.message.is_some()));
    if let Some(message) = &letter.message {
        put_message(&mut record, message, Tally::default());
    }
    record.seal()
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
pub fn encode_numbers<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    let mut record = Encoder::with_capacity(8 * N);
    for number in numbers {
        record.u64(number);
    }
    record.seal()
}

pub fn decode_numbers<const N: usize>(record: &[u8]) -> Result<[u64; N], RecordError> {
    let mut fields = Decoder::open(record)?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = fields.u64()?;
    }
    Ok(numbers)
}

fn put_message(record: &mut Encoder, message: &Message, tally: Tally) {
    record.u8(if message.retry { FLAG_RETRY } else { 0 });
    record.u64(message.ts_ms);
    record.u64(message.expires_ms);
    record.u64(tally.messages);
    record.u64(tally.bytes);
    record.text(message.id.as_str());
    record.text(message.from.as_str());
    record.0.extend_from_slice(&message.body);
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

struct Encoder(Vec<u8>);

impl Encoder {
    fn with_capacity(payload_bytes: usize) -> Self {
        let mut record = Vec::with_capacity(HEADER_BYTES + payload_bytes);
        record.resize(HEADER_BYTES, 0);
        Self(record)
    }

    fn u8(&mut self, number: u8) {
        self.0.push(number);
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// Ids are at most 128 bytes long, so one byte holds the length.
    fn text(&mut self, text: &str) {
        debug_assert!(text.len() <= usize::from(u8::MAX));
        self.u8(text.len() as u8);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn seal(mut self) -> Vec<u8> {
        if let Some((header, payload)) = self.0.split_first_chunk_mut::<HEADER_BYTES>() {
            let [version, checksum @ ..] = header;
            *version = VERSION;
            checksum.copy_from_slice(&xxh3_64(payload).to_be_bytes());
        }
        self.0
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

    #[test]
    fn what_was_written_is_read() {
        let tally = Tally { messages: 3, bytes: 999 };
        let stored = decode_message(Seq(77), &encode_message(&message(), tally)).unwrap();
        assert_eq!((&*stored.message, stored.tally), (&message(), tally));

        let device = DeviceRecord { start: Seq(4), cursor: Seq(1), pushed_upto: Seq(2), last_seen_ms: 3, gap: true };
        assert_eq!(decode_device(&encode_device(&device)), Ok(device));

        for message in [None, Some(Arc::new(message()))] {
            let (reason, device) = (DeadReason::Lapsed, message.as_ref().map(|_| DeviceId::new("phone").unwrap()));
            let user = UserId::new("bob").unwrap();
            let letter = DeadLetter { reason, user, device, seq: Seq(77), message, buried_ms: 8 };
            assert_eq!(decode_dead(&encode_dead(&letter)), Ok(letter));
        }
    }

    #[test]
    fn the_weight_can_be_told_from_the_size_alone() {
        let record = encode_message(&message(), Tally::default());
        assert_eq!(weight_of_record(record.len() as u64), message().weight());
    }

    #[test]
    fn every_damage_is_an_error_and_no_panic() {
        let record = encode_message(&message(), Tally::default());
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
            let mut record = Encoder(encode_message(&message(), Tally::default()));
            change(&mut record.0);
            decode_message(Seq(77), &record.seal()).map(|_| ())
        };
        assert_eq!(reseal(|record| record.truncate(HEADER_BYTES + 20)), Err(RecordError::Short));
        assert_eq!(reseal(|record| record[HEADER_BYTES + 33] = 0), Err(RecordError::Field));
        let mut newer = encode_message(&message(), Tally::default());
        newer[0] = VERSION + 1;
        assert_eq!(decode_message(Seq(77), &newer).map(|_| ()), Err(RecordError::Newer(VERSION + 1)));
    }
}
