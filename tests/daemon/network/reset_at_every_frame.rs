//! Goal: wherever a connection is reset, in either direction, between two frames or inside one, nothing is lost,
//! nothing comes twice unmarked, and the order is kept.
//! Method: one conversation is recorded on the wire and taken apart into frames. Then it is held again for every
//! boundary, and for a place inside each frame, with a reset exactly there; the client comes back, repeats what
//! was not answered, and all is drained and judged.

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::conversation::{self, Conversation};
use crate::common::daemon::Daemon;
use crate::common::proxy::{Cut, Plan, Proxy, Tap, Way};
use crate::common::wait;

/// Conversations at the same time.
const TOGETHER: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Place {
    up: bool,
    offset: u64,
    /// Nothing more comes on this connection, so that nobody need notice the reset.
    is_the_end: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_at_or_in_any_frame_loses_nothing() {
    let daemon = Daemon::start(conversation::configure).await;
    let mut places = Vec::new();
    let (up, down) = recorded(&daemon).await;
    for (is_up, bytes) in [(true, up), (false, down)] {
        let ends = frame_ends(&bytes, is_up);
        // The request or response, welcome or hello, what was said and acknowledged, and ping or pong.
        assert!(ends.len() >= 3 + 2 * conversation::STEPS, "{ends:?}");
        let mut begin = 0;
        for end in ends {
            let inside = begin + fastrand::u64(1..end - begin);
            let last = !is_up && end == bytes.len() as u64;
            places.extend([(begin, false), (inside, false), (end, last)].map(|(offset, is_the_end)| Place {
                up: is_up,
                offset,
                is_the_end,
            }));
            begin = end;
        }
    }
    places.dedup_by_key(|place| (place.up, place.offset));
    println!("{} resets", places.len());
    for (number, chunk) in places.chunks(TOGETHER).enumerate() {
        let mut runs = JoinSet::new();
        for (place, which) in chunk.iter().zip(1 + number * TOGETHER..) {
            runs.spawn(run(daemon.url(), daemon.port(), *place, which));
        }
        while let Some(ended) = wait::within("a conversation", runs.join_next()).await {
            ended.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()));
        }
    }
}

/// The bytes of an undisturbed conversation, in each direction.
async fn recorded(daemon: &Daemon) -> (Vec<u8>, Vec<u8>) {
    let taps: [Tap; 2] = [Arc::default(), Arc::default()];
    let [up, down] = taps.clone().map(|tap| Way { tap: Some(tap), ..Way::default() });
    let plan = Plan { up, down };
    let proxy = Proxy::start(daemon.port(), move || plan.clone()).await;
    let report = Conversation::new(0).hold(&daemon.url(), &proxy.url()).await;
    assert_eq!((proxy.accepted(), report.redeliveries), (1, 0), "{report}");
    let [up, mut down] = taps.map(|tap| tap.lock().unwrap().clone());
    // The next session may take this one over before its end is noticed; what it is told then is no part of the conversation.
    let pong = down.windows(6).position(|window| window == b"\"pong\"").expect("the last answer") as u64;
    let end = frame_ends(&down, false).into_iter().find(|end| *end > pong).expect("the end of its frame");
    down.truncate(usize::try_from(end).unwrap());
    (up, down)
}

async fn run(daemon_url: String, port: u16, place: Place, which: usize) {
    let plans = Mutex::new(Some(place).into_iter());
    let proxy = Proxy::start(port, move || {
        // Only the first connection is cut.
        let place = plans.lock().unwrap().next();
        let way = |up: bool| {
            let cut = place.filter(|place| place.up == up).map(|place| (place.offset, Cut::Reset));
            Way { cut, ..Way::default() }
        };
        Plan { up: way(true), down: way(false) }
    })
    .await;
    println!("{which}: {place:?}");
    Conversation::new(which).hold(&daemon_url, &proxy.url()).await;
    assert!(proxy.accepted() == 2 || place.is_the_end, "nobody noticed the reset at {place:?}");
}

/// Where the HTTP head ends, and then each frame.
fn frame_ends(bytes: &[u8], is_masked: bool) -> Vec<u64> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the head of a request or response");
    let mut ends = vec![head + 4];
    while let Some(&at) = ends.last().filter(|at| **at < bytes.len()) {
        let length = match bytes[at + 1] & 0x7F {
            126 => 4 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])),
            short => 2 + usize::from(short),
        };
        let end = at + length + if is_masked { 4 } else { 0 };
        assert!(end <= bytes.len(), "the record ends inside a frame");
        ends.push(end);
    }
    ends.into_iter().map(|end| end as u64).collect()
}
