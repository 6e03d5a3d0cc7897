//! What a role contributes to the node's loop, including how it handles messages that take a path of their own.

use std::sync::Arc;

use einmal_did::Did;
use einmal_didcomm::{MessageType, Opened};
use einmal_flows::Received;
use einmal_storage::mail::{LetterId, MailboxId, NewLetter};
use serde_json::Value;

use super::{Effects, Failure, Handled, Shared};
use crate::command::{Command, Invite};

/// Letters for one mailbox.
pub(crate) struct Forwarded {
    /// The account that picks them up.
    pub(crate) account: Did,
    pub(crate) mailbox: MailboxId,
    pub(crate) letters: Vec<NewLetter>,
}

/// What our own mediator tells us unasked, on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Whether it pushes mail on the connection that brought this notice.
    Live(bool),
    /// There may be mail.
    Mail,
}

/// What a role contributes to the node's loop. Handlers change nothing but the effects they are given.
pub(crate) trait RoleService: Send + Sync {
    /// Handles a message whose sender is proved; false if its protocol belongs to another role.
    fn on_message(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Result<bool, Failure>;

    /// Reads a notice from our own mediator, which changes nothing that lasts; `None` if the message is not a notice.
    fn notice(&self, _shared: &Shared, _rx: &Received<'_>) -> Result<Option<Notice>, Failure> {
        Ok(None)
    }

    /// The mailboxes that an account has at present, in order.
    fn mailboxes_of(&self, _shared: &Shared, _account: &Did) -> Result<Arc<[MailboxId]>, Failure> {
        Ok([].into())
    }

    /// Handles a message without a proved sender.
    fn on_anonymous(&self, _shared: &Shared, opened: &Opened, _fx: &mut Effects<'_>) -> Handled {
        tracing::debug!(kind = %opened.message.kind, "a message without proved sender was dropped");
        Err(Failure::unproved("messages without proved sender are not accepted"))
    }

    /// Wakes an exchange.
    fn on_timer(&self, shared: &Shared, exchange: &str, fx: &mut Effects<'_>) -> Handled;

    /// Makes an invitation to this node.
    fn invite(&self, shared: &Shared, invite: &Invite, fx: &mut Effects<'_>) -> Result<Value, Failure>;

    /// Carries out a command of the node's own user that not every role knows.
    fn command(&self, shared: &Shared, command: &Command, fx: &mut Effects<'_>) -> Result<Value, Failure>;

    /// Protocols this role speaks besides the common ones: identifier and roles.
    fn protocols(&self) -> Vec<(&'static str, &'static str)>;

    /// A token for the status list published at `uri`; `None` if there is no such list.
    fn status_list(&self, _shared: &Shared, _uri: &str) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    /// Takes in a status list token that was asked for, of an issuer; `None` if it could not be fetched.
    fn status_list_fetched(&self, _shared: &Shared, _uri: &str, _issuer: &str, _token: Option<String>) {}

    /// The letters a message asks to keep for somebody, with their account; `None` if it does not ask for that.
    ///
    /// This is a mediator's hot path: letters go straight into the mail.
    fn forwarded(&self, _shared: &Shared, _opened: &Opened) -> Option<Result<Forwarded, Failure>> {
        None
    }

    /// Whether messages of this type change nothing that lasts: then only the node's memory recognises a repetition.
    fn is_question(&self, _kind: &MessageType) -> bool {
        false
    }

    /// Whether `mailbox` is one of the account `account` now.
    fn is_mailbox_of(&self, _shared: &Shared, _account: &Did, _mailbox: MailboxId) -> Result<bool, Failure> {
        Ok(false)
    }

    /// The id by which the owner of a letter acknowledges it.
    fn letter_id(&self, letter: LetterId) -> String {
        letter.0.to_string()
    }

    /// A peer has proved that `prior` gave way to `new`, here in the form it uses itself. The node itself moves the
    /// relationships.
    fn on_rotation(&self, _shared: &Shared, _prior: &Did, _new: &Did, _fx: &mut Effects<'_>) -> Handled {
        Ok(())
    }

    /// Whether a repeated message is answered with a problem report, as mediators do.
    fn reports_replays(&self) -> bool {
        false
    }
}
