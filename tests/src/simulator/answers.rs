//! The simulator's answers, written by hand for each message, with the one rule broken.

use std::collections::BTreeSet;

use einmal_did::Did;
use einmal_didcomm::{Attachment, Forward, Message, Opened};
use einmal_keys::base64url_encode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{
    Fault, Mediator, Reply,
    state::{Live, Mail, State},
};

/// Type of a problem report.
pub(super) const PROBLEM: &str = "https://didcomm.org/report-problem/2.0/problem-report";
const NOT_ENROLLED: &str = "e.p.req.not_enroll";
const MALFORMED: &str = "e.p.msg";

const SPOKEN: [&str; 8] = [
    "https://didcomm.org/trust-ping/2.0",
    "https://didcomm.org/discover-features/2.0",
    "https://didcomm.org/report-problem/2.0",
    "https://didcomm.org/routing/2.0",
    "https://didcomm.org/coordinate-mediation/2.0",
    "https://didcomm.org/coordinate-mediation/3.0",
    "https://didcomm.org/messagepickup/3.0",
    "https://didcomm.org/message-pickup/4.0",
];

fn reply(kind: &str, body: Value) -> Reply {
    Reply { kind: kind.to_owned(), body, attachments: Vec::new() }
}

/// A problem report.
pub(super) fn report(code: &str) -> Reply {
    reply(PROBLEM, json!({"code": code}))
}

/// An answer to a ping.
pub(super) fn pong() -> Reply {
    reply("https://didcomm.org/trust-ping/2.0/ping-response", json!({}))
}

fn text<'a>(body: &'a Message, member: &str) -> Option<&'a str> {
    body.body.get(member)?.as_str()
}

impl Mediator {
    /// The answer to a message from a proved sender.
    pub(super) fn answer(
        &self,
        opened: &Opened,
        from: &Did,
        socket: Option<&mpsc::Sender<Vec<u8>>>,
    ) -> Option<Reply> {
        let message = &opened.message;
        let kind = message.kind.as_str();
        let (protocol, name) = kind.rsplit_once('/')?;
        if let Some(socket) = socket {
            let mut state = self.state();
            state.sockets.insert(from.canonical(), socket.clone());
            if self.breaks(Fault::StaysLiveOnNewSockets)
                && let Some(live) = state.live.get_mut(&from.canonical())
            {
                live.socket = socket.clone();
            }
        }
        if self.breaks(Fault::ReportsNowAndThenThatItFailed) && self.now_and_then() {
            return Some(report(if four_of(protocol) { "w.m.me" } else { "e.m.me.res.compute" }));
        }
        let four = (self.breaks(Fault::ListsPickupFourAndDoesNotSpeakIt)
            || self.breaks(Fault::ListsPickupFourWithoutARole))
            && four_of(protocol);
        if !self.spoken().any(|spoken| spoken == protocol) || four {
            return (!self.says_nothing_to_strange_protocols()).then(|| report("e.p.msg.unsupported"));
        }
        match protocol.rsplit('/').nth(1)? {
            "trust-ping" => self.ping(message),
            "discover-features" if self.overhears(message) => None,
            "discover-features" => Some(self.features(message)),
            "report-problem" => self.breaks(Fault::AnswersReportsWithReports).then(|| report(MALFORMED)),
            "coordinate-mediation" => Some(self.mediation(message, from, protocol, name)),
            _ => Some(self.pickup(message, from, protocol, name, socket)),
        }
    }

    fn spoken(&self) -> impl Iterator<Item = &'static str> + '_ {
        SPOKEN.into_iter().filter(|protocol| !self.ignores(protocol))
    }

    fn ping(&self, message: &Message) -> Option<Reply> {
        let default = !self.breaks(Fault::TakesAbsentResponseRequestedForFalse);
        let wanted = message.body.get("response_requested").and_then(Value::as_bool).unwrap_or(default);
        (wanted || self.breaks(Fault::AnswersPingsThatWantNoAnswer)).then(pong)
    }

    /// Whether the message asks for nothing the simulator knows, and the simulator stays silent about that.
    fn overhears(&self, message: &Message) -> bool {
        let queries = message.body.get("queries").and_then(Value::as_array);
        let known = |query: &Value| query["feature-type"] == "protocol";
        let asked = queries.is_some_and(|queries| queries.iter().any(known));
        let wild = |query: &Value| query["match"].as_str().is_some_and(|pattern| pattern.ends_with('*'));
        if self.breaks(Fault::IsSilentAboutWildcards) {
            return queries.is_some_and(|queries| queries.iter().all(wild));
        }
        self.breaks(Fault::IsSilentAboutUnknownFeatureTypes) && queries.is_some() && !asked
    }

