//! Issuers for unit tests, whose keys their DIDs tell, with cards and status lists of theirs.

use einmal_credentials::{
    sd_jwt::Claims,
    status_list::{StatusRegister, StatusTokenRequest, issue_token},
    vc::{self, CredentialRequest, StatusReference},
};
use einmal_did::did_key;
use einmal_keys::{KeyId, KeyKind, Keyring, PublicKey, SecretKey, SeededEntropy};
use serde_json::json;

use crate::node::testing::START_MS;

/// The present of all of them, in seconds since 1970.
pub(crate) const NOW: u64 = START_MS / 1000;

/// Somebody who issues cards.
pub(crate) struct Issuer {
    pub(crate) did: String,
    kid: KeyId,
    keyring: Keyring,
    entropy: SeededEntropy,
}

impl Issuer {
    pub(crate) fn new(seed: u64) -> Self {
        let entropy = SeededEntropy::new(seed);
        let key = SecretKey::generate(KeyKind::Ed25519, &entropy).unwrap();
        let did = did_key(&key.public_key()).to_string();
        let kid = KeyId::new(format!("{did}#{}", key.public_key().to_multikey()));
        let keyring = Keyring::new();
        keyring.insert(kid.clone(), key);
        Self { did, kid, keyring, entropy }
    }

    /// A card that can withhold its one claim, and stands at `idx` of the list at `uri`.
    pub(crate) fn card(&self, vct: &str, holder: PublicKey, uri: &str, idx: u64) -> String {
        let request = CredentialRequest {
            issuer: self.did.clone(),
            vct: vct.into(),
            holder,
            claims: Claims::new(json!({"resident": true}).as_object().cloned().unwrap()),
            disclosable: vec![vec!["resident".into()]],
            issued_at: NOW,
            not_before: None,
            expires_at: NOW + 86_400,
            status: Some(StatusReference { uri: uri.into(), idx }),
        };
        vc::issue(&self.keyring, &self.kid, &request, &self.entropy).unwrap()
    }

    /// Its list at `uri`, in which `revoked` are revoked.
    pub(crate) fn list(&self, uri: &str, revoked: &[u64]) -> String {
        let mut register = StatusRegister::new(1, 1024).unwrap();
        revoked.iter().for_each(|idx| register.revoke(*idx).unwrap());
        let request = StatusTokenRequest {
            uri,
            issuer: &self.did,
            list: register.list(),
            issued_at: NOW,
            expires_at: NOW + 7200,
            ttl: 3600,
        };
        issue_token(&self.keyring, &self.kid, &request).unwrap()
    }
}
