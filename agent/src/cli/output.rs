//! What people and scripts see: tables or JSON, errors with their remedy, QR codes.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::error::SetupError;

/// Prints a line; a reader that went away is no reason to fail.
macro_rules! line {
    ($($arg:tt)*) => {
        drop(writeln!(std::io::stdout(), $($arg)*))
    };
}

/// Prints an error to standard error, as text or as one JSON object.
pub(super) fn error(error: &SetupError, json: bool) {
    if json {
        eprintln!("{}", json!({"error": error.to_string()}));
    } else {
        eprintln!("einmal: {error}");
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
        Value::Array(rows) if rows.is_empty() => line!("{name:<14} -"),
        Value::Array(rows) if rows.iter().any(Value::is_object) => {
            line!("{name:<14} {}", rows.len());
            for row in rows {
                line!("  {}", row_text(row));
            }
        }
        value => line!("{name:<14} {}", plain(value)),
    }
}

/// Prints text of several lines.
pub(super) fn text(text: &str) {
    line!("{text}");
}

fn row_text(row: &Value) -> String {
    match row {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect::<Vec<_>>()
            .join("  "),
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        other => other.to_string(),
    }
}

/// Prints an invitation as a QR code if standard output is a terminal.
pub(super) fn qr(url: &str) {
    if !std::io::stdout().is_terminal() {
        return;
    }
    // Long invitations make codes too large for a terminal; the URL stands above in any case.
    let Ok(code) = qrcode::QrCode::with_error_correction_level(url, qrcode::EcLevel::L) else { return };
    let picture = code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build();
    line!("{picture}");
}
