//! Who repeats a send gets the answer of the first, or is told that there is none.

use crate::codes::Code;
use crate::routing::session_handle::Outcome;
use crate::routing::testing::Desk;

#[test]
fn a_repeat_of_an_undecided_send_shares_its_answer() {
    let mut desk = Desk::new(|_| {});
    desk.send("m1", "bob", 10);
    desk.send("m1", "bob", 10);
    assert!(desk.answers("m1").is_empty());
    desk.commit();
    let seq = match desk.answers("m1")[..] {
        [Outcome::Accepted { seq, stored: true }, Outcome::Accepted { seq: again, stored: true }] => {
            assert_eq!(seq, again);
            *seq
        }
        ref answers => panic!("{answers:?}"),
    };
    desk.send("m1", "bob", 10);
    assert_eq!(desk.answers("m1")[2], &Outcome::Accepted { seq, stored: true });
    assert_eq!(desk.backlog("bob"), 1);
}

#[test]
fn a_repeat_of_a_send_that_the_disk_failed_is_told_at_once_that_its_outcome_is_unknown() {
    let mut desk = Desk::new(|_| {});
    desk.send("m1", "bob", 10);
    desk.fail_commit();
    assert_eq!((desk.answers("m1").len(), desk.refusal("m1")), (1, Some(Code::UnknownOutcome)));
    desk.send("m1", "bob", 10);
    assert_eq!((desk.answers("m1").len(), desk.refusal("m1")), (2, Some(Code::UnknownOutcome)));
}
