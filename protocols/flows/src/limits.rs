//! Every bound this crate puts on what peers may send, and every waiting time, in one place.

/// Longest text for people taken from a peer (comments, goals), in characters; longer ones are cut for display.
pub const MAX_COMMENT_CHARS: usize = 1_000;

/// Longest goal code, in bytes.
pub const MAX_GOAL_CODE_LEN: usize = 128;

/// Longest out-of-band URL read, in bytes; a long did:peer:4 and an attached request fit.
pub const MAX_INVITATION_URL_LEN: usize = 64 * 1024;

/// Longest DID a mediator registers, in bytes; any query about an account reads all of its DIDs.
pub const MAX_RECIPIENT_LEN: usize = 4096;

/// Longest part of a shortened invitation's id that is reported, in characters.
pub const MAX_SHORT_ID_CHARS: usize = 256;

/// Most query parameters examined in an out-of-band URL.
pub const MAX_QUERY_PARAMETERS: usize = 64;

/// Most entries in the `accept` list of an invitation.
pub const MAX_ACCEPT_ENTRIES: usize = 16;

/// Most uses counted for a multi-use invitation; after that it is used up.
pub const MAX_INVITATION_USES: u32 = 1_000_000;

/// Most queries answered in one `queries` message.
pub const MAX_FEATURE_QUERIES: usize = 32;

/// Most disclosures sent or read in one `disclose` message.
pub const MAX_DISCLOSURES: usize = 256;

/// Longest feature id, match pattern or role, in bytes.
pub const MAX_FEATURE_LEN: usize = 256;

/// Most arguments in a problem report.
pub const MAX_PROBLEM_ARGS: usize = 16;

/// Longest argument of a problem report, in characters.
pub const MAX_PROBLEM_ARG_CHARS: usize = 200;

/// Most problem reports sent on one thread before [`ErrorBudget`](crate::report_problem::ErrorBudget) ends it.
pub const MAX_ERRORS: u32 = 5;

/// Longest basic message, in bytes of UTF-8.
pub const MAX_CONTENT_LEN: usize = 64 * 1024;

/// Most forwards addressed to itself that an agent opens one inside the other.
pub const MAX_SELF_FORWARDS: usize = 2;

/// Most payloads a mediator takes out of one forward.
pub const MAX_PAYLOADS_PER_FORWARD: usize = 16;

/// Largest payload a mediator queues, in bytes; a larger one could not be delivered inside another envelope. It is the
/// most whose base64url form still fits into [`MAX_DELIVERY_BYTES`].
pub const MAX_QUEUED_PAYLOAD_BYTES: usize = MAX_DELIVERY_BYTES / 4 * 3;

/// Most DIDs one account may register at a mediator.
pub const MAX_RECIPIENTS_PER_ACCOUNT: usize = 1_000;

/// Most entries in one `recipient-update`.
pub const MAX_UPDATES_PER_MESSAGE: usize = 100;

/// Most DIDs in one page of the `recipient` list.
pub const MAX_RECIPIENT_PAGE: usize = 100;

/// Most routing DIDs taken from a grant.
pub const MAX_ROUTING_DIDS: usize = 8;

/// Longest time between making and presenting a proof that a DID agrees to its registration, in seconds.
pub const MAX_OWNERSHIP_PROOF_AGE_SECS: u64 = 3_600;

/// How far a peer's clock may run ahead of ours, in seconds.
pub const MAX_CLOCK_SKEW_SECS: u64 = 300;

/// Most messages a mediator puts into one delivery.
pub const MAX_DELIVERY_BATCH: usize = 100;

/// Most messages a recipient asks for at once; it accepts twice as many, for mediators that cannot count.
pub const MAX_PICKUP_BATCH: usize = 50;

/// Most bytes of payloads in one delivery, as written there (JSON or base64url), so that the enclosing envelope stays
/// within bounds: base64url makes 960 KiB of it, which leaves 64 KiB of 1 MiB for names and keys.
pub const MAX_DELIVERY_BYTES: usize = 720 * 1024;

