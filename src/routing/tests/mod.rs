//! The core by itself, one promise at a time. What holds in any order of things is tried in `tests/schedules` and
//! `tests/model`; here stand exact bounds, exact moments and exact numbers.

mod bounds;
mod events;
mod operators;
mod presence;
mod requeues;
mod sends;
mod sweeps;
