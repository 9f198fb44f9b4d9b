//! Sends: same id on every repeat, marked; in order; never more than allowed; honest in failure.

use std::time::Duration;

use doorstep::client::{Client, Outgoing, SendError, SendFailure};
use doorstep::codes::Code;
use futures::future::join_all;
use serde_json::json;

use crate::client_library::script::{PATIENCE, Server, connected, user, within};

fn send_in_background(
    client: &Client,
    body: &'static str,
) -> tokio::task::JoinHandle<Result<doorstep::client::Accepted, SendError>> {
    let client = client.clone();
    tokio::spawn(async move { client.send(&user("bob"), body).await })
}

#[tokio::test]
async fn an_accepted_send_says_whether_it_is_stored() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let mut peer = server.welcome().await;
    for stored in [true, false] {
        let sent = send_in_background(&client, "hi");
        let frame = peer.hear_a("send").await;
        assert_eq!((&frame["to"], &frame["body"], &frame["retry"]), (&json!("bob"), &json!("hi"), &json!(null)));
        peer.accept(&frame, stored).await;
        let accepted = within("the answer", sent).await.unwrap().unwrap();
        assert_eq!((accepted.stored, accepted.seq.0), (stored, 7));
        assert_eq!(frame["id"], accepted.id.as_str());
    }
}

#[tokio::test]
async fn a_send_survives_a_broken_connection_with_its_id_and_is_marked() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let mut peer = server.welcome().await;
    let sent = send_in_background(&client, "hi");
    let first = peer.hear_a("send").await;
    drop(peer);
    let mut peer = server.welcome().await;
    let second = peer.hear_a("send").await;
    assert_eq!(second["id"], first["id"]);
    assert_eq!(second["retry"], true);
    peer.accept(&second, true).await;
    assert!(within("the answer", sent).await.unwrap().unwrap().stored);
}

