//! Requests in the name of an account's owner, made by another sender: they must change nothing.

use einmal_did::Did;
use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, Irregularity, Message, PLAIN_MEDIA_TYPE, SenderProtection};
use serde_json::json;

use super::{
    Run,
    answer::Answer,
    ids::{Id, id},
    live,
    mail::{self, Letter, Mailbox},
    negatives,
    outcome::{Needed, Outcome, holds},
    pushed,
    socket::Socket,
};

/// How a request bears a name it has no right to.
#[derive(Clone, Copy)]
enum Forgery {
    /// Encrypted, with no sender proved.
    Anonymous,
    /// Not encrypted at all.
    Plain,
    /// Encrypted by another account, which proves itself.
    Another,
    /// Signed by another account, in an envelope that proves no sender.
    Signed,
    /// By a stranger that claims to be the new DID of that name, on its own word.
    Successor,
    /// By a stranger that shows the proof of another's succession.
    SuccessorOfAnother,
}

const FORGERIES: [(Forgery, Id); 6] = [
    (Forgery::Another, id!("DCv2.1-envelope-from-not-sender")),
    (Forgery::Signed, id!("DCv2.1-envelope-signer-not-from")),
    (Forgery::Successor, id!("DCv2.1-envelope-rotation-forged")),
    (Forgery::SuccessorOfAnother, id!("DCv2.1-envelope-rotation-forged")),
    (Forgery::Plain, id!("DCv2.1-envelope-plaintext")),
    (Forgery::Anonymous, id!("DCv2.1-envelope-anoncrypt-from")),
];

/// All forgeries, against everything our account can be robbed of.
pub(super) async fn run(run: &mut Run) {
    for (forgery, id) in FORGERIES {
        let ignored = run.probe.again(|| ignored(run, forgery)).await;
        negatives::settle(run, id, ignored).await;
    }
}

/// Checks that an account loses nothing: neither registrations, nor waiting mail, nor its live delivery.
async fn ignored(run: &Run, forgery: Forgery) -> Outcome {
    let victim = mail::mailbox(run).await?;
    let listed = victim.account.lists(run, &victim.recipient).await.needed("a list")?;
    holds(listed, || "it lacks a registration".to_owned()).needed("a list")?;
    let forger = match forgery {
        Forgery::Successor | Forgery::SuccessorOfAnother => run.probe.stranger()?,
        _ => mail::mailbox(run).await?.account.me,
    };
    let waiting = waiting(run, &victim).await?;
    for request in robberies(run, &victim, waiting.as_ref().map(|(_, id)| id.as_str()))? {
        let answer = say(run, forgery, &request, &forger).await;
        let named = |text| format!("{}: {text}", request.kind.message());
        let refused = match forgery {
            // The stranger may be answered as what it is: an account that has nothing.
            Forgery::Successor | Forgery::SuccessorOfAnother => answer.arrived(),
            _ => answer.expect_refusal(),
        };
        refused.map_err(|problem| problem.reworded(named))?;
    }
    let mut socket = listening(run, forgery, &victim, &forger).await?;
    let kept = victim.account.lists(run, &victim.recipient).await;
    let kept = kept.map_err(|problem| problem.reworded(|text| format!("the account is gone: {text}")))?;
    holds(kept, || "a registration was removed".to_owned())?;
    if let (Some((letter, _)), Some(dialect)) = (waiting, run.pickup.first()) {
        let kept = victim.find(run, dialect, &victim.recipient, &letter).await.map(|_| ());
        kept.map_err(|problem| problem.reworded(|text| format!("a letter was deleted: {text}")))?;
    }
    let Some(socket) = &mut socket else { return Ok(()) };
    let letter = victim.send(run).await.needed("a letter")?;
    pushed::kept_from(run, socket, &letter).await
}

