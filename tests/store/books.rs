//! Goal: what is asked for often is answered from few records, and is right where the few would mislead.
//! Method: the engine in memory, which everything is read through by one who counts.

use crate::support::*;
use doorstep::ids::Seq;
use doorstep::message::Tally;
use doorstep::store::{DeviceRecord, Op};

/// A store where bob has three messages and these devices, with their cursors.
fn store_of(devices: &[(&str, u64)]) -> (std::sync::Arc<Counting>, Running) {
    let home = Home::in_memory();
    let engine = Counting::new(home.engine());
    let store = home.start_on(engine.clone());
    store.store((1..=3).map(|seq| append("bob", seq)).collect());
    let put = |(name, cursor): &(&str, u64)| Op::PutDevice {
        device: device(name),
        record: DeviceRecord { cursor: Seq(*cursor), ..DeviceRecord::default() },
    };
    store.change("bob", devices.iter().map(put).collect());
    (engine, store)
}

#[test]
fn a_device_that_lacks_the_whole_inbox_costs_no_look_at_it() {
    let reads = |devices| {
        let (engine, store) = store_of(devices);
        engine.reads_of(|| store.reader.load(&user("bob")).unwrap()).1
    };
    let one = reads(&[("phone", 0)]);
    // One more is the record of the device itself.
    assert_eq!(reads(&[("phone", 0), ("tablet", 0)]), one + 1);
}

#[test]
fn a_device_that_has_the_first_message_lacks_the_others() {
    let (_engine, store) = store_of(&[("phone", 0), ("tablet", 1), ("watch", 3)]);
    let loaded = store.reader.load(&user("bob")).unwrap();
    let bases: Vec<_> = loaded.devices.iter().map(|device| device.base).collect();
    let first = Tally { messages: 1, bytes: message(1, 10).weight() };
    assert_eq!(bases, [Some(Tally::default()), Some(first), None]);
}

#[test]
fn no_more_of_the_due_index_is_read_than_was_asked_for() {
    let (engine, store) = store_of(&[]);
    for name in ["ann", "cid", "dan"] {
        store.change(name, vec![Op::PutDue { at_ms: 60_000 }]);
    }
    let due = |limit| engine.reads_of(|| store.reader.due(60_000, limit).unwrap().len());
    assert_eq!(due(0).0, 0);
    assert_eq!([due(1), due(2), due(9)], [(1, 1), (2, 2), (3, 3)]);
}