#[tokio::test]
async fn passing_rejections_and_unknown_outcomes_are_repeated_until_accepted() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let mut peer = server.welcome().await;
    let sent = send_in_background(&client, "hi");
    let first = peer.hear_a("send").await;
    let passing = ["unknown_outcome", "rate_limited", "queue_full", "overloaded", "storage_unavailable"];
    let mut frame = first.clone();
    for code in passing {
        peer.reject(&frame, code, 1).await;
        frame = peer.hear_a("send").await;
        assert_eq!((&frame["id"], &frame["retry"]), (&first["id"], &json!(true)), "after {code}");
    }
    // A router that stops is not asked again: the next one is.
    peer.reject(&frame, "shutting_down", 1).await;
    peer.close(1012).await;
    peer = server.welcome().await;
    frame = peer.hear_a("send").await;
    assert_eq!((&frame["id"], &frame["retry"]), (&first["id"], &json!(true)), "after shutting_down");
    peer.accept(&frame, false).await;
    within("the answer", sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let mut peer = server.welcome().await;
    let _sent = send_in_background(&client, "hi");
    let frame = peer.hear_a("send").await;
    peer.reject(&frame, "rate_limited", 300).await;
    let rejected_at = std::time::Instant::now();
    peer.hear_a("send").await;
    assert!(rejected_at.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn final_rejections_are_told_at_once() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let mut peer = server.welcome().await;
    let finals = [
        ("bad_request", Code::BadRequest),
        ("too_large", Code::TooLarge),
        ("forbidden", Code::Forbidden),
        ("id_reused", Code::IdReused),
        ("expired", Code::Expired),
    ];
    for (name, code) in finals {
        let sent = send_in_background(&client, "hi");
        let frame = peer.hear_a("send").await;
        peer.reject(&frame, name, 1).await;
        let error = within("the answer", sent).await.unwrap().unwrap_err();
        assert_eq!(error.cause, SendFailure::Rejected { code, reason: name.into() });
        assert!(!error.maybe_taken);
    }
}

#[tokio::test]
async fn a_body_that_would_end_the_session_never_leaves() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let mut peer = server.welcome().await;
    let large = "x".repeat(40_000);
    let error = within("the answer", client.send(&user("bob"), &large)).await.unwrap_err();
    assert!(matches!(error.cause, SendFailure::Rejected { code: Code::TooLarge, .. }));
    assert!(!error.maybe_taken);
    let sent = send_in_background(&client, "small");
    let frame = peer.hear_a("send").await;
    assert_eq!(frame["body"], "small");
    peer.accept(&frame, true).await;
    within("the answer", sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn when_the_time_is_over_the_failure_says_what_is_known() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let hi = |timeout| Outgoing::new(&user("bob"), "hi").unwrap().timeout(timeout);
    // Nothing went out: no session yet.
    let error = within("the answer", client.send_message(hi(Duration::from_millis(300)))).await.unwrap_err();
    assert_eq!((error.cause, error.maybe_taken), (SendFailure::TimedOut { last: None }, false));
    let mut peer = server.welcome().await;
    // Longer than a busy machine needs for the frame to get out.
    let late = hi(Duration::from_secs(2));
    let sent = tokio::spawn({
        let client = client.clone();
        async move { client.send_message(late).await }
    });
    let frame = peer.hear_a("send").await;
    let error = within("the answer", sent).await.unwrap().unwrap_err();
    assert_eq!((error.cause, error.maybe_taken), (SendFailure::TimedOut { last: None }, true));
    // The application may repeat it by hand, and a late answer to the first is no answer to nobody.
    assert_eq!(frame["id"], error.id.as_str());
    let repeat = Outgoing::new(&user("bob"), "hi").unwrap().repeating(error.id).timeout(PATIENCE);
    let sent = tokio::spawn(async move { client.send_message(repeat).await });
    let again = peer.hear_a("send").await;
    assert_eq!((&again["id"], &again["retry"]), (&frame["id"], &json!(true)));
    peer.accept(&again, true).await;
    within("the answer", sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_short_patience_is_kept_behind_any_number_of_long_ones() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let send = |n: usize, patience: Duration| {
        let message = Outgoing::new(&user("bob"), &n).unwrap().timeout(patience);
        let client = client.clone();
        async move { client.send_message(message).await }
    };
    // No session, so nothing makes room: neither just after so many nor after more than can wait.
    for waiting in [1024, 5000] {
        let patient = join_all((0..waiting).map(|n| send(n, Duration::from_secs(600))));
        let hurried = send(waiting, Duration::from_millis(300));
        let error = tokio::select! {
            biased;
            _ = patient => panic!("there is no router"),
            answer = within("the answer", hurried) => answer.unwrap_err(),
        };
        assert_eq!((error.cause, error.maybe_taken), (SendFailure::TimedOut { last: None }, false));
    }
}

#[tokio::test]
async fn ephemerals_that_nobody_reads_do_not_pile_up() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome_with(json!({"frame_bytes": 4 << 20, "body_bytes": 2 << 20})).await;
    connected(&mut events).await;
    let large = "x".repeat(1 << 20);
    for _ in 0..100 {
        client.send_ephemeral(&user("bob"), &large).await.unwrap();
    }
    let ping = tokio::spawn(async move { client.ping().await });
    let mut sent = 0;
    loop {
        let frame = peer.hear().await;
        if frame["type"] == "ping" {
            break;
        }
        sent += 1;
    }
    // What the client holds, and what the sockets between do.
    assert!((5..40).contains(&sent), "{sent} of 1 MiB each");
    ping.abort();
}

#[tokio::test]
async fn sends_stay_within_the_routers_limit_and_in_order() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome_with(json!({"sends_in_flight": 3})).await;
    connected(&mut events).await;
    let bob = user("bob");
    let all = join_all((0..20).map(|n| {
        let (client, bob) = (client.clone(), bob.clone());
        async move { client.send(&bob, &n).await.unwrap() }
    }));
    let all = tokio::spawn(all);
    let mut unanswered = Vec::new();
    for n in 0..20 {
        let frame = peer.hear_a("send").await;
        assert_eq!(frame["body"], n);
        unanswered.push(frame);
        assert!(unanswered.len() <= 3);
        if unanswered.len() == 3 {
            // Answered out of order: the answers of different recipients may well be.
            let last = unanswered.pop().unwrap();
            peer.accept(&last, false).await;
        }
    }
    for frame in unanswered {
        peer.accept(&frame, false).await;
    }
    assert_eq!(within("all answers", all).await.unwrap().len(), 20);
}

#[tokio::test]
async fn closing_fails_what_is_unanswered_and_says_that_it_may_have_been_taken() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let mut peer = server.welcome().await;
    let sent = send_in_background(&client, "hi");
    peer.hear_a("send").await;
    let closing = tokio::spawn(async move {
        client.close().await;
        client.send(&user("bob"), "too late").await
    });
    assert_eq!(peer.hear_out().await.1, 1000);
    let error = within("the answer", sent).await.unwrap().unwrap_err();
    assert_eq!((error.cause, error.maybe_taken), (SendFailure::Closed, true));
    let error = within("the answer", closing).await.unwrap().unwrap_err();
    assert_eq!((error.cause, error.maybe_taken), (SendFailure::Closed, false));
}