    fn features(&self, message: &Message) -> Reply {
        let Some(queries) = message.body.get("queries").and_then(Value::as_array) else {
            return report(MALFORMED);
        };
        let mut found = Vec::new();
        for query in queries {
            let (Some(kind), Some(wanted)) = (query["feature-type"].as_str(), query["match"].as_str()) else {
                return report(MALFORMED);
            };
            if kind != "protocol" {
                if self.breaks(Fault::FailsOnUnknownFeatureTypes) && kind != "constraint" {
                    return report(MALFORMED);
                }
                continue;
            }
            let all = self.breaks(Fault::DisclosesMoreThanAskedFor);
            let matches = |id: &&str| match wanted.strip_suffix('*') {
                Some(prefix) if !prefix.is_empty() && self.breaks(Fault::TakesPrefixesForFullNames) => false,
                Some(prefix) => id.starts_with(prefix),
                None => *id == wanted || all,
            };
            found.extend(self.spoken().filter(matches).map(|id| self.disclosure(id)));
        }
        reply("https://didcomm.org/discover-features/2.0/disclose", json!({"disclosures": found}))
    }

    fn disclosure(&self, id: &str) -> Value {
        let serves = id.contains("mediation") || id.contains("pickup");
        let told = !matches!(
            self.fault,
            Fault::ListsPickupFourWithoutARole
                | Fault::GrantsInAnotherThread
                | Fault::WantsALoginForNewAccounts
        );
        let roles = if serves && told { json!(["mediator"]) } else { json!([]) };
        json!({"feature-type": "protocol", "id": id, "roles": roles})
    }

    fn mediation(&self, message: &Message, from: &Did, protocol: &str, name: &str) -> Reply {
        let three = protocol.ends_with("3.0");
        let mut state = self.state();
        let account = from.canonical();
        if name == "mediate-request" && self.breaks(Fault::WantsALoginForNewAccounts) {
            return report("e.p.trust");
        }
        if name == "mediate-request" && self.breaks(Fault::DeniesAccounts) {
            return reply(&format!("{protocol}/mediate-deny"), json!({}));
        }
        if name == "mediate-request" {
            let again = !state.asked.insert(account.clone());
            if again && self.breaks(Fault::AnswersSecondRequestsByAList) {
                return self.list(&state, message, &account, protocol, three);
            }
            if !three {
                state.old.insert(account.clone());
            }
            state.accounts.insert(account);
            let list = (three && !self.breaks(Fault::WritesRoutingDidAsTextInThree))
                || (!three && self.breaks(Fault::WritesRoutingDidAsListInTwo));
            let routing = if list { json!([self.did]) } else { json!(self.did) };
            return reply(&format!("{protocol}/mediate-grant"), json!({"routing_did": routing}));
        }
        let (update, query) =
            if three { ("recipient-update", "recipient-query") } else { ("keylist-update", "keylist-query") };
        if !state.accounts.contains(&account) {
            let updates = message.body.get("updates").and_then(Value::as_array);
            let Some(updates) = updates.filter(|_| self.breaks(Fault::RefusesEachUpdateOfStrangers)) else {
                return report(NOT_ENROLLED);
            };
            let mut updated = updates.clone();
            updated.iter_mut().for_each(|one| one["result"] = json!("client_error"));
            return reply(&format!("{protocol}/{update}-response"), json!({"updated": updated}));
        }
        if name == update {
            let Some(updates) = message.body.get("updates").and_then(Value::as_array) else {
                return report(MALFORMED);
            };
            let updated: Option<Vec<Value>> =
                updates.iter().map(|one| self.update(&mut state, &account, one)).collect();
            return match updated {
                Some(mut updated)
                    if updated.len() > 1 && self.breaks(Fault::ForgetsTheActionsOfSeveralUpdates) =>
                {
                    updated.iter_mut().for_each(|one| one["action"] = json!("add"));
                    reply(&format!("{protocol}/{update}-response"), json!({"updated": updated}))
                }
                Some(updated) => reply(&format!("{protocol}/{update}-response"), json!({"updated": updated})),
                None => report(MALFORMED),
            };
        }
        if name == query {
            return self.list(&state, message, &account, protocol, three);
        }
        report("e.p.msg.unsupported")
    }

