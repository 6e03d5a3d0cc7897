//! Fresh nonces.

use einmal_keys::base64url_encode;

use crate::handler::{Failure, Shared};

/// 128 random bits as text.
pub(crate) fn fresh_nonce(shared: &Shared) -> Result<String, Failure> {
    let mut bytes = [0u8; 16];
    shared.entropy().fill(&mut bytes).map_err(Failure::entropy)?;
    Ok(base64url_encode(bytes))
}
