//! Asking for a passphrase at the terminal; the typed text is not shown.

use std::io::IsTerminal;

use zeroize::Zeroizing;

use crate::error::SetupError;

/// Whether there is a person to ask.
pub(crate) fn is_somebody_there() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks for an existing passphrase.
///
/// # Errors
///
/// [`SetupError::Usage`] if it is broken off, [`SetupError::Internal`] if the terminal cannot be read.
pub(crate) fn ask(what: &str) -> Result<Zeroizing<String>, SetupError> {
    rpassword::prompt_password(format!("{what}: ")).map(Zeroizing::new).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted => SetupError::Usage {
            problem: "no passphrase was given".into(),
            remedy: "start the command again when you have it".into(),
        },
        _ => SetupError::internal(error),
    })
}

/// Asks for a new passphrase, twice, because nobody sees what is typed.
///
/// # Errors
///
/// [`SetupError::Usage`] if the two differ, [`SetupError::Internal`] if the terminal cannot be read.
pub(crate) fn ask_new(what: &str) -> Result<Zeroizing<String>, SetupError> {
    let first = ask(what)?;
    if *ask(&format!("{what}, once more"))? == *first {
        return Ok(first);
    }
    Err(SetupError::Usage {
        problem: "the two passphrases differ".into(),
        remedy: "start again and type the same twice".into(),
    })
}

/// Least characters of a new passphrase. Who has the file or the disk can try as many as they like.
pub(crate) const MIN_CHARS: usize = 12;

/// Checks that a new passphrase is long enough.
///
/// # Errors
///
/// [`SetupError::Usage`].
pub(crate) fn check_length(passphrase: &str) -> Result<(), SetupError> {
    if passphrase.chars().count() >= MIN_CHARS {
        return Ok(());
    }
    Err(SetupError::Usage {
        problem: format!("the passphrase has fewer than {MIN_CHARS} characters"),
        remedy: "take a longer one: whoever finds what it seals can try as many as they like".into(),
    })
}
