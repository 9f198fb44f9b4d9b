//! `idle`: users who are online and say nothing: what a connection costs in memory, and what it costs to be left alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;

use super::crew::{self, Crew};
use super::door::{self, Door, Target};
use super::keeper;
use super::lane::Lane;
use super::mailbox::leave_all;
use super::pair::unwelcome;
use super::plan::Plan;
use super::process::{Looks, Usage, hundredths, mib};
use super::report::{self, Report};
use super::tally::{Shared, locked};
use super::{CONNECTIONS_MAX, duration, measured_duration};
use crate::cli::table::count;
use crate::cli::{CliError, Global};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct IdleArgs {
    /// Connections, each of another user; the router's limits.max_connections bounds it
    #[arg(long, value_name = "N", default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    connections: u32,
    /// How long to measure, as "10s" or "1m"; at least a second
    #[arg(long, default_value = "10s", value_parser = measured_duration)]
    duration: Duration,
    /// How long to let the router come to rest before
    #[arg(long, default_value = "2s", value_parser = duration)]
    warmup: Duration,
    #[command(flatten)]
    target: Target,
}

/// # Errors
/// When there is no router, or when it closes a connection.
pub(super) async fn run(global: &Global, args: IdleArgs) -> Result<(), CliError> {
    keeper::allow_many_connections();
    let mut interrupts = door::interrupts()?;
    let door = Arc::new(Door::of(global, &args.target, args.warmup + args.duration).await?);
    let (empty, began) = (door.look(), Instant::now());
    let enter = async |n| door.enter(&door.name("idle", n)?).await;
    let lanes = door::enter_all(args.connections as usize, &mut interrupts, enter, Lane::leave).await?;
    let connected_in = began.elapsed();
    let shared = Shared::new(Plan::starting_now(args.warmup, args.duration))?;
    let costs = tokio::spawn(crew::costs(shared.clone(), door.server.clone()));
    let (end, ended) = watch::channel(false);
    tokio::spawn(keeper::end_with_plan(shared.clone(), end));
    let mut crew = Crew::new();
    for lane in lanes {
        crew.spawn(keeper::keep(lane, shared.clone(), ended.clone(), |_, said| unwelcome(&said)));
    }
    let lanes = crew::watch(crew, &shared, &mut interrupts, crew::UNCOUNTED).await?;
    let costs = costs.await.unwrap_or_default();
    leave_all(lanes).await;
    let measured = locked(&shared).plan.measured();
    report(&args, connected_in, measured, &empty, costs.server).print(global, false)
}

fn report(args: &IdleArgs, connected_in: Duration, measured: Duration, empty: &Looks, server: Option<Usage>) -> Report {
    let connections = args.connections;
    let (connects, seconds) = (report::rate(u64::from(connections), connected_in), report::seconds(measured));
    let mut lines = vec![
        format!("{}, {seconds} s", count(connections, "idle connection")),
        String::new(),
        format!("connected    {connects:>10.0} a second"),
    ];
    let server = server.zip(empty.server).map(|(usage, empty)| {
        let before = empty.rss_kib();
        let each = usage.rss_kib.saturating_sub(before) as f64 / f64::from(connections);
        let (cpu, sleeps) = (usage.share() * 100.0, report::rate(usage.sleeps, usage.over));
        lines.extend([
            format!(
                "memory       {each:>10.2} KiB each  (resident: {:.1} MiB before, {:.1} with them)",
                mib(before),
                mib(usage.rss_kib)
            ),
            format!("processor    {cpu:>10.2} % of a core  ({:.0} ms in all)", usage.cpu.as_secs_f64() * 1e3),
            format!("wake-ups     {sleeps:>10.1} a second"),
        ]);
        json!({
            "rss_before_mib": hundredths(mib(before)),
            "rss_mib": hundredths(mib(usage.rss_kib)),
            "rss_kib_per_connection": hundredths(each),
            "cpu_ms": usage.cpu.as_secs_f64() * 1e3,
            "cpu_share": usage.share(),
            "wakeups_per_second": hundredths(sleeps),
        })
    });
    if server.is_none() {
        lines.push("memory, processor and wake-ups are unknown: --server-pid, or --socket, says whose".to_owned());
    }
    let figures = json!({
        "scenario": "idle",
        "connections": connections,
        "duration_s": seconds,
        "connects_per_second": connects.round(),
        "server": server,
    });
    Report::without_messages(lines, [figures])
}
