//! The side that keeps messages: reads requests, checks who may ask, and writes replies.

use einmal_did::Did;
use einmal_didcomm::{Attachment, AttachmentData, Body, CarriedJson, UnixSeconds};

use super::{
    Delivery, Delivery4, DeliveryRequest, LiveDeliveryChange, MessagesReceived, PickupVersion, PushForm,
    Status, Status4, StatusRequest,
    version::{DELIVERY_REQUEST_4, LIVE_DELIVERY_CHANGE_4, MESSAGES_RECEIVED_4, STATUS_REQUEST_4},
};
use crate::{
    Draft, FlowError, Received,
    coordinate_mediation::{MediationVersion, Registrations, recipient_of},
    limits::{
        MAX_CARRIED_OBJECTS, MAX_CARRIED_VALUES, MAX_CONFIRMED_IDS, MAX_DELIVERY_BATCH, MAX_DELIVERY_BYTES,
        MAX_DELIVERY_OBJECTS, MAX_DELIVERY_VALUES, MAX_QUEUE_ID_LEN,
    },
    protocol::is_one_of,
};

/// A request about a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PickupRequest {
    /// Asks how much is waiting.
    Status {
        /// For this DID only.
        recipient: Option<Did>,
    },
    /// Asks for messages.
    Delivery {
        /// For this DID only.
        recipient: Option<Did>,
        /// Most messages to read from the queue: the requested number, capped at [`MAX_DELIVERY_BATCH`].
        limit: usize,
    },
    /// Confirms messages, which may now be deleted.
    Received {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Turns pushing of messages on or off.
    LiveDelivery {
        /// Whether to push.
        on: bool,
    },
}

/// What the mediator knows about a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Number of messages.
    pub count: u64,
    /// Size of all messages, in bytes.
    pub bytes: u64,
    /// When the oldest arrived, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// When the newest arrived, in milliseconds since 1970.
    pub newest_ms: Option<u64>,
    /// Whether messages are pushed on the connection that carried the request.
    pub live: bool,
}

impl PickupRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`FlowError::UnknownMessage`], [`FlowError::Malformed`], [`FlowError::Expired`],
    /// [`FlowError::InvalidContent`] if `recipient_did` is no DID or an id is too long, [`FlowError::TooMany`].
    ///
    /// # Specification
    ///
    /// didcomm.org, "Message Pickup Protocol" 3.0 and 4.0.
    pub fn read(received: &Received<'_>, now: UnixSeconds) -> Result<Self, FlowError> {
        received.check_time(now)?;
        if received.is(StatusRequest::TYPE) || received.is(STATUS_REQUEST_4) {
            let StatusRequest { recipient_did } = received.body(&[STATUS_REQUEST_4])?;
            return Ok(Self::Status { recipient: did(recipient_did)? });
        }
        if received.is(DeliveryRequest::TYPE) || received.is(DELIVERY_REQUEST_4) {
            let DeliveryRequest { limit, recipient_did } = received.body(&[DELIVERY_REQUEST_4])?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_DELIVERY_BATCH);
            return Ok(Self::Delivery { recipient: did(recipient_did)?, limit });
        }
        if received.is(MessagesReceived::TYPE) || received.is(MESSAGES_RECEIVED_4) {
            let MessagesReceived { message_id_list: ids } = received.body(&[MESSAGES_RECEIVED_4])?;
            if ids.len() > MAX_CONFIRMED_IDS {
                return Err(FlowError::TooMany { what: "message ids", most: MAX_CONFIRMED_IDS });
            }
            if ids.iter().any(|id| id.len() > MAX_QUEUE_ID_LEN) {
                return Err(FlowError::InvalidContent { what: "message_id_list" });
            }
            return Ok(Self::Received { ids });
        }
        if received.is(LiveDeliveryChange::TYPE) || received.is(LIVE_DELIVERY_CHANGE_4) {
            let LiveDeliveryChange { live_delivery } = received.body(&[LIVE_DELIVERY_CHANGE_4])?;
            return Ok(Self::LiveDelivery { on: live_delivery });
        }
        Err(FlowError::UnknownMessage)
    }

    /// Checks that the sender has an account, and that the DID it asks about is registered for it.
    ///
    /// # Errors
    ///
    /// [`FlowError::NotEnrolled`], the same for an unknown sender and for another's DID;
    /// [`FlowError::Unavailable`].
    pub fn authorise(
        &self,
        received: &Received<'_>,
        registrations: &dyn Registrations,
    ) -> Result<(), FlowError> {
        let account = received.sender().canonical();
        if !registrations.is_account(&account).map_err(|_| FlowError::Unavailable)? {
            return Err(FlowError::NotEnrolled);
        }
        let (Self::Status { recipient: Some(recipient) } | Self::Delivery { recipient: Some(recipient), .. }) =
            self
        else {
            return Ok(());
        };
        let owner = registrations.owner(&recipient.canonical()).map_err(|_| FlowError::Unavailable)?;
        if owner.is_some_and(|owner| owner.account == account) { Ok(()) } else { Err(FlowError::NotEnrolled) }
    }
}

