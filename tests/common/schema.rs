//! Holds frames against the published schemas in `proto-docs/schema`, whoever made them.
//!
//! The schema is chosen by `type`, so a frame that no schema describes is an error, not a pass.

#![allow(dead_code, reason = "each test file that includes this module uses a part of it")]
#![allow(clippy::panic, reason = "a schema that cannot be read fails the test that asked for it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// Whether `frame` is something a client may say.
pub fn validate_client(frame: &Value) -> Result<(), String> {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    validate(SCHEMAS.get_or_init(|| compile("client")), frame)
}

/// Whether `frame` is something a server may say.
pub fn validate_server(frame: &Value) -> Result<(), String> {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    validate(SCHEMAS.get_or_init(|| compile("server")), frame)
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

fn compile(side: &str) -> Schemas {
    let compiled = |(kind, schema): (String, Value)| match jsonschema::draft202012::new(&schema) {
        Ok(validator) => (kind, validator),
        Err(error) => panic!("{side}/{kind}.json: {error}"),
    };
    documents(side).into_iter().map(compiled).collect()
}

fn validate(schemas: &Schemas, frame: &Value) -> Result<(), String> {
    let kind = frame.get("type").and_then(Value::as_str).ok_or_else(|| format!("no type in {frame}"))?;
    let schema = schemas.get(kind).ok_or_else(|| format!("no schema for a frame of type {kind:?}"))?;
    let faults: Vec<String> =
        schema.iter_errors(frame).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(format!("{} in {frame}", faults.join("; "))) }
}