    fn update(&self, state: &mut State, account: &Did, update: &Value) -> Option<Value> {
        let (text, action) = (update["recipient_did"].as_str()?, update["action"].as_str()?);
        let did = Did::parse(text).ok()?;
        let owner = state.owner(&did).cloned();
        let result = match (action, owner) {
            ("add", None) => {
                state.routes.insert(did.canonical(), (account.clone(), text.to_owned()));
                "success"
            }
            ("add", Some(owner)) if owner == *account => "no_change",
            ("add", _) => "client_error",
            ("remove", Some(owner)) if owner == *account => {
                if !self.breaks(Fault::NeverRemoves) {
                    state.routes.remove(&did.canonical());
                }
                "success"
            }
            ("remove", _) if self.breaks(Fault::SaysSuccessForUnknownRemovals) => "success",
            ("remove", _) if self.breaks(Fault::CallsUnknownRemovalsAnError) => "client_error",
            ("remove", _) => "no_change",
            _ => return None,
        };
        Some(json!({"recipient_did": text, "action": action, "result": result}))
    }

    fn list(&self, state: &State, message: &Message, account: &Did, protocol: &str, three: bool) -> Reply {
        let none = state.routes.values().all(|(owner, _)| owner != account);
        let everybody = none && self.breaks(Fault::ListsEverybodysDids);
        let all: Vec<&String> = state
            .routes
            .values()
            .filter(|(owner, _)| everybody || owner == account)
            .map(|(_, text)| text)
            .collect();
        let page = message.body.get("paginate");
        let number = |member: &str| page?.get(member)?.as_u64().and_then(|n| usize::try_from(n).ok());
        let (limit, offset) = match self.breaks(Fault::IgnoresPagination) {
            true => (usize::MAX, 0),
            false => (number("limit").unwrap_or(usize::MAX), number("offset").unwrap_or(0)),
        };
        let shown: Vec<Value> =
            all.iter().skip(offset).take(limit).map(|did| json!({"recipient_did": did})).collect();
        let remaining = all.len().saturating_sub(offset + shown.len());
        let pagination = json!({"count": shown.len(), "offset": offset, "remaining": remaining});
        let (name, member) = if three { ("recipient", "dids") } else { ("keylist", "keys") };
        reply(&format!("{protocol}/{name}"), json!({member: shown, "pagination": pagination}))
    }

    /// Whether a forward is accepted.
    pub(super) fn forward(&self, opened: &Opened) -> bool {
        let Ok(forward) = Forward::from_message(&opened.message) else { return false };
        let mut state = self.state();
        let owner = state.owner(&forward.next).cloned();
        let anybody =
            self.breaks(Fault::QueuesForAnybody) || self.breaks(Fault::QueuesForAnybodyAndDeliversOneAtMost);
        if owner.is_none() && !anybody {
            return false;
        }
        let loses = self.breaks(Fault::LosesMailOfOldAccounts);
        if owner.as_ref().is_some_and(|owner| loses && state.old.contains(owner)) {
            return true;
        }
        for payload in &forward.payloads {
            state.taken += 1;
            let mut payload = payload.clone();
            if self.breaks(Fault::ChangesPayloads) {
                let mut value: Value = serde_json::from_slice(&payload).unwrap();
                value["x-mediator"] = json!(true);
                payload = value.to_string().into_bytes();
            }
            let id = match self.breaks(Fault::NamesCopiesByTheirContent) {
                true => format!("mail-{}", base64url_encode(Sha256::digest(&payload))),
                false => format!("mail-{}", state.taken),
            };
            let mail = Mail { id, next: forward.next.canonical(), payload };
            let owner = owner.clone().unwrap_or_else(|| forward.next.canonical());
            self.push(&mut state, &owner, &mail);
            let live = state.live.get(&owner);
            let forgets = live.is_some_and(|live| match self.fault {
                Fault::ForgetsWhatItPushed => true,
                Fault::ForgetsWhatItPushedInThree => !live.four,
                _ => false,
            });
            if !forgets {
                state.mail.push(mail);
            }
        }
        true
    }

