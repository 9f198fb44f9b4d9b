//! Bounds that are part of the protocol or of the format on disk, and so are not configurable.
//!
//! What an operator may tune is in `config`; relations between bounds are asserted here.

/// Bytes of a user name.
pub const USER_BYTES_MAX: usize = 128;
/// Bytes of a device name.
pub const DEVICE_BYTES_MAX: usize = 64;
/// Bytes of a message id.
pub const MESSAGE_ID_BYTES_MAX: usize = 64;
/// Characters of a status text.
pub const STATUS_TEXT_CHARS_MAX: usize = 140;
/// Users in one `watch` or `unwatch` frame, and in one `presence` frame.
pub const WATCH_USERS_MAX: usize = 256;
/// What a message may cost beside its body in a frame, in bytes: a name escaped at worst
/// six to one, the id, the numbers and the field names.
pub const ENVELOPE_BYTES_MAX: usize = 6 * USER_BYTES_MAX + MESSAGE_ID_BYTES_MAX + 256;
/// Commands that a session hands to an owner at once: a batch.
pub const BATCH_COMMANDS_MAX: usize = 256;
/// Batches that an owner takes from its mailbox at once.
pub const BATCHES_MAX: usize = 256;
/// Files that the store keeps open for reading; more are opened when they are read.
pub const STORE_FILES_MAX: usize = 256;
/// The most that `limits.frame_bytes` may be set to.
pub const FRAME_BYTES_CEILING: usize = 64 << 20;
/// Levels of JSON nesting in a frame, the frame itself included.
pub const JSON_DEPTH_MAX: usize = 127;

const _: () = assert!(ENVELOPE_BYTES_MAX < 4096);
