//! The whole story on this machine: real nodes as separate processes, real input, and every attack refused.

mod attacks;
mod canary;
mod city;
mod person;
mod scan;
mod story;
mod wallet;
mod wire;

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::json;

use crate::error::SetupError;

/// The options of `einmal demo`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the city's description; by default the example of the source tree.
    pub data: Option<PathBuf>,
    /// Keep the nodes' folders here.
    pub keep: Option<PathBuf>,
    /// One JSON object for each step instead of a line for people.
    pub json: bool,
}

/// Result of one step: what happened, or what went wrong.
type StepResult = Result<String, String>;

/// Prints steps as they are done.
struct Stage {
    json: bool,
    failed: bool,
}

impl Stage {
    /// Plays one step, unless an earlier one failed: nothing after it could be trusted.
    async fn step(&mut self, name: &str, action: impl AsyncFnOnce() -> StepResult) {
        let begun = Instant::now();
        let result = if self.failed {
            Err("not reached, because an earlier step failed".to_owned())
        } else {
            action().await
        };
        let ms = begun.elapsed().as_millis();
        self.failed |= result.is_err();
        let (ok, detail) = match result {
            Ok(detail) => (true, detail),
            Err(problem) => (false, problem),
        };
        if self.json {
            let _ = writeln!(
                std::io::stdout(),
                "{}",
                json!({"step": name, "ok": ok, "detail": detail, "ms": ms})
            );
        } else {
            let mark = if ok { "ok  " } else { "FAIL" };
            let _ = writeln!(std::io::stdout(), "{mark} {name:<26} {ms:>6} ms  {detail}");
        }
        let _ = std::io::stdout().flush();
    }
}

/// Plays the story; true if every step succeeded.
///
/// # Errors
///
/// [`SetupError`] if the input or a working folder is not available at all.
pub async fn play(options: Options) -> Result<bool, SetupError> {
    let data = find_data(options.data.as_deref())?;
    let temporary;
    let folder = match &options.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| SetupError::input(folder, error))?;
            folder.canonicalize().map_err(|error| SetupError::input(folder, error))?
        }
        None => {
            temporary = tempfile::tempdir().map_err(SetupError::internal)?;
            temporary.path().to_owned()
        }
    };
    let mut stage = Stage { json: options.json, failed: false };
    story::play(&mut stage, &data, &folder).await?;
    if !options.json {
        println!(
            "{}",
            if stage.failed { "The story did not go as it should." } else { "Every step went as it should." }
        );
    }
    Ok(!stage.failed)
}

/// The given folder, else `examples/wetzlar` in the current folder or in the source tree this was built from.
fn find_data(given: Option<&Path>) -> Result<PathBuf, SetupError> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wetzlar");
    let candidates = match given {
        Some(folder) => vec![folder.to_owned()],
        None => vec![PathBuf::from("examples/wetzlar"), source],
    };
    candidates.iter().find(|folder| folder.join("city.toml").is_file()).cloned().ok_or_else(|| {
        SetupError::Usage {
            problem: "no city.toml was found".into(),
            remedy: "give its folder with --data, such as --data examples/wetzlar".into(),
        }
    })
}