/// A waiting letter and the id by which it is fetched; `None` if nothing can be fetched.
async fn waiting(run: &Run, victim: &Mailbox) -> Outcome<Option<(Letter, String)>> {
    let Some(dialect) = run.pickup.first() else { return Ok(None) };
    let letter = victim.send(run).await.needed("a letter")?;
    victim.find(run, dialect, &victim.recipient, &letter).await.needed("a letter")?;
    // A target that forgets delivered mail is judged for that elsewhere.
    let found = victim.find(run, dialect, &victim.recipient, &letter).await.needed("a letter that stays")?;
    Ok(Some((letter, found.id)))
}

/// Requests that would rob the victim of its registration and its mail, in each version.
fn robberies(run: &Run, victim: &Mailbox, id: Option<&str>) -> Outcome<Vec<Message>> {
    let mut requests = Vec::new();
    let removal = json!({"updates": [{"recipient_did": victim.recipient, "action": "remove"}]});
    for dialect in &run.mediation {
        requests.push(run.probe.request(&dialect.kind(dialect.update), &victim.account.me, &removal)?);
    }
    // Without a letter there is nothing to confirm.
    for dialect in run.pickup.iter().filter(|_| id.is_some()) {
        let received = json!({"message_id_list": [id]});
        requests.push(run.probe.request(
            &dialect.kind("messages-received"),
            &victim.account.me,
            &received,
        )?);
    }
    Ok(requests)
}

/// A socket of the forger, on which live delivery was requested in the name of the victim.
async fn listening(run: &Run, forgery: Forgery, victim: &Mailbox, forger: &Did) -> Outcome<Option<Socket>> {
    if run.probe.socket.is_none() || run.pickup.is_empty() {
        return Ok(None);
    }
    let mut socket = Socket::open(&run.probe).await.needed("a socket")?;
    for dialect in &run.pickup {
        let request = live::live_change(run, dialect, &victim.account.me, true)?;
        let (bytes, _) = written(run, forgery, &request, forger).await?;
        // A target that closes the socket after the first request will not push to it either.
        if socket.send(&run.probe, bytes).await.is_err() {
            break;
        }
    }
    // The check comes only after these would have been carried out.
    socket.settle(&run.probe).await;
    Ok(Some(socket))
}

async fn say(run: &Run, forgery: Forgery, request: &Message, forger: &Did) -> Answer {
    let (bytes, media_type) = match written(run, forgery, request, forger).await {
        Ok(written) => written,
        Err(problem) => return Answer::lost(problem),
    };
    match request.to.first() {
        Some(peer) if media_type == ENCRYPTED_MEDIA_TYPE => run.probe.send_to(peer, bytes).await,
        _ => run.probe.post(bytes, media_type).await,
    }
}

/// A forged request as it is sent, and its media type.
async fn written(
    run: &Run,
    forgery: Forgery,
    request: &Message,
    forger: &Did,
) -> Outcome<(Vec<u8>, &'static str)> {
    let bytes = match forgery {
        Forgery::Plain => return Ok((request.to_bytes(), PLAIN_MEDIA_TYPE)),
        Forgery::Anonymous => run.probe.pack(request, SenderProtection::Anoncrypt).await?,
        Forgery::Signed => run.probe.pack_signed(request, forger).await?,
        Forgery::Successor | Forgery::SuccessorOfAnother => {
            let victim = request.from.as_ref().ok_or("our own request names no sender")?;
            let mut claim = request.clone();
            claim.from_prior = Some(match forgery {
                Forgery::Successor => run.probe.forged_rotation(victim, forger)?,
                _ => run.probe.rotation(victim, &run.probe.stranger()?)?,
            });
            claim.from = Some(forger.clone());
            run.probe.pack(&claim, SenderProtection::Authcrypt).await?
        }
        Forgery::Another => {
            let (text, rule) = (request.to_bytes(), Irregularity::None);
            let peer = request.to.first().unwrap_or(&run.probe.target);
            run.probe.packing(|packer| packer.authcrypt_unchecked(&text, forger, peer, rule)).await?
        }
    };
    Ok((bytes, ENCRYPTED_MEDIA_TYPE))
}
