//! What fjall's journals look like, so that their damage can be judged before fjall does.
//!
//! The layout is that of fjall 3 (`FJL` 3), little-endian: a batch is `01`, `u32` items, `u64` number;
//! its items; `03`, `u64` XXH3-64 of the items, `FJL\x03`. An item is `02`, a byte, `01` when
//! compressed or else `00`, `u64` keyspace (counted up from 0), `u16` length of the key, `u32` plain length,
//! `u32` length of the value, key, value; or it is `04`, `u64` keyspace.

use xxhash_rust::xxh3::xxh3_64;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const ZEROS: [u8; 4096] = [0; 4096];
const TRAILER: &[u8] = b"FJL\x03";

/// In the third byte of an item whose value is compressed; otherwise that is 0.
const COMPRESSED: u8 = 1;

/// The numbers of keyspaces stay below this: there are eight, and none is ever made anew.
const KEYSPACES_MAX: u64 = 256;

/// What reaches the disk whole or not at all; where it did not, there are zeros.
const SECTOR_BYTES: usize = 512;

/// Where the last byte is that is not zero. Whole blocks are compared first: up to 64 MiB of room are
/// looked through at every start.
pub fn last_written(bytes: &[u8]) -> Option<usize> {
    let block = bytes.chunks(ZEROS.len()).rposition(|block| !ZEROS.starts_with(block))?;
    let from = block * ZEROS.len();
    let within = bytes.get(from..)?.iter().take(ZEROS.len()).rposition(|byte| *byte != 0)?;
    Some(from + within)
}

/// The whole batches that a journal begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sound {
    pub length: usize,
    /// Where the last one begins.
    last_at: usize,
}

impl Sound {
    pub fn of(journal: &[u8]) -> Self {
        let mut sound = Self::default();
        while let Some(length) = journal.get(sound.length..).and_then(batch_bytes) {
            sound = Self { length: sound.length + length, last_at: sound.length };
        }
        sound
    }

    /// Whether there is an item in the last batch whose key and value are `wanted`.
    pub fn ends_with(self, journal: &[u8], mut wanted: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        let mut rest = journal.get(self.last_at..self.length).unwrap_or_default();
        let Some(count) = take_head(&mut rest) else { return false };
        (0..count).filter_map(|_| take_item(&mut rest)).any(|(key, value)| wanted(key, value))
    }
}

/// Whether a whole batch begins anywhere in here.
pub fn has_batch(bytes: &[u8]) -> bool {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == START);
    starts.into_iter().any(|(at, _)| bytes.get(at..).is_some_and(|rest| batch_bytes(rest).is_some()))
}

/// Whether a batch that is not sound was yet written to its end: its last bytes are there, and no sector of
/// it is missing. It was damaged later then, and may have been synced before. It begins at `from`.
pub fn is_written_to_its_end(journal: &[u8], from: usize) -> bool {
    let mut rest = journal.get(from..).unwrap_or_default();
    if !rest.ends_with(TRAILER) {
        return false;
    }
    let mut sector_bytes = SECTOR_BYTES - from % SECTOR_BYTES;
    while let Some((sector, after)) = rest.split_at_checked(sector_bytes.min(rest.len())).filter(|_| !rest.is_empty()) {
        if is_hole(sector) {
            return false;
        }
        (rest, sector_bytes) = (after, SECTOR_BYTES);
    }
    true
}

/// Whether these bytes, at the beginning of a journal, are what a power cut leaves of one batch: in order
/// up to where the end or a hole comes too early. Another layout may share its first bytes with this one
/// and go on differently; and a batch that is all there was not torn, whatever its checksum says.
pub fn is_torn_batch(bytes: &[u8]) -> bool {
    let mut rest = before_hole(bytes);
    let begins = rest.first().is_none_or(|tag| *tag == START);
    let (Some(_), Some(count)) = (take::<1>(&mut rest), take(&mut rest).map(u32::from_le_bytes)) else { return begins };
    let mut torn = take::<8>(&mut rest).is_none();
    for _ in 0..count {
        match rest.first() {
            _ if torn => break,
            Some(&(ITEM | CLEAR)) if has_sane_header(rest) => torn = take_item(&mut rest).is_none(),
            next => return begins && next.is_none(),
        }
    }
    begins && (torn || is_torn_end(rest))
}

