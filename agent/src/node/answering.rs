//! How answers leave: on the connection that asked, if its sender wants that, else by the outbox.

use einmal_did::{Did, Endpoint, Resolver};
use einmal_didcomm::{FORWARD_TYPE, MessageType, Opened, ReturnRoute};
use einmal_flows::{Draft, Protocol, message_pickup};

use super::Node;
use crate::{
    handler::{Arrival, Cause, Effects, Failure, Outgoing, describe_for_log},
    transport,
};

/// What is answered to a message.
pub(super) struct Replies {
    /// Envelopes for the connection it came by.
    pub(super) envelopes: Vec<Vec<u8>>,
    /// Whether an answer goes to its sender, by that connection or another way.
    pub(super) is_on_its_way: bool,
}

impl Node {
    /// Tells an unknown sender why a forward is not taken, on the connection it came by and nowhere else. The report is
    /// signed, because there is nobody to encrypt for. Deployed clients expect it.
    pub(super) fn signed_report(
        &self,
        opened: &Opened,
        failure: &Failure,
        arrival: Arrival,
    ) -> Option<Vec<u8>> {
        let Failure::Peer { fault, comment } = failure else { return None };
        let connected = matches!(arrival, Arrival::Http { .. } | Arrival::Socket { .. });
        if !connected || opened.is_authenticated() || !opened.message.kind.is(FORWARD_TYPE) {
            return None;
        }
        let mut draft = Draft::of(&fault.report(comment));
        draft.pthid = Some(opened.message.thread());
        let own = self.shared.public_did()?;
        let mut report = draft.into_message(own, own, self.shared.now(), self.shared.entropy()).ok()?;
        report.to.clear();
        self.shared.packer().sign(&report).ok()
    }

    /// Packs answers for the same connection if the sender asked for that. Transient answers that cannot go back there
    /// are queued for the sender's own endpoint.
    pub(super) async fn reply(&self, opened: &Opened, answers: Vec<Outgoing>, arrival: Arrival) -> Replies {
        let (open_route, most) = match arrival {
            Arrival::Http { .. } => (wants_return(opened) || self.has_no_other_way(opened), 1),
            // What is about mail goes back on a connection that stays open, unless the sender asked otherwise.
            Arrival::Socket { .. } => (wants_return(opened) || self.hears_here(opened), usize::MAX),
            // Peers have endpoints of their own: a message that does not ask for the connection is answered there. Live
            // delivery is about the connection itself.
            Arrival::Libp2p { answerable, .. } => {
                let asks = opened.message.return_route.is_none()
                    && message_pickup::is_live_change(&opened.message.kind);
                (answerable && (asks || wants_return(opened)), usize::MAX)
            }
            Arrival::Mailbox { .. } => (false, 0),
        };
        let (mut replies, mut is_queued) = (Vec::new(), false);
        for answer in answers {
            let to_sender = Some(&answer.to.canonical()) == opened.sender();
            if open_route && to_sender && replies.len() < most {
                match self.pack(&answer.message, &answer.to) {
                    Ok(bytes) => replies.push(bytes),
                    Err(error) => {
                        tracing::debug!(reason = %describe_for_log(&error), "an answer could not be packed");
                    }
                }
            } else if answer.transient
                && !(is_of_pickup(&answer.message.kind) && self.reads_from_mailbox(&answer.to))
            {
                let queued = self.enqueue_now(answer, arrival).await;
                is_queued |= to_sender && queued;
            }
        }
        let is_on_its_way = !replies.is_empty() || (is_queued && self.hears_elsewhere(opened));
        Replies { envelopes: replies, is_on_its_way }
    }

    /// Whether an answer about mediation or mail would otherwise never arrive: deployed wallets without an endpoint
    /// omit the `return_route` these protocols demand, and read what comes back.
    fn has_no_other_way(&self, opened: &Opened) -> bool {
        opened.message.return_route.is_none()
            && is_about_mail(&opened.message.kind)
            && !self.leads_away(opened)
    }

    /// Whether a sender that says nothing of a return route reads its answer on the socket it asked by: always if it asks about
    /// mail, else only if there is no other way to it.
    fn hears_here(&self, opened: &Opened) -> bool {
        opened.message.return_route.is_none()
            && (is_about_mail(&opened.message.kind) || !self.leads_away(opened))
    }

