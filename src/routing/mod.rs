//! The desk: the only mutable truth.

pub mod command;
pub mod outstanding;
pub mod presence_view;
pub mod router;
pub mod session_handle;
