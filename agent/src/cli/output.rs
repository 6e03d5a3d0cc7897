//! What people and scripts see: tables or JSON, errors with their remedy, QR codes.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::error::SetupError;

/// Prints a line; a reader that went away is not a failure.
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

/// Prints an answer: one JSON line, or name and value line by line.
pub(super) fn answer(value: &Value, json: bool) {
    if json {
        line!("{value}");
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                line!("{name:<14} {}", plain(value));
            }
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
    // Long invitations make codes too large for a terminal; the URL is printed above in any case.
    let Ok(code) = qrcode::QrCode::with_error_correction_level(url, qrcode::EcLevel::L) else { return };
    let picture = code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build();
    line!("{picture}");
}
