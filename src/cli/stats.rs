//! `doorstep stats`: the running daemon at a glance.

use serde_json::Value;

use super::http::target;
use super::table::{self, Table, number};
use super::{CliError, Global, output};

pub(super) async fn run(global: &Global) -> Result<(), CliError> {
    let stats = global.admin()?.get(&target(&["stats"], &[])).await?;
    output::show(global, &stats, render)
}

fn render(stats: &Value) -> String {
    let queues = stats.get("queues").unwrap_or(&Value::Null);
    let counters = stats.get("counters").unwrap_or(&Value::Null);
    let messages = table::count(number(queues, "messages"), "message");
    let waiting = format!("{messages}, {}", table::size(number(queues, "bytes")));
    let facts = table::facts(&[
        ("version", table::cell(stats.get("version"))),
        ("up for", table::span(number(stats, "uptime_ms"))),
        ("sessions", number(stats, "sessions").to_string()),
        ("users online", number(stats, "users_online").to_string()),
        ("users in memory", number(stats, "users_loaded").to_string()),
        ("waiting on disk", waiting),
        ("pending appends", number(stats, "pending_appends").to_string()),
        ("rates", rates(stats.get("rates"))),
        ("never touched disk", share(stats.get("elided_share"))),
        ("commits", commits(stats)),
        ("accepted", (number(counters, "accepted_stored") + number(counters, "accepted_handed_over")).to_string()),
        ("rejected", number(counters, "rejected").to_string()),
    ]);
    format!("{facts}\n{}", shards(table::entries(stats, "shards")))
}

fn rates(rates: Option<&Value>) -> String {
    let per_second = |name| rates.and_then(|rates| rates.get(name)).and_then(Value::as_f64);
    match (per_second("sends_per_second"), per_second("deliveries_per_second"), per_second("acks_per_second")) {
        (Some(sends), Some(deliveries), Some(acks)) => {
            format!("{sends:.1} sends, {deliveries:.1} deliveries, {acks:.1} acks per second")
        }
        _ => "-".to_owned(),
    }
}

fn share(share: Option<&Value>) -> String {
    share.and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn commits(stats: &Value) -> String {
    let figure = |summary: &str, name: &str| stats.get(summary)?.get(name)?.as_f64();
    match (figure("commit_seconds", "p50"), figure("commit_seconds", "p99"), figure("commit_changes", "mean")) {
        (Some(p50), Some(p99), Some(changes)) => {
            format!("p50 <= {:.1} ms, p99 <= {:.1} ms, {changes:.1} changes each", p50 * 1000.0, p99 * 1000.0)
        }
        _ => "-".to_owned(),
    }
}

fn shards(shards: &[Value]) -> String {
    let mut table =
        Table::new(&[">shard", ">users", ">sessions", ">pending", ">pending bytes", ">dedupe", ">mailbox", ">ack"]);
    for shard in shards {
        table.row(vec![
            number(shard, "shard").to_string(),
            number(shard, "users_loaded").to_string(),
            number(shard, "sessions").to_string(),
            number(shard, "pending_appends").to_string(),
            table::size(number(shard, "pending_append_bytes")),
            number(shard, "dedupe_entries").to_string(),
            number(shard, "mailbox_batches").to_string(),
            format!("{:.1} ms", number(shard, "usual_ack_us") as f64 / 1000.0),
        ]);
    }
    table.render("no shards")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_daemon_that_has_done_nothing_yet_is_shown_without_figures() {
        let text = render(&json!({ "version": "0.1.0", "uptime_ms": 1500, "rates": null, "elided_share": null }));
        assert!(text.contains("up for              1 s\n"), "{text}");
        assert!(text.contains("rates               -\n"), "{text}");
    }

    #[test]
    fn figures_have_units() {
        let text = render(&json!({
            "queues": { "messages": 3, "bytes": 4096 },
            "elided_share": 0.937,
            "commit_seconds": { "mean": 0.001, "p50": 0.0008, "p99": 0.0032 },
            "commit_changes": { "mean": 12.5, "p50": 8.0, "p99": 64.0 },
            "shards": [{ "shard": 0, "sessions": 7 }],
        }));
        assert!(text.contains("3 messages, 4.0 KiB"), "{text}");
        assert!(text.contains("93.7 %"), "{text}");
        assert!(text.contains("p50 <= 0.8 ms, p99 <= 3.2 ms, 12.5 changes each"), "{text}");
    }
}
