//! The counters that every room bumps and `/metrics` shows. Ground: knows no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

macro_rules! metrics {
    ($($kind:ident $name:ident $help:literal;)*) => {
        /// All of them, cheap to clone.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            $(#[doc = $help] pub $name: $kind,)*
            /// Seconds from handing a batch to the disk until it was synced.
            pub commit_seconds: Histogram,
            /// Changes in one synced batch.
            pub commit_changes: Histogram,
        }

        impl Metrics {
            pub fn new() -> Arc<Self> {
                Arc::new(Self {
                    $($name: $kind::default(),)*
                    commit_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
                    commit_changes: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
                })
            }

            /// Names them all for `/metrics`.
            pub fn register(&self, registry: &mut Registry) {
                $(registry.register(stringify!($name), $help, self.$name.clone());)*
                registry.register("commit_seconds", "Seconds per synced batch", self.commit_seconds.clone());
                registry.register("commit_changes", "Changes per synced batch", self.commit_changes.clone());
            }
        }
    };
}

metrics! {
    Level connections "Open connections, handshakes included";
    Level sessions "Attached sessions";
    Level users_loaded "User records in memory";
    Level pending_appends "Messages routed and not yet stored or handed over";
    Level stored_messages "Messages on disk";
    Level stored_bytes "Bytes of messages on disk";
    Count connects "Connections accepted";
    Count connects_refused "Connections refused by a limit";
    Count hellos_refused "Handshakes that ended without a welcome";
    Count frames_in "Frames read from clients";
    Count frames_malformed "Frames that could not be used";
    Count sends "Durable sends taken in";
    Count sends_ephemeral "Ephemeral sends taken in";
    Count ephemeral_dropped "Ephemeral deliveries for which a session had no room";
    Count deliveries "Messages pushed to sessions";
    Count redeliveries "Messages pushed and marked redelivered";
    Count acks "Acks applied";
    Count accepted_stored "Sends answered accepted after a synced commit";
    Count accepted_handed_over "Sends answered accepted because every device acked first";
    Count rejected "Sends answered rejected";
    Count unknown_outcomes "Sends answered unknown_outcome";
    Count deduped "Sends recognised as repeats";
    Count elided "Messages never written because every device acked first";
    Count commits "Synced batches";
    Count commit_failures "Batches that could not be synced";
    Count pages "Pages read for replay";
    Count loads "User records loaded";
    Count evictions "User records evicted";
    Count expired "Messages expired";
    Count purged "Messages purged";
    Count lapsed "Messages lapsed for a device";
    Count forgotten "Messages forgotten with their device";
    Count corrupt "Records found corrupt";
    Count requeued "Dead letters put back into their inbox";
    Count dead_letters_dropped "Dead letters that fell out of the bounded list";
    Count takeovers "Sessions replaced by a newer one of the same device";
    Count presence_changes "Visible presence changes";
    Count sessions_overflowed "Sessions closed because they did not read what they asked for";
    Count rate_limited "Sends answered rate_limited";
    Count start_records_read "Records read from the store while starting";
}
