//! Goal: connections that never become sessions keep nobody out, whatever their number, and go in time.
//! Method: as many of them as the descriptor limit allows, up to ten thousand, in every stage of a handshake;
//! meanwhile an honest client comes in. Then bytes that come one at a time.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::client::TestClient;
use crate::common::wait;
use crate::hostile::raw::{FIN, Raw, TEXT, frame, upgrade_request};
use crate::hostile::siege::{Siege, get, is_well, until_connections};

const HALF_OPEN: u64 = 10_000;
/// Descriptors that the test needs for anything else, or other tests of this binary do; less where there
/// are few altogether.
const OTHER_DESCRIPTORS: u64 = 1_000;
/// Half-open connections that are let in at once.
const HANDSHAKES: i64 = 1_000;

/// Raises the soft limit of open files as far as it may be; how many connections that leaves room for.
fn room_for_connections() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(HALF_OPEN + OTHER_DESCRIPTORS);
    if limit.current.is_some_and(|current| current < wanted) {
        // Where even that is not allowed there is room for fewer.
        let _kept = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).is_err();
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit - OTHER_DESCRIPTORS.min(limit / 4)).min(HALF_OPEN)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_half_open_handshakes_keep_nobody_out() {
    let count = room_for_connections();
    eprintln!("{count} half-open handshakes");
    assert!(count > 100, "the limit of open files leaves no room for this test");
    let mut siege = Siege::begin(|settings| {
        settings.set("limits.max_handshakes", HANDSHAKES).set("gateway.hello_timeout", "3s");
    })
    .await;
    let mut open = Vec::new();
    for n in 0..count {
        let mut raw = Raw::connect(&siege.daemon).await;
        let stage = upgrade_request("");
        let begun = match n % 4 {
            0 => "",
            1 => &stage[..stage.len() / 2],
            _ => &stage,
        };
        let half_a_hello = if n % 4 == 3 { frame(TEXT, b"{\"type\":\"hello\",") } else { Vec::new() };
        // It may have been sent away by now, for a newer one.
        let _gone = raw.write(&[begun.as_bytes(), &half_a_hello].concat()).await.is_err();
        open.push(raw);
        if n % 1_000 == 0 {
            let mut honest = TestClient::connect(&siege.daemon, "honest", "phone").await;
            honest.expect("caught_up").await;
            is_well(&mut honest).await;
        }
    }
    // Those that were told to go may not have got to it yet; the pair and the honest one are no handshakes.
    wait::until("no more handshakes than are let in", async || {
        let connections = get(&siege.daemon, "/v1/stats").await["connections"].as_i64().unwrap();
        (connections <= HANDSHAKES + 3).then_some(())
    })
    .await;
    siege.rounds_more(10).await;
    until_connections(&siege.daemon, 2).await;
    drop(open);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_room_is_told_to_come_back() {
    let siege = Siege::begin(|settings| {
        settings.set("limits.max_handshakes", 2);
    })
    .await;
    let mut first = Raw::connect(&siege.daemon).await;
    let mut second = Raw::connect(&siege.daemon).await;
    second.upgrade().await;
    let mut third = Raw::connect(&siege.daemon).await;
    assert_eq!(first.response().await.0, 503);
    third.upgrade().await;
    let _fourth = Raw::connect(&siege.daemon).await;
    assert_eq!(second.close_code().await, Some(4429));
    drop(third.enter_upgraded("mallory").await);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_one_at_a_time_do_not_stretch_the_time_to_say_hello() {
    let siege = Siege::begin(|settings| {
        settings.set("gateway.hello_timeout", "1s");
    })
    .await;
    let began = std::time::Instant::now();
    let trickle = async |mut raw: Raw, bytes: Vec<u8>| {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        for byte in bytes {
            pace.tick().await;
            if raw.write(&[byte]).await.is_err() {
                break;
            }
        }
        raw
    };
    let request = upgrade_request(&format!("x-slow: {}\r\n", "s".repeat(200))).into_bytes();
    let hello = frame(
        FIN | TEXT,
        format!("{{\"type\":\"hello\",\"x\":\"{}\",\"user\":\"mallory\"}}", "s".repeat(200)).as_bytes(),
    );
    let (request_sent, hello_sent) =
        tokio::join!(async { trickle(Raw::connect(&siege.daemon).await, request).await }, async {
            let mut raw = Raw::connect(&siege.daemon).await;
            raw.upgrade().await;
            trickle(raw, hello).await
        });
    drop((request_sent, hello_sent));
    // Both would have taken four seconds and more.
    until_connections(&siege.daemon, 2).await;
    eprintln!("all gone after {:?}", began.elapsed());
    assert_eq!(siege.daemon.admin("GET", "/v1/users/mallory").await.0, 404);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_at_any_stage_leaves_nothing_behind() {
    let siege = Siege::begin(|_| ()).await;
    let request = upgrade_request("").into_bytes();
    let hello = frame(FIN | TEXT, br#"{"type":"hello","user":"mallory","device":"phone"}"#);
    let whole = [request, hello].concat();
    for cut in (0..=whole.len()).step_by(3) {
        let mut raw = Raw::connect(&siege.daemon).await;
        raw.write(&whole[..cut]).await.unwrap();
        if cut % 2 == 0 {
            // With a reset instead of an end.
            raw.stream.set_zero_linger().unwrap();
        }
    }
    until_connections(&siege.daemon, 2).await;
    let stats = get(&siege.daemon, "/v1/stats").await;
    assert_eq!(stats["sessions"], 2, "{stats}");
    siege.end().await;
}
