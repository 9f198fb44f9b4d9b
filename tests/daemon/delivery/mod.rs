//! The hazards of delivery and presence: one file each, named for what might go wrong.

mod exchange;
mod house;
mod roster;

mod a_silent_device_does_not_hold_up_others;
mod body_is_relayed_byte_for_byte;
mod catching_up_stands_in_line;
mod caught_up_once_and_only_when_complete;
mod elision;
mod ephemeral;
mod evict_and_load_under_traffic;
mod first_hello_is_committed_before_welcome;
mod invisible_leaks_nothing;
mod ordering_under_concurrent_senders;
mod owners_wait_for_nobody;
mod presence_coalesced;
mod presence_linger;
mod presence_no_ghosts_after_a_crash;
mod presence_versions;
mod reconnect_storm_of_one_user;
mod replay_with_live_traffic_arriving;
mod self_send;
mod slow_consumer_falls_back_to_disk_and_catches_up;
mod stale_acks_and_pages;
mod takeover_mid_flight;
mod takeover_with_a_page_outstanding;
mod two_devices_with_different_cursors;
mod watch_snapshot_and_changes;
