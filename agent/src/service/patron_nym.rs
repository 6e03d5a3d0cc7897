//! What a secret of the city makes of personal data: the pseudonym by which a library knows a person, and tags of what cards say.

use einmal_keys::base64url_encode;
use einmal_storage::Batch;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    db::{META, encode},
    error::SetupError,
    handler::{Failure, Shared},
};

/// Record id of the secret behind pseudonyms.
const NAME: &str = "nym-secret";

/// The pseudonym of `subject`: the same for every card of a person; without the secret nobody can tell whose it is.
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

/// A tag by which the city knows again what a card said at a place: without the secret nobody can tell what it was.
pub(crate) fn fact_tag(shared: &Shared, (place, value): (&str, &str)) -> Result<String, Failure> {
    let secret = secret(shared)?;
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&secret).map_err(Failure::key)?;
    mac.update(b"fact");
    for part in [place, value] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    let tag = mac.finalize().into_bytes();
    Ok(base64url_encode(tag.first_chunk::<12>().map_or(&[][..], |tag| tag)))
}

/// The secret behind pseudonyms.
fn secret(shared: &Shared) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let stored = shared.db.get::<Zeroizing<String>>(META, NAME)?;
    let stored = stored.ok_or_else(|| Failure::internal("the secret of pseudonyms was not made"))?;
    Ok(Zeroizing::new(stored.value.as_bytes().to_vec()))
}

/// Makes the secret behind pseudonyms if there is none yet: once, when a city first starts.
///
/// # Errors
///
/// [`SetupError`] if the random source fails, or why the secret cannot be read or written.
pub(crate) fn make_secret(shared: &Shared) -> Result<(), SetupError> {
    if shared.db.exists(META, NAME)? {
        return Ok(());
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    shared.entropy().fill(&mut *bytes).map_err(SetupError::internal)?;
    let text = Zeroizing::new(base64url_encode(*bytes));
    let place = shared.db.key(META, NAME)?;
    let mut batch = Batch::new();
    batch.expect_absent(place.clone()).put(place, encode(&text)?);
    shared.db.store().commit(batch).wait()?;
    Ok(())
}
