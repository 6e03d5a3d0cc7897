//! The crate `affinidi-messaging-didcomm`, given bare keys, so that it needs no look-ups.

use affinidi_messaging_didcomm::{
    Message, SenderKey,
    identity::PrivateIdentity,
    message::{
        pack::{pack_encrypted_anoncrypt, pack_encrypted_authcrypt},
        unpack::{UnpackResult, unpack_bound},
    },
};
use serde_json::json;

use crate::{ALICE, BOB, CREATED, ID, KIND};

pub(crate) struct Affinidi {
    alice: PrivateIdentity,
    bob: PrivateIdentity,
    message: Message,
}

impl Affinidi {
    pub(crate) fn new(payload: &str) -> Self {
        let message = Message::build(ID, KIND, json!({ "t": payload }))
            .from(ALICE.to_string())
            .to(BOB.to_string())
            .created_time(CREATED)
            .finalize();
        Self { alice: PrivateIdentity::generate(ALICE), bob: PrivateIdentity::generate(BOB), message }
    }

    pub(crate) fn pack(&self, authenticated: bool) -> String {
        let (alice, bob) = (&self.alice, self.bob.public_key_agreement());
        let recipients = [(self.bob.key_agreement_kid.as_str(), &bob)];
        let packed = if authenticated {
            let kid = &alice.key_agreement_kid;
            pack_encrypted_authcrypt(&self.message, kid, &alice.key_agreement_private, &recipients)
        } else {
            pack_encrypted_anoncrypt(&self.message, &recipients)
        };
        packed.unwrap()
    }

    pub(crate) fn open(&self, packed: &str, authenticated: bool) -> UnpackResult {
        let (public, bob) = (self.alice.public_key_agreement(), &self.bob);
        let sender = authenticated.then(|| SenderKey::new(&self.alice.key_agreement_kid, &public));
        let kid = Some(bob.key_agreement_kid.as_str());
        unpack_bound(packed, kid, Some(&bob.key_agreement_private), sender, None).unwrap()
    }
}
