//! Every bound this crate puts on what peers may send, in one place.

/// Longest DID read, in bytes; a did:peer:4 in its long form carries a whole document.
pub const MAX_DID_LEN: usize = 16 * 1024;

/// Longest DID URL read, in bytes: a DID and room for path, query and fragment.
pub const MAX_DID_URL_LEN: usize = MAX_DID_LEN + 1024;

/// Deepest nesting of arrays and objects that [`parse_strict_json`](crate::parse_strict_json) follows.
pub const MAX_JSON_DEPTH: usize = 32;

/// Most values of any kind that [`parse_strict_json`](crate::parse_strict_json) accepts in one text.
pub const MAX_JSON_VALUES: usize = 64 * 1024;

/// Most objects among them: each takes some 600 bytes of memory but may take only seven on the wire.
pub const MAX_JSON_OBJECTS: usize = 4 * 1024;

/// Longest DID document read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// Most verification methods in one document, including embedded and skipped ones.
pub const MAX_METHODS: usize = 64;

/// Most entries under one relationship of a document.
pub const MAX_RELATIONSHIP_ENTRIES: usize = 64;

/// Most services in one document.
pub const MAX_SERVICES: usize = 32;

/// Most endpoints in one service.
pub const MAX_ENDPOINTS: usize = 16;

/// Most entries in one list of an endpoint (`accept`, `routingKeys`, `multiAddrs`).
pub const MAX_ENDPOINT_ENTRIES: usize = 32;

/// Longest text in a service, in bytes; an endpoint's `uri` may be a long DID.
pub const MAX_SERVICE_TEXT_LEN: usize = MAX_DID_URL_LEN;

/// Most entries in `alsoKnownAs`.
pub const MAX_ALSO_KNOWN_AS: usize = 32;

/// Most dot-separated elements in a did:peer:2.
pub const MAX_ELEMENTS: usize = 32;

/// Longest base58 text of a key in a document, in characters; a compressed P-521 point needs 92.
pub const MAX_KEY_TEXT_LEN: usize = 256;

/// Longest host name in a did:web, in characters (RFC 1035).
pub const MAX_HOST_LEN: usize = 253;

/// Most path segments in a did:web.
pub const MAX_WEB_SEGMENTS: usize = 32;

/// Most computed documents a [`LocalResolver`](crate::LocalResolver) keeps.
pub const MAX_COMPUTED_DOCUMENTS: usize = 16 * 1024;

/// Most documents from elsewhere that a [`LocalResolver`](crate::LocalResolver) keeps.
pub const MAX_REMEMBERED_DOCUMENTS: usize = 4 * 1024;

/// Most pairs of short and long did:peer forms a [`LocalResolver`](crate::LocalResolver) keeps.
pub const MAX_LEARNT_FORMS: usize = 64 * 1024;

/// Most memory, in estimated bytes, for each of the three memories of a [`LocalResolver`](crate::LocalResolver).
pub const MAX_MEMORY_BYTES: usize = 64 * 1024 * 1024;
