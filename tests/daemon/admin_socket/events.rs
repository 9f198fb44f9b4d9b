//! Goal: who listens and does not read costs a bounded amount, is told how much was missed, and holds nobody up: not the
//! others, not the owners, not the end. Method: owners that tell far more than anything holds.

use super::*;
use crate::common::feed::Feed;
use doorstep::routing::events::{BEHIND_MAX, Event, EventKind};
use doorstep::shutdown::Phase;

/// More than the ring, the connection and the socket hold together.
const MANY: u64 = 60_000;

fn opened(number: u64) -> Arc<Event> {
    let (user, device, session) = (id("bob"), id("phone"), SessionId(u128::from(number)));
    Arc::new(Event { at_ms: number, kind: EventKind::SessionOpened { user, device, session } })
}

/// A listener that asks and does not read.
async fn stalled(house: &House) -> UnixStream {
    let mut stream = UnixStream::connect(&house.socket).await.unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).await.unwrap();
    stream
}

/// Tells so many events, and has `quick` read each of them before the ring comes round.
async fn tell(house: &House, quick: &mut Feed, many: u64) {
    for from in (0..many).step_by(BEHIND_MAX / 2) {
        let upto = many.min(from + BEHIND_MAX as u64 / 2);
        (from..upto).for_each(|number| house.events.tell(opened(number)));
        for number in from..upto {
            loop {
                let (kind, data) = quick.next().await.unwrap();
                assert_ne!(kind, "missed", "{data}");
                if kind == "session_opened" {
                    assert_eq!(data["at_ms"], number);
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_told_what_was_missed_and_the_others_miss_nothing() {
    let house = House::open().await;
    let mut slow = stalled(&house).await;
    let mut quick = Feed::open(&house.socket).await;
    tell(&house, &mut quick, MANY).await;
    // Now it reads, up to an event that is told last.
    house.events.tell(opened(MANY));
    let last = format!("\"at_ms\":{MANY},");
    let (mut text, mut part) = (String::new(), vec![0; 1 << 16]);
    while !text.contains(&last) {
        let read = tokio::time::timeout(PATIENCE, slow.read(&mut part)).await.expect("it goes on").unwrap();
        assert!(read > 0, "the stream goes on");
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    let told = text.matches("event: session_opened").count() as u64;
    let missed: u64 = text
        .split("event: missed")
        .skip(1)
        .map(|rest| rest.split("\"events\":").nth(1).unwrap().split('}').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(missed > 0 && told + missed == MANY + 1, "told {told}, missed {missed}");
    assert!(text.len() < 4 << 20, "what was kept for it is bounded: {} bytes", text.len());
}

/// The clock of this test stands still but for what is waited for, so what an end takes can be told exactly.
#[tokio::test]
async fn who_does_not_read_does_not_delay_the_end() {
    let house = House::open().await;
    let slow = stalled(&house).await;
    let mut quick = Feed::open(&house.socket).await;
    tell(&house, &mut quick, MANY).await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    house.announcer.announce(Phase::Closing);
    tokio::time::timeout(PATIENCE, house.served).await.expect("the end comes").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "it waited for who does not read: {:?}", begun.elapsed());
    drop(slow);
}

#[tokio::test]
async fn a_listener_that_leaves_makes_room_and_nothing_is_made_for_it_any_more() {
    let house = House::open().await;
    assert!(!house.events.is_heard());
    let mut feed = Feed::open(&house.socket).await;
    assert!(house.events.is_heard());
    let stats = feed.until("stats", |_| true).await;
    assert!(stats["at_ms"].is_u64() && stats["shards"].is_array(), "{stats}");
    drop(feed);
    let gone = async {
        while house.events.is_heard() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("its place is free");
}

#[tokio::test]
async fn the_stream_goes_on_while_the_daemon_drains_and_ends_with_its_goodbye() {
    let house = House::open().await;
    let mut feed = Feed::open(&house.socket).await;
    house.announcer.announce(Phase::Draining);
    house.events.tell(opened(7));
    feed.until("session_opened", |data| data["at_ms"] == 7).await;
    house.announcer.announce(Phase::Closing);
    while feed.next().await.is_some() {}
}
