//! The Rust client library: a connection to a Doorstep router that outlives connections.
//!
//! It promises what the router promises, seen from the application:
//!
//! - [`Client::send`] returns `Ok` only when the message is safe. Until then it is repeated under the
//!   same id (marked as a repeat) across rejections that pass and across reconnects; a failure says
//!   whether the message [may have been taken](SendError::maybe_taken).
//! - Each message, named by `(from, id)`, comes out of [`Events`] once per client, however often the
//!   router has to deliver it, and in the router's order.
//! - A message is acked only after the application is done with it: when it takes the next event, or calls
//!   [`Events::done`]. What was taken and not done with when the process dies is delivered again,
//!   marked `redelivered`. Who works on several messages at once must note what is done on its own.
//! - It reconnects by itself, with jitter and as the router wishes, and stays away when told so
//!   ([`Closed`]). Presence is watched again, older versions never replace newer ones.
//! - Sends to one recipient go out in the order of the calls, and none overtakes an earlier one that
//!   waits for its repeat. Calls that are under way at the same time can still be accepted in another
//!   order when one of them is rejected; to rule that out, await each send before the next.
//! - With [`Options::storage`] all of that holds across processes: a send without an answer is sent again by the next
//!   process ([`Event::Settled`] tells what came of it), and what was done in one is not handed over in another.
//!   [`FileStorage`] keeps it in a file.
//! - Everything is bounded; a slow application slows the router down for its own device and for nobody else.
//!
//! One task owns the connection and its state; [`Client`] and [`Events`] talk to it by messages. It
//! ends with [`Client::close`], or when both are dropped.
//!
//! ```no_run
//! use doorstep::client::{Client, Event, Options};
//! use doorstep::ids::{DeviceId, UserId};
//! use futures::StreamExt;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let options = Options::new("ws://127.0.0.1:7400/v1/connect", DeviceId::new("laptop")?)
//!         .user(UserId::new("bob")?);
//!     let (client, mut events) = Client::connect(options);
//!     let alice = UserId::new("alice")?;
//!     client.watch([alice.clone()]).await?;
//!     let accepted = client.send(&alice, &serde_json::json!({"text": "hi"})).await?;
//!     println!("safe, and {}", if accepted.stored { "waiting for her" } else { "with her" });
//!     while let Some(event) = events.next().await {
//!         match event {
//!             // Acked when the loop comes back for the next event.
//!             Event::Message(message) => println!("{}: {}", message.from, message.body),
//!             Event::Presence(users) => println!("{users:?}"),
//!             Event::Closed(why) => println!("the end: {why}"),
//!             _ => {}
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A whole program, with a storage, is in `clients/rust/echo.rs`.

mod buffer;
mod dial;
mod event;
mod events;
mod file_storage;
mod fitting;
mod handle;
mod intake;
mod keeper;
mod link;
mod log;
mod options;
mod outgoing;
mod reconnect;
mod said;
mod sends;
mod session;
mod storage;
mod task;
mod watching;
mod wire;

pub use event::{Closed, Ephemeral, Event, Incoming};
pub use events::Events;
pub use file_storage::FileStorage;
pub use handle::{CallError, Client};
pub use options::{Options, TokenProvider};
pub use outgoing::{Accepted, Outgoing, SendError, SendFailure, fresh_id};
pub use storage::{Change, Kept, KeptSend, NAMES_MAX, Storage};
