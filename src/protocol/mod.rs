//! The wire language, version 1: frames as types, no I/O. `proto-docs/protocol.md` is its prose.

pub mod frames;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "doorstep.v1";
/// The path of the upgrade request.
pub const CONNECT_PATH: &str = "/v1/connect";
/// `welcome.protocol`.
pub const VERSION: u32 = 1;
