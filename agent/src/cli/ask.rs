//! Asking the person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use einmal_flows::for_display;
use serde_json::Value;

use crate::error::SetupError;

/// Most characters in one line of a peer's text.
const MAX_LINE_CHARS: usize = 1_000;

/// Shows what is offered or asked for, and asks for consent.
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
    // A peer's text must not move the cursor, nor begin a line of its own.
    let clean = |text: &str| for_display(text, MAX_LINE_CHARS).replace('\n', " ");
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
