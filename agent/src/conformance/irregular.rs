//! Identities, proofs and envelopes as no honest client makes them.

use einmal_did::{Did, DidUrl, Endpoint, Relationship, Resolver, Service, peer};
use einmal_didcomm::{Message, from_prior_jwt};
use einmal_keys::{Custody, KeyId, KeyKind, base64url_encode};
use serde_json::json;

use super::{
    outcome::Outcome,
    probe::{Probe, QUEUE, own},
};

impl Probe {
    /// A fresh did:peer:2, and a key of it that its document lists for authentication alone, although it can agree on
    /// keys with the target's.
    pub(super) fn stranger_with_idle_key(&self) -> Outcome<(Did, DidUrl)> {
        let mut kinds = vec![KeyKind::X25519];
        kinds.extend(Some(self.curve).filter(|curve| *curve != KeyKind::X25519));
        let mut secrets = Vec::new();
        let mut shown = Vec::new();
        for kind in kinds {
            let (secret, public) = self.key(kind)?;
            secrets.push(secret);
            shown.push((Relationship::KeyAgreement, public));
        }
        let (idle, public) = self.key(self.curve)?;
        secrets.push(idle);
        let honest =
            peer::two::create(&shown, &[Service::didcomm("#service", vec![Endpoint::didcomm(QUEUE)])])
                .map_err(own)?;
        // The element is written by hand: no document should list a key for what it cannot do.
        let (keys, service) = honest.as_str().split_once(".S").ok_or("our own DID has another form")?;
        let text = format!("{keys}.V{}.S{service}", public.to_multikey());
        let did = Did::parse(&text).map_err(own)?;
        let mut last = None;
        for (number, secret) in (1..).zip(secrets) {
            let skid = DidUrl::new(&did, &format!("key-{number}")).map_err(own)?;
            self.keyring.insert(skid.to_key_id(), secret);
            last = Some(skid);
        }
        Ok((did, last.ok_or("our own DID has no key")?))
    }

    /// Encrypts a message by a certain key of its sender.
    pub(super) async fn pack_by(&self, message: &Message, skid: &DidUrl) -> Outcome<Vec<u8>> {
        let peer = message.to.first().unwrap_or(&self.target);
        self.packing(|packer| packer.authcrypt_by_key_unchecked(&message.to_bytes(), skid, peer)).await
    }

    /// Signs a message by `signer`, whatever it says, and encrypts it anonymously.
    pub(super) async fn pack_signed(&self, message: &Message, signer: &Did) -> Outcome<Vec<u8>> {
        let peer = message.to.first().unwrap_or(&self.target);
        self.packing(|packer| packer.sign_unchecked(&message.to_bytes(), signer, peer)).await
    }

    /// The proof that `prior` gives way to `new`.
    pub(super) fn rotation(&self, prior: &Did, new: &Did) -> Outcome<String> {
        from_prior_jwt(prior, Some(new), self.now(), &self.keyring, &self.resolver).map_err(own)
    }

    /// The same, but by a key of `new`: it fits its signature, and `prior` knows nothing of it.
    pub(super) fn forged_rotation(&self, prior: &Did, new: &Did) -> Outcome<String> {
        let document = self.resolver.resolve(new).map_err(own)?;
        let method = document.methods(Relationship::Authentication).next();
        let kid = method.ok_or("our own DID has no key for signatures")?.id.clone();
        let header = json!({"typ": "JWT", "alg": "EdDSA", "kid": kid.as_str()});
        let claims = json!({"iss": prior, "sub": new, "iat": self.now().0});
        let input =
            format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(claims.to_string()));
        let key = KeyId::new(kid.as_str().to_owned());
        let signature = self.keyring.sign(&key, input.as_bytes()).map_err(own)?;
        Ok(format!("{input}.{}", base64url_encode(signature)))
    }
}
