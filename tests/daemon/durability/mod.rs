//! Hazards of acceptance and storage, one file each: on the real binary where that can show them, on a
//! daemon over the engine in memory where the disk has to fail on demand.

mod support;

mod a_pause_of_expiry_outlives_restarts;
mod dedupe_before_and_after_a_restart;
mod forget_a_device;
mod lapse;
mod low_disk_refuses_sends_and_lets_acks_go_on;
mod quota_full_rejects_the_new_one;
mod retries_of_elided_messages_are_marked;
mod ttl_expires_into_dead_letters;
mod unknown_outcome_on_a_failed_commit_after_a_push;
mod unknown_outcome_when_the_disk_is_stuck;
mod what_left_from_the_middle_is_no_backlog;
mod what_nobody_comes_for;
