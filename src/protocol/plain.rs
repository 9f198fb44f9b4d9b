//! Text that JSON writes as it is. Both directions ask for it, for every name and most bodies, so many bytes are asked
//! at once: names by words, because most of them end within the first few, bodies by blocks.

/// From here on a text is taken for a long one.
const SHORT_BYTES: usize = 32;
/// Large enough for the compiler to use whatever vectors there are.
const BLOCK_BYTES: usize = 32;

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// How many bytes come before the first one that ends a JSON string or has to be written as an escape: `"`, `\\`, or a
/// control character.
#[inline]
pub fn plain_length(bytes: &[u8]) -> usize {
    let Some((short, long)) = bytes.split_at_checked(SHORT_BYTES) else { return by_words(bytes) };
    let length = by_words(short);
    if length < SHORT_BYTES {
        return length;
    }
    let (blocks, _) = long.as_chunks::<BLOCK_BYTES>();
    let blocks = blocks.iter().take_while(|block| is_all_plain(block)).count();
    length + blocks * BLOCK_BYTES + by_words(long.get(blocks * BLOCK_BYTES..).unwrap_or_default())
}

/// Whether JSON writes this as it is.
#[inline]
pub fn is_plain(text: &str) -> bool {
    plain_length(text.as_bytes()) == text.len()
}

#[inline]
fn by_words(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return at * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + rest.iter().take_while(|byte| !is_special(**byte)).count()
}

/// The lowest bit that is set is the high bit of the first byte that is not plain. Those above may be wrong: a
/// subtraction borrows from them.
fn marks(word: u64) -> u64 {
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, b' ') | equal(b'"') | equal(b'\\')) & HIGHS
}

/// Looks at all of them: without a branch for each there is one instruction for many.
#[inline]
fn is_all_plain(block: &[u8; BLOCK_BYTES]) -> bool {
    block.iter().fold(0, |special, byte| special | u8::from(is_special(*byte))) == 0
}

fn is_special(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_not_plain_is_found_wherever_it_stands() {
        for special in (0..0x20).chain([b'"', b'\\']) {
            for at in 0..120 {
                let mut bytes = [0xc3; 120];
                bytes[at] = special;
                // What comes behind it makes no difference.
                for behind in [0, b' ', b'"', 0xff] {
                    bytes[at + 1..].fill(behind);
                    assert_eq!(plain_length(&bytes), at, "{special:#x} before {behind:#x}");
                }
            }
        }
    }

    #[test]
    fn everything_else_is_plain_in_every_place() {
        for byte in (0x20..=0xff).filter(|byte| !matches!(byte, b'"' | b'\\')) {
            for length in 0..120 {
                assert_eq!(plain_length(&vec![byte; length]), length, "{byte:#x}");
            }
        }
        assert!(is_plain("böb 😀") && is_plain("") && !is_plain("a\tb") && !is_plain("a\"b"));
    }
}
