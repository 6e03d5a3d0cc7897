//! Message pickup, versions 3.0 and 4.0, by HTTP: how much waits, handing over, confirming, and for whom.

use einmal_did::Did;
use einmal_didcomm::Message;
use serde_json::{Value, json};

use super::{
    Run,
    answer::Answer,
    ids::id,
    mail::{self, Letter, Mailbox},
    outcome::{Needed, Outcome, holds},
    probe::in_thread,
    transport,
};

/// Smallest number that must be a time in milliseconds: seconds reach it only in the year 5138.
const MILLISECONDS_FROM: u64 = 100_000_000_000;
/// The code of both mediation protocols for senders without an account.
const NOT_ENROLLED: &str = "e.p.req.not_enroll";

/// How one version spells what both versions say.
#[derive(Debug)]
pub(super) struct Dialect {
    /// First part of the ids of its requirements.
    pub(super) tag: &'static str,
    pub(super) protocol: &'static str,
    /// The member that bounds a delivery.
    limit: &'static str,
    /// Whether an empty queue is answered by an empty delivery, and times are in milliseconds.
    pub(super) is_four: bool,
}

/// Both versions.
pub(super) const DIALECTS: [Dialect; 2] = [
    Dialect { tag: "MP3", protocol: "https://didcomm.org/messagepickup/3.0", limit: "limit", is_four: false },
    Dialect {
        tag: "MP4",
        protocol: "https://didcomm.org/message-pickup/4.0",
        limit: "message_count_limit",
        is_four: true,
    },
];

impl Dialect {
    /// The type of a message.
    pub(super) fn kind(&self, message: &str) -> String {
        format!("{}/{message}", self.protocol)
    }

    /// The body of a `delivery-request`; without a recipient it is about the whole account.
    pub(super) fn delivery_request(&self, recipient: Option<&Did>, limit: u64) -> Value {
        match recipient {
            Some(recipient) => json!({"recipient_did": recipient, self.limit: limit}),
            None => json!({self.limit: limit}),
        }
    }

    /// Checks that `answer` is this version's answer for an empty queue.
    pub(super) fn is_empty_answer(&self, answer: &Message) -> Outcome {
        if !answer.attachments.is_empty() {
            return Err("attachments came out of an empty queue".into());
        }
        let name = answer.kind.message();
        let none = answer.body.get("message_count").and_then(Value::as_u64) == Some(0);
        match name {
            // A reader of a delivery looks at its list; 4.0 requires one even if it is empty.
            "delivery" if self.is_four => holds(answer.extra.contains_key("attachments"), || {
                "the delivery has no `attachments`, not even an empty list".to_owned()
            }),
            "status" if none && !self.is_four => Ok(()),
            _ => Err(format!("answered with {name}").into()),
        }
    }
}

/// Tries a version; returns whether the target speaks it.
pub(super) async fn opens(run: &mut Run, dialect: &'static Dialect) -> bool {
    if run.mediation.is_empty() {
        run.without_account(dialect.tag, "the target gives no accounts");
        return false;
    }
    let first = run.probe.twice(|| first(run, dialect)).await;
    let (answered, none) = match first {
        Ok(none) => (Ok(()), none),
        Err(problem) => (Err(problem), Ok(())),
    };
    let opened = run.opens(dialect.tag, dialect.protocol, id!(dialect, "status-count"), answered);
    if opened {
        run.report.settle(id!(dialect, "status-count"), none);
    }
    opened
}

/// Asks what waits in a fresh mailbox; whether the status that comes says that nothing does.
async fn first(run: &Run, dialect: &Dialect) -> Outcome<Outcome> {
    let mailbox = mail::mailbox(run).await?;
    let status = mailbox.status(run, dialect, &mailbox.recipient).await?;
    Ok(match mail::message_count(&status) {
        Ok(0) => Ok(()),
        Ok(more) => Err(format!("{more} messages wait for a DID that was just made").into()),
        Err(problem) => Err(problem),
    })
}

