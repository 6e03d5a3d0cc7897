//! Messages over existing connections: a limited number at once per peer, in order of arrival.

use std::collections::VecDeque;

use libp2p::request_response::OutboundFailure;
use libp2p::{PeerId, request_response::OutboundRequestId};

use super::{Driver, SendTask};
use crate::{
    codec::{Request, Status},
    host::SendError,
};

/// Most unanswered messages to one peer; further ones wait. Our own hosts have places for as many from one source.
pub(super) const MAX_UNDER_WAY: usize = 16;

/// The messages to one connected peer.
#[derive(Default)]
pub(super) struct Lane {
    under_way: usize,
    waiting: VecDeque<SendTask>,
}

/// A message that its peer has not answered yet.
pub(super) struct Sent {
    /// The task, without its envelope.
    task: SendTask,
    /// The envelope, if it may have gone through a relay. A relayed connection is closed once there is a direct one;
    /// unanswered messages on it are then sent again, over the direct one.
    again: Option<Vec<u8>>,
}

impl Driver {
    /// Whether a message to the peer would use an existing connection. Asks the very part that would otherwise dial.
    pub(super) fn is_connected(&self, peer_id: PeerId) -> bool {
        self.swarm.behaviour().messages.is_connected(&peer_id)
    }

    /// Sends to a connected peer when it is the message's turn.
    pub(super) fn request(&mut self, task: SendTask) {
        let lane = self.lanes.entry(task.peer_id).or_default();
        if lane.under_way >= MAX_UNDER_WAY {
            return lane.waiting.push_back(task);
        }
        lane.under_way += 1;
        let may_be_lost = self.connections.values().any(|held| held.peer_id == task.peer_id && held.relayed);
        self.hand_out(task, may_be_lost);
    }

    fn hand_out(&mut self, mut task: SendTask, may_be_lost: bool) {
        let bytes = std::mem::take(&mut task.envelope);
        let again = may_be_lost.then(|| bytes.clone());
        let request = Request::Envelope { bytes, place: None };
        let id = self.swarm.behaviour_mut().messages.send_request(&task.peer_id, request);
        self.sent.insert(id, Sent { task, again });
    }

    pub(super) fn on_answer(&mut self, id: OutboundRequestId, status: Status) {
        if let Some(sent) = self.sent.remove(&id) {
            self.settle(sent.task, Ok(status));
        }
    }

    pub(super) fn on_request_failure(&mut self, id: OutboundRequestId, failure: &OutboundFailure) {
        let Some(Sent { mut task, again }) = self.sent.remove(&id) else { return };
        let is_lost = matches!(failure, OutboundFailure::ConnectionClosed | OutboundFailure::Io(_));
        if let Some(envelope) = again.filter(|_| is_lost)
            && !task.done.is_closed()
            && self.is_connected(task.peer_id)
        {
            task.envelope = envelope;
            return self.hand_out(task, false);
        }
        let error = match failure {
            OutboundFailure::UnsupportedProtocols => SendError::Refused { status: Status::Refused },
            OutboundFailure::Timeout => SendError::Unreachable { reason: "it did not answer in time" },
            _ => SendError::Unreachable { reason: "the connection failed" },
        };
        self.settle(task, Err(error));
    }

    /// A message is finished: the next one gets its turn.
    fn settle(&mut self, task: SendTask, outcome: Result<Status, SendError>) {
        let peer_id = task.peer_id;
        let _ = task.done.send(outcome);
        let Some(lane) = self.lanes.get_mut(&peer_id) else { return };
        lane.under_way -= 1;
        lane.waiting.retain(|task| !task.done.is_closed());
        let next = lane.waiting.pop_front();
        if lane.under_way == 0 && next.is_none() {
            self.lanes.remove(&peer_id);
        }
        // If the connection is gone, this one dials, and those after it wait for that too.
        let Some(next) = next else { return };
        if self.is_connected(peer_id) {
            return self.request(next);
        }
        let rest = self.lanes.get_mut(&peer_id).map(|lane| std::mem::take(&mut lane.waiting));
        for task in std::iter::once(next).chain(rest.into_iter().flatten()) {
            self.on_send(task);
        }
        self.lanes.retain(|_, lane| lane.under_way > 0);
    }
}