    /// Whether the sender of a message can be answered elsewhere. What tells of a mailbox here is of no use in another one
    /// (pickup 3.0 and 4.0, "Status").
    fn leads_away(&self, opened: &Opened) -> bool {
        let of_pickup = is_of_pickup(&opened.message.kind);
        let is_elsewhere = |endpoint: &Endpoint| {
            is_address(&endpoint.uri) && !self.leads_here(endpoint) && !(of_pickup && is_mediated(endpoint))
        };
        let document = opened.sender().map(|sender| self.shared.resolver.resolve(sender));
        document.is_none_or(|document| {
            document.map_or(true, |document| document.didcomm_endpoints().any(is_elsewhere))
        })
    }

    /// Whether the sender has an endpoint, its mailbox here among them, at which it reads what is not answered on the connection.
    fn hears_elsewhere(&self, opened: &Opened) -> bool {
        let document = opened.sender().and_then(|sender| self.shared.resolver.resolve(sender).ok());
        let speaks_libp2p = self.shared.peer_endpoint().is_some();
        let leads_there =
            |uri: &str| if transport::is_one_way(uri) { speaks_libp2p } else { is_address(uri) };
        document
            .is_some_and(|document| document.didcomm_endpoints().any(|endpoint| leads_there(&endpoint.uri)))
    }

    /// Whether whatever is sent to a DID comes into a mailbox, here or elsewhere, and nowhere else. A status among the mail it speaks
    /// of would be one letter more each time, and in another mailbox it comes too late (pickup 3.0 and 4.0, "Status").
    fn reads_from_mailbox(&self, did: &Did) -> bool {
        let Ok(document) = self.shared.resolver.resolve(did) else { return false };
        let mut endpoints = document.didcomm_endpoints().peekable();
        let is_mailbox = |endpoint: &Endpoint| self.leads_here(endpoint) || is_mediated(endpoint);
        endpoints.peek().is_some() && endpoints.all(is_mailbox)
    }

    /// Whether this node is the mediator of an endpoint.
    fn leads_here(&self, endpoint: &Endpoint) -> bool {
        let Some(own) = self.shared.public_did() else { return false };
        let is_ours = |text: &str| {
            let did = text.split(['#', '?']).next().and_then(|did| Did::parse(did).ok());
            did.is_some_and(|did| did.same_as(own))
        };
        is_ours(&endpoint.uri) || endpoint.routing_keys.iter().any(|key| is_ours(key))
    }

    /// Queues an answer that is of use only now; whether that was possible.
    async fn enqueue_now(&self, answer: Outgoing, arrival: Arrival) -> bool {
        let mut fx = Effects::new(&self.shared, Cause::Arrival(arrival));
        let queued = match self.enqueue(&mut fx, vec![answer]) {
            Ok(queued) => queued,
            Err(failure) => {
                // The request is done and stays so; its answer is of use only now.
                self.shared.stats.given_up.inc();
                tracing::debug!(reason = %describe_for_log(&failure), "an answer was not queued");
                return false;
            }
        };
        let (batch, _) = fx.into_parts();
        let is_queued = !batch.is_empty() && self.shared.db.store().commit(batch).await.is_ok();
        if is_queued {
            queued.keep();
            self.outbox_bell.notify_one();
        }
        is_queued
    }
}

/// Whether a message is about accounts or mailboxes.
fn is_about_mail(kind: &MessageType) -> bool {
    matches!(Protocol::of(kind), Some(Protocol::CoordinateMediation | Protocol::MessagePickup))
}

/// Whether a message tells of a mailbox or hands over what is in it.
fn is_of_pickup(kind: &MessageType) -> bool {
    Protocol::of(kind) == Some(Protocol::MessagePickup)
}

/// Whether an endpoint is that of a mediator: its DID, or its address with the keys of those the message goes through.
fn is_mediated(endpoint: &Endpoint) -> bool {
    endpoint.uri.starts_with("did:") || !endpoint.routing_keys.is_empty()
}

/// Whether something may be sent there, directly or by a mediator.
fn is_address(uri: &str) -> bool {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    matches!(scheme.as_str(), "http" | "https" | "ws" | "wss" | "did") || transport::is_one_way(uri)
}

fn wants_return(opened: &Opened) -> bool {
    match opened.message.return_route {
        Some(ReturnRoute::All) => true,
        Some(ReturnRoute::Thread) => {
            let thread = opened.message.thread();
            opened.message.return_route_thread.as_ref().is_none_or(|wanted| *wanted == thread)
        }
        _ => false,
    }
}
