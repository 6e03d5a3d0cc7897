//! Why something was not taken in: as a transport may know it, as it is counted, and as it is logged.

use einmal_didcomm::{EnvelopeError, OpenError, PackError};

use super::{Failure, stats::Reason};

/// Why an envelope was refused, as far as a transport may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Larger than accepted.
    TooLarge,
    /// Does not open, breaks a rule, or is for nobody here: these are not told apart.
    Invalid,
    /// Our store or a fetch failed; try again later.
    Unavailable,
    /// More than its sender may send in this time; try again later.
    TooOften,
}

impl Refusal {
    /// Whether the same envelope may be taken later.
    pub(crate) fn is_temporary(self) -> bool {
        matches!(self, Self::Unavailable | Self::TooOften)
    }

    /// The HTTP status for this refusal.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge => 413,
            Self::Invalid => 400,
            Self::Unavailable => 503,
            Self::TooOften => 429,
        }
    }
}

/// What a transport is told about a message that was not handled.
impl From<&Failure> for Refusal {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::TooOften => Self::TooOften,
            Failure::Open(OpenError::Envelope(EnvelopeError::TooLarge)) => Self::TooLarge,
            Failure::Peer { fault, .. } => fault.refusal(),
            // The sender is not to blame: it may keep the message until we have mended our side, or give up.
            failure if failure.is_temporary() || failure.is_ours_to_mend() => Self::Unavailable,
            _ => Self::Invalid,
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge => Self::TooLarge,
            Refusal::Invalid => Self::Invalid,
            Refusal::Unavailable => Self::Unavailable,
            Refusal::TooOften => Self::Rate,
        }
    }
}

impl Reason {
    /// The reason a failure is counted under.
    pub(crate) fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Peer { fault, .. } => fault.reason(),
            failure => Refusal::from(failure).into(),
        }
    }
}

/// Why something was not handled, for the log: the failure itself may name a DID.
pub(crate) fn describe_for_log(failure: &Failure) -> String {
    match failure {
        Failure::Pack(error) => describe_packing(error),
        Failure::Open(OpenError::Resolve { did, .. }) => {
            format!("the sender's DID cannot be resolved; its method is {}", did.method())
        }
        other => other.to_string(),
    }
}

