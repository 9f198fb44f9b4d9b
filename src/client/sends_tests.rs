//! Repeats, order and outcomes of sends, under scripted answers and injected time.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::*;
use crate::ids::Seq;

const FLIGHT_MAX: usize = 4;

struct Bench {
    sends: Sends,
    now: Instant,
    replies: HashMap<String, oneshot::Receiver<Result<Accepted, SendError>>>,
}

impl Bench {
    fn new() -> Self {
        Self { sends: Sends::new(false, fastrand::Rng::with_seed(1)), now: Instant::now(), replies: HashMap::new() }
    }

    fn submit(&mut self, id: &str, to: &str) {
        let mut message = Outgoing::new(&UserId::new(to).unwrap(), "x").unwrap();
        message.id = MessageId::new(id).unwrap();
        let (reply, answer) = oneshot::channel();
        let deadline = self.now + Duration::from_secs(30);
        let _place = Arc::new(Semaphore::new(1)).try_acquire_owned().ok();
        let request = SendRequest { message, deadline, reply: Some(reply), _place };
        let _number = self.sends.submit(request, self.now);
        self.replies.insert(id.to_owned(), answer);
    }

    /// Ids written now; a repeat carries a `*`.
    fn written(&mut self) -> Vec<String> {
        let mut written = Vec::new();
        self.sends.write_due(self.now, FLIGHT_MAX, |message| {
            written.push(format!("{}{}", message.id, if message.retry { "*" } else { "" }));
            Ok(())
        });
        written
    }

    fn accept(&mut self, id: &str, to: &str) {
        let (id, to) = (MessageId::new(id).unwrap(), UserId::new(to).unwrap());
        self.sends.accepted(AcceptedFrame { id, to, seq: Seq(1), stored: false });
    }

    fn reject(&mut self, id: &str, to: &str, code: Code, retry_after_ms: Option<u64>) {
        let (id, to) = (Some(id.to_owned()), Some(to.to_owned()));
        let frame = RejectedFrame { id, to, code, reason: "because".into(), retry_after_ms };
        assert!(self.sends.rejected(&frame, self.now));
    }

    fn answer(&mut self, id: &str) -> Option<Result<Accepted, SendError>> {
        self.sends.take_settled().into_iter().for_each(|settled| assert!(settled.tell().is_none()));
        self.replies.get_mut(id).unwrap().try_recv().ok()
    }

    fn failure(&mut self, id: &str) -> (SendFailure, bool) {
        let error = self.answer(id).expect("an answer").expect_err("a failure");
        (error.cause, error.maybe_taken)
    }
}

#[test]
fn a_rejected_send_is_repeated_after_the_named_time_with_its_id_and_marked() {
    let mut bench = Bench::new();
    bench.submit("a", "bob");
    assert_eq!(bench.written(), ["a"]);
    bench.reject("a", "bob", Code::QueueFull, Some(700));
    assert!(bench.written().is_empty());
    let due = bench.now + Duration::from_millis(700);
    assert_eq!(bench.sends.wake_at(true, FLIGHT_MAX), Some(due));
    bench.now = due;
    assert_eq!(bench.written(), ["a*"]);
    bench.accept("a", "bob");
    assert_eq!(bench.answer("a").unwrap().unwrap().seq, Seq(1));
}

#[test]
fn a_delay_is_news_once_for_every_reason() {
    let mut bench = Bench::new();
    bench.submit("a", "bob");
    bench.written();
    let told = |bench: &mut Bench, code| {
        let (id, to) = (Some("a".to_owned()), Some("bob".to_owned()));
        let frame = RejectedFrame { id, to, code, reason: "because".into(), retry_after_ms: None };
        let news = bench.sends.puts_off(&frame).is_some();
        assert!(bench.sends.rejected(&frame, bench.now));
        news
    };
    assert!(told(&mut bench, Code::Overloaded));
    assert!(!told(&mut bench, Code::Overloaded), "that is known");
    assert!(told(&mut bench, Code::StorageUnavailable));
    assert!(!told(&mut bench, Code::Forbidden), "that is no delay");
}

#[test]
fn nothing_overtakes_a_waiting_repeat_to_the_same_recipient() {
    let mut bench = Bench::new();
    bench.submit("a", "bob");
    bench.submit("b", "bob");
    assert_eq!(bench.written(), ["a", "b"]);
    bench.reject("b", "bob", Code::RateLimited, Some(100));
    bench.reject("a", "bob", Code::RateLimited, Some(500));
    let due = bench.now + Duration::from_millis(500);
    bench.submit("c", "bob");
    bench.submit("d", "carol");
    bench.now += Duration::from_millis(200);
    assert_eq!(bench.written(), ["d"], "another recipient need not wait");
    assert_eq!(bench.sends.wake_at(true, FLIGHT_MAX), Some(due), "until then there is nothing to do for b and c");
    bench.now += Duration::from_millis(300);
    assert_eq!(bench.written(), ["a*", "b*", "c"]);
}

#[test]
fn no_more_are_in_flight_than_the_router_allows() {
    let mut bench = Bench::new();
    for n in 0..10 {
        bench.submit(&format!("m{n}"), "bob");
    }
    assert_eq!(bench.written(), ["m0", "m1", "m2", "m3"]);
    assert!(bench.written().is_empty());
    bench.accept("m2", "bob");
    assert_eq!(bench.written(), ["m4"]);
}

