//! The contract over bad networks: each test puts a proxy of its own between clients and the real binary, and
//! lets it delay, split, stall, swallow or reset what passes.

mod conversation;
mod half_open;
mod light;
mod proxy_keeps_its_word;
mod reconnects;
mod reset_at_every_frame;
mod slow_roads;
mod stalled_readers;
mod takeover_races;
