//! Starting, stopping, and what lies on the disk meanwhile: one file per hazard.

mod place;

mod clock_steps;
mod corrupt_record_on_disk;
mod crash_then_orderly_stop;
mod drain_by_an_operator;
mod full_data_directory;
mod graceful_shutdown_under_load;
mod read_only_data_directory;
mod restart_refusals;
mod second_signal_exits_at_once;
mod start_with_a_million_messages_waiting;
mod the_readme;
