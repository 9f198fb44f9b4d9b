//! Goal: the client library keeps its word whatever the router and the network do.
//! Method: a scripted router on loopback, one connection at a time; each test plays one hazard and
//! waits for what must come, under a deadline.

mod closing;
mod mistakes;
mod receiving;
mod reconnecting;
mod script;
mod sending;
mod storing;