#[test]
fn a_lost_connection_repeats_everything_in_the_order_of_the_calls() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c"] {
        bench.submit(id, "bob");
    }
    bench.written();
    bench.reject("b", "bob", Code::ShuttingDown, Some(60_000));
    bench.accept("a", "bob");
    bench.sends.disconnected(bench.now);
    bench.submit("d", "bob");
    assert_eq!(bench.written(), ["b*", "c*", "d"]);
}

#[test]
fn the_outcome_says_whether_it_may_have_been_taken() {
    let mut bench = Bench::new();
    for id in ["refused", "unknown", "in-flight", "never-out"] {
        bench.submit(id, id);
    }
    bench.sends.write_due(bench.now, 3, |_| Ok(()));
    bench.reject("refused", "refused", Code::QueueFull, Some(60_000));
    bench.reject("unknown", "unknown", Code::UnknownOutcome, Some(60_000));
    bench.now += Duration::from_secs(30);
    bench.sends.expire(bench.now);
    assert_eq!(bench.failure("refused"), (SendFailure::TimedOut { last: Some(Code::QueueFull) }, false));
    assert_eq!(bench.failure("unknown"), (SendFailure::TimedOut { last: Some(Code::UnknownOutcome) }, true));
    assert_eq!(bench.failure("in-flight"), (SendFailure::TimedOut { last: None }, true));
    assert_eq!(bench.failure("never-out"), (SendFailure::TimedOut { last: None }, false));
}

#[test]
fn an_unknown_outcome_is_not_forgotten_when_the_repeat_is_refused() {
    let mut bench = Bench::new();
    bench.submit("a", "bob");
    bench.written();
    bench.sends.disconnected(bench.now);
    bench.written();
    bench.reject("a", "bob", Code::Forbidden, None);
    let (cause, maybe_taken) = bench.failure("a");
    assert!(matches!(cause, SendFailure::Rejected { code: Code::Forbidden, .. }));
    assert!(maybe_taken);
}

#[test]
fn the_end_answers_every_call() {
    let mut bench = Bench::new();
    bench.submit("out", "bob");
    bench.written();
    bench.submit("waiting", "bob");
    bench.submit("too-large", "carol");
    let unfit = Unfit { code: Code::TooLarge, reason: "no" };
    let fits = |message: &Outgoing| if message.to.as_str() == "carol" { Err(unfit) } else { Ok(()) };
    bench.sends.write_due(bench.now, FLIGHT_MAX, fits);
    assert!(matches!(bench.failure("too-large"), (SendFailure::Rejected { code: Code::TooLarge, .. }, false)));
    bench.sends.close();
    assert_eq!(bench.failure("out"), (SendFailure::Closed, true));
    assert_eq!(bench.failure("waiting"), (SendFailure::Closed, true), "it went out with the last write");
    assert_eq!(bench.sends.wake_at(true, FLIGHT_MAX), None);
}

#[test]
fn the_same_id_to_the_same_recipient_is_refused_while_pending() {
    let mut bench = Bench::new();
    bench.submit("a", "bob");
    bench.written();
    bench.submit("a", "bob");
    assert_eq!(bench.failure("a"), (SendFailure::AlreadyPending, true));
}

#[tokio::test(start_paused = true)]
async fn a_router_that_stops_is_asked_again_on_the_next_connection() {
    let mut bench = Bench::new();
    bench.submit("a", "bob");
    assert_eq!(bench.written(), ["a"]);
    bench.reject("a", "bob", Code::ShuttingDown, Some(1));
    bench.now += Duration::from_secs(20);
    assert!(bench.written().is_empty());
    bench.sends.disconnected(bench.now);
    assert_eq!(bench.written(), ["a*"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_kept_goes_out_when_it_is_and_not_before() {
    let mut bench = Bench { sends: Sends::new(true, fastrand::Rng::with_seed(1)), ..Bench::new() };
    for id in ["a", "b", "c"] {
        bench.submit(id, "bob");
    }
    assert!(bench.written().is_empty());
    let deadline = bench.now + Duration::from_secs(30);
    assert_eq!(bench.sends.wake_at(true, FLIGHT_MAX), Some(deadline), "nothing is to be done until then");
    bench.sends.safe_below(2);
    assert_eq!(bench.written(), ["a", "b"]);
    bench.accept("b", "bob");
    assert!(bench.replies.get_mut("b").unwrap().try_recv().is_err(), "it is not told before it is written");
    assert_eq!(bench.answer("b").unwrap().unwrap().seq, Seq(1));
    bench.sends.keep();
    assert_eq!(bench.failure("a"), (SendFailure::Kept, true));
    assert_eq!(bench.failure("c"), (SendFailure::Kept, false));
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_an_earlier_process_is_told_to_this_one() {
    let mut bench = Bench { sends: Sends::new(true, fastrand::Rng::with_seed(1)), ..Bench::new() };
    let message = Outgoing::new(&UserId::new("bob").unwrap(), "x").unwrap().repeating(MessageId::new("a").unwrap());
    let deadline = bench.now + Duration::from_secs(30);
    let request = SendRequest { message, deadline, reply: None, _place: None };
    let number = bench.sends.submit(request, bench.now).unwrap();
    bench.sends.safe_below(number + 1);
    assert_eq!(bench.written(), ["a*"]);
    bench.accept("a", "bob");
    let told = bench.sends.take_settled().remove(0).tell();
    let Some(Event::Settled { result: Ok(accepted), .. }) = told else { panic!("{told:?}") };
    assert_eq!((accepted.id.as_str(), accepted.seq), ("a", Seq(1)));
}
