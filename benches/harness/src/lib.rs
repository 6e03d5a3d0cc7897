//! Times several pieces of work in interleaved rounds, so that ratios compare work done under the same conditions.
//!
//! Each piece runs in a block that lasts for [`Rounds::block`]. A round has one block of every piece, and the order
//! rotates by one from round to round. The result is the median over the rounds, with the least round beside it: on a
//! shared machine, noise only ever adds time.

use std::time::{Duration, Instant};

/// One piece of work with its name.
pub struct Case<'a> {
    name: &'static str,
    work: Box<dyn FnMut() + 'a>,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Number of rounds.
    pub count: usize,
    /// Approximate duration of one block of one piece.
    pub block: Duration,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { count: 51, block: Duration::from_millis(6) }
    }
}

/// Seconds per call of one piece.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Median over the rounds.
    pub median: f64,
    /// Least over the rounds.
    pub least: f64,
}

impl Timing {
    /// Microseconds per call, by the median.
    pub fn micros(self) -> f64 {
        self.median * 1e6
    }

    /// Calls per second, by the median.
    pub fn per_second(self) -> f64 {
        self.median.recip()
    }

    /// How far the median is above the least, in percent: the noise of the run.
    pub fn spread(self) -> f64 {
        (self.median / self.least - 1.0) * 100.0
    }
}

/// The results of one run, by name.
pub struct Results(Vec<(&'static str, Timing)>);

impl Results {
    /// The timing of the piece called `name`.
    ///
    /// # Panics
    ///
    /// If no piece has that name.
    pub fn of(&self, name: &str) -> Timing {
        self.0.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no case {name}")).1
    }

    /// The median, over all pieces, of how far a piece's median is above its least round, in percent.
    pub fn spread(&self) -> f64 {
        middle(self.0.iter().map(|(_, timing)| timing.spread()).collect())
    }
}

impl<'a> Case<'a> {
    /// A piece of work that keeps its own result from being optimised away.
    pub fn new(name: &'static str, work: impl FnMut() + 'a) -> Self {
        Self { name, work: Box::new(work) }
    }

    fn time(&mut self, calls: u32) -> f64 {
        let start = Instant::now();
        for _ in 0..calls {
            (self.work)();
        }
        start.elapsed().as_secs_f64()
    }

    /// The number of calls that fill one block; the first ones warm up caches.
    fn calls_for(&mut self, block: Duration) -> u32 {
        let mut calls = 1;
        loop {
            let taken = self.time(calls);
            if taken >= block.as_secs_f64() / 8.0 || calls >= 1 << 20 {
                return ((f64::from(calls) * block.as_secs_f64() / taken) as u32).max(1);
            }
            calls *= 2;
        }
    }
}

/// Measures all pieces in interleaved rounds.
pub fn run(mut cases: Vec<Case<'_>>, rounds: Rounds) -> Results {
    let calls: Vec<u32> = cases.iter_mut().map(|case| case.calls_for(rounds.block)).collect();
    let mut times = vec![Vec::with_capacity(rounds.count); cases.len()];
    for round in 0..rounds.count {
        for step in 0..cases.len() {
            let at = (round + step) % cases.len();
            times[at].push(cases[at].time(calls[at]) / f64::from(calls[at]));
        }
    }
    let timing = |times: Vec<f64>| Timing {
        least: times.iter().copied().fold(f64::INFINITY, f64::min),
        median: middle(times),
    };
    Results(cases.iter().map(|case| case.name).zip(times.into_iter().map(timing)).collect())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a markdown table; the first column is text, the others are right-aligned.
pub fn print_table(head: &[&str], rows: &[Vec<String>]) {
    println!("| {} |", head.join(" | "));
    println!("|---|{}", "---:|".repeat(head.len() - 1));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}
