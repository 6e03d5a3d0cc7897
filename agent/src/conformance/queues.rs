//! Queues as clients use them: one message for several recipients, and requests about a whole account.

use serde_json::json;

use super::{
    Run,
    ids::id,
    mail::{self, Delivered, Letter, Mailbox},
    mediation,
    outcome::{Needed, Outcome, holds},
    pickup::Dialect,
};

/// All requirements of one version of pickup.
pub(super) async fn run(run: &mut Run, dialect: &Dialect) {
    let apart = run.probe.again(|| independent(run, dialect)).await;
    run.report.settle(id!(dialect, "recipients-independent"), apart);
    let counted = run.probe.again(|| counted_for_all(run, dialect)).await;
    run.report.settle(id!(dialect, "status-account"), counted);
    let delivered = run.probe.again(|| delivered_for_all(run, dialect)).await;
    run.report.settle(id!(dialect, "delivery-account"), delivered);
}

/// A letter to a DID of an account of one version of mediation.
pub(super) async fn by_account(run: &mut Run, granted: &'static mediation::Dialect) {
    let id = id!(granted, "mail");
    let Some(dialect) = run.pickup.first().copied() else {
        run.report.not_checked(id.as_str(), "no version of pickup was seen to work");
        return;
    };
    let arrives = run.probe.again(async || {
        let mailbox = mail::mailbox_of(run, granted).await?;
        let letter = mailbox.send(run).await?;
        mailbox.find(run, dialect, &mailbox.recipient, &letter).await.map(|_| ())
    });
    let arrives = arrives.await;
    run.report.settle(id, arrives);
}

/// The same bytes for two DIDs of one account and one of another: each copy waits until it is confirmed where it waits.
async fn independent(run: &Run, dialect: &Dialect) -> Outcome {
    let (mailbox, other) = (mail::mailbox(run).await?, mail::mailbox(run).await?);
    let second = mail::add_recipient(run, &mailbox.account).await.needed("a second registration")?;
    let letter = mail::letter(run, &mailbox.recipient).await?;
    let to = [(&mailbox, &mailbox.recipient), (&mailbox, &second), (&other, &other.recipient)];
    for (owner, recipient) in to {
        owner.forward_to(run, recipient, &letter).await.needed("a forward")?;
    }
    // Whether mail arrives at all is judged elsewhere; what a delivery holds must not change that of another.
    for (owner, recipient) in to {
        owner.find(run, dialect, recipient, &letter).await.needed("a copy for each recipient")?;
    }
    confirm(run, dialect, (&mailbox, &letter)).await?;
    let kept = async |owner: &Mailbox, recipient, whose: &str| {
        let kept = owner.find(run, dialect, recipient, &letter).await.map(|_| ());
        kept.map_err(|problem| problem.reworded(|text| format!("the copy {whose} is gone: {text}")))
    };
    if !second.same_as(&mailbox.recipient) {
        kept(&mailbox, &second, "for another DID of the account").await?;
    }
    kept(&other, &other.recipient, "for another account").await
}

/// Confirms the copy that waits for the first DID of a mailbox.
async fn confirm(run: &Run, dialect: &Dialect, (mailbox, letter): (&Mailbox, &Letter)) -> Outcome {
    let found = mailbox.find(run, dialect, &mailbox.recipient, letter).await.needed("a copy")?;
    mailbox.confirm(run, dialect, std::slice::from_ref(&found.id)).await.arrived()
}

/// A mailbox in which one letter waits.
async fn one_letter(run: &Run, dialect: &Dialect) -> Outcome<(Mailbox, Letter)> {
    let mailbox = mail::mailbox(run).await?;
    let letter = mailbox.send(run).await.needed("a letter")?;
    mailbox.settle(run, dialect, &mailbox.recipient, 1).await.needed("a letter")?;
    Ok((mailbox, letter))
}

async fn counted_for_all(run: &Run, dialect: &Dialect) -> Outcome {
    let (mailbox, _) = one_letter(run, dialect).await?;
    let (request, kind) = (dialect.kind("status-request"), dialect.kind("status"));
    let status = run.probe.get(&request, &mailbox.account.me, &json!({}), &[&kind]).await?;
    let count = mail::message_count(&status)?;
    holds(count == 1, || format!("message_count {count} instead of 1"))
}

async fn delivered_for_all(run: &Run, dialect: &Dialect) -> Outcome {
    let (mailbox, letter) = one_letter(run, dialect).await?;
    let (request, kind) = (dialect.kind("delivery-request"), dialect.kind("delivery"));
    let body = dialect.delivery_request(None, 5);
    let message = run.probe.get(&request, &mailbox.account.me, &body, &[&kind]).await?;
    let found = Delivered::of(message).find(run, &letter).await;
    holds(found.is_some(), || "the message that waits is not delivered".to_owned())
}
