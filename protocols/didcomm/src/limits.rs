//! Every bound this crate puts on outside input, in one place.

/// Largest envelope read or written, in bytes. Checked before anything is parsed.
pub const MAX_ENVELOPE_BYTES: usize = 1024 * 1024;

/// Most recipients in one encrypted envelope.
pub const MAX_RECIPIENTS: usize = 64;

/// Most signatures in one signed envelope.
pub const MAX_SIGNATURES: usize = 4;

/// Most envelopes around one plaintext: anoncrypt(authcrypt(sign(plain))) is the deepest nesting ever published.
pub const MAX_LAYERS: usize = 3;

/// Longest message or thread id, in bytes. The specification says 32 and recommends UUIDs, which take 36.
pub const MAX_ID_LEN: usize = 64;

/// Longest message type URI, in bytes.
pub const MAX_TYPE_LEN: usize = 256;

/// Most DIDs in `to`.
pub const MAX_TO: usize = 64;

/// Most attachments of one message.
pub const MAX_ATTACHMENTS: usize = 128;

/// Longest attachment id that is read, in bytes; an attachment with a longer id counts as having none.
pub const MAX_ATTACHMENT_ID_LEN: usize = 256;

/// Most entries in `ack` and in `please_ack`.
pub const MAX_ACKS: usize = 256;

/// Most links of one attachment.
pub const MAX_LINKS: usize = 16;

/// Longest `from_prior` JWT, in bytes; it holds a long form did:peer:4 two or three times.
pub const MAX_FROM_PRIOR_LEN: usize = 64 * 1024;

/// Most routing keys of one endpoint; each costs the sender one wrap.
pub const MAX_ROUTING_KEYS: usize = 8;

/// Most characters of an unusable routing key that an error shows.
pub const MAX_TOLD_KEY_CHARS: usize = 128;

/// Most ways to deliver one envelope that are prepared, and most endpoints of its recipient considered for them.
pub const MAX_DELIVERIES: usize = 8;

/// Longest protected header of a JWE or JWS, in base64url characters.
pub const MAX_PROTECTED_LEN: usize = 128 * 1024;

/// Most keys that the forwards around one message are encrypted to, over all ways and hops.
pub const MAX_WRAPPED_KEYS: usize = 128;
