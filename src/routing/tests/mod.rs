//! The core by itself, one promise at a time. What holds in any order of things is tried in `tests/schedules` and
//! `tests/model`; here stand exact bounds, exact moments and exact numbers.

mod acks;
mod bounds;
mod events;
mod inboxes;
mod lapses;
mod limits;
mod operators;
mod presence;
mod requeues;
mod sends;
mod states;
mod sweeps;
mod users;
