//! Asking the person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use einmal_flows::{for_display, out_of_band::Invitation};
use serde_json::{Value, json};

use crate::{
    error::SetupError,
    service::invitations::{GOAL_ISSUE, GOAL_MEDIATE, GOAL_PRESENT},
};

/// Most characters of one line of a peer.
const MAX_LINE_CHARS: usize = 1_000;

/// Asks whether to take an invitation that begins something at once: offers and requests are asked about when they are there,
/// and what cannot be read is for the node to refuse.
pub(super) fn may_begin(url: &str) -> Result<bool, SetupError> {
    let Ok(invitation) = Invitation::from_url(url) else { return Ok(true) };
    let begins = match invitation.goal_code.as_deref() {
        Some(GOAL_ISSUE | GOAL_PRESENT) => return Ok(true),
        Some(GOAL_MEDIATE) => "let it keep the mail of this wallet",
        _ => "connect: it learns a fresh DID, by which it can write",
    };
    let from = invitation.from.canonical().to_string();
    consent(&json!({"from": from, "comment": invitation.goal, "begins": [begins]}))
}

/// Shows what is on offer or asked for, and asks whether to agree.
///
/// On standard error: standard output is for the answer, which may be read by a script.
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
    let clean = |text: &str| for_display(text, MAX_LINE_CHARS).replace('\n', " ");
    let text = |name: &str| view.get(name).and_then(Value::as_str).map(clean);
    eprintln!("From        {}", text("from").unwrap_or_else(|| "?".into()));
    if let Some(purpose) = text("comment") {
        eprintln!("Purpose     {purpose}");
    }
    if let Some(card) = text("vct") {
        eprintln!("Offers      {card}");
    }
    let lists = [
        ("Would", "begins"),
        ("Contains", "preview"),
        ("Would show", "would_disclose"),
        ("Issued by", "issuers"),
    ];
    for (heading, member) in lists {
        for line in view.get(member).and_then(Value::as_array).into_iter().flatten() {
            eprintln!(
                "{heading:<12}{}",
                clean(&line.as_str().map_or_else(|| line.to_string(), str::to_owned))
            );
        }
    }
    eprint!("Agree? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(SetupError::internal)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes" | "j" | "J" | "ja"))
}
