//! The wire language, version 1: frames as types, no I/O. `proto-docs/protocol.md` is its prose.
//!
//! [`decode`] and [`encode`] are the server's ears and mouth, [`client_encode`] and [`server_frames`]
//! the client's. Bodies pass through all of them byte for byte.

pub mod client_encode;
pub mod decode;
pub mod encode;
mod fields;
pub mod frames;
mod plain;
pub mod server_frames;
mod usual;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "doorstep.v1";
/// The path of the upgrade request.
pub const CONNECT_PATH: &str = "/v1/connect";
/// `welcome.protocol`.
pub const VERSION: u32 = 1;
