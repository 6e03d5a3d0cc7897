//! Which issuers' credentials a merchant accepts, and for which types.

use serde::{Deserialize, Serialize};

/// An issuer that is trusted: a DID for every type, or a DID with the types it is trusted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "an issuer is written as a DID, or as { did = \"did:web:library.example\", vct = [\"urn:de:kommune:library\"] }"
)]
pub enum TrustedIssuer {
    /// For every type, as `"did:web:city.example"`.
    Any(String),
    /// For some types, as `{ did = "did:web:library.example", vct = ["urn:de:kommune:library"] }`.
    For(TrustedFor),
}

/// An issuer with the types it is trusted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedFor {
    /// The issuer, as written in `iss`.
    pub did: String,
    /// Types, as written in `vct`; all others of this issuer are refused.
    pub vct: Vec<String>,
}

impl TrustedIssuer {
    /// The issuer.
    pub fn did(&self) -> &str {
        match self {
            Self::Any(did) => did,
            Self::For(trusted) => &trusted.did,
        }
    }

    /// Whether a credential with this `iss` and `vct` is accepted.
    pub fn covers(&self, iss: &str, vct: &str) -> bool {
        match self {
            Self::Any(did) => did == iss,
            Self::For(trusted) => trusted.did == iss && trusted.vct.iter().any(|known| known == vct),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_counts_for_every_type_or_for_those_it_is_named_with() {
        #[derive(Deserialize, Serialize)]
        struct Settings {
            trusted: Vec<TrustedIssuer>,
        }
        let text =
            r#"trusted = ["did:web:city.example", { did = "did:web:library.example", vct = ["urn:card"] }]"#;
        let settings: Settings = toml::from_str(text).unwrap();
        let counts = |iss: &str, vct: &str| settings.trusted.iter().any(|one| one.covers(iss, vct));
        assert!(counts("did:web:city.example", "urn:anything"));
        assert!(counts("did:web:library.example", "urn:card"));
        assert!(!counts("did:web:library.example", "urn:resident"));
        assert!(!counts("did:web:other.example", "urn:card"));
        let again: Settings = toml::from_str(&toml::to_string_pretty(&settings).unwrap()).unwrap();
        assert_eq!(again.trusted, settings.trusted);
        let wrong = toml::from_str::<Settings>(r#"trusted = [{ did = "did:web:x.example" }]"#).err().unwrap();
        assert!(wrong.to_string().contains("vct = ["), "{wrong}");
    }
}
