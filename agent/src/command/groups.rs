//! The commands by who understands them, each with its name on the wire and its input.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Command, CommandError,
    input::{
        Accept, Card, Decide, DropId, Invite, Nothing, OfPerson, Offer, PeerName, Person, Revoke, SendText,
        Template, Thread, Unbind,
    },
    read_input,
};

/// Commands that the same roles understand. Name and input stand once: what is read is what is written.
macro_rules! group {
    (
        $(#[doc = $about:literal])+
        $group:ident as $of:ident {
            $($(#[doc = $what:literal])+ $name:literal => $variant:ident($input:ty),)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Serialize)]
        #[serde(tag = "command", content = "input")]
        pub enum $group {
            $($(#[doc = $what])+ #[serde(rename = $name)] $variant($input),)+
        }

        impl $group {
            /// The names of all of them.
            pub const NAMES: &[&str] = &[$($name),+];

            /// Its name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            /// The command of that name; `None` if it is none of these.
            pub(super) fn read(name: &str, input: &Map<String, Value>) -> Option<Result<Self, CommandError>> {
                match name {
                    $($name => Some(read_input(name, input).map(Self::$variant)),)+
                    _ => None,
                }
            }
        }

        impl From<$group> for Command {
            fn from(command: $group) -> Self {
                Self::$of(command)
            }
        }
    };
}

group! {
    /// What every role is asked.
    CommonCommand as Common {
        /// Counters, and what waits to be sent.
        "status" => Status(Nothing),
        /// What only the running node knows of its health.
        "doctor" => Doctor(Nothing),
        /// Write to a peer.
        "send" => Send(SendText),
        /// What peers wrote.
        "inbox" => Inbox(Nothing),
        /// An invitation to this node; each role says what it leads to.
        "invite" => Invite(Invite),
    }
}

group! {
    /// What a city is asked.
    CityCommand as City {
        /// Offer a credential.
        "offer" => Offer(Offer),
        /// What may still be withdrawn.
        "offers" => Offers(OfPerson),
        /// Revoke a credential for good.
        "revoke" => Revoke(Revoke),
        /// The devices of a person.
        "devices" => Devices(Person),
        /// Take devices off a person.
        "unbind" => Unbind(Unbind),
        /// Take back an offer or invitation.
        "withdraw" => Withdraw(Thread),
        /// Read register and templates anew.
        "reload" => Reload(Nothing),
        /// What was issued.
        "issued" => Issued(OfPerson),
        /// How the register was read.
        "register" => Register(Nothing),
    }
}

group! {
    /// What a merchant is asked.
    MerchantCommand as Merchant {
        /// Ask for a proof.
        "request" => Request(Template),
        /// What came of that.
        "result" => Result(Thread),
    }
}

group! {
    /// What a mediator's operator asks.
    MediatorCommand as Mediator {
        /// Accounts with what waits for them.
        "accounts" => Accounts(Nothing),
        /// Mailboxes with mail in them.
        "queues" => Queues(Nothing),
        /// Remove an account, or the mail of a recipient.
        "drop" => Drop(DropId),
        /// The limits in force.
        "limits" => Limits(Nothing),
    }
}

group! {
    /// What a citizen's user asks.
    CitizenCommand as Citizen {
        /// Take an invitation.
        "accept" => Accept(Accept),
        /// How far an exchange is.
        "progress" => Progress(Thread),
        /// Agree to what is offered or asked for, or decline it.
        "decide" => Decide(Decide),
        /// What waits for a decision.
        "pending" => Pending(Nothing),
        /// The cards and their state.
        "list" => List(Nothing),
        /// One card with all of its claims.
        "show" => Show(Card),
        /// One card as text.
        "export" => Export(Card),
        /// Throw a card away.
        "forget" => Forget(Card),
        /// How the account at the mediator stands.
        "mailbox" => Mailbox(Nothing),
        /// Take new DIDs towards a peer.
        "rotate" => Rotate(PeerName),
        /// With whom there are relationships.
        "peers" => Peers(Nothing),
    }
}