/// Most JSON values in all payloads that one delivery carries as JSON: half of what our own readers accept.
pub const MAX_DELIVERY_VALUES: usize = einmal_did::limits::MAX_JSON_VALUES / 2;
/// The same for JSON objects; see [`MAX_DELIVERY_VALUES`].
pub const MAX_DELIVERY_OBJECTS: usize = einmal_did::limits::MAX_JSON_OBJECTS / 2;

/// Most JSON values in one payload carried as JSON; beyond that it is sent as base64url.
pub const MAX_CARRIED_VALUES: usize = 4_096;
/// The same for JSON objects; see [`MAX_CARRIED_VALUES`]. An envelope for 64 keys has 129.
pub const MAX_CARRIED_OBJECTS: usize = 256;

/// Most ids in one `messages-received`.
pub const MAX_CONFIRMED_IDS: usize = 1_000;

/// Longest id of a queued message, in bytes.
pub const MAX_QUEUE_ID_LEN: usize = 256;

/// Most deliveries fetched in one pickup before a pause.
pub const MAX_PICKUP_ROUNDS: u32 = 1_000;

/// Most received messages one exchange remembers to detect repetitions; after that it accepts no more.
pub const MAX_SEEN_MESSAGES: usize = 16;

/// Most credentials in one `issue-credential`.
pub const MAX_CREDENTIALS_PER_ISSUE: usize = 32;

/// Longest credential or presentation in compact form, in bytes.
pub const MAX_CREDENTIAL_LEN: usize = 256 * 1024;

/// Longest proof of possession, in bytes. The crate that verifies proofs has the same bound; the node does not compile
/// if only one of them changes.
pub const MAX_PROOF_JWT_LEN: usize = 8 * 1024;

/// Most signature algorithms in an offer.
pub const MAX_ALGORITHMS: usize = 16;

/// Longest name of a signature algorithm in an offer, in bytes.
pub const MAX_ALGORITHM_LEN: usize = 64;

/// Most attributes in a credential preview.
pub const MAX_PREVIEW_ATTRIBUTES: usize = 128;

/// Longest name of an attribute in a preview, in characters.
pub const MAX_ATTRIBUTE_NAME_CHARS: usize = 128;

/// Longest identifier in our attachment contents (`vct`, `aud`, `client_id`), in bytes; a long DID fits.
pub const MAX_IDENTIFIER_LEN: usize = 17 * 1024;

/// Shortest nonce, in bytes; 128 bits in base64url take 22.
pub const MIN_NONCE_LEN: usize = 16;

/// Longest nonce, in bytes.
pub const MAX_NONCE_LEN: usize = 256;

/// Longest DCQL query, in bytes of JSON.
pub const MAX_DCQL_BYTES: usize = 64 * 1024;

/// Most credential queries answered in one presentation.
pub const MAX_PRESENTED_QUERIES: usize = 32;

/// Most presentations for one credential query.
pub const MAX_PRESENTATIONS_PER_QUERY: usize = 16;

/// Longest credential query id, in bytes.
pub const MAX_QUERY_ID_LEN: usize = 128;

/// Seconds a ping or a feature query waits for its answer.
pub const PING_TIMEOUT_SECS: u64 = 60;

/// Seconds a proposal waits for an offer or a request.
pub const PROPOSAL_TIMEOUT_SECS: u64 = 24 * 3_600;

/// Seconds an offer stands if it names no end; a person decides about it.
pub const OFFER_TIMEOUT_SECS: u64 = 7 * 24 * 3_600;

/// Seconds the holder waits for the credential after its request; a clerk may have to sign it off.
pub const ISSUE_TIMEOUT_SECS: u64 = 3 * 24 * 3_600;

/// Seconds the issuer waits for the acknowledgement of a credential.
pub const ISSUE_ACK_TIMEOUT_SECS: u64 = 24 * 3_600;

/// Seconds a request for a presentation stands if it names no end.
pub const REQUEST_TIMEOUT_SECS: u64 = 24 * 3_600;

/// Seconds the prover waits for the promised verdict.
pub const VERDICT_TIMEOUT_SECS: u64 = 3_600;
