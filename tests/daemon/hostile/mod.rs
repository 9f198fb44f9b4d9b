//! What clients may do wrong, by mistake or on purpose: each gets the documented answer and costs nobody
//! else anything. One file per hostility; in each a control pair talks on beside it, and the daemon's
//! memory is measured over the whole of it.

mod raw;
mod siege;

mod acks;
mod admin_requests;
mod configuration;
mod crowds;
mod floods;
mod handshakes;
mod hello;
mod http;
mod malformed;
mod not_text;
mod slow;
mod tokens;