/// All requirements of one version, but live delivery.
pub(super) async fn run(run: &mut Run, dialect: &'static Dialect) {
    status(run, dialect).await;
    delivery(run, dialect).await;
    let empty = run.probe.again(|| empty(run, dialect)).await;
    run.report.settle(id!(dialect, "empty-queue"), empty);
    foreign(run, dialect).await;
    let survived = run.probe.again(|| malformed(run, dialect)).await;
    run.report.settle(id!(dialect, "malformed-survived"), survived);
    let refused = live_by_http(run, dialect).await;
    run.report.settle(id!(dialect, "live-http"), refused);
}

/// A mailbox with one waiting letter, a request for its status, and the answer.
async fn status_of_one(run: &Run, dialect: &Dialect) -> Outcome<(Mailbox, Message, Message)> {
    let mailbox = mail::mailbox(run).await?;
    mailbox.send(run).await.needed("a letter")?;
    mailbox.settle(run, dialect, &mailbox.recipient, 1).await?;
    let kind = dialect.kind("status");
    let body = json!({"recipient_did": mailbox.recipient});
    let request = run.probe.request(&dialect.kind("status-request"), &mailbox.account.me, &body)?;
    let answer = run.probe.say(&request).await.expect(&[&kind], &run.probe)?;
    Ok((mailbox, request, answer))
}

async fn status(run: &mut Run, dialect: &Dialect) {
    let looked = run.probe.again(|| status_of_one(run, dialect));
    let (mailbox, request, answer) = match looked.await {
        Ok(looked) => looked,
        Err(problem) => {
            run.report.settle(id!(dialect, "status-count"), Err(problem));
            return;
        }
    };
    let count = answer.body.get("message_count").and_then(Value::as_u64);
    let counted = holds(count == Some(1), || format!("message_count {count:?} instead of 1"));
    run.report.settle(id!(dialect, "status-count"), counted);
    let echo = answer.body.get("recipient_did").and_then(Value::as_str);
    let echoed = holds(echo == Some(mailbox.recipient.as_str()), || format!("it is {echo:?}"));
    run.report.settle(id!(dialect, "status-recipient-did"), echoed);
    run.report.settle(id!(dialect, "status-thread"), in_thread(&answer, &request));
    if dialect.is_four {
        let old = answer.body.contains_key("longest_waited_seconds");
        let times = ["newest_received_time", "oldest_received_time"];
        let small =
            times.iter().filter_map(|name| answer.body.get(*name)?.as_u64()).find(|t| *t < MILLISECONDS_FROM);
        let right: Result<(), String> = match (old, small) {
            (true, _) => Err("longest_waited_seconds is there".to_owned()),
            (_, Some(time)) => Err(format!("the time {time} is not in milliseconds")),
            _ => Ok(()),
        };
        run.report.settle(id!(dialect, "times-milliseconds"), right);
    }
}

/// A mailbox with two waiting letters, in the order they were sent.
async fn two_letters(run: &Run, dialect: &Dialect) -> Outcome<(Mailbox, Letter, Letter)> {
    let mailbox = mail::mailbox(run).await?;
    let first = mailbox.send(run).await.needed("a letter")?;
    mailbox.settle(run, dialect, &mailbox.recipient, 1).await?;
    let second = mailbox.send(run).await.needed("a letter")?;
    mailbox.settle(run, dialect, &mailbox.recipient, 2).await?;
    Ok((mailbox, first, second))
}

