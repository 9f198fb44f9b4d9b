//! Goal: `proto-docs/asyncapi.yaml` leaves out no frame, and shows none that is none.
//! Method: the document is read as text, in the one way in which it is written: each message names the schema that is its
//! payload, and each example is JSON on one line. That it is AsyncAPI at all is tried by `clients/asyncapi/check.js`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::schema;
use serde_json::Value;

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-docs/asyncapi.yaml")).unwrap()
}

fn found(document: &str, before: &str, after: &str) -> BTreeSet<String> {
    let lines = document.lines().filter_map(|line| line.trim().strip_prefix(before)?.strip_suffix(after));
    lines.map(str::to_owned).collect()
}

#[test]
fn every_frame_is_a_message_of_the_channel_and_of_an_operation() {
    let document = document();
    for side in ["client", "server"] {
        let frames: BTreeSet<String> = schema::documents(side).into_keys().collect();
        assert_eq!(found(&document, &format!("$ref: schema/{side}/"), ".json"), frames, "payloads");
        let in_channel = found(&document, "$ref: \"#/components/messages/", "\"");
        let in_operations = found(&document, "- $ref: \"#/channels/connect/messages/", "\"");
        for frame in &frames {
            assert!(in_channel.contains(frame), "{frame} is not in the channel");
            assert!(in_operations.contains(frame), "{frame} is of no operation");
        }
    }
}

#[test]
fn every_example_is_a_frame_of_its_side() {
    let document = document();
    let (clients, servers) = document.split_once("# What the server says.").unwrap();
    for (text, side) in [(clients, "client"), (servers, "server")] {
        let mut shown = BTreeSet::new();
        for example in found(text, "- payload: ", "") {
            let frame: Value = serde_json::from_str(&example).unwrap_or_else(|error| panic!("{error} in {example}"));
            let valid = if side == "client" { schema::validate_client } else { schema::validate_server };
            valid(&frame).unwrap();
            shown.insert(frame.get("type").and_then(Value::as_str).unwrap().to_owned());
        }
        assert_eq!(shown, schema::documents(side).into_keys().collect(), "each frame has an example");
    }
}