/// A DID, or the DID of a DID URL: both count as the same recipient.
fn did(text: Option<String>) -> Result<Option<Did>, FlowError> {
    text.map(|text| recipient_of(&text).ok_or(FlowError::InvalidContent { what: "recipient_did" }))
        .transpose()
}

/// `recipient_did` as the request spelled it, if it is one that may name a DID: the reply speaks of that DID alone. Other
/// requests are answered for the whole account, whatever they name.
fn echoed(received: &Received<'_>) -> Option<String> {
    let may_name = [StatusRequest::TYPE, STATUS_REQUEST_4, DeliveryRequest::TYPE, DELIVERY_REQUEST_4];
    if !is_one_of(&received.message().kind, &may_name) {
        return None;
    }
    received.message().body.get("recipient_did").and_then(|did| did.as_str()).map(str::to_owned)
}

/// The version of a request; 3.0 if the message is not of this protocol.
fn version_of(received: &Received<'_>) -> PickupVersion {
    PickupVersion::of(&received.message().kind).unwrap_or(PickupVersion::V3)
}

/// The reply to a `status-request`, to `messages-received`, and to a change of live delivery. Never queue it.
///
/// # Specification
///
/// didcomm.org, "Message Pickup Protocol" 3.0 and 4.0, `status`.
pub fn status_reply(received: &Received<'_>, status: &QueueStatus, now: UnixSeconds) -> Draft {
    status_of(version_of(received), echoed(received), status, now).in_thread(received.message().thread())
}

fn status_of(
    version: PickupVersion,
    recipient_did: Option<String>,
    status: &QueueStatus,
    now: UnixSeconds,
) -> Draft {
    let waiting = status.count > 0;
    let (newest, oldest) = (status.newest_ms.filter(|_| waiting), status.oldest_ms.filter(|_| waiting));
    match version {
        PickupVersion::V3 => Draft::of(&Status {
            recipient_did,
            message_count: status.count,
            longest_waited_seconds: oldest.map(|at| now.0.saturating_sub(at / 1000)),
            newest_received_time: newest.map(|at| at / 1000),
            oldest_received_time: oldest.map(|at| at / 1000),
            total_bytes: Some(status.bytes),
            live_delivery: Some(status.live),
        }),
        PickupVersion::V4 => Draft::of(&Status4 {
            recipient_did,
            message_count: status.count,
            newest_received_time: newest,
            oldest_received_time: oldest,
            total_bytes: Some(status.bytes),
            live_delivery: Some(status.live),
        }),
    }
}

/// How messages are attached to a `delivery` of 3.0. The specification leaves it open; its example has base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedAs {
    /// As `data.json`.
    Json,
    /// As `data.base64`.
    Base64,
}

impl AttachedAs {
    /// The form to try first for a wallet that asked for its account in version `account`, if known. Deployed wallets
    /// often read only one form: those that use 2.0 read base64, and one of those that use 3.0 reads only JSON.
    pub fn first_for(account: Option<MediationVersion>) -> Self {
        if account == Some(MediationVersion::V2) { Self::Base64 } else { Self::Json }
    }

    /// The other form.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Json => Self::Base64,
            Self::Base64 => Self::Json,
        }
    }

    fn attach(self, payload: &[u8]) -> AttachmentData {
        match self {
            Self::Json => readable(payload),
            Self::Base64 => opaque(payload),
        }
    }
}

/// The reply to a `delivery-request`: the messages or, if there are none, `status` in 3.0 and an empty `delivery` in
/// 4.0.
///
/// `messages` are ids and payloads, oldest first; as many are taken as one envelope carries, but at least one. A
/// message keeps its id on every delivery. `status` is that of the queue before the delivery. `form` applies to 3.0;
/// 4.0 always uses base64.
///
/// # Specification
///
/// didcomm.org, "Message Pickup Protocol" 3.0 and 4.0, `delivery`.
pub fn delivery_reply(
    received: &Received<'_>,
    messages: &[(String, Vec<u8>)],
    status: &QueueStatus,
    form: AttachedAs,
    now: UnixSeconds,
) -> Draft {
    let asked = received.body::<DeliveryRequest>(&[DELIVERY_REQUEST_4]).map_or(0, |request| request.limit);
    let limit = usize::try_from(asked).unwrap_or(usize::MAX).min(MAX_DELIVERY_BATCH);
    let messages = messages.get(..limit).unwrap_or(messages);
    let thread = received.message().thread();
    match version_of(received) {
        PickupVersion::V3 if messages.is_empty() => status_reply(received, status, now),
        version => delivery(version, echoed(received), messages, form).in_thread(thread),
    }
}