/// Why a message could not be packed, for the log and for the operator: the error itself may name a DID or its key.
pub(crate) fn describe_packing(error: &PackError) -> String {
    match error {
        PackError::Resolve { did, .. } => {
            format!("its recipient's DID cannot be resolved; its method is {}", did.method())
        }
        PackError::NoEndpoint { .. } => "its recipient has no endpoint that can be used".into(),
        PackError::NoCommonCurve { .. } => "its recipient has no key on a curve that is spoken here".into(),
        PackError::NoSigningKey { .. } => "no authentication key of its sender is held here".into(),
        PackError::MissingTo { .. } => "its recipient is not in `to`".into(),
        PackError::MediatorChain { .. } => "its recipient's mediator has a DID as its own endpoint".into(),
        PackError::RoutingKey { .. } => "a routing key of its recipient cannot be used".into(),
        other => format!("it cannot be packed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use einmal_did::{Did, DidError, ResolveError};
    use einmal_flows::FlowError;
    use einmal_keys::KeyError;
    use einmal_storage::StoreError;

    use super::*;
    use crate::{
        error::SetupError,
        handler::{PeerFault, new_dids::IdentityError},
    };

    fn unresolved(did: &str) -> Failure {
        let did = Did::parse(did).unwrap();
        let source = ResolveError::NotFound { did: did.clone() };
        Failure::Open(OpenError::Resolve { did, source })
    }

    #[test]
    fn what_may_pass_is_told_to_come_again_and_what_will_not_is_refused() {
        let may_pass = [
            Failure::later("not now"),
            Failure::entropy(KeyError::Entropy),
            Failure::key(KeyError::HalvesDisagree),
            Failure::from(IdentityError::Key(KeyError::Entropy)),
            Failure::from(IdentityError::Store(StoreError::Closed)),
            Failure::Store(StoreError::Closed),
            Failure::unreached("it is away"),
            unresolved("did:web:away.example"),
        ];
        for failure in may_pass {
            assert!(failure.is_temporary(), "{failure:?}");
            assert_eq!(Refusal::from(&failure), Refusal::Unavailable, "{failure:?}");
            assert_eq!(Reason::of_failure(&failure), Reason::Unavailable, "{failure:?}");
        }
        let never = [
            Failure::unproved("no sender is proved"),
            Failure::user("that cannot be; do something else"),
            Failure::peer(PeerFault::Request, "no such exchange"),
            Failure::Open(OpenError::Decrypt),
            unresolved("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
        ];
        for failure in never {
            assert!(!failure.is_temporary(), "{failure:?}");
            assert_eq!(Refusal::from(&failure), Refusal::Invalid, "{failure:?}");
            assert_eq!(Reason::of_failure(&failure), Reason::Invalid, "{failure:?}");
        }
    }

    /// The sender is not refused for good, and we do not retry for ever.
    #[test]
    fn what_we_have_to_mend_is_not_the_senders_fault_and_not_temporary() {
        let ours = [
            Failure::damaged("a record"),
            Failure::internal("a decision nobody knows"),
            Failure::from(IdentityError::Did(DidError::IdMismatch)),
            Failure::from(SetupError::internal("a task broke")),
        ];
        for failure in ours {
            assert!(failure.is_ours_to_mend() && !failure.is_temporary(), "{failure:?}");
            assert_eq!(Refusal::from(&failure), Refusal::Unavailable, "{failure:?}");
        }
        for failure in [Failure::later("not now"), Failure::unproved("nothing"), Failure::user("no")] {
            assert!(!failure.is_ours_to_mend(), "{failure:?}");
        }
    }

    /// What lasts is not tried for ever, and what passes is not given up.
    #[test]
    fn a_store_fails_for_ever_or_for_now_as_its_error_says() {
        let lasting = [
            StoreError::FormatTooNew { found: 2, supported: 1 },
            StoreError::ValueTooLarge { len: 1 },
            StoreError::Damaged { what: "a record".into() },
        ];
        for error in lasting {
            let failure = Failure::from(error);
            assert!(failure.is_ours_to_mend() && !failure.is_temporary(), "{failure:?}");
        }
        let passing = [
            StoreError::Full,
            StoreError::LetterMoved,
            StoreError::Stalled,
            StoreError::Failed,
            StoreError::Entropy,
        ];
        for error in passing {
            let failure = Failure::from(error);
            assert!(!failure.is_ours_to_mend() && failure.is_temporary(), "{failure:?}");
            assert_eq!(Refusal::from(&failure), Refusal::Unavailable, "{failure:?}");
        }
    }

    /// With a peer the fault is the peer's and has its code; with our own user it has a remedy in its place.
    #[test]
    fn the_same_fault_is_the_peers_or_the_users_by_what_caused_it() {
        let fault = || Failure::from(FlowError::Expired);
        assert!(fault().to_string().ends_with("(e.p.req.time)"));
        let told = fault().of_command();
        assert!(
            matches!(&told, Failure::User { problem } if problem == "it came too late: its time is over; ask whoever made it for a new one"),
            "{told:?}"
        );
        let misuse = || Failure::from(FlowError::Misuse { reason: "the text is empty; write something" });
        assert!(misuse().is_ours_to_mend() && !misuse().is_temporary(), "no peer is to blame for it");
        assert_eq!(Refusal::from(&misuse()), Refusal::Unavailable);
        assert!(
            matches!(misuse().of_command(), Failure::User { problem } if problem == "cannot send this: the text is empty; write something")
        );
        let ours = Failure::damaged("a record").of_command();
        assert!(matches!(ours, Failure::Store(_)), "what the user cannot mend is not theirs");
    }

    #[test]
    fn rate_size_and_room_have_answers_of_their_own() {
        let full = Failure::peer(PeerFault::NoRoom, "full");
        assert_eq!(
            (Refusal::from(&full), Reason::of_failure(&full)),
            (Refusal::Unavailable, Reason::MailboxFull)
        );
        let stranger = Failure::peer(PeerFault::NotEnrolled, "who is that");
        assert_eq!(
            (Refusal::from(&stranger), Reason::of_failure(&stranger)),
            (Refusal::Invalid, Reason::NotEnrolled)
        );
        let large = Failure::peer(PeerFault::TooLarge, "too large");
        assert_eq!(
            (Refusal::from(&large), Reason::of_failure(&large)),
            (Refusal::TooLarge, Reason::TooLarge)
        );
        assert_eq!(Refusal::from(&Failure::TooOften), Refusal::TooOften);
        let large = OpenError::Envelope(EnvelopeError::TooLarge);
        assert_eq!(Refusal::from(&Failure::Open(large)), Refusal::TooLarge);
    }

    #[test]
    fn log_names_the_fault_of_packing_and_no_did() {
        let did = Did::parse("did:web:away.example").unwrap();
        let faults = [
            (PackError::NoCommonCurve { recipient: did.clone() }, "curve"),
            (PackError::NoEndpoint { did: did.clone() }, "endpoint"),
            (PackError::NoSigningKey { did: did.clone() }, "authentication key"),
            (PackError::MissingTo { recipient: did.clone() }, "`to`"),
            (PackError::MediatorChain { mediator: did.clone() }, "mediator"),
            (PackError::RoutingKey { key: format!("{did}#1") }, "routing key"),
            (
                PackError::Resolve { source: ResolveError::NotFound { did: did.clone() }, did },
                "method is web",
            ),
            (PackError::TooLarge { size: 7_000_000 }, "7000000"),
        ];
        for (error, part) in faults {
            let text = describe_for_log(&Failure::Pack(error));
            assert!(text.contains(part) && !text.contains("example"), "{text}");
        }
    }

    #[test]
    fn log_names_no_did() {
        for did in ["did:web:away.example", "did:web:elsewhere.example"] {
            let text = describe_for_log(&unresolved(did));
            assert!(text.contains("web") && !text.contains("example"), "{text}");
        }
    }
}
