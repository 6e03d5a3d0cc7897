//! Message pickup over a WebSocket: requests, live delivery on and off, and what happens to unconfirmed mail.

use einmal_did::Did;
use einmal_didcomm::{Message, Opened};
use serde_json::json;

use super::{
    Run,
    answer::Answer,
    ids::id,
    mail::{self, Delivered, Letter, Mailbox},
    outcome::{Needed, Outcome, Problem, holds},
    pickup::{self, Dialect},
    pushed::{Pushed, kept_from, pushed, silent},
    socket::Socket,
};

/// All requirements of one version.
pub(super) async fn run(run: &mut Run, dialect: &'static Dialect) {
    let prefix = format!("{}-live", dialect.tag);
    if run.probe.socket.is_none() {
        run.report.not_offered(&format!("{}-socket", dialect.tag), "no WebSocket endpoint is advertised");
        run.report.not_offered(&prefix, "no WebSocket endpoint is advertised");
        return;
    }
    let asked = run.probe.again(|| on_request(run, dialect)).await;
    run.report.settle(id!(dialect, "socket"), asked);
    let empty = run.probe.again(|| empty(run, dialect)).await;
    run.report.settle(id!(dialect, "socket-empty"), empty);
    let offered = live(run, dialect).await;
    let quiet = run.probe.again(|| off_by_default(run, dialect)).await;
    run.report.settle(id!(dialect, "live-off-default"), quiet);
    if !offered {
        return run.report.not_offered(&prefix, "the target declines live delivery over its WebSocket");
    }
    let kept = run.probe.again(|| kept(run, dialect)).await;
    run.report.settle(id!(dialect, "live-keeps"), kept);
    let again = run.probe.again(|| off_again(run, dialect)).await;
    run.report.settle(id!(dialect, "live-reconnect"), again);
    let waited = run.probe.again(|| no_flush(run, dialect)).await;
    run.report.settle(id!(dialect, "live-no-flush"), waited);
}

/// A request to turn live delivery on or off.
pub(super) fn live_change(run: &Run, dialect: &Dialect, me: &Did, on: bool) -> Outcome<Message> {
    run.probe.request(&dialect.kind("live-delivery-change"), me, &json!({"live_delivery": on}))
}

/// Asks for live delivery to be turned on or off; the answer.
async fn ask(
    run: &Run,
    dialect: &Dialect,
    mailbox: &Mailbox,
    socket: &mut Socket,
    on: bool,
) -> Outcome<Answer> {
    let request = live_change(run, dialect, &mailbox.account.me, on)?;
    Ok(socket.ask(&run.probe, &request).await)
}

/// Turns live delivery on or off; whether status answers.
async fn change(run: &Run, dialect: &Dialect, mailbox: &Mailbox, socket: &mut Socket, on: bool) -> Outcome {
    let answer = ask(run, dialect, mailbox, socket, on).await?;
    answer.expect(&[&dialect.kind("status")], &run.probe).map(|_| ())
}

async fn on_request(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let letter = mailbox.send(run).await.needed("a letter")?;
    mailbox.settle(run, dialect, &mailbox.recipient, 1).await?;
    let mut socket = Socket::open(&run.probe).await?;
    let body = dialect.delivery_request(Some(&mailbox.recipient), 5);
    let request = run.probe.request(&dialect.kind("delivery-request"), &mailbox.account.me, &body)?;
    let answer = socket.ask(&run.probe, &request).await;
    let message: Message = answer.expect(&[&dialect.kind("delivery")], &run.probe)?;
    let (id, _) = Delivered::of(message).find(run, &letter).await.ok_or("the message is not delivered")?;
    let body = json!({"message_id_list": [id]});
    let request = run.probe.request(&dialect.kind("messages-received"), &mailbox.account.me, &body)?;
    socket.ask(&run.probe, &request).await.arrived()?;
    match mailbox.settle(run, dialect, &mailbox.recipient, 0).await? {
        0 => Ok(()),
        other => Err(format!("{other} messages wait after messages-received over the socket").into()),
    }
}