/// The `status` for a connection whose live delivery has ended, because another connection or account took its place:
/// otherwise its wallet would wait for what is no longer pushed.
///
/// # Specification
///
/// didcomm.org, "Message Pickup Protocol" 3.0 and 4.0, `status`, `live_delivery`.
pub fn ended(form: PushForm, status: &QueueStatus, now: UnixSeconds) -> Draft {
    status_of(form.version(), None, &QueueStatus { live: false, ..*status }, now)
}

/// The `delivery` pushed to a live connection; `None` if the payloads are pushed raw. Either way they stay queued until
/// confirmed.
///
/// As many of `messages` are taken as one envelope carries, but at least one.
///
/// # Specification
///
/// didcomm.org, "Message Pickup Protocol" 3.0 and 4.0, "Live Mode".
pub fn push(form: PushForm, messages: &[(String, Vec<u8>)]) -> Option<Draft> {
    match form {
        PushForm::Raw => None,
        // Messages are pushed in a 3.0 `delivery` only to wallets that asked for their account in 2.0.
        PushForm::Wrapped(version) => Some(delivery(version, None, messages, AttachedAs::Base64)),
    }
}

fn delivery(
    version: PickupVersion,
    recipient_did: Option<String>,
    messages: &[(String, Vec<u8>)],
    form: AttachedAs,
) -> Draft {
    match version {
        PickupVersion::V3 => load(Draft::of(&Delivery { recipient_did }), messages, form),
        PickupVersion::V4 => delivery4(recipient_did, messages),
    }
}

fn delivery4(recipient_did: Option<String>, messages: &[(String, Vec<u8>)]) -> Draft {
    let mut draft = load(Draft::of(&Delivery4 { recipient_did }), messages, AttachedAs::Base64);
    draft.shows_no_attachments = draft.attachments.is_empty();
    draft
}

/// Attaches as many messages as one envelope carries and its reader accepts, but at least one.
fn load(mut draft: Draft, messages: &[(String, Vec<u8>)], form: AttachedAs) -> Draft {
    let (mut room, mut values, mut objects) = (MAX_DELIVERY_BYTES, MAX_DELIVERY_VALUES, MAX_DELIVERY_OBJECTS);
    for (id, payload) in messages {
        let data = form.attach(payload);
        let written = data.base64.as_ref().map_or(payload.len(), String::len);
        let census = data.carried.as_ref().map(CarriedJson::census).unwrap_or_default();
        let fits = written <= room && census.values <= values && census.objects <= objects;
        if !fits && !draft.attachments.is_empty() {
            break;
        }
        room = room.saturating_sub(written);
        values = values.saturating_sub(census.values);
        objects = objects.saturating_sub(census.objects);
        let mut attachment = Attachment::default();
        attachment.id = Some(id.clone());
        attachment.data = data;
        draft.attachments.push(attachment);
    }
    draft
}

/// As in the specification's example.
fn opaque(payload: &[u8]) -> AttachmentData {
    let mut data = AttachmentData::default();
    data.base64 = Some(einmal_keys::base64url_encode(payload));
    data
}

/// JSON if the payload is a JSON object, because one deployed client of 3.0 reads nothing else; base64 if it holds more
/// than any envelope does, because readers bound what they parse.
fn readable(payload: &[u8]) -> AttachmentData {
    let is_moderate = |json: &CarriedJson| {
        json.census().values <= MAX_CARRIED_VALUES && json.census().objects <= MAX_CARRIED_OBJECTS
    };
    match CarriedJson::new(payload).filter(is_moderate) {
        Some(json) => {
            let mut data = AttachmentData::default();
            data.carried = Some(json);
            data
        }
        None => opaque(payload),
    }
}

/// The reply to a `live-delivery-change`; the caller switches its connection only if this succeeds.
///
/// `persistent` says whether the connection stays open, as a WebSocket does. `status.live` is the mode after the
/// change. Switching it on does not flush the queue.
///
/// # Errors
///
/// [`FlowError::LiveMode`] for a connection that does not stay open, to be reported as
/// `e.m.live-mode-not-supported`.
pub fn live_reply(
    received: &Received<'_>,
    on: bool,
    persistent: bool,
    status: &QueueStatus,
    now: UnixSeconds,
) -> Result<Draft, FlowError> {
    if on && !persistent {
        return Err(FlowError::LiveMode);
    }
    Ok(status_reply(received, &QueueStatus { live: on, ..*status }, now))
}

#[cfg(test)]
mod tests;
