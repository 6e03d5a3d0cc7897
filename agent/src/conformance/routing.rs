//! Routing: which forwards are accepted, for whom, and that their content stays unchanged.

use einmal_did::{Did, parse_strict_json};
use einmal_didcomm::{SenderProtection, UnixSeconds};

use super::{
    Run,
    answer::Answer,
    ids::id,
    mail::{self, Letter, Mailbox},
    outcome::{Needed, Outcome, Problem, holds},
    pickup::Dialect,
    transport,
};

const PROTOCOL: &str = "https://didcomm.org/routing/2.0";

/// All checks of routing.
pub(super) async fn run(run: &mut Run) {
    if run.mediation.is_empty() {
        run.without_account("RT2", "the target gives no accounts, so there is nobody to forward to");
        return;
    }
    let Some(dialect) = run.pickup.first().copied() else {
        run.report.not_checked(
            "RT2",
            "what was forwarded cannot be fetched: no version of pickup was seen to work",
        );
        return;
    };
    // Whoever grants accounts takes forwards for them: silence is a failure here.
    let found = run.probe.twice(|| first(run, dialect)).await.map_err(|problem| match problem {
        Problem::Silent(text) | Problem::Refused(text) => Problem::Broken(text),
        known => known,
    });
    let opened = found.as_ref().map(|_| ()).map_err(Problem::clone);
    if !run.opens("RT2", PROTOCOL, id!("RT2-forward"), opened) {
        return;
    }
    let Ok((mailbox, unchanged)) = found else { return };
    run.report.settle(id!("RT2-payload-unchanged"), unchanged);
    forms(run, &mailbox, dialect).await;
    let expired = run.probe.again(|| expired(run, &mailbox, dialect)).await;
    run.report.settle(id!("RT2-forward-expired"), expired);
    unregistered(run, dialect).await;
    let apart = run.probe.again(|| apart(run, dialect)).await;
    run.report.settle(id!("RT2-recipients-apart"), apart);
    let removed = run.probe.again(|| removed(run, dialect)).await;
    run.report.settle(id!("RT2-removed"), removed);
    let malformed = run.probe.again(|| malformed(run, &mailbox, dialect)).await;
    run.report.settle(id!("RT2-malformed-survived"), malformed);
}

/// A mailbox that a forward reached, and whether what it carried is as it was sent.
async fn first(run: &Run, dialect: &Dialect) -> Outcome<(Mailbox, Outcome)> {
    let mailbox = mail::mailbox(run).await?;
    let letter = run.probe.again(|| mailbox.send(run)).await?;
    let found = mailbox.find(run, dialect, &mailbox.recipient, &letter).await?;
    Ok((mailbox, same_json(&letter.envelope, &found.bytes)))
}

/// Whether both say the same: a mediator may write the JSON anew, for no member of it is signed as text.
fn same_json(sent: &[u8], got: &[u8]) -> Outcome {
    let parse = |bytes: &[u8]| parse_strict_json(bytes, bytes.len()).map_err(|error| error.to_string());
    holds(parse(sent)? == parse(got)?, || "what is delivered differs from what was sent".to_owned())
}

/// Forwards in unusual forms.
async fn forms(run: &mut Run, mailbox: &Mailbox, dialect: &Dialect) {
    let (routing, next) = (mailbox.routing(run), mailbox.recipient.clone());
    let silent = async {
        let letter = mail::letter(run, &next).await?;
        let anonymous = SenderProtection::Anoncrypt;
        let answer = mail::forward(run, &routing, &next, vec![letter.as_json()?], anonymous, |_| {}).await;
        if answer.is_silent() && answer.accepted() { Ok(()) } else { Err(answer.problem()) }
    };
    let silent: Outcome = silent.await;
    run.report.settle(id!("RT2-forward-silent"), silent);
    let forms = [
        (id!("RT2-forward-base64"), SenderProtection::Anoncrypt, true),
        (id!("RT2-forward-authcrypt"), SenderProtection::Authcrypt, false),
    ];
    for (id, protection, base64) in forms {
        let arrives = async {
            let letter = mail::letter(run, &next).await?;
            let attachment = if base64 { letter.as_base64() } else { letter.as_json()? };
            let answer = mail::forward(run, &routing, &next, vec![attachment], protection, |_| {}).await;
            let found = mailbox.find(run, dialect, &next, &letter).await;
            answer.arrived()?;
            let also = |text| format!("{}; {text}", answer.describe());
            found.map(|_| ()).map_err(|problem| problem.reworded(also))
        };
        let arrives: Outcome = arrives.await;
        run.report.settle(id, arrives);
    }
    let several = async {
        let (one, two) = (mail::letter(run, &next).await?, mail::letter(run, &next).await?);
        let mut second = two.as_json()?;
        second.id = Some("1".to_owned());
        let attachments = vec![one.as_json()?, second];
        let anonymous = SenderProtection::Anoncrypt;
        mail::forward(run, &routing, &next, attachments, anonymous, |_| {}).await.arrived()?;
        let found = mailbox.find(run, dialect, &next, &one).await?;
        if found.passed_over(run, &two).await {
            return Ok(());
        }
        mailbox.find(run, dialect, &next, &two).await.map(|_| ())
    };
    let several: Outcome = several.await;
    run.report.settle(id!("RT2-forward-several"), several);
}

