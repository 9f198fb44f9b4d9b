//! Holds frames against the published schemas in `proto-docs/schema`, whoever made them.
//!
//! The schema is chosen by `type`, so a frame that no schema describes is an error, not a pass. The published
//! schemas leave room for fields to come, because clients ignore what they do not know; what this server says
//! today is held against closed ones, or a field with a slip of the pen in its name would pass for such a one.

#![allow(dead_code, reason = "each test file that includes this module uses a part of it")]
#![allow(clippy::panic, reason = "a schema that cannot be read fails the test that asked for it")]
#![allow(clippy::indexing_slicing, reason = "a field of an object that was just looked into can be set")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// Whether `frame` is something a client may say.
pub fn validate_client(frame: &Value) -> Result<(), String> {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    validate(SCHEMAS.get_or_init(|| compile("client", |schema| schema)), frame)
}

/// Whether `frame` is something a server may say.
pub fn validate_server(frame: &Value) -> Result<(), String> {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    validate(SCHEMAS.get_or_init(|| compile("server", closed)), frame)
}

/// The same for a frame that is shown with something left out: every field that is there is a field of its type.
pub fn validate_part(side: &str, frame: &Value) -> Result<(), String> {
    validate(&compile(side, |schema| without_conditions(closed(schema))), frame)
}

/// The schemas of one side, `client` or `server`, by file name without its ending.
pub fn documents(side: &str) -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-docs/schema").join(side);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| read(&entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path())).collect()
}

type Schemas = BTreeMap<String, Validator>;

fn read(path: &PathBuf) -> (String, Value) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(), schema)
}

fn compile(side: &str, change: impl Fn(Value) -> Value) -> Schemas {
    let compiled = |(kind, schema): (String, Value)| match jsonschema::draft202012::new(&change(schema)) {
        Ok(validator) => (kind, validator),
        Err(error) => panic!("{side}/{kind}.json: {error}"),
    };
    documents(side).into_iter().map(compiled).collect()
}

/// Wherever a schema lists the fields of an object, it allows no others.
fn closed(mut schema: Value) -> Value {
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.values_mut().for_each(|field| *field = closed(field.take()));
        schema["additionalProperties"] = false.into();
    }
    if let Some(items) = schema.get_mut("items") {
        *items = closed(items.take());
    }
    schema
}

/// The fields as they are, whichever of them are there.
fn without_conditions(mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema
            .retain(|word, _| !["required", "if", "then", "else", "not", "anyOf", "allOf", "oneOf"].contains(&&**word));
    }
    schema
}

fn validate(schemas: &Schemas, frame: &Value) -> Result<(), String> {
    let kind = frame.get("type").and_then(Value::as_str).ok_or_else(|| format!("no type in {frame}"))?;
    let schema = schemas.get(kind).ok_or_else(|| format!("no schema for a frame of type {kind:?}"))?;
    let faults: Vec<String> =
        schema.iter_errors(frame).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(format!("{} in {frame}", faults.join("; "))) }
}
