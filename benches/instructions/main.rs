//! Does one thing a given number of times, to be counted from outside: `instructions route 10000`.
//!
//! Counts of instructions do not depend on how busy a machine is. What is set up before the repetitions is taken out
//! by counting two different numbers of them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a load that cannot run has nothing else to say")]

mod desk;
mod frames;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let count: u64 = arguments.next().and_then(|count| count.parse().ok()).unwrap_or_default();
    match &*what {
        "route" => desk::route(count),
        "store" => desk::store(count),
        "read-send" => frames::read_sends(count),
        "read-ack" => frames::read_acks(count),
        "write-message" => frames::write_messages(count),
        "write-accepted" => frames::write_accepted(count),
        _ => panic!("route, store, read-send, read-ack, write-message or write-accepted, and how often"),
    }
}
