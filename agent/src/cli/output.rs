//! What people and scripts see: tables or JSON, errors with their remedy, QR codes.

use std::io::{IsTerminal, Write};

use einmal_flows::for_display;
use serde_json::{Value, json};

use crate::error::SetupError;

/// Prints a line; a reader that went away is not a failure.
macro_rules! line {
    ($($arg:tt)*) => {
        drop(writeln!(std::io::stdout(), $($arg)*))
    };
}

/// A text in one line, without what moves a cursor, hides or turns what is read: it may be a peer's, and must not pass for ours.
pub(super) fn one_line(text: &str) -> String {
    for_display(text, usize::MAX).replace(['\n', '\u{2028}', '\u{2029}'], " ")
}

/// Prints an error to standard error, as text or as one JSON object.
pub(super) fn error(error: &SetupError, json: bool) {
    if json {
        eprintln!("{}", json!({"error": error.to_string()}));
    } else {
        eprintln!("einmal: {}", for_display(&error.to_string(), usize::MAX));
    }
}

/// Prints what a person should know beside the answer, to standard error.
pub(super) fn remark(text: &str) {
    eprintln!("einmal: {text}");
}

/// Prints what the parser of the arguments says as one JSON object. It says what is wrong first, and then how it is used.
pub(super) fn misuse(said: &str) {
    let (problem, _) = said.split_once("\n\n").unwrap_or((said, ""));
    let problem = problem.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("{}", json!({"error": problem, "remedy": "see: einmal --help"}));
}

/// Prints an answer: one JSON line, or name and value line by line.
pub(super) fn answer(value: &Value, json: bool) {
    if json {
        line!("{value}");
        return;
    }
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| member(name, value));
        }
        Value::Array(rows) if rows.is_empty() => line!("(none)"),
        Value::Array(rows) => {
            for row in rows {
                line!("{}", row_text(row));
            }
        }
        other => line!("{}", plain(other)),
    }
}

/// A member of an answer; a list of things one below the other.
fn member(name: &str, value: &Value) {
    match value {
        Value::Array(rows) if rows.is_empty() => line!("{:<14} -", one_line(name)),
        Value::Array(rows) if rows.iter().any(Value::is_object) => {
            line!("{:<14} {}", one_line(name), rows.len());
            for row in rows {
                line!("  {}", row_text(row));
            }
        }
        value => line!("{:<14} {}", one_line(name), plain(value)),
    }
}

/// Prints text of several lines.
pub(super) fn text(text: &str) {
    line!("{}", for_display(text, usize::MAX));
}

fn row_text(row: &Value) -> String {
    match row {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| format!("{}={}", one_line(name), closed_up(&plain(value))))
            .collect::<Vec<_>>()
            .join("  "),
        other => plain(other),
    }
}

/// A value that stands between others, which wider gaps keep apart.
fn closed_up(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text),
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => one_line(&other.to_string()),
    }
}

/// Prints an invitation as a QR code if standard output is a terminal.
pub(super) fn qr(url: &str) {
    if !std::io::stdout().is_terminal() {
        return;
    }
    // Long invitations make codes too large for a terminal; the URL is printed above in any case.
    let Ok(code) = qrcode::QrCode::with_error_correction_level(url, qrcode::EcLevel::L) else { return };
    let picture = code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build();
    line!("{picture}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_peer_stay_in_their_place_and_in_sight() {
        let vct = "urn:x\ncard=1  state=valid\u{1b}[8m\u{9b}8m\u{202e}\u{7f}";
        let row = row_text(&json!({"state": "revoked", "vct": vct}));
        assert_eq!(row, "state=revoked  vct=urn:x card=1 state=valid[8m8m");
        assert_eq!(plain(&json!(vct)), "urn:x card=1  state=valid[8m8m");
        assert_eq!(plain(&json!([{"goal": "a\u{9b}b\u{2066}\u{2028}c"}])), r#"[{"goal":"ab c"}]"#);
    }
}
