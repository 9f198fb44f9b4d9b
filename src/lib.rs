//! Doorstep: a presence-aware message router.
#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod client;
pub mod clock;
pub mod codes;
pub mod config;
pub mod daemon;
pub mod gateway;
pub mod ids;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod presence;
pub mod protocol;
pub mod routing;
pub mod shutdown;
pub mod store;
pub mod telemetry;