    fn push(&self, state: &mut State, owner: &Did, mail: &Mail) {
        for (who, live) in &state.live {
            let stranger = !state.accounts.contains(who);
            let too = self.breaks(Fault::PushesToEveryLiveSocket)
                || stranger && self.breaks(Fault::LetsStrangersListen);
            if who != owner && too {
                let _ = live.socket.try_send(mail.payload.clone());
            }
        }
        let unasked = state.sockets.get(owner).filter(|_| self.breaks(Fault::PushesUnasked)).cloned();
        let Some(live) = state.live.get(owner).cloned() else {
            if let Some(socket) = unasked {
                let _ = socket.try_send(mail.payload.clone());
            }
            return;
        };
        if self.breaks(Fault::NeverPushes) {
            return;
        }
        let bytes = if live.four && !self.breaks(Fault::PushesBareInFour) {
            let mut reply = reply("https://didcomm.org/message-pickup/4.0/delivery", json!({}));
            reply.attachments.push(attachment(mail.id.clone(), &mail.payload));
            let message = self.message(&reply, &live.to);
            self.seal(&message, &live.to)
        } else {
            mail.payload.clone()
        };
        let _ = live.socket.try_send(bytes);
    }

    fn pickup(
        &self,
        message: &Message,
        from: &Did,
        protocol: &str,
        name: &str,
        socket: Option<&mpsc::Sender<Vec<u8>>>,
    ) -> Reply {
        let four = protocol.ends_with("4.0");
        let mut state = self.state();
        let account = from.canonical();
        let about = match message.body.get("recipient_did") {
            None => None,
            Some(Value::String(did)) => match Did::parse(did) {
                Ok(did) => Some(did),
                Err(_) => return report(MALFORMED),
            },
            Some(_) => return report(MALFORMED),
        };
        let theirs = |state: &State, did: &Did| state.owner(did).is_some_and(|owner| *owner == account);
        let foreign = about.as_ref().is_some_and(|did| !theirs(&state, did));
        let listens = name == "live-delivery-change" && self.breaks(Fault::LetsStrangersListen);
        if !(state.accounts.contains(&account) || listens)
            || (foreign && !self.breaks(Fault::HandsMailToAnyAccount))
        {
            return report(NOT_ENROLLED);
        }
        let asks = matches!(name, "status-request" | "delivery-request");
        if asks && about.is_none() && self.breaks(Fault::WantsRecipientDidsInRequests) {
            return report(MALFORMED);
        }
        let mixes = (self.breaks(Fault::MixesRecipients)
            || self.breaks(Fault::MixesRecipientsAndDeliversTwoAtMost))
            && !foreign;
        let chosen: Vec<Mail> = state
            .mail
            .iter()
            .filter(|mail| match &about {
                Some(did) if !mixes => mail.next.same_as(did),
                _ => theirs(&state, &mail.next),
            })
            .cloned()
            .collect();
        match name {
            "status-request" => self.status(message, protocol, four, chosen.len(), false),
            "delivery-request" => self.delivery(&mut state, message, protocol, four, &chosen),
            "messages-received" => {
                let Some(ids) = ids(message) else { return report(MALFORMED) };
                let left = self.received(&mut state, &account, &ids);
                self.status(message, protocol, four, left, false)
            }
            "live-delivery-change" => {
                let socket = socket.filter(|_| !self.breaks(Fault::DeclinesLiveDelivery));
                let Some(socket) = socket else { return report("e.m.live-mode-not-supported") };
                let on = message.body.get("live_delivery").and_then(Value::as_bool).unwrap_or(false);
                if on && self.breaks(Fault::FlushesItsQueueWhenLive) {
                    chosen.iter().for_each(|mail| drop(socket.try_send(mail.payload.clone())));
                }
                if on {
                    let live = Live { socket: socket.clone(), four, to: from.clone() };
                    state.live.insert(account, live);
                } else {
                    state.live.remove(&account);
                }
                self.status(message, protocol, four, chosen.len(), on)
            }
            _ => report("e.p.msg.unsupported"),
        }
    }

    fn status(&self, message: &Message, protocol: &str, four: bool, count: usize, live: bool) -> Reply {
        let live = live && !self.breaks(Fault::SaysThatNothingIsLive);
        let mut body = json!({"message_count": count, "live_delivery": live});
        if let (Some(did), false) =
            (text(message, "recipient_did"), self.breaks(Fault::ForgetsRecipientDidInStatus))
        {
            body["recipient_did"] = did.into();
        }
        if count > 0 {
            let scale = if four && !self.breaks(Fault::CountsInSecondsInFour) { 1000 } else { 1 };
            body["newest_received_time"] = json!(self.now().0 * scale);
            body["oldest_received_time"] = json!(self.now().0 * scale);
        }
        reply(&format!("{protocol}/status"), body)
    }

