//! A mediator simulator that keeps all rules but one, which the conformance suite must notice.
//!
//! It holds everything in memory and has no other purpose. Its answers are written by hand, not by the node's code, so
//! that a mistake shared by node and suite would show.

mod answers;
mod habits;
mod state;
mod wire;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use einmal_did::{Did, Endpoint, LocalResolver, Relationship, Service, peer};
use einmal_didcomm::{
    Attachment, LayerPolicy, Message, MessageId, MessageType, OpenContext, Opened, PackOptions, Packer,
    UnixSeconds, from_prior_jwt, open,
};
use einmal_keys::{KeyId, KeyKind, Keyring, SecretKey, SystemEntropy};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

use self::state::State;

/// The rule a simulator breaks. Those after `DeniesAccounts` are no faults of a mediator, but other ways to be one,
/// or network faults in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Fault {
    None,
    AnswersPingsThatWantNoAnswer,
    TakesAbsentResponseRequestedForFalse,
    AnswersWithoutReturnRoute,
    AnswersInAnotherThread,
    AnswersAnonymously,
    DisclosesMoreThanAskedFor,
    FailsOnUnknownFeatureTypes,
    IsSilentAboutWildcards,
    TakesPrefixesForFullNames,
    ListsPickupFourAndDoesNotSpeakIt,
    BelievesPlaintext,
    /// Pings and requests for mediation alone; its answers to them are plaintext, too.
    AnswersPlaintextInPlaintext,
    BelievesAnonymousFrom,
    /// These four silently act on unproved messages of one kind, and distrust all others.
    BelievesAnonymousFromInUpdates,
    BelievesAnonymousFromInReceipts,
    BelievesAnonymousFromInLiveChanges,
    BelievesPlaintextInUpdates,
    IgnoresWrongApv,
    IgnoresWrongFrom,
    IgnoresMissingTo,
    IgnoresWrongSigners,
    IgnoresWhatSendersKeysAreFor,
    IgnoresMissingToOfSignedMessages,
    /// These two give away what they hold when a false rotation comes.
    BelievesRotationsSignedByAnybody,
    BelievesRotationsOfOthers,
    IgnoresBrokenCiphertext,
    ReportsWithoutParent,
    ReportsInAThreadOfItsOwn,
    ReportsMessagesOfThoseItInvited,
    FlushesItsQueueWhenLive,
    AnswersReportsWithReports,
    WritesRoutingDidAsTextInThree,
    WritesRoutingDidAsListInTwo,
    SaysSuccessForUnknownRemovals,
    NeverRemoves,
    IgnoresPagination,
    ListsEverybodysDids,
    QueuesForAnybody,
    /// The same; it also never delivers more than one message at once, which is permitted.
    QueuesForAnybodyAndDeliversOneAtMost,
    ChangesPayloads,
    MixesRecipients,
    /// The same; it also never delivers more than two messages at once, which is permitted.
    MixesRecipientsAndDeliversTwoAtMost,
    DeletesOnDelivery,
    GivesFreshIdsOnRedelivery,
    IgnoresLimits,
    DeletesAllWhenOneIsReceived,
    LetsAnybodyConfirm,
    HandsMailToAnyAccount,
    AnswersEmptyQueueOfThreeByDelivery,
    AnswersEmptyQueueOfFourByStatus,
    LeavesOutTheEmptyListOfFour,
    LeavesTheThreadOutOfDeliveriesOfThree,
    ForgetsRecipientDidInStatus,
    CountsInSecondsInFour,
    NeverPushes,
    PushesUnasked,
    PushesToEveryLiveSocket,
    LetsStrangersListen,
    ForgetsWhatItPushed,
    PushesBareInFour,
    KeepsSilentOnSockets,
    RotatesWithoutProof,
    GrantsInAnotherThread,
    UpdatesInAnotherThread,
    ListsInAnotherThread,
    DisclosesInAnotherThread,
    CallsBackInAnotherThread,
    ForgetsTheActionsOfSeveralUpdates,
    AnswersSecondRequestsByAList,
    RefusesWhatOpensNoWayBack,
    AnswersAgainLaterAtTheEndpoint,
    /// What is confirmed for one DID of an account is gone for its other DIDs.
    NamesCopiesByTheirContent,
    /// What is confirmed for one account is gone for all others.
    KeepsOneCopyForAllAccounts,
    WantsRecipientDidsInRequests,
    LosesMailOfOldAccounts,
    StaysLiveOnNewSockets,
    SaysThatNothingIsLive,
    DeniesAccounts,
    SpeaksOldVersionsOnly,
    DeliversJson,
    RotatesInItsFirstAnswer,
    HasOnlyAWebSocket,
    WritesItsSchemesInCapitals,
    IsReachedByADid,
    IsReachedByADidAndAnswersNobody,
    HasRoutingKeys,
    CannotBeDialled,
    LosesBadEnvelopes,
    HasNoTimeForBadEnvelopes,
    BansWhoSendsBadEnvelopes,
    IsBusyAtEveryFirstAttempt,
    RedirectsOnce,
    RedirectsWithoutEnd,
    HasKeysOnP384Only,
    AnswersToEndpointsOnly,
    AnswersNobody,
    LeavesTheThreadOutOfStatus,
    ListsPickupFourWithoutARole,
    SaysOkInPlainText,
    CallsUnknownRemovalsAnError,
    LeavesTheThreadOutOfDeliveriesOfFour,
    ForgetsWhatItPushedInThree,
    IsSilentAboutUnknownFeatureTypes,
    /// Every second time, the mediator has already acted.
    IsBehindAGatewayThatFailsAtEverySeventeenthRequest,
    ReportsNowAndThenThatItFailed,
    WritesUrnsAsIds,
    HasKeysOnP256Only,
    RedirectsToAFile,
    DeclinesLiveDelivery,
    ClosesSocketsThatAreNotLive,
    /// Accounts are refused by a report; it names no roles.
    WantsALoginForNewAccounts,
    RefusesEachUpdateOfStrangers,
    /// It says nothing to who does not answer its invitation, whose id is `1`.
    ListensOnlyToWhomItInvited,
    /// Pings are reported as unsupported.
    KnowsNoPings,
    /// Nor queries for features; it says nothing to either.
    KnowsMediationAlone,
    /// The same, and it answers to endpoints only.
    KnowsMediationAloneAndAnswersToEndpointsOnly,
    LosesMediateRequests,
    LosesTheFirstMessageOfEachType,
    /// One by POST, of that number.
    LosesRequest(u64),
    /// As before, but it has acted by then.
    LosesAnswer(u64),
    /// One handshake of a WebSocket, of that number.
    LosesHandshake(u64),
}

