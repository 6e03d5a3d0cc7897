//! Message pickup, versions 3.0 and 4.0, by HTTP: how much waits, handing over, confirming, and for whom.

use einmal_did::Did;
use einmal_didcomm::Message;
use serde_json::{Value, json};

use super::{
    Run, basics,
    mail::{self, Mailbox},
};

/// Smallest time that is given in milliseconds: seconds reach it in the year 5138 only.
const MILLISECONDS_FROM: u64 = 100_000_000_000;

/// How one version spells what both say.
#[derive(Debug)]
pub(super) struct Dialect {
    /// First part of its requirements' ids.
    pub(super) tag: &'static str,
    pub(super) protocol: &'static str,
    /// Member that bounds a delivery.
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

    /// The body of a `delivery-request`.
    pub(super) fn delivery_request(&self, recipient: &Did, limit: u64) -> Value {
        json!({"recipient_did": recipient, self.limit: limit})
    }

    /// That `answer` is what this version says about an empty queue.
    pub(super) fn is_empty_answer(&self, answer: &Message) -> Result<(), String> {
        if !answer.attachments.is_empty() {
            return Err("attachments came out of an empty queue".to_owned());
        }
        let name = answer.kind.message();
        let none = answer.body.get("message_count").and_then(Value::as_u64) == Some(0);
        match name {
            "delivery" if self.is_four => Ok(()),
            "status" if none && !self.is_four => Ok(()),
            _ => Err(format!("answered with {name}")),
        }
    }

    fn id(&self, point: &str) -> String {
        format!("{}-{point}", self.tag)
    }
}

/// Tries a version; whether it is spoken.
pub(super) async fn opens(run: &mut Run, dialect: &'static Dialect) -> bool {
    if run.mediation.is_empty() {
        run.report.not_offered(dialect.tag, "the target gives no accounts");
        return false;
    }
    let first = async {
        let mailbox = mail::mailbox(run).await?;
        match mailbox.count(run, dialect, &mailbox.recipient).await? {
            0 => Ok(()),
            more => Err(format!("{more} messages wait for a DID that was just made")),
        }
    };
    let first = first.await;
    run.opens(dialect.tag, dialect.protocol, &dialect.id("status-count"), first)
}

/// All requirements of one version, but live delivery.
pub(super) async fn run(run: &mut Run, dialect: &'static Dialect) {
    status(run, dialect).await;
    delivery(run, dialect).await;
    let empty = empty(run, dialect).await;
    run.report.settle(dialect.id("empty-queue"), empty);
    foreign(run, dialect).await;
    let survived = malformed(run, dialect).await;
    run.report.settle(dialect.id("malformed-survived"), survived);
    let refused = live_by_http(run, dialect).await;
    run.report.settle(dialect.id("live-http"), refused);
}

async fn status(run: &mut Run, dialect: &Dialect) {
    let looked = async {
        let mailbox = mail::mailbox(run).await?;
        mailbox.send(run).await?;
        mailbox.settle(run, dialect, &mailbox.recipient, 1).await?;
        let kind = dialect.kind("status");
        let body = json!({"recipient_did": mailbox.recipient});
        let request = run.probe.request(&dialect.kind("status-request"), &mailbox.account.me, &body)?;
        let answer = run.probe.say(&request).await.expect(&[&kind], &run.probe.target)?;
        Ok::<_, String>((mailbox, request, answer))
    };
    let (mailbox, request, answer) = match looked.await {
        Ok(looked) => looked,
        Err(problem) => {
            run.report.settle(dialect.id("status-count"), Err(problem));
            return;
        }
    };
    let count = answer.body.get("message_count").and_then(Value::as_u64);
    let counted =
        if count == Some(1) { Ok(()) } else { Err(format!("message_count {count:?} instead of 1")) };
    run.report.settle(dialect.id("status-count"), counted);
    let echo = answer.body.get("recipient_did").and_then(Value::as_str);
    let echoed =
        if echo == Some(mailbox.recipient.as_str()) { Ok(()) } else { Err(format!("it is {echo:?}")) };
    run.report.settle(dialect.id("status-recipient-did"), echoed);
    let in_thread = answer.thid.as_ref() == Some(&request.thread());
    run.report
        .settle(dialect.id("status-thread"), if in_thread { Ok(()) } else { Err("thid differs".into()) });
    if dialect.is_four {
        let old = answer.body.contains_key("longest_waited_seconds");
        let times = ["newest_received_time", "oldest_received_time"];
        let small =
            times.iter().filter_map(|name| answer.body.get(*name)?.as_u64()).find(|t| *t < MILLISECONDS_FROM);
        let right = match (old, small) {
            (true, _) => Err("longest_waited_seconds is there".to_owned()),
            (_, Some(time)) => Err(format!("the time {time} is not in milliseconds")),
            _ => Ok(()),
        };
        run.report.settle(dialect.id("times-milliseconds"), right);
    }
}