/// Handing over repeatedly, until the mail is confirmed.
async fn delivery(run: &mut Run, dialect: &Dialect) {
    let made = run.probe.again(|| two_letters(run, dialect));
    let (mailbox, first, second) = match made.await {
        Ok(made) => made,
        Err(problem) => {
            run.report.settle(id!(dialect, "delivery"), Err(problem));
            return run.report.not_checked(dialect.tag, "no message arrives");
        }
    };
    let me = mailbox.recipient.clone();
    // In one delivery: a target that forgets delivered mail fails for that below. It may hold less than was asked for.
    let once = async {
        let delivered = mailbox.deliver(run, dialect, &me, 10).await?;
        let lacking = || format!("the message is not among the {} delivered", delivered.items.len());
        if delivered.items.len() > 1 {
            delivered.find(run, &second).await.ok_or_else(lacking)?;
        }
        Ok(delivered.find(run, &first).await.ok_or_else(lacking)?)
    };
    let once: Outcome<_> = once.await;
    run.report.settle(id!(dialect, "delivery"), once.clone().map(|_| ()));
    let Ok((id, _)) = once else { return run.report.not_checked(dialect.tag, "no message is delivered") };
    let again = mailbox.find(run, dialect, &me, &first).await;
    let gone = |_| "it was gone after the first delivery".to_owned();
    let kept = again.as_ref().map(|_| ()).map_err(|problem| problem.clone().reworded(gone));
    if !run.report.settle(id!(dialect, "delivery-keeps"), kept) {
        run.report.not_checked(&format!("{}-delivery-", dialect.tag), "a delivered message is gone");
        return run.report.not_checked(&format!("{}-received-", dialect.tag), "a delivered message is gone");
    }
    let same = match again {
        Ok(again) if again.id == id && !id.is_empty() => Ok(()),
        Ok(again) => Err(format!("id `{id}` at first, then `{}`", again.id).into()),
        Err(problem) => Err(problem),
    };
    run.report.settle(id!(dialect, "delivery-redelivery-same-id"), same);
    limited(run, dialect, &mailbox, &first).await;
    confirming(run, dialect, &mailbox, (&id, &first, &second)).await;
}

/// A request for one of two messages.
async fn limited(run: &mut Run, dialect: &Dialect, mailbox: &Mailbox, first: &Letter) {
    let kind = dialect.kind("delivery");
    let body = dialect.delivery_request(Some(&mailbox.recipient), 1);
    let Ok(request) = run.probe.request(&dialect.kind("delivery-request"), &mailbox.account.me, &body) else {
        return;
    };
    let answer = run.probe.say(&request).await.expect(&[&kind], &run.probe);
    let delivered = match answer {
        Ok(message) => mail::Delivered::of(message),
        Err(problem) => {
            run.report.settle(id!(dialect, "delivery-limit"), Err(problem));
            return;
        }
    };
    let number = delivered.message.attachments.len();
    let within = holds(number == 1, || format!("{number} messages for a limit of 1"));
    run.report.settle(id!(dialect, "delivery-limit"), within);
    run.report.settle(id!(dialect, "delivery-thread"), in_thread(&delivered.message, &request));
    let is_first = delivered.find(run, first).await.is_some();
    let oldest = holds(is_first, || "a younger message came first".to_owned());
    run.report.settle(id!(dialect, "delivery-oldest-first"), oldest);
}

/// Confirming: unknown ids, ids of another account, and our own.
async fn confirming(
    run: &mut Run,
    dialect: &Dialect,
    mailbox: &Mailbox,
    (id, first, second): (&str, &Letter, &Letter),
) {
    let me = &mailbox.recipient;
    let ids = [id.to_owned()];
    let unknown = async {
        let nothing = ["0c5ff7a5-0000-4000-8000-000000000000".to_owned()];
        mailbox.confirm(run, dialect, &nothing).await.arrived()?;
        mailbox.find(run, dialect, me, first).await.map(|_| ())
    };
    let unknown: Outcome = unknown.await;
    run.report.settle(id!(dialect, "received-unknown"), unknown);
    let foreign = async {
        let other = mail::mailbox(run).await?;
        other.confirm(run, dialect, &ids).await.arrived()?;
        let found = mailbox.find(run, dialect, me, first).await.map(|_| ());
        found.map_err(|problem| problem.reworded(|_| "it was deleted".to_owned()))
    };
    let foreign: Outcome = foreign.await;
    run.report.settle(id!(dialect, "received-foreign"), foreign);
    let answer = mailbox.confirm(run, dialect, &ids).await;
    let arrived = answer.arrived();
    let status = answer.expect(&[&dialect.kind("status")], &run.probe).map(|_| ());
    run.report.settle(id!(dialect, "received-status"), status);
    let gone = async {
        arrived?;
        mailbox.find(run, dialect, me, second).await?;
        let delivered = mailbox.deliver(run, dialect, me, 50).await?;
        if delivered.find(run, first).await.is_some() {
            return Err("it is delivered again".into());
        }
        match mailbox.settle(run, dialect, me, 1).await? {
            1 => Ok(()),
            other => Err(format!("{other} messages wait instead of 1").into()),
        }
    };
    let gone: Outcome = gone.await;
    run.report.settle(id!(dialect, "received-deletes"), gone);
}

