//! Converts the flattened JSON form of an SD-JWT (RFC 9901, section 8) to and from the compact form.

use serde::{Deserialize, Serialize};

use super::{MAX_DISCLOSURES, MAX_SD_JWT_BYTES, SdJwtError, SdJwtIn};
use crate::json;

#[derive(Serialize, Deserialize)]
struct Flattened {
    payload: String,
    protected: String,
    signature: String,
    header: UnprotectedHeader,
}

#[derive(Serialize, Deserialize)]
struct UnprotectedHeader {
    disclosures: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kb_jwt: Option<String>,
}

const PART: &str = "the flattened JSON form";

impl SdJwtIn {
    /// Reads the flattened JSON form. A key binding is checked against the compact form, as the standard says.
    ///
    /// # Errors
    ///
    /// Those of [`SdJwtIn::parse`].
    pub fn parse_flattened(text: &str) -> Result<Self, SdJwtError> {
        if text.len() > MAX_SD_JWT_BYTES {
            return Err(SdJwtError::TooLarge { bytes: text.len() });
        }
        let value = json::parse(text.as_bytes()).map_err(|fault| SdJwtError::json(PART, fault))?;
        let parts: Flattened =
            serde_json::from_value(value).map_err(|_| SdJwtError::Malformed { part: PART })?;
        if parts.header.disclosures.len() > MAX_DISCLOSURES {
            return Err(SdJwtError::TooManyDisclosures);
        }
        let pieces = [&parts.protected, &parts.payload, &parts.signature];
        let binding = parts.header.kb_jwt.as_ref();
        // A separator inside a part would let one JSON text mean a different compact one.
        let holds_separator = |piece: &String| piece.contains(['.', '~']);
        if pieces.into_iter().chain(&parts.header.disclosures).any(holds_separator)
            || binding.is_some_and(|binding| binding.contains('~') || binding.is_empty())
        {
            return Err(SdJwtError::Malformed { part: PART });
        }
        let mut compact = format!("{}.{}.{}~", parts.protected, parts.payload, parts.signature);
        for disclosure in &parts.header.disclosures {
            compact.push_str(disclosure);
            compact.push('~');
        }
        compact.push_str(binding.map_or("", String::as_str));
        Self::parse(&compact)
    }

    /// Writes a compact SD-JWT, with or without key binding, in flattened JSON form.
    ///
    /// # Errors
    ///
    /// Those of [`SdJwtIn::parse`].
    pub fn to_flattened(compact: &str) -> Result<String, SdJwtError> {
        Self::parse(compact)?;
        let malformed = || SdJwtError::Malformed { part: PART };
        let mut parts = compact.split('~');
        let (Some(signed), Some(last)) = (parts.next(), parts.next_back()) else {
            return Err(malformed());
        };
        let mut pieces = signed.splitn(3, '.').map(str::to_owned);
        let (Some(protected), Some(payload), Some(signature)) = (pieces.next(), pieces.next(), pieces.next())
        else {
            return Err(malformed());
        };
        let kb_jwt = (!last.is_empty()).then(|| last.to_owned());
        let header = UnprotectedHeader { disclosures: parts.map(str::to_owned).collect(), kb_jwt };
        let flattened = Flattened { payload, protected, signature, header };
        serde_json::to_string(&flattened).map_err(|_| malformed())
    }
}