fn is_torn_end(bytes: &[u8]) -> bool {
    let trailer = bytes.get(1 + size_of::<u64>()..).unwrap_or_default();
    bytes.first().is_none_or(|tag| *tag == END) && trailer.len() < TRAILER.len() && TRAILER.starts_with(trailer)
}

/// There are few keyspaces, and what is not compressed is as long as it was before. A header that is not
/// all there cannot be judged.
fn has_sane_header(mut item: &[u8]) -> bool {
    let Some([ITEM, _, compression]) = take(&mut item) else { return true };
    let (Some(keyspace), Some(_key_bytes)) = (take(&mut item), take::<2>(&mut item)) else { return true };
    let (Some(plain), Some(length)) = (take::<4>(&mut item), take::<4>(&mut item)) else { return true };
    u64::from_le_bytes(keyspace) < KEYSPACES_MAX && (compression == COMPRESSED || (compression == 0 && plain == length))
}

/// Everything up to the first sector that never reached the disk.
fn before_hole(bytes: &[u8]) -> &[u8] {
    let sectors = bytes.chunks(SECTOR_BYTES).take_while(|sector| !is_hole(sector)).count();
    bytes.get(..sectors * SECTOR_BYTES).unwrap_or(bytes)
}

fn is_hole(sector: &[u8]) -> bool {
    sector.iter().all(|byte| *byte == 0)
}

/// The length of the whole batch that these bytes begin with.
fn batch_bytes(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let count = take_head(&mut rest)?;
    let items = rest;
    for _ in 0..count {
        take_item(&mut rest)?;
    }
    let items = items.get(..items.len() - rest.len())?;
    if take::<1>(&mut rest)? != [END] || u64::from_le_bytes(take(&mut rest)?) != xxh3_64(items) {
        return None;
    }
    rest = rest.strip_prefix(TRAILER)?;
    Some(bytes.len() - rest.len())
}

/// How many items the batch has that these bytes begin with.
fn take_head(rest: &mut &[u8]) -> Option<u32> {
    if take::<1>(rest)? != [START] {
        return None;
    }
    let count = u32::from_le_bytes(take(rest)?);
    take::<8>(rest)?;
    Some(count)
}

