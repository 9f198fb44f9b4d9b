//! Hash maps for what is looked up with every message.
//!
//! The standard library's hasher withstands whoever chooses the keys and can time the answers, and costs more than
//! the rest of a look-up. The one here has a seed of the process, which is enough where a collision costs time only.

use std::collections::HashMap;

use dashmap::DashMap;

use crate::ids::UserId;

/// Mixes well, with a seed drawn when the map is made.
pub type Seeded = foldhash::quality::RandomState;

pub type UserMap<V> = HashMap<UserId, V, Seeded>;

/// The same for many threads.
pub type SharedUserMap<V> = DashMap<UserId, V, Seeded>;
