//! What a client says, as finished JSON. The counterpart of [`super::decode`].

use super::frames::ClientFrame;

/// One frame as text. A body goes out as the bytes it has.
#[must_use]
pub fn client_frame(frame: &ClientFrame<'_>) -> String {
    // A string takes every write and these types have no keys that are not text, so this cannot fail.
    let written = serde_json::to_string(frame);
    debug_assert!(written.is_ok(), "{written:?}");
    written.unwrap_or_default()
}
