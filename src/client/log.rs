//! The bytes of a [`super::FileStorage`]: batches of records, each batch with its length and a checksum.
//!
//! Pure. A batch is `length: u32`, the same with every bit turned round, `checksum: u64` (xxh3 of what follows; all
//! little-endian) and a JSON array of records, in which bodies keep their spelling.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{DeviceId, MessageId, Seq, UserId};

use super::storage::{Change, Kept, KeptSend, NAMES_MAX};

const HEAD_BYTES: usize = 16;

/// One line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Device(DeviceId),
    User(UserId),
    Send { id: MessageId, to: UserId, body: Box<RawValue>, ttl_ms: Option<u64> },
    Settled { id: MessageId, to: UserId },
    Done { seq: Seq, name: u128 },
    Forgotten,
}

impl Record {
    pub(super) fn of(change: &Change) -> Self {
        match change.clone() {
            Change::User(user) => Self::User(user),
            Change::Send(send) => Self::of_send(send),
            Change::Settled { id, to } => Self::Settled { id, to },
            Change::Done { seq, name } => Self::Done { seq, name },
            Change::Forgotten => Self::Forgotten,
        }
    }

    fn of_send(KeptSend { id, to, body, ttl }: KeptSend) -> Self {
        let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        Self::Send { id, to, body, ttl_ms }
    }

    /// The name of the device is no change.
    pub(super) fn into_change(self) -> Result<Change, DeviceId> {
        Ok(match self {
            Self::Device(device) => return Err(device),
            Self::User(user) => Change::User(user),
            Self::Send { id, to, body, ttl_ms } => {
                Change::Send(KeptSend { id, to, body, ttl: ttl_ms.map(Duration::from_millis) })
            }
            Self::Settled { id, to } => Change::Settled { id, to },
            Self::Done { seq, name } => Change::Done { seq, name },
            Self::Forgotten => Change::Forgotten,
        })
    }
}

/// The shortest log that says all of it.
pub(super) fn records_of(device: &DeviceId, kept: &Kept) -> Vec<Record> {
    let names = kept.names.get(kept.names.len().saturating_sub(NAMES_MAX)..).unwrap_or_default();
    let mut records = vec![Record::Device(device.clone())];
    records.extend(kept.user.clone().map(Record::User));
    records.extend(names.iter().map(|name| Record::Done { seq: kept.done, name: *name }));
    records.extend(kept.sends.iter().cloned().map(Record::of_send));
    records
}

/// One batch as it stands in the file.
pub(super) fn frame(records: &[Record]) -> io::Result<Vec<u8>> {
    let payload = serde_json::to_vec(records)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(HEAD_BYTES + payload.len());
    frame.extend(length.to_le_bytes());
    frame.extend((!length).to_le_bytes());
    frame.extend(xxh3_64(&payload).to_le_bytes());
    frame.extend(payload);
    Ok(frame)
}

/// All records of whole batches, and how many bytes these are.
///
/// # Errors
/// When a batch is damaged that is not the last one: no crash leaves that behind.
pub(super) fn read(bytes: &[u8]) -> io::Result<(Vec<Record>, u64)> {
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(head) = Head::read(rest) else { break };
        // A file can grow before all that was written to it arrives; then there are zeros.
        if !head.is_whole && rest.iter().skip(HEAD_BYTES).all(|byte| *byte == 0) {
            break;
        }
        if !head.is_whole {
            return Err(damaged(at, "its head makes no sense"));
        }
        let Some(payload) = rest.get(HEAD_BYTES..).and_then(|rest| rest.get(..head.length)) else { break };
        let end = at + HEAD_BYTES + head.length;
        if xxh3_64(payload) != head.checksum {
            if end == bytes.len() {
                break;
            }
            return Err(damaged(at, "its checksum is another one"));
        }
        let batch: Vec<Record> = serde_json::from_slice(payload).map_err(|error| damaged(at, &error.to_string()))?;
        records.extend(batch);
        at = end;
    }
    Ok((records, at as u64))
}

struct Head {
    /// In bytes, of what follows.
    length: usize,
    checksum: u64,
    /// Else the length cannot be believed, and might lead over batches that are whole.
    is_whole: bool,
}

impl Head {
    /// The head at the start of `bytes`, if all of it is there.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (turned, rest) = rest.split_first_chunk::<4>()?;
        let (checksum, _) = rest.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes(*length);
        let is_whole = !length == u32::from_le_bytes(*turned);
        Some(Self { length: length as usize, checksum: u64::from_le_bytes(*checksum), is_whole })
    }
}

fn damaged(at: usize, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the batch at byte {at} is damaged: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> Vec<Vec<u8>> {
        let user = UserId::new("bob").unwrap();
        let body = RawValue::from_string("{\"n\": 1e999,\n \"n\":2.50}".to_owned()).unwrap();
        let send = Change::Send(KeptSend {
            id: MessageId::new("a").unwrap(),
            to: user.clone(),
            body,
            ttl: Some(Duration::from_millis(7)),
        });
        let done = Change::Done { seq: Seq(Seq::MAX.0), name: u128::MAX };
        let device = Record::Device(DeviceId::new("d").unwrap());
        let records = [vec![device, Record::of(&Change::User(user))], vec![Record::of(&send), Record::of(&done)]];
        records.iter().map(|records| frame(records).unwrap()).collect()
    }

    #[test]
    fn what_was_written_is_read_byte_for_byte() {
        let bytes = batches().concat();
        let (records, whole) = read(&bytes).unwrap();
        assert_eq!(whole, bytes.len() as u64);
        let changes: Vec<Change> = records.into_iter().filter_map(|record| record.into_change().ok()).collect();
        let [Change::User(user), Change::Send(send), Change::Done { seq, name }] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!((user.as_str(), send.body.get()), ("bob", "{\"n\": 1e999,\n \"n\":2.50}"));
        assert_eq!((send.ttl, *seq, *name), (Some(Duration::from_millis(7)), Seq::MAX, u128::MAX));
    }

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_was_torn() {
        let batches = batches();
        let (first, bytes) = (batches[0].len(), batches.concat());
        for end in first..bytes.len() {
            let (records, whole) = read(&bytes[..end]).unwrap();
            assert_eq!((records.len(), whole), (2, first as u64), "torn at {end}");
            let mut zeros = bytes[..end].to_vec();
            zeros.resize(bytes.len(), 0);
            let (records, whole) = read(&zeros).unwrap();
            assert!(records.len() == 2 && whole == first as u64 || zeros == bytes, "zeros from {end}");
        }
    }

    #[test]
    fn damage_that_is_no_torn_end_is_an_error() {
        let batches = batches();
        let first = batches[0].len();
        for at in 0..first {
            let mut bytes = batches.concat();
            bytes[at] ^= 1;
            assert_eq!(read(&bytes).unwrap_err().kind(), io::ErrorKind::InvalidData, "byte {at}");
        }
    }
}