async fn empty(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let mut socket = Socket::open(&run.probe).await?;
    let body = dialect.delivery_request(Some(&mailbox.recipient), 5);
    let request = run.probe.request(&dialect.kind("delivery-request"), &mailbox.account.me, &body)?;
    let answer = socket.ask(&run.probe, &request).await;
    let kinds = [dialect.kind("delivery"), dialect.kind("status")];
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    dialect.is_empty_answer(&answer.expect(&kinds, &run.probe)?)
}

/// On, pushed, off. Whether the target has live delivery.
async fn live(run: &mut Run, dialect: &Dialect) -> bool {
    let (mailbox, mut socket, status) = match turned_on(run, dialect).await {
        Ok(Some(on)) => on,
        Ok(None) => return false,
        Err(problem) => {
            run.report.settle(id!(dialect, "live-status"), Err(problem));
            run.report.not_checked(&format!("{}-live-", dialect.tag), "live delivery could not be turned on");
            return true;
        }
    };
    run.report.passed(id!(dialect, "live-status"), "");
    told(run, dialect, &status, true);
    if push(run, dialect, &mailbox, &mut socket).await {
        let off = turned_off(run, dialect, &mailbox, &mut socket).await;
        run.report.settle(id!(dialect, "live-off"), off);
    }
    run.report.not_checked(id!(dialect, "live-told").as_str(), "status does not tell it");
    true
}

/// A mailbox, a socket with live delivery for it, and the status that said so; `None` if the target declines live
/// delivery as a whole, by a report that says so.
async fn turned_on(run: &Run, dialect: &Dialect) -> Outcome<Option<(Mailbox, Socket, Message)>> {
    let mailbox = mail::mailbox(run).await?;
    let mut socket = Socket::open(&run.probe).await?;
    let answer = ask(run, dialect, &mailbox, &mut socket, true).await?;
    if pickup::declines_live(&answer) {
        return Ok(None);
    }
    let status = answer.expect(&[&dialect.kind("status")], &run.probe)?;
    Ok(Some((mailbox, socket, status)))
}

/// What a status tells of live delivery, if it tells it.
fn told(run: &mut Run, dialect: &Dialect, status: &Message, asked: bool) {
    let Some(told) = status.body.get("live_delivery") else { return };
    let right = holds(*told == json!(asked), || format!("it is {told} after {asked} was asked for"));
    run.report.settle(id!(dialect, "live-told"), right);
}

/// A letter that is pushed, and to nobody else; whether it came.
async fn push(run: &mut Run, dialect: &Dialect, mailbox: &Mailbox, socket: &mut Socket) -> bool {
    let others = bystanders(run, dialect).await;
    let sent = run.probe.again(|| mailbox.send(run)).await;
    let came = match &sent {
        Ok(letter) => pushed(run, socket, letter).await,
        Err(problem) => Err(problem.clone()),
    };
    let apart = match (&sent, &came) {
        (Ok(letter), Ok(_)) => apart(run, others, letter).await,
        // A target that pushes nothing pushes nothing wrong either.
        (Err(problem), _) | (_, Err(problem)) => Err(Problem::Unknown(problem.text().to_owned())),
    };
    run.report.settle(id!(dialect, "live-apart"), apart);
    if dialect.is_four {
        let wrapped = match &came {
            Ok(Pushed { id: Some(_) }) => Ok(()),
            Ok(Pushed { id: None }) => Err("it came bare".into()),
            Err(problem) => Err(problem.clone()),
        };
        run.report.settle(id!(dialect, "live-wrapped"), wrapped);
    }
    match came {
        Ok(Pushed { id }) => {
            run.report.passed(id!(dialect, "live-push"), if id.is_some() { "as delivery" } else { "bare" });
            true
        }
        Err(problem) => run.report.settle(id!(dialect, "live-push"), Err(problem)),
    }
}

