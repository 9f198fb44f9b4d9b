//! Who there is: users with one to three devices. Must never change within a run.

pub const USERS: usize = 24;
pub const SENDERS: usize = 12;
pub const PASSERS: usize = 2;
/// Names that one passer-by takes in turn.
pub const PASSER_NAMES: usize = 200;

pub fn user(number: usize) -> String {
    format!("user-{number}")
}

/// Every device that messages are sent to.
pub fn devices() -> impl Iterator<Item = (String, &'static str)> {
    (0..USERS).flat_map(|number| {
        ["phone", "laptop", "tablet"].into_iter().take(1 + number % 3).map(move |device| (user(number), device))
    })
}