/// The key and the value of an item; both are empty when it says that a keyspace was emptied.
fn take_item<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    match take::<1>(rest)? {
        [CLEAR] => take::<8>(rest).map(|_| Default::default()),
        [ITEM] => {
            take::<10>(rest)?;
            let key_bytes = usize::from(u16::from_le_bytes(take(rest)?));
            take::<4>(rest)?;
            let value_bytes = u32::from_le_bytes(take(rest)?) as usize;
            let (key, after) = rest.split_at_checked(key_bytes)?;
            let (value, after) = after.split_at_checked(value_bytes)?;
            *rest = after;
            Some((key, value))
        }
        _ => None,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::*;

    /// A batch as fjall writes it, of bodies of these lengths that hold no zeros.
    fn batch(bodies: &[usize]) -> Vec<u8> {
        let mut items = vec![CLEAR];
        items.extend(7_u64.to_le_bytes());
        for body in bodies {
            let length = u32::try_from(*body).unwrap().to_le_bytes();
            items.extend([ITEM, 0, 0]);
            items.extend(5_u64.to_le_bytes());
            items.extend(3_u16.to_le_bytes());
            items.extend([length, length].concat());
            items.extend(b"key");
            items.extend(vec![ITEM; *body]);
        }
        let count = u32::try_from(bodies.len() + 1).unwrap();
        let checksum = xxh3_64(&items);
        [&[START], &count.to_le_bytes()[..], &9_u64.to_le_bytes(), &items, &[END], &checksum.to_le_bytes(), TRAILER]
            .concat()
    }

    fn trimmed(bytes: &[u8]) -> &[u8] {
        &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
    }

    #[test]
    fn whatever_a_power_cut_leaves_of_a_first_batch_is_known() {
        let whole = batch(&[10, 700, 0, 3_000, 40]);
        assert_eq!(batch_bytes(&whole), Some(whole.len()));
        for length in 0..whole.len() {
            assert!(is_torn_batch(trimmed(&whole[..length])), "cut at {length}");
        }
        // Every choice of sectors that did not reach the disk.
        let sectors = whole.len().div_ceil(SECTOR_BYTES);
        for lost in 1..1_u32 << sectors {
            let mut holed = whole.clone();
            for (at, sector) in holed.chunks_mut(SECTOR_BYTES).enumerate() {
                if lost & (1 << at) != 0 {
                    sector.fill(0);
                }
            }
            assert!(is_torn_batch(trimmed(&holed)), "sectors {lost:b}");
        }
    }

    #[test]
    fn a_batch_that_was_damaged_after_it_was_written_is_told_from_a_torn_one() {
        let whole = batch(&[10, 700, 0, 3_000, 40]);
        for from in [0, 1, 100, 511, 512, 700] {
            let journal = [vec![7; from], whole.clone()].concat();
            for at in [0, 3, 14, 300, whole.len() - 20] {
                let mut flipped = journal.clone();
                flipped[from + at] ^= 1 << 6;
                assert!(is_written_to_its_end(&flipped, from), "a bit at {at}, from {from}");
            }
            for length in 0..whole.len() {
                assert!(
                    !is_written_to_its_end(trimmed(&journal[..from + length]), from),
                    "cut at {length} from {from}"
                );
            }
            let first = from / SECTOR_BYTES;
            for lost in first..journal.len() / SECTOR_BYTES {
                let mut holed = journal.clone();
                holed[(lost * SECTOR_BYTES).max(from)..(lost + 1) * SECTOR_BYTES].fill(0);
                assert!(!is_written_to_its_end(&holed, from), "sector {lost} from {from}");
            }
        }
    }

    #[test]
    fn another_layout_is_not_taken_for_a_torn_batch() {
        let whole = batch(&[10, 700]);
        let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = whole.clone();
            edit(&mut bytes);
            bytes
        };
        let layouts = [
            ("another trailer", edited(&|bytes| *bytes.last_mut().unwrap() += 1)),
            ("another checksum", edited(&|bytes| bytes[whole.len() - 12] ^= 1)),
            ("a longer checksum", edited(&|bytes| bytes.insert(whole.len() - 4, 1))),
            ("a longer beginning", edited(&|bytes| bytes.insert(13, 0))),
            ("a shorter beginning", edited(&|bytes| drop(bytes.drain(5..6)))),
            ("a longer item", edited(&|bytes| bytes.insert(24, 0))),
            ("a shorter item", edited(&|bytes| drop(bytes.drain(24..25)))),
            ("another compression", edited(&|bytes| bytes[24] = 2)),
            ("a header before it", edited(&|bytes| drop(bytes.splice(..0, *b"FJL\x04")))),
            ("a text", b"once upon a time".to_vec()),
        ];
        for (what, bytes) in layouts {
            assert_eq!(batch_bytes(&bytes).filter(|length| *length == bytes.len()), None, "{what}");
            assert!(!is_torn_batch(&bytes), "{what}");
        }
    }

    #[test]
    fn the_last_byte_written_is_found_wherever_it_is() {
        assert_eq!((last_written(&[]), last_written(&[0; 10_000])), (None, None));
        for length in [1, 4095, 4096, 4097, 10_000] {
            for at in [0, 1, 4095, 4096, 4097, 8191, 8192, 9999] {
                let mut bytes = vec![0; length];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = 7;
                    bytes[0] |= 1;
                    assert_eq!(last_written(&bytes), Some(at), "of {length}");
                }
            }
        }
    }

    #[test]
    fn the_header_of_an_item_is_judged_once_it_is_all_there() {
        let header = |keyspace: u64, compression: u8, plain: u32, length: u32| {
            let lengths = [plain.to_le_bytes(), length.to_le_bytes()].concat();
            [&[ITEM, 0, compression], &keyspace.to_le_bytes()[..], &3_u16.to_le_bytes(), &lengths].concat()
        };
        for (what, sane) in [
            ("as long as it was", header(0, 0, 5, 5)),
            ("the last keyspace", header(KEYSPACES_MAX - 1, 0, 5, 5)),
            ("compressed", header(0, COMPRESSED, 9, 5)),
        ] {
            assert!(has_sane_header(&sane), "{what}");
        }
        for (what, insane) in [
            ("one keyspace too many", header(KEYSPACES_MAX, 0, 5, 5)),
            ("longer than it was", header(0, 0, 5, 9)),
            ("another compression", header(0, 2, 5, 5)),
        ] {
            assert!(!has_sane_header(&insane), "{what}");
            for length in 0..insane.len() {
                assert!(has_sane_header(&insane[..length]), "{what}, cut at {length}");
            }
        }
    }
}