/// A running simulator; it ends when this is dropped.
#[derive(Debug)]
pub struct MediatorSimulator {
    /// Its DID.
    pub did: Did,
    mediator: Arc<Mediator>,
    task: JoinHandle<()>,
}

impl MediatorSimulator {
    /// Starts one on a free port of this machine.
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mediator = Arc::new(Mediator::at(&listener.local_addr().unwrap().to_string(), fault));
        let did = mediator.did.clone();
        let task = tokio::spawn(wire::serve(Arc::clone(&mediator), listener));
        Self { did, mediator, task }
    }

    /// The DIDs registered with it.
    pub fn registered(&self) -> Vec<Did> {
        self.mediator.state().routes.values().map(|(_, text)| Did::parse(text).unwrap()).collect()
    }

    /// Lets `payload` wait for `next`, as if it had been forwarded.
    pub fn queue(&self, next: &Did, payload: &[u8]) {
        let mut state = self.mediator.state();
        state.taken += 1;
        let id = format!("mail-{}", state.taken);
        state.mail.push(state::Mail { id, next: next.canonical(), payload: payload.to_vec() });
    }

    /// How many requests came by POST.
    pub fn posts(&self) -> u64 {
        self.mediator.state().posts
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.mediator.state().mail.len()
    }
}

impl Drop for MediatorSimulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A new did:peer:2 whose keys are kept in `keyring`.
fn identity(keyring: &Keyring, endpoints: Vec<Endpoint>) -> Did {
    let key = |kind| SecretKey::generate(kind, &SystemEntropy).unwrap();
    let (agreement, authentication) = (key(KeyKind::X25519), key(KeyKind::Ed25519));
    let keys = [
        (Relationship::KeyAgreement, agreement.public_key()),
        (Relationship::Authentication, authentication.public_key()),
    ];
    let did = peer::two::create(&keys, &[Service::didcomm("#service", endpoints)]).unwrap();
    keyring.insert(KeyId::new(format!("{did}#key-1")), agreement);
    keyring.insert(KeyId::new(format!("{did}#key-2")), authentication);
    did
}