/// Handing over, again and again, until it is confirmed.
async fn delivery(run: &mut Run, dialect: &Dialect) {
    let made = async {
        let mailbox = mail::mailbox(run).await?;
        let first = mailbox.send(run).await?;
        mailbox.settle(run, dialect, &mailbox.recipient, 1).await?;
        let second = mailbox.send(run).await?;
        mailbox.settle(run, dialect, &mailbox.recipient, 2).await?;
        Ok::<_, String>((mailbox, first, second))
    };
    let (mailbox, first, second) = match made.await {
        Ok(made) => made,
        Err(problem) => {
            run.report.settle(dialect.id("delivery"), Err(problem));
            return run.report.not_checked(dialect.tag, "no message arrives");
        }
    };
    let me = mailbox.recipient.clone();
    // Both in one delivery: whoever forgets what it delivered once shall fail for that, below.
    let both = async {
        let delivered = mailbox.deliver(run, dialect, &me, 10).await?;
        let lacking = || format!("the message is not among the {} delivered", delivered.items.len());
        delivered.find(run, &second).await.ok_or_else(lacking)?;
        delivered.find(run, &first).await.ok_or_else(lacking)
    };
    let both: Result<_, String> = both.await;
    run.report.settle(dialect.id("delivery"), both.clone().map(|_| ()));
    let Ok((id, _)) = both else { return run.report.not_checked(dialect.tag, "no message is delivered") };
    let again = mailbox.find(run, dialect, &me, &first).await;
    let kept = again.clone().map(|_| ()).map_err(|_| "it was gone after the first delivery".to_owned());
    if !run.report.settle(dialect.id("delivery-keeps"), kept) {
        run.report.not_checked(&dialect.id("delivery-"), "a delivered message is gone");
        return run.report.not_checked(&dialect.id("received-"), "a delivered message is gone");
    }
    let same = match again {
        Ok((again, _)) if again == id && !id.is_empty() => Ok(()),
        Ok((again, _)) => Err(format!("id `{id}` at first, then `{again}`")),
        Err(problem) => Err(problem),
    };
    run.report.settle(dialect.id("delivery-redelivery-same-id"), same);
    limited(run, dialect, &mailbox, &first).await;
    confirming(run, dialect, &mailbox, (&id, &first, &second)).await;
}

/// One of two messages asked for.
async fn limited(run: &mut Run, dialect: &Dialect, mailbox: &Mailbox, first: &mail::Letter) {
    let kind = dialect.kind("delivery");
    let body = dialect.delivery_request(&mailbox.recipient, 1);
    let Ok(request) = run.probe.request(&dialect.kind("delivery-request"), &mailbox.account.me, &body) else {
        return;
    };
    let answer = run.probe.say(&request).await.expect(&[&kind], &run.probe.target);
    let delivered = match answer {
        Ok(message) => mail::Delivered::of(message),
        Err(problem) => {
            run.report.settle(dialect.id("delivery-limit"), Err(problem));
            return;
        }
    };
    let number = delivered.message.attachments.len();
    let within = if number == 1 { Ok(()) } else { Err(format!("{number} messages for a limit of 1")) };
    run.report.settle(dialect.id("delivery-limit"), within);
    let in_thread = delivered.message.thid.as_ref() == Some(&request.thread());
    let in_thread = if in_thread { Ok(()) } else { Err("thid is not the id of the request".to_owned()) };
    run.report.settle(dialect.id("delivery-thread"), in_thread);
    let oldest = match delivered.find(run, first).await {
        Some(_) => Ok(()),
        None => Err("a younger message came first".to_owned()),
    };
    run.report.settle(dialect.id("delivery-oldest-first"), oldest);
}

