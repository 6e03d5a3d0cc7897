//! einmal's side: two parties, with and without memory of their static agreement and of multiples of their keys.

use einmal_did::{Did, DidDocument, LocalResolver, Relationship};
use einmal_didcomm::{
    ContentEncryption, LayerPolicy, Message, MessageId, MessageType, OpenContext, Opened, PackOptions,
    Packer, SenderProtection, UnixSeconds, open,
};
use einmal_keys::{
    AGREEMENTS_BEFORE_TABLE, Custody, CustodyError, KeyId, KeyKind, Keyring, PeerKeyUse, PublicKey,
    SecretKey, SharedSecret, SystemEntropy,
};
use serde_json::json;

use crate::{ALICE, BOB, CREATED, ID, KIND};

/// A custody that remembers no agreement: every envelope is like the first between its two parties.
struct Forgetful(Keyring);

impl Custody for Forgetful {
    fn public_key(&self, kid: &KeyId) -> Option<PublicKey> {
        self.0.public_key(kid)
    }

    fn sign(&self, kid: &KeyId, message: &[u8]) -> Result<Vec<u8>, CustodyError> {
        self.0.sign(kid, message)
    }

    fn agree(&self, kid: &KeyId, peer: &PublicKey, _: PeerKeyUse) -> Result<SharedSecret, CustodyError> {
        self.0.agree(kid, peer, PeerKeyUse::Ephemeral)
    }
}

/// A custody that remembers agreements but makes no tables, like a keyring before it writes to one key often.
struct Tableless(Keyring);

impl Custody for Tableless {
    fn public_key(&self, kid: &KeyId) -> Option<PublicKey> {
        self.0.public_key(kid)
    }

    fn sign(&self, kid: &KeyId, message: &[u8]) -> Result<Vec<u8>, CustodyError> {
        self.0.sign(kid, message)
    }

    fn agree(&self, kid: &KeyId, peer: &PublicKey, use_: PeerKeyUse) -> Result<SharedSecret, CustodyError> {
        self.0.agree(kid, peer, use_)
    }
}

/// Both parties' keys and documents, and one message from Alice to Bob.
pub(crate) struct Ours {
    forgetful: Forgetful,
    tableless: Tableless,
    keyring: Keyring,
    resolver: LocalResolver,
    bob: Did,
    message: Message,
}

/// How often the two have talked before.
#[derive(Clone, Copy)]
pub(crate) enum Contact {
    /// Never.
    First,
    /// Before, but not often enough for a table of the peer's key.
    Known,
    /// Often enough for such a table.
    Often,
}

impl Ours {
    pub(crate) fn new(payload: &str) -> Self {
        let (forgetful, tableless, keyring) =
            (Forgetful(Keyring::new()), Tableless(Keyring::new()), Keyring::new());
        let resolver = LocalResolver::new();
        for name in [ALICE, BOB] {
            let did = Did::parse(name).unwrap();
            let key = SecretKey::generate(KeyKind::X25519, &SystemEntropy).unwrap();
            let mut document = DidDocument::new(did);
            document.add_method("key-x25519-1", key.public_key(), &[Relationship::KeyAgreement]).unwrap();
            resolver.remember(document);
            let kid = KeyId::new(format!("{name}#key-x25519-1"));
            forgetful.0.insert(kid.clone(), key.clone());
            tableless.0.insert(kid.clone(), key.clone());
            keyring.insert(kid, key);
        }
        let bob = Did::parse(BOB).unwrap();
        let mut message = Message::new(MessageId::try_from(ID).unwrap(), MessageType::parse(KIND).unwrap());
        message.from = Some(Did::parse(ALICE).unwrap());
        message.to = vec![bob.clone()];
        message.created_time = Some(UnixSeconds(CREATED));
        message.body.insert("t".to_owned(), json!(payload));
        let ours = Self { forgetful, tableless, keyring, resolver, bob, message };
        for _ in 0..AGREEMENTS_BEFORE_TABLE {
            ours.pack(SenderProtection::Authcrypt, Contact::Often, ContentEncryption::A256CbcHs512);
        }
        ours
    }

    fn custody(&self, contact: Contact) -> &dyn Custody {
        match contact {
            Contact::First => &self.forgetful,
            Contact::Known => &self.tableless,
            Contact::Often => &self.keyring,
        }
    }

    /// `content` is the content encryption of anoncrypt; that of authcrypt is fixed.
    pub(crate) fn pack(
        &self,
        protection: SenderProtection,
        contact: Contact,
        content: ContentEncryption,
    ) -> Vec<u8> {
        let packer =
            Packer { custody: self.custody(contact), resolver: &self.resolver, entropy: &SystemEntropy };
        let mut options = PackOptions::protecting(protection);
        options.anoncrypt_enc = content;
        packer.pack(&self.message, &self.bob, &options).unwrap().bytes
    }

    pub(crate) fn open(&self, bytes: &[u8], contact: Contact) -> Opened {
        let context = OpenContext {
            custody: self.custody(contact),
            resolver: &self.resolver,
            now: UnixSeconds(CREATED + 1),
            accept_plaintext: false,
            layers: LayerPolicy::Tolerant,
        };
        open(bytes, &context).unwrap()
    }

    /// The message as it is encrypted, so that the floor works on equally many bytes.
    pub(crate) fn plaintext(&self) -> Vec<u8> {
        self.message.to_bytes()
    }

    /// Fails unless the packed message opens to the one that was sent, from the right sender.
    pub(crate) fn check(&self) {
        for (contact, content) in [
            (Contact::First, ContentEncryption::A256CbcHs512),
            (Contact::Known, ContentEncryption::Xc20P),
            (Contact::Often, ContentEncryption::A256CbcHs512),
        ] {
            let opened = self.open(&self.pack(SenderProtection::Authcrypt, contact, content), contact);
            assert!(opened.is_authenticated() && opened.message == self.message);
            let opened = self.open(&self.pack(SenderProtection::Anoncrypt, contact, content), contact);
            assert!(!opened.is_authenticated() && opened.message.body == self.message.body);
        }
    }
}