/// A new did:peer:4 whose only agreement key is of `kind`.
fn identity_on(kind: KeyKind, keyring: &Keyring, resolver: &LocalResolver, endpoints: Vec<Endpoint>) -> Did {
    let key = |kind| SecretKey::generate(kind, &SystemEntropy).unwrap();
    let (agreement, authentication) = (key(kind), key(KeyKind::Ed25519));
    let made = peer::four::InputDocument::new()
        .add_method("key-1", agreement.public_key(), &[Relationship::KeyAgreement])
        .add_method("key-2", authentication.public_key(), &[Relationship::Authentication])
        .add_service(Service::didcomm("#service", endpoints))
        .create()
        .unwrap();
    resolver.learn(&made.long).unwrap();
    keyring.insert(KeyId::new(format!("{}#key-1", made.short)), agreement);
    keyring.insert(KeyId::new(format!("{}#key-2", made.short)), authentication);
    made.long
}

/// The mediator behind the network interface.
struct Mediator {
    did: Did,
    /// Its new DID, if it rotates.
    rotated: Did,
    /// Another mediator on the way to it, played by the simulator itself.
    hop: Did,
    /// Peers that were told of the rotation.
    told: Mutex<BTreeSet<Did>>,
    fault: Fault,
    keyring: Keyring,
    resolver: LocalResolver,
    state: Mutex<State>,
}

impl std::fmt::Debug for Mediator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mediator").field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// An answer: type, body and attachments.
struct Reply {
    kind: String,
    body: Value,
    attachments: Vec<Attachment>,
}

/// The result of an envelope: HTTP status, and the response body.
type Receipt = (u16, Option<Vec<u8>>);

impl Mediator {
    fn at(address: &str, fault: Fault) -> Self {
        let keyring = Keyring::new();
        let http = || vec![Endpoint::didcomm(format!("http://{address}/"))];
        let hop = identity(&keyring, http());
        let rotated = identity(&keyring, http());
        let endpoints = habits::endpoints(address, fault, &hop);
        let resolver = LocalResolver::new();
        let did = match fault {
            Fault::HasKeysOnP384Only => identity_on(KeyKind::P384, &keyring, &resolver, endpoints),
            Fault::HasKeysOnP256Only => identity_on(KeyKind::P256, &keyring, &resolver, endpoints),
            _ => identity(&keyring, endpoints),
        };
        let (state, told) = (Mutex::default(), Mutex::default());
        Self { did, rotated, hop, told, fault, keyring, resolver, state }
    }