    fn delivery(
        &self,
        state: &mut State,
        message: &Message,
        protocol: &str,
        four: bool,
        chosen: &[Mail],
    ) -> Reply {
        let member = if four { "message_count_limit" } else { "limit" };
        let Some(limit) = message.body.get(member).and_then(Value::as_u64) else { return report(MALFORMED) };
        let limit = if self.breaks(Fault::IgnoresLimits) { u64::MAX } else { limit };
        let two = self.breaks(Fault::MixesRecipientsAndDeliversTwoAtMost);
        let limit = if two { limit.min(2) } else { limit };
        let one = self.breaks(Fault::QueuesForAnybodyAndDeliversOneAtMost);
        let limit = if one { limit.min(1) } else { limit };
        let by_status = if four {
            self.breaks(Fault::AnswersEmptyQueueOfFourByStatus)
        } else {
            !self.breaks(Fault::AnswersEmptyQueueOfThreeByDelivery)
        };
        if chosen.is_empty() && by_status {
            return self.status(message, protocol, four, 0, false);
        }
        state.deliveries += 1;
        let mut body = json!({});
        if let Some(did) = text(message, "recipient_did") {
            body["recipient_did"] = did.into();
        }
        let mut delivery = reply(&format!("{protocol}/delivery"), body);
        for mail in chosen.iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
            let id = if self.breaks(Fault::GivesFreshIdsOnRedelivery) {
                format!("{}~{}", mail.id, state.deliveries)
            } else {
                mail.id.clone()
            };
            let mut carried = attachment(id, &mail.payload);
            if self.breaks(Fault::DeliversJson) {
                carried.data.base64 = None;
                carried.data.json = serde_json::from_slice(&mail.payload).ok();
            }
            delivery.attachments.push(carried);
            if self.breaks(Fault::DeletesOnDelivery) {
                state.mail.retain(|kept| kept.id != mail.id);
            }
        }
        delivery
    }

    /// Forgets received messages; returns how many are left for the account.
    fn received(&self, state: &mut State, account: &Did, ids: &[String]) -> usize {
        let owned: Vec<bool> = state
            .mail
            .iter()
            .map(|mail| state.owner(&mail.next).is_some_and(|owner| owner == account))
            .collect();
        let named = |mail: &Mail| ids.iter().any(|id| id.split('~').next() == Some(mail.id.as_str()));
        let mine = |mail: &Mail| state.owner(&mail.next).is_some_and(|owner| owner == account);
        let shares = self.breaks(Fault::KeepsOneCopyForAllAccounts);
        let same: BTreeSet<Vec<u8>> = state
            .mail
            .iter()
            .filter(|mail| shares && named(mail) && mine(mail))
            .map(|mail| mail.payload.clone())
            .collect();
        let sweeps = self.breaks(Fault::DeletesAllWhenOneIsReceived);
        let swept: BTreeSet<Did> =
            state.mail.iter().filter(|mail| sweeps && named(mail)).map(|mail| mail.next.clone()).collect();
        let anybody = self.breaks(Fault::LetsAnybodyConfirm);
        let mut owned = owned.into_iter();
        state.mail.retain(|mail| {
            let owned = owned.next().unwrap_or(false);
            let gone = (owned || anybody) && (named(mail) || swept.contains(&mail.next));
            !(gone || same.contains(&mail.payload))
        });
        state.mail.iter().filter(|mail| state.owner(&mail.next).is_some_and(|owner| owner == account)).count()
    }
}

/// Whether a protocol is version 4.0 of pickup.
fn four_of(protocol: &str) -> bool {
    protocol.ends_with("pickup/4.0")
}

fn ids(message: &Message) -> Option<Vec<String>> {
    let list = message.body.get("message_id_list")?.as_array()?;
    list.iter().map(|id| id.as_str().map(str::to_owned)).collect()
}

fn attachment(id: String, payload: &[u8]) -> Attachment {
    let mut attachment = Attachment::default();
    attachment.id = Some(id);
    attachment.data.base64 = Some(base64url_encode(payload));
    attachment
}
