//! What a bench says, as finished frames. What is the same in every frame of a sender is made once.

use super::wire;

/// A number has no more digits.
const DIGITS_MAX: usize = 20;

/// The body that all messages of a bench have: a JSON string of `size` bytes, quotes included.
pub(super) fn body(size: u32) -> Vec<u8> {
    let letters = vec![b'x'; (size as usize).saturating_sub(2)];
    [&b"\""[..], &letters, b"\""].concat()
}

/// Appends a `send`. `to` is a name that needs no escape.
pub(super) fn send(out: &mut Vec<u8>, number: u64, to: &str, body: &[u8]) {
    let mut digits = [0; DIGITS_MAX];
    let id = decimal(number, &mut digits);
    let pieces: [&[u8]; 7] =
        [b"{\"type\":\"send\",\"id\":\"", id, b"\",\"to\":\"", to.as_bytes(), b"\",\"body\":", body, b"}"];
    wire::text(out, &pieces);
}

/// Appends an `ack`.
pub(super) fn ack(out: &mut Vec<u8>, seq: u64) {
    let mut digits = [0; DIGITS_MAX];
    wire::text(out, &[b"{\"type\":\"ack\",\"seq\":", decimal(seq, &mut digits), b"}"]);
}

fn decimal(mut number: u64, digits: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut length = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    digits.get(DIGITS_MAX - length..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::protocol::client_encode::client_frame;
    use crate::protocol::frames::{ClientFrame, SendFrame};

    /// Behind a masked header of the medium or the short form.
    fn payload(out: &[u8]) -> &str {
        std::str::from_utf8(&out[if out[1] == 0xfe { 8 } else { 6 }..]).unwrap()
    }

    #[test]
    fn frames_are_those_of_the_protocol() {
        for number in [0, 7, 10, 4096, u64::MAX] {
            let mut out = Vec::new();
            send(&mut out, number, "bench-1", &body(200));
            let body: Box<RawValue> = serde_json::from_slice(&body(200)).unwrap();
            let frame = ClientFrame::Send(SendFrame {
                id: Some(number.to_string().into()),
                to: "bench-1".into(),
                body: body.get(),
                ttl_ms: None,
                retry: false,
                ephemeral: false,
            });
            assert_eq!(payload(&out), client_frame(&frame));
            let mut out = Vec::new();
            ack(&mut out, number);
            assert_eq!(payload(&out), client_frame(&ClientFrame::Ack { seq: number }));
        }
    }

    #[test]
    fn a_body_is_as_long_as_it_should_be() {
        assert_eq!([2, 3, 200].map(|size| body(size).len()), [2, 3, 200]);
        assert_eq!(body(3), b"\"x\"");
    }
}
