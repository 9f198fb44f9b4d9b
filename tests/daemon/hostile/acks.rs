//! Goal: an ack cannot reach further than what was pushed in its session; one that tries has no effect and
//! is answered with `error{bad_request}`. Nothing accepted is lost by it.
//! Method: acks from the future, from an earlier session, of other users and in floods; afterwards everything
//! must still be delivered.

use serde_json::{Value, json};

use crate::common::client::{Options, TestClient};
use crate::common::history::History;
use crate::common::wait;
use crate::hostile::siege::{Siege, get, is_well};

const SEQ_MAX: u64 = (1 << 53) - 1;
const FLOOD: u64 = 20_000;

fn seq(message: &Value) -> u64 {
    message["seq"].as_u64().unwrap()
}

/// Says a bad ack without writing it into the history, which would believe it.
async fn ack_is_refused(client: &mut TestClient, seq: u64) {
    client.speaker.say_text(&json!({"type": "ack", "seq": seq}).to_string()).await.unwrap();
    let error = client.pick("error").await;
    assert_eq!((&error["code"], &error["ref"]), (&"bad_request".into(), &"ack".into()), "{error}");
}

async fn send_all(siege: &Siege, history: &History, ids: &[&str]) {
    let mut alice = TestClient::open(&siege.daemon, Options::of("alice", "phone").record(history)).await;
    alice.expect("caught_up").await;
    for id in ids {
        alice.send("bob", id, *id).await;
        alice.pick("accepted").await;
    }
    alice.leave().await;
}

async fn waiting(siege: &Siege) -> u64 {
    get(&siege.daemon, "/v1/queues/bob").await["messages"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_from_the_future_has_no_effect() {
    let siege = Siege::begin(|_| ()).await;
    let history = History::new();
    let bob = Options::of("bob", "phone").record(&history);
    crate::hostile::siege::register(&siege, bob.clone()).await;
    send_all(&siege, &history, &["m1", "m2", "m3"]).await;

    let mut hasty = TestClient::open(&siege.daemon, bob.clone().hello("window", 1)).await;
    let first = seq(&hasty.expect("message").await);
    for future in [first + 1, first + 1_000_000, SEQ_MAX] {
        ack_is_refused(&mut hasty, future).await;
    }
    is_well(&mut hasty).await;
    assert_eq!(waiting(&siege).await, 3);
    hasty.leave().await;

    let mut bob = TestClient::open(&siege.daemon, bob).await;
    for id in ["m1", "m2", "m3"] {
        let message = bob.expect("message").await;
        assert_eq!(message["id"], id);
        bob.ack(seq(&message)).await;
    }
    bob.expect("caught_up").await;
    wait::until("an empty queue", async || (waiting(&siege).await == 0).then_some(())).await;
    history.assert_clean();
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_session_was_sent_cannot_be_acknowledged_before_it_comes_again() {
    let siege = Siege::begin(|_| ()).await;
    let history = History::new();
    let bob = Options::of("bob", "phone").record(&history);
    crate::hostile::siege::register(&siege, bob.clone()).await;
    send_all(&siege, &history, &["m1", "m2"]).await;
    let mut first = TestClient::open(&siege.daemon, bob.clone()).await;
    let seqs = [seq(&first.expect("message").await), seq(&first.expect("message").await)];
    first.expect("caught_up").await;
    first.leave().await;

    let mut narrow = TestClient::open(&siege.daemon, bob.hello("window", 1)).await;
    assert_eq!(seq(&narrow.expect("message").await), seqs[0]);
    ack_is_refused(&mut narrow, seqs[1]).await;
    assert_eq!(waiting(&siege).await, 2);
    narrow.ack(seqs[0]).await;
    assert_eq!(seq(&narrow.expect("message").await), seqs[1]);
    narrow.expect("caught_up").await;
    // From below nothing changes, and nobody minds.
    for stale in [0, 1, seqs[0] - 1, seqs[0]] {
        narrow.ack(stale).await;
    }
    is_well(&mut narrow).await;
    narrow.ack(seqs[1]).await;
    wait::until("an empty queue", async || (waiting(&siege).await == 0).then_some(())).await;
    history.assert_clean();
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acknowledges_for_another_user_or_device() {
    let siege = Siege::begin(|_| ()).await;
    let history = History::new();
    let phone = Options::of("bob", "phone").record(&history);
    let mut phone = TestClient::open(&siege.daemon, phone).await;
    phone.expect("caught_up").await;
    let mut laptop =
        TestClient::open(&siege.daemon, Options::of("bob", "laptop").hello("window", 1).record(&history)).await;
    laptop.expect("caught_up").await;
    let mut mallory = TestClient::connect(&siege.daemon, "mallory", "phone").await;
    mallory.expect("caught_up").await;
    send_all(&siege, &history, &["m1", "m2"]).await;
    let first = seq(&phone.expect("message").await);
    let last = seq(&phone.expect("message").await);
    ack_is_refused(&mut mallory, last).await;
    // Fields that the protocol does not have change nobody's name.
    let forged = json!({"type": "ack", "seq": last, "user": "bob", "device": "phone", "session": phone.session()});
    mallory.speaker.say_text(&forged.to_string()).await.unwrap();
    assert_eq!(mallory.expect("error").await["code"], "bad_request");
    phone.ack(last).await;
    assert_eq!(seq(&laptop.expect("message").await), first);
    ack_is_refused(&mut laptop, last).await;
    laptop.ack(first).await;
    assert_eq!(seq(&laptop.expect("message").await), last, "the other device's ack did not count for this one");
    laptop.ack(last).await;
    wait::until("an empty queue", async || (waiting(&siege).await == 0).then_some(())).await;
    history.assert_clean();
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_acks_from_the_future_costs_nobody_anything() {
    let siege = Siege::begin(|_| ()).await;
    let mut mallory = TestClient::connect(&siege.daemon, "mallory", "phone").await;
    mallory.expect("caught_up").await;
    let (mut speaker, mut listener) = mallory.into_halves();
    let speaking = tokio::spawn(async move {
        for n in 0..FLOOD {
            if speaker.queue(&json!({"type": "ack", "seq": SEQ_MAX - n})).await.is_err() {
                return;
            }
        }
        let _sent_away = speaker.flush().await.is_err();
    });
    // Every one is answered, unless the flood outruns its own reading so far that it is sent away.
    for _ in 0..FLOOD {
        let answer = listener.recv().await;
        let code = answer["code"].clone();
        assert!(code == "bad_request" || (answer["type"] == "goodbye" && code == 4429), "{answer}");
        if answer["type"] == "goodbye" {
            break;
        }
    }
    let _gone = speaking.await.is_err();
    siege.end().await;
}
