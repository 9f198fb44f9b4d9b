//! Goal: what is no text frame of a permitted length ends the session with the close code for it, however it
//! is cut up, and is never collected in memory first.
//! Method: frames made by hand, from the byte up; a session of its own for each.

use serde_json::json;

use crate::common::client::TestClient;
use crate::common::daemon::Settings;
use crate::hostile::raw::{CLOSE, CONTINUATION, FIN, Got, PING, Raw, TEXT, frame, frame_head};
use crate::hostile::siege::{Siege, is_well};

/// Announced and written where far less is allowed: more than the daemon's memory may grow by, so that
/// whoever collects it is found out.
const SURPLUS_MIB: u64 = 96;

async fn enter(siege: &Siege) -> Raw {
    let mut raw = Raw::connect(&siege.daemon).await.enter("mallory").await;
    assert!(matches!(raw.next().await, Got::Frame(frame) if frame["type"] == "caught_up"));
    raw
}

/// The server says goodbye, closes with `code` and ends the connection.
async fn is_closed(raw: &mut Raw, code: u16, what: &str) {
    match raw.next().await {
        Got::Frame(goodbye) => {
            assert_eq!((&goodbye["type"], &goodbye["code"]), (&"goodbye".into(), &code.into()), "{what}")
        }
        other => panic!("{other:?} instead of a goodbye to {what}"),
    }
    assert_eq!(raw.next().await, Got::Closed(code), "{what}");
    assert_eq!(raw.next().await, Got::End, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf_8_ends_the_session_with_1007() {
    let siege = Siege::begin(|_| ()).await;
    let ping = |junk: &[u8]| [b"{\"type\":\"ping\",\"x\":\"".as_slice(), junk, b"\"}"].concat();
    let junk: [&[u8]; 7] = [
        b"\xff",
        b"\xc0\xaf",             // a slash, longer than need be
        b"\xed\xa0\x80",         // half a surrogate pair
        b"\xf4\x90\x80\x80",     // beyond the last code point
        b"\x80",                 // a continuation of nothing
        b"\xe2\x82",             // cut short
        b"\xf8\x88\x80\x80\x80", // five bytes
    ];
    for junk in junk {
        let mut raw = enter(&siege).await;
        raw.write(&frame(FIN | TEXT, &ping(junk))).await.unwrap();
        is_closed(&mut raw, 1007, &format!("{junk:x?}")).await;
        // In pieces, each of which is cut within the sequence.
        let mut raw = enter(&siege).await;
        let text = ping(junk);
        raw.write(&frame(TEXT, &text[..21])).await.unwrap();
        raw.write(&frame(FIN | CONTINUATION, &text[21..])).await.unwrap();
        is_closed(&mut raw, 1007, &format!("{junk:x?} in pieces")).await;
    }
    // The same before hello.
    let mut raw = Raw::connect(&siege.daemon).await;
    raw.upgrade().await;
    raw.write(&frame(FIN | TEXT, b"{\"type\":\"hello\",\"user\":\"\xff\"}")).await.unwrap();
    is_closed(&mut raw, 1007, "a hello").await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_cut_within_a_character_is_still_text() {
    let siege = Siege::begin(|_| ()).await;
    let mut raw = enter(&siege).await;
    let text = "{\"type\":\"ping\",\"x\":\"🙂ü€\",\"n\":5}".as_bytes();
    raw.write(&frame(TEXT, &[])).await.unwrap();
    for byte in &text[..text.len() - 1] {
        raw.write(&frame(CONTINUATION, &[*byte])).await.unwrap();
        // Control frames may stand between the pieces.
        raw.write(&frame(FIN | PING, b"?")).await.unwrap();
    }
    raw.write(&frame(FIN | CONTINUATION, &text[text.len() - 1..])).await.unwrap();
    assert_eq!(raw.next().await, Got::Frame(json!({"type": "pong", "n": 5})));
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_frame_ends_the_session_with_1003() {
    let siege = Siege::begin(|_| ()).await;
    for payload in [&b"{\"type\":\"ping\"}"[..], b"", &[0; 1000]] {
        let mut client = TestClient::connect(&siege.daemon, "mallory", "phone").await;
        client.expect("caught_up").await;
        client.speaker.say_binary(payload).await.unwrap();
        assert_eq!(client.expect("goodbye").await["code"], 1003);
        assert_eq!(client.expect_close().await.0, 1003);
        let mut raw = Raw::connect(&siege.daemon).await;
        raw.upgrade().await;
        raw.write(&frame(FIN | 0x2, payload)).await.unwrap();
        is_closed(&mut raw, 1003, "a binary hello").await;
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_above_frame_bytes_ends_the_session_with_1009() {
    let siege = Siege::begin(|_| ()).await;
    let limit = 128 * 1024_usize;
    let padded = |length: usize| format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(length - 22)).into_bytes();
    let mut raw = enter(&siege).await;
    raw.write(&frame(FIN | TEXT, &padded(limit))).await.unwrap();
    assert_eq!(raw.next().await, Got::Frame(json!({"type": "pong"})), "the longest that is allowed");
    raw.write(&frame(FIN | TEXT, &padded(limit + 1))).await.unwrap();
    is_closed(&mut raw, 1009, "one byte too many").await;
    // What is announced is believed at once: nobody waits for it, and nobody makes room for it.
    for announced in [limit as u64 + 1, 1 << 31, 1 << 62, (1 << 63) - 1] {
        for first in [FIN | TEXT, TEXT, FIN | 0x2] {
            let mut raw = enter(&siege).await;
            raw.write(&frame_head(first, announced)).await.unwrap();
            is_closed(&mut raw, 1009, &format!("{announced} bytes announced")).await;
        }
    }
    // In pieces, none of which is too long.
    let mut raw = enter(&siege).await;
    raw.write(&frame(TEXT, &[b' '; 1000])).await.unwrap();
    for _ in 0..limit / 1000 {
        raw.write(&frame(CONTINUATION, &[b' '; 1000])).await.unwrap();
    }
    is_closed(&mut raw, 1009, "pieces").await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_on_top_of_a_frame_that_is_too_long_goes_nowhere() {
    let siege = Siege::begin(|_| ()).await;
    let mut raw = enter(&siege).await;
    raw.write(&frame_head(FIN | TEXT, SURPLUS_MIB << 20)).await.unwrap();
    let mib = vec![b'x'; 1 << 20];
    for _ in 0..SURPLUS_MIB {
        // The server may have left before it is all written.
        if raw.write(&mib).await.is_err() {
            break;
        }
    }
    let code = raw.close_code().await;
    assert!(code.is_none_or(|code| code == 1009), "{code:?}");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_body_bytes_is_rejected_and_the_session_goes_on() {
    let siege = Siege::begin(|settings: &mut Settings| {
        settings.set("limits.malformed_frames", 1);
    })
    .await;
    let mut mallory = TestClient::connect(&siege.daemon, "mallory", "phone").await;
    mallory.expect("caught_up").await;
    for n in 0..20 {
        mallory.send("bob", &format!("long{n}"), "x".repeat(64 * 1024 - 1)).await;
        let rejected = mallory.expect("rejected").await;
        assert_eq!(
            (&rejected["id"], &rejected["code"]),
            (&format!("long{n}").into(), &"too_large".into()),
            "{rejected}"
        );
    }
    let spaces = format!("{{\"type\":\"send\",\"id\":\"s\",\"to\":\"bob\",\"body\":[{}]}}", " ".repeat(64 * 1024));
    mallory.speaker.say_text(&spaces).await.unwrap();
    assert_eq!(mallory.expect("rejected").await["code"], "too_large");
    mallory.send("bob", "longest", "x".repeat(64 * 1024 - 2)).await;
    assert_eq!(mallory.expect("accepted").await["id"], "longest");
    is_well(&mut mallory).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_websocket_end_the_session_with_1002() {
    let siege = Siege::begin(|_| ()).await;
    let unmasked = [vec![FIN | TEXT, 15], b"{\"type\":\"ping\"}".to_vec()].concat();
    let faults: Vec<(&str, Vec<u8>)> = vec![
        ("an unmasked frame", unmasked),
        ("a reserved bit", frame(FIN | 0x40 | TEXT, b"{}")),
        ("all reserved bits", frame(0xF0 | TEXT, b"{}")),
        ("a reserved opcode", frame(FIN | 0x3, b"{}")),
        ("a reserved control opcode", frame(FIN | 0xF, b"")),
        ("a ping in pieces", frame(PING, b"a")),
        ("a ping that is too long", frame(FIN | PING, &[0; 126])),
        ("a continuation of nothing", frame(FIN | CONTINUATION, b"{}")),
        ("a frame within another", [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat()),
        ("plain HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xFF; 64]),
    ];
    for (what, bytes) in &faults {
        let mut raw = enter(&siege).await;
        raw.write(bytes).await.unwrap();
        is_closed(&mut raw, 1002, what).await;
        let mut raw = Raw::connect(&siege.daemon).await;
        raw.upgrade().await;
        raw.write(bytes).await.unwrap();
        is_closed(&mut raw, 1002, &format!("{what}, before hello")).await;
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_close_frame_ends_the_session_all_the_same() {
    let siege = Siege::begin(|_| ()).await;
    for payload in [&b""[..], &[0x03], &[0x03, 0xED], &[0, 0], &[0xFF, 0xFF], b"\x03\xe8\xff\xfe", &[0x03; 125]] {
        let mut raw = enter(&siege).await;
        raw.write(&frame(FIN | CLOSE, payload)).await.unwrap();
        // Whatever is echoed, the connection ends, and at once.
        while raw.next_any().await {}
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_endless_empty_pieces_keeps_nobody_busy() {
    let mut siege = Siege::begin(|_| ()).await;
    let mut raw = enter(&siege).await;
    raw.write(&frame(TEXT, b"")).await.unwrap();
    let many = frame(CONTINUATION, b"").repeat(10_000);
    for _ in 0..50 {
        raw.write(&many).await.unwrap();
    }
    siege.rounds_more(5).await;
    raw.write(&frame(FIN | CONTINUATION, b"{\"type\":\"ping\"}")).await.unwrap();
    assert_eq!(raw.next().await, Got::Frame(json!({"type": "pong"})));
    siege.end().await;
}
