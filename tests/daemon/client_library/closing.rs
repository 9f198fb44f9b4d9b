//! Ends that are final: the application's own, and those after which coming back would do harm.

use doorstep::client::{Client, Closed, Event, Options};
use doorstep::ids::DeviceId;
use futures::StreamExt;
use serde_json::json;

use crate::client_library::script::{Server, connected, next, next_message, welcome, within};

#[tokio::test]
async fn it_stays_away_after_every_code_that_says_so() {
    let server = Server::start().await;
    for code in [1002, 1003, 1007, 1009, 4400, 4403, 4409, 4410] {
        let (_client, mut events) = server.client();
        let mut peer = server.welcome().await;
        connected(&mut events).await;
        peer.close(code).await;
        match next(&mut events).await {
            Event::Closed(Closed::Refused { close_code, .. }) => assert_eq!(close_code, code),
            other => panic!("after {code}: {other:?}"),
        }
        // The stream ends with the task, so nothing is left that could come back.
        assert!(within("the end", events.next()).await.is_none());
    }
}

#[tokio::test]
async fn closing_acks_what_is_done_and_says_1000() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    for seq in 1..=3 {
        peer.deliver(seq, &format!("m{seq}"), false).await;
        assert_eq!(next_message(&mut events).await, seq);
    }
    events.done();
    let closing = tokio::spawn(async move { client.close().await });
    let (frames, code) = peer.hear_out().await;
    assert_eq!(frames.last().unwrap()["seq"], 3);
    assert_eq!(code, 1000);
    within("the end", closing).await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Closed(Closed::Done)));
    assert!(within("the end", events.next()).await.is_none());
}

#[tokio::test]
async fn dropping_both_ends_says_goodbye_without_acking() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    peer.deliver(1, "a", false).await;
    assert_eq!(next_message(&mut events).await, 1);
    drop((client, events));
    let (frames, code) = peer.hear_out().await;
    assert!(frames.is_empty(), "the application was not done with it: {frames:?}");
    assert_eq!(code, 1000);
}

#[tokio::test]
async fn closing_works_at_once_while_waiting_to_reconnect() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    connected(&mut events).await;
    peer.say(json!({"type": "goodbye", "code": 1012, "reason": "back tomorrow", "retry_after_ms": 3_000_000})).await;
    peer.close(1012).await;
    assert!(matches!(next(&mut events).await, Event::Disconnected { .. }));
    within("the end", client.close()).await;
    assert!(matches!(next(&mut events).await, Event::Closed(Closed::Done)));
}

#[tokio::test]
async fn forgetting_waits_for_a_connection_and_ends_with_1000() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let forgetting = tokio::spawn(async move { client.forget().await });
    let mut peer = server.welcome().await;
    peer.hear_a("forget").await;
    peer.close(1000).await;
    within("the end", forgetting).await.unwrap();
    while !matches!(next(&mut events).await, Event::Closed(Closed::Done)) {}
}

#[tokio::test]
async fn being_taken_for_someone_else_is_the_end() {
    let server = Server::start().await;
    let (_client, mut events) = server.client();
    drop(server.welcome().await);
    let mut peer = server.accept().await;
    let mut frame = welcome();
    frame["user"] = json!("another");
    peer.say(frame).await;
    while !matches!(next(&mut events).await, Event::Closed(Closed::Impossible { .. })) {}
}

#[tokio::test]
async fn an_address_where_nothing_can_be_is_told_at_once() {
    for url in ["not an address", "wss://127.0.0.1:1/v1/connect", "http://127.0.0.1:1/"] {
        let (_client, mut events) = Client::connect(Options::new(url, DeviceId::new("test").unwrap()));
        assert!(matches!(next(&mut events).await, Event::Closed(Closed::Impossible { .. })), "{url}");
    }
}
