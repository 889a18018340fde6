//! What is measured, and how it is shown.

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// The figures of one scenario.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) messages: u64,
    pub(crate) wall: Duration,
    /// CPU of the whole process, load generator included.
    pub(crate) cpu: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Figures {
    pub(crate) fn new(name: &str, messages: u64, meter: Meter, mut latencies: Vec<Duration>) -> Self {
        let (wall, cpu) = (meter.start.elapsed(), cpu() - meter.cpu);
        latencies.sort_unstable();
        Self { name: name.to_owned(), messages, wall, cpu, latencies }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 / self.wall.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1_000.0)
    }

    pub(crate) fn p50(&self) -> f64 {
        self.percentile(50)
    }

    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.messages as f64
    }

    pub(crate) fn header() -> String {
        format!(
            "{:<34} {:>9} {:>8} {:>11} {:>9} {:>9} {:>12} {:>8}",
            "scenario", "messages", "seconds", "messages/s", "p50 ms", "p99 ms", "CPU us/msg", "x floor"
        )
    }

    pub(crate) fn row(&self, floor: &Self) -> String {
        format!(
            "{:<34} {:>9} {:>8.2} {:>11.0} {:>9.3} {:>9.3} {:>12.1} {:>8.1}",
            self.name,
            self.messages,
            self.wall.as_secs_f64(),
            self.per_second(),
            self.p50(),
            self.percentile(99),
            self.cpu_micros(),
            self.per_second() / floor.per_second()
        )
    }

    pub(crate) fn json(&self, floor: &Self) -> serde_json::Value {
        serde_json::json!({
            "scenario": self.name,
            "messages": self.messages,
            "seconds": self.wall.as_secs_f64(),
            "messages_per_second": self.per_second(),
            "p50_ms": self.p50(),
            "p99_ms": self.percentile(99),
            "cpu_micros_per_message": self.cpu_micros(),
            "times_floor": self.per_second() / floor.per_second(),
        })
    }
}

/// Starts counting time.
pub(crate) struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu() }
    }
}

/// CPU time of this process so far, all threads, in user and system mode.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, in ticks of 10 ms; the second field may hold spaces but ends with the last parenthesis.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The floor: write and fdatasync for each message.
pub(crate) fn durable_appends(folder: &Path) -> std::io::Result<Figures> {
    let path = folder.join("floor");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let (payload, meter) = ([b'x'; 300], Meter::start());
    let mut latencies = Vec::new();
    for _ in 0..2_000 {
        let start = Instant::now();
        file.write_all(&payload)?;
        file.sync_data()?;
        latencies.push(start.elapsed());
    }
    let figures = Figures::new("floor", latencies.len() as u64, meter, latencies);
    std::fs::remove_file(path)?;
    Ok(figures)
}
