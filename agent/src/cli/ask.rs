//! Asking the person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use einmal_flows::{for_display, out_of_band::Invitation};
use serde_json::{Value, json};

use super::output;
use crate::{
    error::SetupError,
    service::invitations::{GOAL_ISSUE, GOAL_MEDIATE, GOAL_PRESENT},
};

/// Most characters in one line of a peer's text.
const MAX_LINE_CHARS: usize = 1_000;

/// What the person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Agree,
    Decline,
    /// Nothing: it goes on waiting.
    Later,
}

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
    let view = json!({"from": from, "comment": invitation.goal, "begins": [begins]});
    Ok(consent(&view)? == Answer::Agree)
}

/// Shows what is on offer or asked for, and asks whether to agree; if no card answers, whether to decline.
///
/// On standard error: standard output is for the answer, which may be read by a script.
///
/// # Errors
///
/// [`SetupError::Usage`] if nobody is at the terminal to answer.
pub(super) fn consent(view: &Value) -> Result<Answer, SetupError> {
    if !std::io::stdin().is_terminal() {
        return Err(SetupError::Usage {
            problem: "this needs your consent, and there is no terminal to ask at".into(),
            remedy: "add --yes to agree without being asked".into(),
        });
    }
    lines(view).iter().for_each(|line| eprintln!("{line}"));
    let answerable = can_be_agreed_to(view);
    eprint!("{} [y/N] ", if answerable { "Agree?" } else { "Decline?" });
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(SetupError::internal)?;
    let yes = matches!(line.trim(), "y" | "Y" | "yes" | "j" | "J" | "ja");
    Ok(match (answerable, yes) {
        (true, true) => Answer::Agree,
        (true, false) | (false, true) => Answer::Decline,
        (false, false) => Answer::Later,
    })
}

/// Whether there is something to agree to: no card may answer a request.
fn can_be_agreed_to(view: &Value) -> bool {
    let is_request = view.get("kind").and_then(Value::as_str) == Some("request");
    !is_request || view.get("would_disclose").is_some_and(Value::is_array)
}

/// What the person reads before deciding.
fn lines(view: &Value) -> Vec<String> {
    // A peer's words: they must not move the cursor, nor begin a line of their own.
    let clean = |text: &str| output::one_line(&for_display(text, MAX_LINE_CHARS));
    let text = |name: &str| view.get(name).and_then(Value::as_str).map(clean);
    let mut lines = vec![format!("From        {}", text("from").unwrap_or_else(|| "?".into()))];
    lines.extend(text("comment").map(|purpose| format!("Purpose     {purpose}")));
    lines.extend(text("vct").map(|card| format!("Offers      {card}")));
    let lists = [
        ("Would", "begins"),
        ("Contains", "preview"),
        ("Would show", "would_disclose"),
        ("Issued by", "issuers"),
    ];
    for (heading, member) in lists {
        for line in view.get(member).and_then(Value::as_array).into_iter().flatten() {
            let text = clean(&line.as_str().map_or_else(|| line.to_string(), str::to_owned));
            lines.push(format!("{heading:<12}{text}"));
        }
    }
    if !can_be_agreed_to(view) {
        lines.push("No card of yours answers this. Decline it, or get the card first.".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(would_disclose: Value) -> Value {
        json!({"kind": "request", "from": "did:web:cafe.example", "comment": "over\n16?",
            "cards": would_disclose, "would_disclose": would_disclose})
    }

    #[test]
    fn request_that_no_card_answers_is_not_to_be_agreed_to_and_says_so() {
        let none = request(Value::Null);
        assert!(!can_be_agreed_to(&none));
        assert!(lines(&none).last().unwrap().starts_with("No card of yours"));
        let some = request(json!(["urn:x:1: age"]));
        assert!(can_be_agreed_to(&some));
        let read = ["From        did:web:cafe.example", "Purpose     over 16?", "Would show  urn:x:1: age"];
        assert_eq!(lines(&some), read);
    }

    #[test]
    fn offers_are_to_be_agreed_to() {
        let offer = json!({"kind": "offer", "from": "did:web:city.example", "vct": "urn:x:1",
            "preview": ["Name: Anna"]});
        assert!(can_be_agreed_to(&offer));
        assert_eq!(lines(&offer)[1..], ["Offers      urn:x:1", "Contains    Name: Anna"]);
    }
}
