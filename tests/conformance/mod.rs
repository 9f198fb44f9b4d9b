//! The gateway held to RFC 6455: its own listener, upgrade, frames and closing, with an echo behind them in the place
//! of messages and users. Part of the library's unit tests, because all of that is nobody else's business.
//!
//! `clauses` asks by hand what matters most; `echo::serves_the_suite` waits for the Autobahn suite, which
//! `.ci/proofs/autobahn` sends.

mod clauses;
mod echo;
mod peer;
