//! Measures durable sealed writes of 1 KiB per second, compared with a plain file and one `fdatasync` per write.
//!
//! ```text
//! cargo run --release -p einmal-storage --example throughput [FOLDER] [SECONDS]
//! ```
//!
//! FOLDER (default: the folder for temporary files) decides which disk is measured.

use std::{
    error::Error,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use einmal_storage::{Batch, Key, Store, StoreError, Table, TenantId, Unlock, create_key_file, open};

const INBOX: Table = Table::new("inbox");
const VALUE_LEN: usize = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(3);
    let span = Duration::from_secs(seconds);
    let folder = parent.join(format!("einmal-throughput-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    println!("{:<28} {:>10} {:>12} {:>12} {:>12}", "", "writes/s", "median ms", "p99 ms", "batches/flush");
    let outcome = measure(&folder, span);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn measure(folder: &Path, span: Duration) -> Result<(), Box<dyn Error>> {
    line("plain file, 1 writer", span, append(&folder.join("plain"), span)?, 1.0);
    for writers in [1, 64, 512] {
        let folder = folder.join(writers.to_string());
        std::fs::create_dir(&folder)?;
        create_key_file(&folder.join("key"))?;
        let store = Arc::new(open(&folder.join("store"), &Unlock::KeyFile(folder.join("key")))?);
        let times = commit(&store, writers, span)?;
        let stats = store.stats()?;
        #[allow(clippy::cast_precision_loss, reason = "printed with one decimal")]
        let group = stats.commits as f64 / stats.flushes.max(1) as f64;
        line(&format!("sealed store, {writers} writers"), span, times, group);
        store.close()?;
    }
    Ok(())
}

/// The baseline: what the disk does for one writer that waits after each write.
fn append(path: &Path, span: Duration) -> Result<Vec<Duration>, std::io::Error> {
    let mut file = File::create(path)?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < span {
        let before = Instant::now();
        file.write_all(&[7; VALUE_LEN])?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    Ok(times)
}

fn commit(store: &Arc<impl Store>, writers: u64, span: Duration) -> Result<Vec<Duration>, StoreError> {
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(store);
            thread::spawn(move || -> Result<_, StoreError> {
                let (start, mut times) = (Instant::now(), Vec::new());
                while start.elapsed() < span {
                    let before = Instant::now();
                    let count = u64::try_from(times.len()).unwrap_or(u64::MAX);
                    // Spread over the table like random message ids (multiplied by 2^64 over the golden ratio).
                    let id = ((writer << 40) | count).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                    let key = Key::new(&TenantId::default(), INBOX, id)?;
                    let mut batch = Batch::new();
                    batch.expect_absent(key.clone()).put(key, vec![7; VALUE_LEN]);
                    store.commit(batch).wait()?;
                    times.push(before.elapsed());
                }
                Ok(times)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| StoreError::Failed)??);
    }
    Ok(all)
}

fn line(what: &str, span: Duration, mut times: Vec<Duration>, group: f64) {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = times.len().saturating_mul(percent) / 100;
        times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    #[allow(clippy::cast_precision_loss, reason = "printed without decimals")]
    let rate = times.len() as f64 / span.as_secs_f64();
    println!("{what:<28} {rate:>10.0} {:>12.2} {:>12.2} {group:>12.1}", at(50), at(99));
}
