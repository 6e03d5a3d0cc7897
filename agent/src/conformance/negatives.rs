//! Envelopes the target must not act upon, each broken in one way.

use einmal_did::Did;
use einmal_didcomm::{
    ENCRYPTED_MEDIA_TYPE, Irregularity, Message, PLAIN_MEDIA_TYPE, SenderProtection, UnixSeconds,
};
use einmal_keys::{base64url_decode, base64url_encode};
use serde_json::{Value, json};

use super::{
    Run, forged,
    ids::{Id, id},
    knock::is_answered,
    mediation::Dialect,
    outcome::{Outcome, Problem},
};

/// All of them. Each stands between valid twins: silence means something only if a valid message is answered before and
/// after it. A target that bans senders of bad messages is silent about everything.
pub(super) async fn run(run: &mut Run) {
    if let Err(problem) = twin(run).await {
        let why = format!("a sound message is not answered, so that silence says nothing: {problem}");
        run.report.not_checked("DCv2.1-envelope", &why);
        return;
    }
    for (id, bend) in TAMPERED {
        let ignored = run.probe.again(|| tampered(run, bend)).await;
        settle(run, id, ignored).await;
    }
    for (id, rule) in
        [(id!("DCv2.1-envelope-apv"), Irregularity::Apv), (id!("DCv2.1-envelope-apu"), Irregularity::Apu)]
    {
        let ignored = run.probe.again(|| irregular(run, rule)).await;
        settle(run, id, ignored).await;
    }
    let from = run.probe.again(|| from_not_sender(run)).await;
    settle(run, id!("DCv2.1-envelope-from-not-sender"), from).await;
    let to = run.probe.again(|| to_not_recipient(run)).await;
    settle(run, id!("DCv2.1-envelope-to-not-recipient"), to).await;
    let key = run.probe.again(|| by_idle_key(run)).await;
    settle(run, id!("DCv2.1-envelope-sender-key"), key).await;
    let signed = run.probe.again(|| signed_by_another(run)).await;
    settle(run, id!("DCv2.1-envelope-signer-not-from"), signed).await;
    let loose = run.probe.again(|| signed_for_anybody(run)).await;
    settle(run, id!("DCv2.1-envelope-signed-without-to"), loose).await;
    let expired = expired(run).await;
    settle(run, id!("DCv2.1-envelope-expired"), expired).await;
    let plain = run.probe.again(|| plain_knock(run)).await;
    settle(run, id!("DCv2.1-envelope-plaintext-silent"), plain).await;
    unproved_accounts(run).await;
}

/// Notes the result of a bad message, if a good one is still answered.
pub(super) async fn settle(run: &mut Run, id: Id, ignored: Outcome) {
    let ignored = match ignored {
        Ok(()) => twin(run).await.map_err(|problem| {
            Problem::Unknown(format!("afterwards a sound message was not answered either: {problem}"))
        }),
        known => known,
    };
    run.report.settle(id, ignored);
}

/// One envelope member and how it is changed.
type Bend = fn(&mut Value) -> Option<()>;

const TAMPERED: [(Id, Bend); 3] = [
    (id!("DCv2.1-envelope-ciphertext-tampered"), |envelope| flip(envelope, "ciphertext")),
    (id!("DCv2.1-envelope-tag-tampered"), |envelope| flip(envelope, "tag")),
    (id!("DCv2.1-envelope-protected-tampered"), |envelope| {
        let text = envelope.get("protected")?.as_str()?;
        let mut header: Value = serde_json::from_slice(&base64url_decode(text)?).ok()?;
        header.as_object_mut()?.insert("x-added".to_owned(), json!(true));
        envelope["protected"] = base64url_encode(header.to_string()).into();
        Some(())
    }),
];

/// Changes one bit of a member.
fn flip(envelope: &mut Value, member: &str) -> Option<()> {
    let mut bytes = base64url_decode(envelope.get(member)?.as_str()?)?;
    *bytes.first_mut()? ^= 1;
    envelope[member] = base64url_encode(bytes).into();
    Some(())
}

fn knock(run: &Run, me: &Did) -> Outcome<Message> {
    run.knock.request(&run.probe, me)
}

async fn twin(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let first = is_answered(run, &knock(run, &me)?, SenderProtection::Authcrypt).await;
    match first {
        // The connection may have been closed because of an earlier message.
        Err(problem) if problem.is_unknown() => {
            is_answered(run, &knock(run, &me)?, SenderProtection::Authcrypt).await
        }
        known => known,
    }
}

