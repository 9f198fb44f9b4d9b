//! What the daemon takes of the machine, measured again and again, and whether that stays level.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use crate::common::daemon::Daemon;

/// Level means: in the last quarter of a life the median is above that of the second by no more than this
/// share and this much. Memory goes up and down with the store's memtables (16 MiB for the inboxes) and with who is
/// there, so less than this says nothing. Between the two quarters of a life of twenty minutes lie ten, and at 500
/// messages a second 300,000 of them: sixty bytes forgotten with each would be found.
const SHARE: f64 = 0.10;
const RSS_SLACK_BYTES: u64 = 8 << 20;
/// Clients come and go, and tables are merged.
const FILES_SLACK: u64 = 16;
/// A life with fewer samples says nothing about levels.
const SAMPLES_MIN: usize = 40;

#[derive(Debug, Clone, Copy)]
pub struct Sample {
    at: Instant,
    /// How often the daemon had been restarted.
    life: usize,
    rss_bytes: u64,
    files: u64,
    disk_bytes: u64,
    users_loaded: u64,
    waiting: u64,
}

#[derive(Debug)]
pub struct Gauges {
    began: Instant,
    samples: Vec<Sample>,
}

impl Sample {
    /// Nobody is in memory, nothing waits, and the disk holds no more than it must.
    pub fn is_at_rest(&self, disk_bytes_max: u64) -> bool {
        self.users_loaded == 0 && self.waiting == 0 && self.disk_bytes <= disk_bytes_max
    }
}

impl Gauges {
    pub fn new() -> Self {
        Self { began: Instant::now(), samples: Vec::new() }
    }

    pub async fn sample(&mut self, daemon: &Daemon, life: usize) -> Sample {
        let (status, stats) = daemon.admin("GET", "/v1/stats").await;
        assert_eq!(status, 200, "{stats}");
        let sample = Sample {
            at: Instant::now(),
            life,
            rss_bytes: daemon.rss_bytes(),
            files: daemon.open_files() as u64,
            disk_bytes: disk_bytes(&daemon.data_dir()),
            users_loaded: stats["users_loaded"].as_u64().unwrap(),
            waiting: stats["queues"]["messages"].as_u64().unwrap(),
        };
        self.samples.push(sample);
        sample
    }

    /// Memory and descriptors of the daemon's last life stay level; false when it was too short to tell.
    pub fn assert_level(&self) -> bool {
        let life = self.samples.last().map_or(0, |sample| sample.life);
        let samples: Vec<_> = self.samples.iter().filter(|sample| sample.life == life).collect();
        if samples.len() < SAMPLES_MIN {
            return false;
        }
        let quarter = |number: usize| &samples[samples.len() * number / 4..samples.len() * (number + 1) / 4];
        let compare = |what: &str, slack: u64, measure: fn(&Sample) -> u64| {
            let median = |quarter: &[&Sample]| {
                let mut values: Vec<u64> = quarter.iter().map(|sample| measure(sample)).collect();
                values.sort_unstable();
                values[values.len() / 2]
            };
            let (before, after) = (median(quarter(1)), median(quarter(3)));
            let most = before + (before as f64 * SHARE) as u64 + slack;
            println!("{what}: median {before} in the second quarter of the last life, {after} in its last");
            assert!(after <= most, "{what} grew from {before} to {after}, more than to {most}\n{self}");
        };
        compare("resident bytes", RSS_SLACK_BYTES, |sample| sample.rss_bytes);
        compare("open files", FILES_SLACK, |sample| sample.files);
        true
    }
}

/// By minute, or every sample where there are few.
impl fmt::Display for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>6} {:>5} {:>9} {:>6} {:>9} {:>7} {:>8}",
            "s", "life", "RSS MiB", "files", "disk MiB", "loaded", "waiting"
        )?;
        let step = if self.samples.len() > 60 { 6 } else { 1 };
        for sample in self.samples.iter().step_by(step).chain(self.samples.last()) {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let (rss, disk) = (mib(sample.rss_bytes), mib(sample.disk_bytes));
            let (at, life, files) = (sample.at.duration_since(self.began).as_secs(), sample.life, sample.files);
            writeln!(
                f,
                "{at:>6} {life:>5} {rss:>9.1} {files:>6} {disk:>9.1} {:>7} {:>8}",
                sample.users_loaded, sample.waiting
            )?;
        }
        Ok(())
    }
}

/// As the file system counts it. Files may go while they are looked at.
pub fn disk_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let below = entries.flatten().map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => disk_bytes(&entry.path()),
        Ok(about) => about.blocks() * 512,
        Err(_) => 0,
    });
    below.sum()
}

/// A life of twenty minutes whose memory and descriptors are as these say, by sample.
fn life(rss_bytes: impl Fn(u64) -> u64, files: impl Fn(u64) -> u64) -> Gauges {
    let began = Instant::now();
    let samples = (0..120).map(|number| Sample {
        at: began,
        life: 2,
        rss_bytes: rss_bytes(number),
        files: files(number),
        disk_bytes: 0,
        users_loaded: 0,
        waiting: 0,
    });
    Gauges { began, samples: samples.collect() }
}

#[test]
fn what_goes_up_and_down_is_level() {
    let saw = life(|number| (60 << 20) + (number % 7) * (2 << 20), |number| 60 + number % 30);
    assert!(saw.assert_level());
    let short = Gauges { samples: saw.samples[..SAMPLES_MIN - 1].to_vec(), ..saw };
    assert!(!short.assert_level(), "too few to tell");
}

#[test]
#[should_panic(expected = "resident bytes grew")]
fn a_hundred_bytes_forgotten_with_each_message_are_no_level() {
    // 500 messages a second, a sample every ten seconds.
    life(|number| (60 << 20) + number * 10 * 500 * 100, |_| 60).assert_level();
}

#[test]
#[should_panic(expected = "open files grew")]
fn a_descriptor_forgotten_every_ten_seconds_is_no_level() {
    life(|_| 60 << 20, |number| 60 + number).assert_level();
}