/// Live delivery that is turned off: the next letter is not pushed.
async fn turned_off(run: &mut Run, dialect: &Dialect, mailbox: &Mailbox, socket: &mut Socket) -> Outcome {
    let answer = ask(run, dialect, mailbox, socket, false).await?;
    let status = answer.expect(&[&dialect.kind("status")], &run.probe)?;
    told(run, dialect, &status, false);
    let letter = run.probe.again(|| mailbox.send(run)).await.needed("a letter")?;
    silent(run, socket, &letter).await
}

/// Sockets on which our mail must not arrive: one of another account in live mode, and one of a stranger that asked for
/// live mode.
async fn bystanders(run: &mut Run, dialect: &Dialect) -> Outcome<[Socket; 2]> {
    let other = mail::mailbox(run).await?;
    let mut live = Socket::open(&run.probe).await.needed("a second socket")?;
    change(run, dialect, &other, &mut live, true).await.needed("live delivery of another account")?;
    let mut stranger = Socket::open(&run.probe).await.needed("a third socket")?;
    let request = live_change(run, dialect, &run.probe.stranger()?, true)?;
    let answer = stranger.ask(&run.probe, &request).await;
    let told = |opened: &Opened| opened.message.body.get("live_delivery") == Some(&json!(true));
    if answer.opened().is_some_and(told) {
        let granted = Err("a stranger is told that live delivery is on");
        run.report.settle(id!(dialect, "not-enrolled"), granted);
    }
    Ok([live, stranger])
}

async fn apart(run: &Run, others: Outcome<[Socket; 2]>, letter: &Letter) -> Outcome {
    let [account, stranger] = &mut others?;
    let (account, stranger) = tokio::join!(kept_from(run, account, letter), kept_from(run, stranger, letter));
    account.and(stranger)
}

async fn off_by_default(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let socket = Socket::open(&run.probe).await?;
    not_pushed(run, dialect, &mailbox, socket).await
}

/// A new connection, after one with live delivery was closed.
async fn off_again(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let mut live = Socket::open(&run.probe).await?;
    change(run, dialect, &mailbox, &mut live, true).await.needed("live delivery")?;
    live.close().await;
    let socket = Socket::open(&run.probe).await?;
    not_pushed(run, dialect, &mailbox, socket).await
}

/// That a letter is not pushed on a socket that asked for nothing but a status.
async fn not_pushed(run: &Run, dialect: &Dialect, mailbox: &Mailbox, mut socket: Socket) -> Outcome {
    let body = json!({"recipient_did": mailbox.recipient});
    // The target knows now whose socket it is, and that answers may use it.
    let request = run.probe.request(&dialect.kind("status-request"), &mailbox.account.me, &body)?;
    let status = socket.ask(&run.probe, &request).await.expect(&[&dialect.kind("status")], &run.probe);
    status.needed("a status over the socket")?;
    let letter = mailbox.send(run).await.needed("a letter")?;
    silent(run, &mut socket, &letter).await
}

/// An unconfirmed push, and a socket that goes away.
async fn kept(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let mut socket = Socket::open(&run.probe).await?;
    change(run, dialect, &mailbox, &mut socket, true).await.needed("live delivery")?;
    let letter = mailbox.send(run).await.needed("a letter")?;
    pushed(run, &mut socket, &letter).await?;
    drop(socket);
    mailbox.find(run, dialect, &mailbox.recipient, &letter).await.map(|_| ())
}

async fn no_flush(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let letter = mailbox.send(run).await.needed("a letter")?;
    mailbox.settle(run, dialect, &mailbox.recipient, 1).await?;
    let mut socket = Socket::open(&run.probe).await?;
    change(run, dialect, &mailbox, &mut socket, true).await.needed("live delivery")?;
    silent(run, &mut socket, &letter).await
}
