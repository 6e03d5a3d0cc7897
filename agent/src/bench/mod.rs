//! Load on a mediator of ours, as a process of its own over loopback: its speed, its cost, and whether mail is lost.

mod crash;
mod footprint;
mod forward;
mod http;
mod live;
mod measure;
mod overload;
mod party;
mod pickup;
mod server;

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

use self::server::Server;
use crate::error::SetupError;

/// Anything that prevents a measurement; reported to the person at the terminal.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// The options of `einmal bench mediator`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of the scenarios; if empty, all of the usual ones.
    pub only: Vec<String>,
    /// How often each is run; the median counts.
    pub runs: usize,
    /// Folder the mediators' folders are made in: it decides which disk is measured.
    pub folder: Option<PathBuf>,
    /// One JSON object for each run.
    pub json: bool,
}

/// The scenarios, and whether each runs without being named.
const SCENARIOS: [(&str, bool); 13] = [
    ("forward-1", true),
    ("forward-8", true),
    ("forward-800", true),
    ("overload-10x", true),
    ("pickup", true),
    ("live-100", true),
    ("live-1000", true),
    ("live-flood", true),
    ("sockets-1000", true),
    ("sockets-10000", false),
    ("queued-10000", false),
    ("queued-100000", true),
    ("queued-1000000", false),
];

/// Runs the scenarios and prints what they measured.
///
/// # Errors
///
/// [`SetupError`] if a name is unknown, or a measurement could not be made.
pub async fn mediator(options: Options) -> Result<(), SetupError> {
    let known = |name: &String| SCENARIOS.iter().any(|(other, _)| other == name);
    if let Some(unknown) = options.only.iter().find(|name| !known(name)) {
        let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        return Err(SetupError::Usage {
            problem: format!("there is no scenario `{unknown}`"),
            remedy: format!("use some of: {}", names.join(", ")),
        });
    }
    let chosen = SCENARIOS.iter().filter(|(name, usual)| {
        if options.only.is_empty() { *usual } else { options.only.iter().any(|one| one == name) }
    });
    for (name, _) in chosen {
        let mut results = Vec::new();
        for run in 1..=options.runs {
            let result = scenario(name, &options)
                .await
                .map_err(|problem| SetupError::Internal(format!("{name}: {problem}")))?;
            if options.json {
                println!("{}", json!({"scenario": name, "run": run, "result": result}));
            }
            results.push(result);
        }
        if !options.json {
            summary(name, &results);
        }
    }
    Ok(())
}

/// Kills a mediator under load, `kills` times, and compares what was accepted with what arrived. True if nothing is
/// missing.
///
/// # Errors
///
/// [`SetupError`] if the comparison could not be made.
pub async fn crash(kills: u32, folder: Option<PathBuf>, as_json: bool) -> Result<bool, SetupError> {
    let temporary = match &folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let temporary = temporary.map_err(SetupError::internal)?;
    let result = crash::run(temporary.path(), kills)
        .await
        .map_err(|problem| SetupError::Internal(format!("crash: {problem}")))?;
    if as_json {
        println!("{}", json!({"scenario": "crash", "result": result}));
    } else {
        summary("crash", std::slice::from_ref(&result));
    }
    let accepted = result.get("accepted").and_then(Value::as_u64).unwrap_or(0);
    // If nothing was accepted, nothing is proved.
    Ok(accepted > 0 && result.get("missing").and_then(Value::as_u64) == Some(0))
}

async fn scenario(name: &str, options: &Options) -> Result<Value, Problem> {
    let folder = match &options.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let number =
        |name: &str| name.rsplit('-').next().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    if name.starts_with("queued") {
        return footprint::queued(folder.path(), number(name)).await;
    }
    let server = Server::fresh(folder.path(), "mediator")?;
    match name {
        "forward-1" => forward::run(&server, 1, 8_000).await,
        "forward-8" => forward::run(&server, 8, 40_000).await,
        // A hundred times as many at once: as much must get through as with eight.
        "forward-800" => forward::run(&server, 800, 40_000).await,
        "overload-10x" => overload::run(&server).await,
        "pickup" => pickup::run(&server).await,
        "live-100" => live::run(&server, 1_500, Some(100)).await,
        "live-1000" => live::run(&server, 5_000, Some(1000)).await,
        "live-flood" => live::run(&server, 10_000, None).await,
        _ => footprint::sockets(&server, number(name)).await,
    }
}

/// Medians of all numbers, by name.
fn summary(name: &str, results: &[Value]) {
    fn collect(prefix: &str, value: &Value, into: &mut BTreeMap<String, Vec<f64>>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    collect(&format!("{prefix} {name}"), value, into);
                }
            }
            value => into.entry(prefix.to_owned()).or_default().extend(value.as_f64()),
        }
    }
    let mut numbers = BTreeMap::new();
    for result in results {
        collect("", result, &mut numbers);
    }
    println!("{name}");
    for (what, values) in numbers {
        if let Some(median) = measure::median(values) {
            println!("  {:<28}{median:>14.2}", what.trim());
        }
    }
}