/// A request for mail where there is none.
async fn empty(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let delivered = mailbox.deliver(run, dialect, &mailbox.recipient, 5).await?;
    dialect.is_empty_answer(&delivered.message)
}

/// Requests about another account's mail.
async fn foreign(run: &mut Run, dialect: &Dialect) {
    let tried = run.probe.again(|| tried_by_others(run, dialect)).await;
    match tried {
        Ok((private, code, stranger)) => {
            run.report.settle(id!(dialect, "recipient-foreign"), private);
            run.report.settle(id!(dialect, "not-enrolled-code"), code);
            run.report.settle(id!(dialect, "not-enrolled"), stranger);
        }
        Err(problem) => {
            run.report.settle(id!(dialect, "recipient-foreign"), Err(problem));
        }
    }
}

/// Whether mail is private, the code for refused strangers, and whether a stranger is refused by a report.
async fn tried_by_others(run: &Run, dialect: &Dialect) -> Outcome<(Outcome, Outcome, Outcome)> {
    let victim = mail::mailbox(run).await?;
    let letter = victim.send(run).await.needed("a letter")?;
    victim.settle(run, dialect, &victim.recipient, 1).await.needed("a letter")?;
    let other = mail::mailbox(run).await?;
    let about = json!({"recipient_did": victim.recipient});
    let status = run.probe.ask(&dialect.kind("status-request"), &other.account.me, &about).await;
    let body = dialect.delivery_request(Some(&victim.recipient), 5);
    let delivery = run.probe.ask(&dialect.kind("delivery-request"), &other.account.me, &body).await;
    let stranger = run.probe.stranger()?;
    let unknown = run.probe.ask(&dialect.kind("delivery-request"), &stranger, &body).await;
    let told = status
        .opened()
        .and_then(|opened| opened.message.body.get("message_count")?.as_u64())
        .is_some_and(|count| count > 0);
    let handed =
        |answer: &Answer| answer.opened().is_some_and(|opened| !opened.message.attachments.is_empty());
    // What was seen to be revealed outweighs what was lost on the way.
    let mut private = holds(!told, || "the number of messages is told".to_owned())
        .and(holds(!handed(&delivery), || "the messages are handed over".to_owned()))
        .and(holds(!handed(&unknown), || "the messages are handed over to a stranger".to_owned()));
    for answer in [&status, &delivery, &unknown] {
        private = private.and(answer.arrived());
    }
    // Silence about an empty queue would prove nothing: the letter is still there.
    private = private.and(victim.find(run, dialect, &victim.recipient, &letter).await.map(|_| ()));
    Ok((private, delivery.expect_code(NOT_ENROLLED), unknown.expect_report().map(|_| ())))
}

async fn malformed(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let letter = mailbox.send(run).await.needed("a letter")?;
    let wrong = [
        ("delivery-request", json!({})),
        ("delivery-request", json!({dialect.limit: "many", "recipient_did": 5})),
        ("delivery-request", json!({dialect.limit: -1})),
        ("messages-received", json!({"message_id_list": "all"})),
        ("messages-received", json!({"message_id_list": [null, 5]})),
        ("status-request", json!({"recipient_did": "no DID"})),
    ];
    for (name, body) in wrong {
        run.probe.ask(&dialect.kind(name), &mailbox.account.me, &body).await;
    }
    mailbox.find(run, dialect, &mailbox.recipient, &letter).await?;
    transport::alive(run).await
}

async fn live_by_http(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let body = json!({"live_delivery": true});
    let answer = run.probe.ask(&dialect.kind("live-delivery-change"), &mailbox.account.me, &body).await;
    if declines_live(&answer) { Ok(()) } else { Err(answer.problem()) }
}

/// Whether an answer says that there is no live delivery by this transport.
pub(super) fn declines_live(answer: &Answer) -> bool {
    answer.report().is_some_and(|code| code.ends_with("live-mode-not-supported"))
}
