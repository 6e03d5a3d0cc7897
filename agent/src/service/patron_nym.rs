//! The pseudonym by which a library knows a person.

use einmal_keys::base64url_encode;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    db::META,
    handler::{Effects, Failure, Shared},
};

/// The pseudonym of `subject`: the same for every card of the same person, and without the secret nobody can tell whose it is.
pub(crate) fn patron_nym(shared: &Shared, subject: &str) -> Result<String, Failure> {
    let secret = secret(shared)?;
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&secret).map_err(Failure::key)?;
    mac.update(b"patron_nym");
    mac.update(subject.as_bytes());
    let tag = mac.finalize().into_bytes();
    // 50 bits in digits and letters without look-alikes: unique in a city, short enough to read out.
    const ALPHABET: [char; 32] = [
        'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'U', 'V',
        'W', 'X', 'Y', 'Z', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    Ok(tag.iter().take(10).filter_map(|byte| ALPHABET.get(usize::from(byte % 32))).collect())
}

/// The secret behind pseudonyms, made at first use and written down before it is used.
fn secret(shared: &Shared) -> Result<Zeroizing<Vec<u8>>, Failure> {
    const NAME: &str = "nym-secret";
    if let Some(stored) = shared.db.get::<Zeroizing<String>>(META, NAME)? {
        return Ok(Zeroizing::new(stored.value.as_bytes().to_vec()));
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    shared.entropy().fill(&mut *bytes).map_err(Failure::entropy)?;
    let text = Zeroizing::new(base64url_encode(*bytes));
    let mut fx = Effects::new(shared);
    fx.update(META, NAME, &text, None)?;
    let (batch, _) = fx.into_parts();
    match shared.db.store().commit(batch).wait() {
        Ok(_) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
        // Somebody else made it meanwhile: that one counts.
        Err(einmal_storage::StoreError::Conflict { .. }) => secret(shared),
        Err(error) => Err(error.into()),
    }
}
