//! `doorstep send`: one message, as an application server would send it.

use std::io::Read;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::http::target;
use super::table::cell;
use super::{CliError, Global, output};
use crate::ids::{MessageId, UserId};

/// Bytes read from stdin at most; the daemon's own limit is lower.
const STDIN_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  doorstep send --from alice --to bob 'see you at eight'
  doorstep send --from billing --to bob '{\"invoice\": 17}' --ttl-ms 86400000
  doorstep send --from alice --to bob - < body.json

A BODY that is JSON is sent as it is; anything else as {\"text\": BODY}, which is what
`doorstep chat` shows.")]
pub(super) struct SendArgs {
    /// The user who sends
    #[arg(long, value_name = "USER")]
    from: UserId,
    /// The user who is to get it
    #[arg(long, value_name = "USER")]
    to: UserId,
    /// The message's id [default: a fresh ULID]; the same id again is a retry, not a second message
    #[arg(long)]
    id: Option<MessageId>,
    /// How long it may wait to be delivered, in milliseconds [default: queue.ttl]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    ttl_ms: Option<u64>,
    /// This repeats an earlier send whose outcome is unknown
    #[arg(long, requires = "id")]
    retry: bool,
    /// JSON, or a text, or - to read it from stdin
    body: String,
}

/// The request; a struct, so that the body goes out byte for byte.
#[derive(Debug, Serialize)]
struct Request<'a> {
    from: &'a UserId,
    to: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a MessageId>,
    body: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    retry: bool,
}

pub(super) async fn run(global: &Global, args: SendArgs) -> Result<(), CliError> {
    let text = if args.body == "-" { read_stdin()? } else { args.body.clone() };
    let request = Request {
        from: &args.from,
        to: &args.to,
        id: args.id.as_ref(),
        body: body(text)?,
        ttl_ms: args.ttl_ms,
        retry: args.retry,
    };
    let request = serde_json::to_string(&request).map_err(|error| CliError::new(error.to_string()))?;
    let done = global.admin()?.post(&target(&["messages"], &[]), Some(request)).await?;
    output::show(global, &done, |done| {
        let stored = done.get("stored").and_then(serde_json::Value::as_bool) == Some(true);
        let fate = if stored { "stored until read" } else { "read by every device" };
        format!("accepted: {fate} (id {}, seq {})\n", cell(done.get("id")), cell(done.get("seq")))
    })
}

fn read_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(STDIN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| CliError::new(format!("cannot read stdin: {error}")))?;
    Ok(text)
}

fn body(text: String) -> Result<Box<RawValue>, CliError> {
    match serde_json::from_str(&text) {
        Ok(json) => Ok(json),
        Err(_) => {
            let text = json!({ "text": text.trim_end_matches('\n') }).to_string();
            RawValue::from_string(text).map_err(|error| CliError::new(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_out_as_written_and_text_as_chat_writes_it() {
        let sent = |text: &str| body(text.to_owned()).unwrap().get().to_owned();
        assert_eq!(sent(r#"{"z": 1.0, "a":2}"#), r#"{"z": 1.0, "a":2}"#);
        assert_eq!(sent("see you \"at\" 8\n"), r#"{"text":"see you \"at\" 8"}"#);
        assert_eq!(sent(""), r#"{"text":""}"#);
    }
}
