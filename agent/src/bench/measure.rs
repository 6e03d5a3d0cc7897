//! Percentiles, and what the system says about the process under load.

use std::{os::unix::fs::MetadataExt, path::Path, time::Duration};

use serde_json::{Value, json};

/// Latencies in microseconds as percentiles in milliseconds.
pub(super) fn latencies(mut micros: Vec<u64>) -> Value {
    micros.sort_unstable();
    let at = |share: usize| {
        let index = (micros.len() * share / 1000).min(micros.len().saturating_sub(1));
        micros.get(index).map(|us| to_f64(*us) / 1000.0)
    };
    json!({"p50_ms": at(500), "p99_ms": at(990), "p999_ms": at(999), "max_ms": at(1000)})
}

/// For ratios of counts: exact up to 2^53, far beyond what is counted here.
#[allow(clippy::cast_precision_loss)]
pub(super) fn to_f64(count: u64) -> f64 {
    count as f64
}

/// The median value.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// User and system time of a process so far, in steps of 10 ms.
pub(super) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name in parentheses: fields 14 and 15 of the line, in hundredths of a second.
    let ticks = stat.rsplit(") ").next().map(|rest| rest.split(' ').skip(11).take(2));
    let ticks: u64 = ticks.into_iter().flatten().filter_map(|text| text.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of a process in KiB.
pub(super) fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes a folder takes on the disk.
pub(super) fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| {
            let about = entry.metadata().ok()?;
            Some(if about.is_dir() { disk_bytes(&entry.path()) } else { about.blocks() * 512 })
        })
        .sum()
}