async fn ignored(run: &Run, bytes: Vec<u8>) -> Outcome {
    run.probe.post(bytes, ENCRYPTED_MEDIA_TYPE).await.expect_refusal()
}

async fn tampered(run: &Run, bend: Bend) -> Outcome {
    let me = run.probe.stranger()?;
    let sound = run.probe.pack(&knock(run, &me)?, SenderProtection::Authcrypt).await?;
    let mut envelope: Value = serde_json::from_slice(&sound).map_err(|error| error.to_string())?;
    bend(&mut envelope).ok_or("our own envelope has another form")?;
    ignored(run, envelope.to_string().into_bytes()).await
}

async fn irregular(run: &Run, rule: Irregularity) -> Outcome {
    let me = run.probe.stranger()?;
    let bytes = run.probe.pack_raw(&knock(run, &me)?.to_bytes(), &me, rule).await?;
    ignored(run, bytes).await
}

/// The proved sender writes in the name of another DID, which would get the answer.
async fn from_not_sender(run: &Run) -> Outcome {
    let (me, victim) = (run.probe.stranger()?, run.probe.stranger()?);
    let bytes = run.probe.pack_raw(&knock(run, &victim)?.to_bytes(), &me, Irregularity::None).await?;
    ignored(run, bytes).await
}

async fn to_not_recipient(run: &Run) -> Outcome {
    let (me, other) = (run.probe.stranger()?, run.probe.stranger()?);
    let mut message = knock(run, &me)?;
    message.to = vec![other];
    let bytes = run.probe.pack_raw(&message.to_bytes(), &me, Irregularity::None).await?;
    ignored(run, bytes).await
}

/// The sender proves itself by a key that is for another purpose.
async fn by_idle_key(run: &Run) -> Outcome {
    let (me, skid) = run.probe.stranger_with_idle_key()?;
    let bytes = run.probe.pack_by(&knock(run, &me)?, &skid).await?;
    ignored(run, bytes).await
}

/// Somebody signs in the name of another DID.
async fn signed_by_another(run: &Run) -> Outcome {
    let (me, victim) = (run.probe.stranger()?, run.probe.stranger()?);
    let bytes = run.probe.pack_signed(&knock(run, &victim)?, &me).await?;
    ignored(run, bytes).await
}

/// A signed message that does not say to whom: whoever got it could pass it on as if it were meant for the target.
async fn signed_for_anybody(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let mut message = knock(run, &me)?;
    message.to.clear();
    let bytes = run.probe.pack_signed(&message, &me).await?;
    ignored(run, bytes).await
}

async fn expired(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let mut message = knock(run, &me)?;
    let UnixSeconds(now) = run.probe.now();
    message.created_time = Some(UnixSeconds(now.saturating_sub(7_200)));
    message.expires_time = Some(UnixSeconds(now.saturating_sub(3_600)));
    run.probe.say(&message).await.expect_refusal()
}

async fn plain_knock(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    run.probe.post(knock(run, &me)?.to_bytes(), PLAIN_MEDIA_TYPE).await.expect_refusal()
}

/// Account requests in the name of a DID that proves nothing: nothing may be granted, and nothing kept.
async fn unproved_accounts(run: &mut Run) {
    let Some(dialect) = run.mediation.first().copied() else {
        for point in ["plaintext", "anoncrypt-from", "rotation-forged"] {
            run.without_account(&format!("DCv2.1-envelope-{point}"), "the target keeps no accounts");
        }
        return;
    };
    let plain = run.probe.again(|| plain_account(run, dialect)).await;
    settle(run, id!("DCv2.1-envelope-plaintext"), plain).await;
    let hidden = run.probe.again(|| hidden_account(run, dialect)).await;
    settle(run, id!("DCv2.1-envelope-anoncrypt-from"), hidden).await;
    forged::run(run).await;
}

async fn plain_account(run: &Run, dialect: &Dialect) -> Outcome {
    let victim = run.probe.stranger()?;
    let message = run.probe.request(&dialect.kind("mediate-request"), &victim, &json!({}))?;
    run.probe.post(message.to_bytes(), PLAIN_MEDIA_TYPE).await.expect_refusal()
}

async fn hidden_account(run: &Run, dialect: &Dialect) -> Outcome {
    let victim = run.probe.stranger()?;
    let message = run.probe.request(&dialect.kind("mediate-request"), &victim, &json!({}))?;
    run.probe.say_as(&message, SenderProtection::Anoncrypt).await.expect_refusal()
}