/// Confirming: what is unknown, what is another's, and what is ours.
async fn confirming(
    run: &mut Run,
    dialect: &Dialect,
    mailbox: &Mailbox,
    (id, first, second): (&str, &mail::Letter, &mail::Letter),
) {
    let me = &mailbox.recipient;
    let ids = [id.to_owned()];
    let unknown = async {
        let nothing = ["0c5ff7a5-0000-4000-8000-000000000000".to_owned()];
        mailbox.confirm(run, dialect, &nothing).await;
        mailbox.find(run, dialect, me, first).await.map(|_| ())
    };
    let unknown = unknown.await;
    run.report.settle(dialect.id("received-unknown"), unknown);
    let foreign = async {
        let other = mail::mailbox(run).await?;
        other.confirm(run, dialect, &ids).await;
        mailbox.find(run, dialect, me, first).await.map(|_| ()).map_err(|_| "it was deleted".to_owned())
    };
    let foreign = foreign.await;
    run.report.settle(dialect.id("received-foreign"), foreign);
    let answer = mailbox.confirm(run, dialect, &ids).await;
    let status = answer.expect(&[&dialect.kind("status")], &run.probe.target).map(|_| ());
    run.report.settle(dialect.id("received-status"), status);
    let gone = async {
        mailbox.find(run, dialect, me, second).await?;
        let delivered = mailbox.deliver(run, dialect, me, 50).await?;
        if delivered.find(run, first).await.is_some() {
            return Err("it is delivered again".to_owned());
        }
        match mailbox.settle(run, dialect, me, 1).await? {
            1 => Ok(()),
            other => Err(format!("{other} messages wait instead of 1")),
        }
    };
    let gone = gone.await;
    run.report.settle(dialect.id("received-deletes"), gone);
}

/// A request for mail where there is none.
async fn empty(run: &Run, dialect: &Dialect) -> Result<(), String> {
    let mailbox = mail::mailbox(run).await?;
    let delivered = mailbox.deliver(run, dialect, &mailbox.recipient, 5).await?;
    dialect.is_empty_answer(&delivered.message)
}

/// Requests about what is another's.
async fn foreign(run: &mut Run, dialect: &Dialect) {
    let tried = async {
        let victim = mail::mailbox(run).await?;
        let letter = victim.send(run).await?;
        victim.settle(run, dialect, &victim.recipient, 1).await?;
        let other = mail::mailbox(run).await?;
        let about = json!({"recipient_did": victim.recipient});
        let status = run.probe.ask(&dialect.kind("status-request"), &other.account.me, &about).await;
        let body = dialect.delivery_request(&victim.recipient, 5);
        let delivery = run.probe.ask(&dialect.kind("delivery-request"), &other.account.me, &body).await;
        let code = match delivery.report() {
            Some("e.p.req.not_enroll") => Ok(()),
            _ => Err(delivery.describe()),
        };
        let told = status
            .opened()
            .and_then(|opened| opened.message.body.get("message_count")?.as_u64())
            .is_some_and(|count| count > 0);
        let mut private = if told { Err("the number of messages is told".to_owned()) } else { Ok(()) };
        if delivery.opened().is_some_and(|opened| !opened.message.attachments.is_empty()) {
            private = Err("the messages are handed over".to_owned());
        }
        victim.find(run, dialect, &victim.recipient, &letter).await?;
        let stranger = run.probe.stranger()?;
        let unknown = run.probe.ask(&dialect.kind("delivery-request"), &stranger, &body).await;
        if unknown.opened().is_some_and(|opened| !opened.message.attachments.is_empty()) {
            private = Err("the messages are handed over to a stranger".to_owned());
        }
        Ok::<_, String>((private, code, unknown.expect_report().map(|_| ())))
    };
    match tried.await {
        Ok((private, code, stranger)) => {
            run.report.settle(dialect.id("recipient-foreign"), private);
            run.report.settle(dialect.id("not-enrolled-code"), code);
            run.report.settle(dialect.id("not-enrolled"), stranger);
        }
        Err(problem) => {
            run.report.settle(dialect.id("recipient-foreign"), Err(problem));
        }
    }
}

async fn malformed(run: &Run, dialect: &Dialect) -> Result<(), String> {
    let mailbox = mail::mailbox(run).await?;
    let letter = mailbox.send(run).await?;
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
    basics::alive(run).await
}

async fn live_by_http(run: &Run, dialect: &Dialect) -> Result<(), String> {
    let mailbox = mail::mailbox(run).await?;
    let body = json!({"live_delivery": true});
    let answer = run.probe.ask(&dialect.kind("live-delivery-change"), &mailbox.account.me, &body).await;
    match answer.report() {
        Some(code) if code.ends_with("live-mode-not-supported") => Ok(()),
        _ => Err(answer.describe()),
    }
}
