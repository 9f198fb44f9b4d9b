//! What a process has used so far, as the kernel tells: the router's, to know what a message costs it, and the load
//! generator's own, to know which of the two was the limit.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A process to be looked at.
#[derive(Debug, Clone)]
pub(super) struct Process {
    home: PathBuf,
}

/// One look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    cpu: Duration,
    /// Times that a thread went to sleep by itself: every one means that it was woken before.
    sleeps: u64,
    /// To a disk, not counted where the kernel does not tell.
    written: u64,
    rss_kib: u64,
}

/// What came between two looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) over: Duration,
    pub(super) cpu: Duration,
    pub(super) sleeps: u64,
    /// Bytes to a disk.
    pub(super) written: u64,
    /// In the end.
    pub(super) rss_kib: u64,
}

impl Process {
    pub(super) fn of(pid: u32) -> Self {
        Self { home: format!("/proc/{pid}").into() }
    }

    pub(super) fn own() -> Self {
        Self { home: "/proc/self".into() }
    }

    /// None when there is no such process, or nobody may look at it.
    pub(super) fn look(&self) -> Option<Look> {
        let status = fs::read_to_string(self.home.join("status")).ok()?;
        let io = fs::read_to_string(self.home.join("io")).unwrap_or_default();
        let mut look = Look {
            at: Instant::now(),
            cpu: Duration::ZERO,
            sleeps: 0,
            written: field(&io, "write_bytes:").unwrap_or_default(),
            rss_kib: field(&status, "VmRSS:")?,
        };
        for task in fs::read_dir(self.home.join("task")).ok()? {
            // A thread that ends while it is looked at was not worth much.
            let Ok(task) = task else { continue };
            let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let on_cpu = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok());
            look.cpu += Duration::from_nanos(on_cpu.unwrap_or_default());
            look.sleeps += field(&read("status"), "voluntary_ctxt_switches:").unwrap_or_default();
        }
        Some(look)
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().trim_end_matches(" kB").parse().ok()
}

impl Look {
    pub(super) fn rss_kib(&self) -> u64 {
        self.rss_kib
    }

    pub(super) fn until(&self, later: &Self) -> Usage {
        Usage {
            over: later.at - self.at,
            cpu: later.cpu.saturating_sub(self.cpu),
            sleeps: later.sleeps.saturating_sub(self.sleeps),
            written: later.written.saturating_sub(self.written),
            rss_kib: later.rss_kib,
        }
    }
}

impl Usage {
    /// Of one core.
    pub(super) fn share(&self) -> f64 {
        if self.over.is_zero() { 0.0 } else { self.cpu.as_secs_f64() / self.over.as_secs_f64() }
    }

    pub(super) fn us_per(&self, count: u64) -> f64 {
        if count == 0 { 0.0 } else { self.cpu.as_secs_f64() * 1e6 / count as f64 }
    }
}

/// A look at the router, where it is known, and at the load generator itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    pub(super) server: Option<Look>,
    load: Option<Look>,
}

impl Looks {
    pub(super) fn at(server: Option<&Process>) -> Self {
        Self { server: server.and_then(Process::look), load: Process::own().look() }
    }

    pub(super) fn until(&self, later: &Self) -> Costs {
        let between = |before: Option<Look>, after: Option<Look>| Some(before?.until(&after?));
        Costs { server: between(self.server, later.server), load: between(self.load, later.load) }
    }
}

/// The router beside the load generator; what cannot be looked at is left out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Costs {
    pub(super) server: Option<Usage>,
    pub(super) load: Option<Usage>,
}

impl Costs {
    /// `messages` is what the server did meanwhile.
    pub(super) fn json(&self, messages: u64) -> Value {
        let server = self.server.map(|server| {
            json!({
                "cpu_us_per_message": (messages > 0).then(|| hundredths(server.us_per(messages))),
                "cpu_share": hundredths(server.share()),
                "rss_mib": hundredths(mib(server.rss_kib)),
                "sleeps": server.sleeps,
                "written_mib": hundredths(mib(server.written >> 10)),
            })
        });
        json!({ "server": server, "load_generator": { "cpu_share": self.load.map(|load| hundredths(load.share())) } })
    }

    pub(super) fn lines(&self, messages: u64) -> Vec<String> {
        let server = self.server.map_or_else(
            || "server       unknown: --server-pid, or --socket, says which process it is".to_owned(),
            |server| {
                let each = match messages {
                    0 => String::new(),
                    _ => format!("{:.2} µs of CPU a message, ", server.us_per(messages)),
                };
                let (share, rss) = (server.share() * 100.0, mib(server.rss_kib));
                format!("server       {each}{share:.0} % of a core, {rss:.1} MiB resident")
            },
        );
        let load = self.load.map(|load| format!("load         {:.0} % of a core", load.share() * 100.0));
        std::iter::once(server).chain(load).collect()
    }
}

pub(super) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

pub(super) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_seen() {
        let own = Process::own();
        let mut before = own.look().unwrap();
        let mut sum = 0_u64;
        let usage = loop {
            sum = (0..10_000).fold(sum, |sum, n| std::hint::black_box(sum.wrapping_add(n)));
            let now = own.look().unwrap();
            if now.cpu > before.cpu {
                break before.until(&now);
            }
            // Threads of other tests that have ended took with them what they had used.
            before = now;
        };
        assert!(usage.rss_kib > 0, "{usage:?} {sum}");
        assert!(usage.us_per(1) > 0.0 && usage.share() > 0.0, "{usage:?}");
    }

    #[test]
    fn a_server_that_nobody_knows_is_left_out_and_that_is_said() {
        let nobody = Costs::default();
        assert_eq!(nobody.json(1)["server"], Value::Null);
        assert!(nobody.lines(1)[0].contains("--server-pid"));
        assert!(Process::of(0).look().is_none());
    }
}