    fn breaks(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[allow(clippy::disallowed_methods, reason = "a simulator in a test has the real time")]
    fn now(&self) -> UnixSeconds {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        UnixSeconds(since.as_secs())
    }

    /// Takes an envelope; `socket` is where to push if it came by a socket.
    fn take(&self, bytes: &[u8], socket: Option<&mpsc::Sender<Vec<u8>>>) -> Receipt {
        let context = OpenContext {
            custody: &self.keyring,
            resolver: &self.resolver,
            now: self.now(),
            accept_plaintext: matches!(
                self.fault,
                Fault::BelievesPlaintext
                    | Fault::AnswersPlaintextInPlaintext
                    | Fault::BelievesPlaintextInUpdates
            ),
            layers: LayerPolicy::Tolerant,
        };
        let opened = match open(bytes, &context) {
            Ok(opened) => opened,
            Err(error) => return self.refuse(&error, bytes),
        };
        let believes = self.believes_plaintext(&opened)
            || self.breaks(Fault::BelievesAnonymousFrom)
            || self.believes_silently(&opened);
        let from = opened.message.from.clone().or_else(|| opened.claimed_from.clone().filter(|_| believes));
        if socket.is_none() && self.loses(&opened.message) {
            return (wire::CUT, None);
        }
        if opened.message.kind.is(einmal_didcomm::FORWARD_TYPE) {
            if opened.recipient().is_some_and(|to| to.same_as(&self.hop)) {
                return self.pass_on(&opened);
            }
            return (if self.forward(&opened) { 200 } else { 400 }, None);
        }
        let Some(from) = from else { return (400, None) };
        let invited = opened.message.pthid.as_ref().is_some_and(|parent| parent.as_str() == "1");
        if invited && self.breaks(Fault::ListensOnlyToWhomItInvited) {
            self.state().invited.insert(from.canonical());
        }
        let listens = !self.breaks(Fault::ListensOnlyToWhomItInvited)
            || self.state().invited.contains(&from.canonical());
        if !listens {
            return (200, None);
        }
        let robbed = !opened.is_authenticated() && self.believes_silently(&opened);
        let fresh = self.state().seen.insert((from.canonical(), opened.message.id.to_key()));
        let reply = if fresh {
            let invited = invited && self.breaks(Fault::ReportsMessagesOfThoseItInvited);
            if invited { Some(answers::report("e.p.msg")) } else { self.answer(&opened, &from, socket) }
        } else {
            Some(answers::report("e.p.crypto.message.dejavu"))
        };
        let reply = reply.filter(|_| !robbed);
        let silent = socket.is_some() && self.breaks(Fault::KeepsSilentOnSockets) || self.answers_nobody();
        let back = opened.message.return_route == Some(einmal_didcomm::ReturnRoute::All)
            || self.breaks(Fault::AnswersWithoutReturnRoute);
        if !back && self.breaks(Fault::RefusesWhatOpensNoWayBack) {
            return (400, None);
        }
        let reply = reply.filter(|_| (back || self.calls_back()) && !silent);
        let reply = reply.map(|reply| self.pack(reply, &opened, &from));
        if self.breaks(Fault::AnswersAgainLaterAtTheEndpoint) {
            reply.iter().for_each(|bytes| self.call(&from, bytes.clone(), habits::LATER));
        }
        if self.calls_back() {
            reply.into_iter().for_each(|bytes| self.call(&from, bytes, Duration::ZERO));
            return (202, None);
        }
        (200, reply)
    }

    /// Whether it takes a message that is not encrypted, and answers it.
    fn believes_plaintext(&self, opened: &Opened) -> bool {
        let taken = match self.fault {
            Fault::BelievesPlaintext => true,
            Fault::AnswersPlaintextInPlaintext => {
                matches!(opened.message.kind.message(), "ping" | "mediaterequest")
            }
            _ => false,
        };
        taken && opened.proof.recipient.is_none()
    }

    /// Whether it takes a message for that of whom it names, without a proof.
    fn believes_silently(&self, opened: &Opened) -> bool {
        let name = opened.message.kind.message();
        let plain = opened.proof.recipient.is_none();
        match self.fault {
            Fault::BelievesAnonymousFromInUpdates => !plain && name.ends_with("update"),
            Fault::BelievesAnonymousFromInReceipts => !plain && name == "messagesreceived",
            Fault::BelievesAnonymousFromInLiveChanges => !plain && name == "livedeliverychange",
            Fault::BelievesPlaintextInUpdates => plain && name.ends_with("update"),
            _ => false,
        }
    }

    /// As the mediator in front of itself: passes on what is for it, and returns nothing.
    fn pass_on(&self, opened: &Opened) -> Receipt {
        let Ok(forward) = einmal_didcomm::Forward::from_message(&opened.message) else { return (400, None) };
        if !forward.next.same_as(&self.did) {
            return (404, None);
        }
        forward.payloads.iter().for_each(|payload| drop(self.take(payload, None)));
        (202, None)
    }

    /// Refuses an envelope that breaks a rule, unless that is the rule this simulator ignores.
    fn refuse(&self, error: &einmal_didcomm::OpenError, bytes: &[u8]) -> Receipt {
        use einmal_didcomm::{EnvelopeError, FromPriorFault, OpenError};
        let believed = match error {
            OpenError::FromIsNotSender => self.breaks(Fault::IgnoresWrongFrom),
            OpenError::NotAddressed => self.breaks(Fault::IgnoresMissingTo),
            OpenError::FromIsNotSigner => self.breaks(Fault::IgnoresWrongSigners),
            OpenError::SignedWithoutTo => self.breaks(Fault::IgnoresMissingToOfSignedMessages),
            OpenError::SenderKey | OpenError::Resolve { .. } => {
                self.breaks(Fault::IgnoresWhatSendersKeysAreFor)
            }
            OpenError::FromPrior { reason } => {
                let of_another = *reason == FromPriorFault::NotSender;
                if of_another && self.breaks(Fault::BelievesRotationsOfOthers)
                    || !of_another && self.breaks(Fault::BelievesRotationsSignedByAnybody)
                {
                    self.state().routes.clear();
                }
                false
            }
            OpenError::Decrypt => self.breaks(Fault::IgnoresBrokenCiphertext),
            OpenError::Envelope(EnvelopeError::TooLarge) => false,
            OpenError::Envelope(_) => self.breaks(Fault::IgnoresWrongApv),
            _ => false,
        };
        let hidden = matches!(
            error,
            OpenError::FromIsNotSigner
                | OpenError::SignedWithoutTo
                | OpenError::SenderKey
                | OpenError::Resolve { .. }
        );
        // It acts as if it had understood a ping.
        match wire::sender_of(bytes).filter(|_| believed && !hidden) {
            Some(sender) => {
                let message = self.message(&answers::pong(), &sender);
                (200, Some(self.seal(&message, &sender)))
            }
            // Whom it cannot seal an answer for, it answers in plaintext.
            None if believed && hidden => (200, Some(self.message(&answers::pong(), &self.did).to_bytes())),
            None => (400, None),
        }
    }

    fn message(&self, reply: &Reply, to: &Did) -> Message {
        let mut id = MessageId::random(&SystemEntropy).unwrap();
        if self.breaks(Fault::WritesUrnsAsIds) {
            id = MessageId::try_from(format!("urn:uuid:{id}")).unwrap();
        }
        let mut message = Message::new(id, MessageType::parse(&reply.kind).unwrap());
        let rotates = self.breaks(Fault::RotatesInItsFirstAnswer) || self.breaks(Fault::RotatesWithoutProof);
        message.from = Some(if rotates { &self.rotated } else { &self.did }.clone());
        if self.breaks(Fault::RotatesInItsFirstAnswer)
            && self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(to.canonical())
        {
            let (custody, resolver) = (&self.keyring, &self.resolver);
            message.from_prior =
                from_prior_jwt(&self.did, Some(&self.rotated), self.now(), custody, resolver).ok();
        }
        message.to = vec![to.clone()];
        message.body = reply.body.as_object().cloned().unwrap_or_default();
        message.attachments.clone_from(&reply.attachments);
        let shown = reply.kind.ends_with("4.0/delivery") && !self.breaks(Fault::LeavesOutTheEmptyListOfFour);
        if shown && reply.attachments.is_empty() {
            message.extra.insert("attachments".to_owned(), json!([]));
        }
        message
    }

    fn pack(&self, reply: Reply, request: &Opened, to: &Did) -> Vec<u8> {
        let mut message = self.message(&reply, to);
        let thread = request.message.thread();
        let is_report = reply.kind == answers::PROBLEM;
        message.pthid = (is_report && !self.breaks(Fault::ReportsWithoutParent)).then(|| thread.clone());
        if is_report && self.breaks(Fault::ReportsInAThreadOfItsOwn) {
            message.pthid = Some(message.id.to_thread());
        }
        message.thid = Some(thread).filter(|_| !is_report);
        let elsewhere = match self.fault {
            Fault::AnswersInAnotherThread | Fault::CallsBackInAnotherThread => "pingresponse",
            Fault::GrantsInAnotherThread => "mediategrant",
            Fault::DisclosesInAnotherThread => "disclose",
            _ => "",
        };
        let name = message.kind.message();
        let updated = name.ends_with("updateresponse") && self.breaks(Fault::UpdatesInAnotherThread);
        let listed = matches!(name, "keylist" | "recipient") && self.breaks(Fault::ListsInAnotherThread);
        if name == elsewhere || updated || listed {
            message.thid = Some(message.id.to_thread());
        }
        let bare = match self.fault {
            Fault::LeavesTheThreadOutOfStatus => name == "status",
            Fault::LeavesTheThreadOutOfDeliveriesOfThree => reply.kind.ends_with("3.0/delivery"),
            Fault::LeavesTheThreadOutOfDeliveriesOfFour => reply.kind.ends_with("4.0/delivery"),
            _ => false,
        };
        if bare {
            message.thid = None;
        }
        if request.proof.recipient.is_none() && self.breaks(Fault::AnswersPlaintextInPlaintext) {
            return message.to_bytes();
        }
        self.seal(&message, to)
    }

    fn seal(&self, message: &Message, to: &Did) -> Vec<u8> {
        let packer = Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &SystemEntropy };
        let anonymous = self.breaks(Fault::AnswersAnonymously) && message.kind.message() == "pingresponse";
        let protection = if anonymous {
            einmal_didcomm::SenderProtection::Anoncrypt
        } else {
            einmal_didcomm::SenderProtection::Authcrypt
        };
        // A message that cannot be packed is far larger than anyone accepts; so is this.
        packer
            .pack(message, to, &PackOptions::protecting(protection))
            .map_or_else(|_| vec![b' '; 3 << 20], |packed| packed.bytes)
    }
}