async fn expired(run: &Run, mailbox: &Mailbox, dialect: &Dialect) -> Outcome {
    let letter = mail::letter(run, &mailbox.recipient).await?;
    let past = UnixSeconds(run.probe.now().0.saturating_sub(3_600));
    let (routing, next) = (mailbox.routing(run), &mailbox.recipient);
    let anonymous = SenderProtection::Anoncrypt;
    let answer = mail::forward(run, &routing, next, vec![letter.as_json()?], anonymous, |message| {
        message.expires_time = Some(past);
        message.created_time = Some(UnixSeconds(past.0.saturating_sub(3_600)));
    });
    // A forward that never arrived cannot be queued, and proves nothing.
    answer.await.arrived()?;
    absent(run, mailbox, dialect, next, &letter).await
}

/// Checks that a letter does not arrive: a later one does, without it before, beside or behind it.
async fn absent(
    run: &Run,
    mailbox: &Mailbox,
    dialect: &Dialect,
    recipient: &Did,
    letter: &Letter,
) -> Outcome {
    let later = mailbox.send_to(run, recipient).await.needed("a later letter")?;
    let found = mailbox.find(run, dialect, recipient, &later).await.needed("a later letter")?;
    let delivered = mailbox.deliver(run, dialect, recipient, 50).await.needed("a later delivery")?;
    let queued = found.passed_over(run, letter).await || delivered.find(run, letter).await.is_some();
    holds(!queued, || "it was queued".to_owned())
}

/// The answer to a forward for a DID that is registered only afterwards, and whether the letter was dropped.
async fn for_nobody(run: &Run, dialect: &Dialect) -> Outcome<(Answer, Outcome)> {
    let mailbox = mail::mailbox(run).await?;
    let nobody = run.probe.stranger_at(mailbox.routing(run).as_str())?;
    let letter = mail::letter(run, &nobody).await?;
    let (anonymous, routing) = (SenderProtection::Anoncrypt, mailbox.routing(run));
    let answer = mail::forward(run, &routing, &nobody, vec![letter.as_json()?], anonymous, |_| {}).await;
    answer.arrived()?;
    mailbox.account.register(run, &nobody).await.needed("a registration")?;
    let absent = absent(run, &mailbox, dialect, &nobody, &letter).await;
    Ok((answer, absent))
}

/// A forward for a DID that is registered only afterwards.
async fn unregistered(run: &mut Run, dialect: &Dialect) {
    match run.probe.again(|| for_nobody(run, dialect)).await {
        Ok((answer, absent)) => {
            let told = answer.report().is_some() || !answer.accepted();
            let told = holds(told, || answer.describe());
            run.report.settle(id!("RT2-unregistered-code"), answer.expect_code("e.p.req.not_enroll"));
            run.report.settle(id!("RT2-unregistered-told"), told);
            run.report.settle(id!("RT2-unregistered"), absent);
        }
        Err(problem) => run.report.not_checked("RT2-unregistered", problem.text()),
    }
}

/// Two recipients of one account, and one of another: each gets its own.
///
/// The account is fresh: a mediator may deliver little at a time, and leftovers of other forwards would hide the rest.
async fn apart(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    let second = mail::add_recipient(run, &mailbox.account).await?;
    let other = mail::mailbox(run).await?;
    let mine = mailbox.send(run).await?;
    let theirs = other.send(run).await?;
    let mine = mailbox.find(run, dialect, &mailbox.recipient, &mine).await?;
    other.find(run, dialect, &other.recipient, &theirs).await?;
    if !second.same_as(&mailbox.recipient) {
        let its = mailbox.send_to(run, &second).await?;
        let first = mailbox.deliver(run, dialect, &mailbox.recipient, 50).await?;
        if first.find(run, &its).await.is_some() {
            return Err("a message for the second recipient is delivered for the first".into());
        }
        mailbox.confirm(run, dialect, std::slice::from_ref(&mine.id)).await;
        mailbox.find(run, dialect, &second, &its).await?;
    }
    let wrong = mailbox.deliver(run, dialect, &mailbox.recipient, 50).await?;
    let crossed = mine.passed_over(run, &theirs).await || wrong.find(run, &theirs).await.is_some();
    holds(!crossed, || "a message for another account is delivered".to_owned())
}

async fn removed(run: &Run, dialect: &Dialect) -> Outcome {
    let mailbox = mail::mailbox(run).await?;
    mailbox.account.remove(run, &mailbox.recipient).await.needed("a removal")?;
    let letter = mail::letter(run, &mailbox.recipient).await?;
    let (routing, next) = (mailbox.routing(run), &mailbox.recipient);
    let anonymous = SenderProtection::Anoncrypt;
    mail::forward(run, &routing, next, vec![letter.as_json()?], anonymous, |_| {}).await.arrived()?;
    mailbox.account.register(run, next).await.needed("a registration")?;
    absent(run, &mailbox, dialect, next, &letter).await
}

async fn malformed(run: &Run, mailbox: &Mailbox, dialect: &Dialect) -> Outcome {
    let (routing, next) = (mailbox.routing(run), &mailbox.recipient);
    let anonymous = SenderProtection::Anoncrypt;
    mail::forward(run, &routing, next, Vec::new(), anonymous, |_| {}).await;
    let letter = mail::letter(run, next).await?;
    mail::forward(run, &routing, next, vec![letter.as_json()?], anonymous, |message| {
        message.body.remove("next");
    })
    .await;
    let later = mailbox.send(run).await.needed("a later letter")?;
    mailbox.find(run, dialect, next, &later).await?;
    transport::alive(run).await
}
