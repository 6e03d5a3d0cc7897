//! Asking the person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use einmal_flows::for_display;
use serde_json::Value;

use super::output;
use crate::error::SetupError;

/// Most characters of one line of a peer.
const MAX_LINE_CHARS: usize = 1_000;

/// Shows what is on offer or asked for, and asks whether to agree.
///
/// # Errors
///
/// [`SetupError::Usage`] if nobody is at the terminal to answer.
pub(super) fn consent(view: &Value) -> Result<bool, SetupError> {
    if !std::io::stdin().is_terminal() {
        return Err(SetupError::Usage {
            problem: "this needs your consent, and there is no terminal to ask at".into(),
            remedy: "add --yes to agree without being asked".into(),
        });
    }
    // A peer's words: they must not move the cursor, nor begin a line of their own.
    let clean = |text: &str| output::one_line(&for_display(text, MAX_LINE_CHARS));
    let text = |name: &str| view.get(name).and_then(Value::as_str).map(clean);
    println!("From        {}", text("from").unwrap_or_else(|| "?".into()));
    if let Some(purpose) = text("comment") {
        println!("Purpose     {purpose}");
    }
    if let Some(card) = text("vct") {
        println!("Offers      {card}");
    }
    let lists = [("Contains", "preview"), ("Would show", "would_disclose"), ("Issued by", "issuers")];
    for (heading, member) in lists {
        for line in view.get(member).and_then(Value::as_array).into_iter().flatten() {
            println!(
                "{heading:<12}{}",
                clean(&line.as_str().map_or_else(|| line.to_string(), str::to_owned))
            );
        }
    }
    print!("Agree? [y/N] ");
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(SetupError::internal)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes" | "j" | "J" | "ja"))
}
