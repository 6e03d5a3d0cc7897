//! Envelopes the target must not act upon, each broken in one way.

use einmal_did::Did;
use einmal_didcomm::{
    ENCRYPTED_MEDIA_TYPE, Irregularity, Message, PLAIN_MEDIA_TYPE, SenderProtection, UnixSeconds,
};
use einmal_keys::{base64url_decode, base64url_encode};
use serde_json::{Value, json};

use super::{
    Run, forged,
    mediation::Dialect,
    outcome::{Outcome, Problem},
    ping::{PING, answers_ping},
};

/// All of them. Each stands between valid twins: silence means something only if a valid message is answered before and
/// after it. A target that bans senders of bad messages is silent about everything.
pub(super) async fn run(run: &mut Run) {
    if let Err(problem) = twin(run).await {
        let why = format!("a sound ping is not answered, so that silence says nothing: {problem}");
        run.report.not_checked("DCv2.1-envelope", &why);
        return;
    }
    for (point, bend) in TAMPERED {
        let ignored = run.probe.again(|| tampered(run, bend)).await;
        settle(run, point, ignored).await;
    }
    for (point, rule) in [("apv", Irregularity::Apv), ("apu", Irregularity::Apu)] {
        let ignored = run.probe.again(|| irregular(run, rule)).await;
        settle(run, point, ignored).await;
    }
    let from = run.probe.again(|| from_not_sender(run)).await;
    settle(run, "from-not-sender", from).await;
    let to = run.probe.again(|| to_not_recipient(run)).await;
    settle(run, "to-not-recipient", to).await;
    let expired = expired(run).await;
    settle(run, "expired", expired).await;
    let plain = run.probe.again(|| plain_ping(run)).await;
    settle(run, "plaintext-silent", plain).await;
    unproved_accounts(run).await;
}

/// Notes the result of a bad message, if a good one is still answered.
pub(super) async fn settle(run: &mut Run, point: &str, ignored: Outcome) {
    let ignored = match ignored {
        Ok(()) => twin(run).await.map_err(|problem| {
            Problem::Unknown(format!("afterwards a sound ping was not answered either: {problem}"))
        }),
        known => known,
    };
    run.report.settle(format!("DCv2.1-envelope-{point}"), ignored);
}

/// One envelope member and how it is changed.
type Bend = fn(&mut Value) -> Option<()>;

const TAMPERED: [(&str, Bend); 3] = [
    ("ciphertext-tampered", |envelope| flip(envelope, "ciphertext")),
    ("tag-tampered", |envelope| flip(envelope, "tag")),
    ("protected-tampered", |envelope| {
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

fn ping(run: &Run, me: &Did) -> Outcome<Message> {
    run.probe.request(PING, me, &json!({"response_requested": true}))
}

async fn twin(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let first = answers_ping(run, &ping(run, &me)?, SenderProtection::Authcrypt).await;
    match first {
        // The connection may have been closed because of an earlier message.
        Err(problem) if problem.is_unknown() => {
            answers_ping(run, &ping(run, &me)?, SenderProtection::Authcrypt).await
        }
        known => known,
    }
}

async fn ignored(run: &Run, bytes: Vec<u8>) -> Outcome {
    run.probe.post(bytes, ENCRYPTED_MEDIA_TYPE).await.expect_refusal()
}

async fn tampered(run: &Run, bend: Bend) -> Outcome {
    let me = run.probe.stranger()?;
    let sound = run.probe.pack(&ping(run, &me)?, SenderProtection::Authcrypt).await?;
    let mut envelope: Value = serde_json::from_slice(&sound).map_err(|error| error.to_string())?;
    bend(&mut envelope).ok_or("our own envelope has another form")?;
    ignored(run, envelope.to_string().into_bytes()).await
}

async fn irregular(run: &Run, rule: Irregularity) -> Outcome {
    let me = run.probe.stranger()?;
    let bytes = run.probe.pack_raw(&ping(run, &me)?.to_bytes(), &me, rule).await?;
    ignored(run, bytes).await
}

/// The proved sender writes in the name of another DID, which would get the answer.
async fn from_not_sender(run: &Run) -> Outcome {
    let (me, victim) = (run.probe.stranger()?, run.probe.stranger()?);
    let bytes = run.probe.pack_raw(&ping(run, &victim)?.to_bytes(), &me, Irregularity::None).await?;
    ignored(run, bytes).await
}

async fn to_not_recipient(run: &Run) -> Outcome {
    let (me, other) = (run.probe.stranger()?, run.probe.stranger()?);
    let mut message = ping(run, &me)?;
    message.to = vec![other];
    let bytes = run.probe.pack_raw(&message.to_bytes(), &me, Irregularity::None).await?;
    ignored(run, bytes).await
}

async fn expired(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let mut message = ping(run, &me)?;
    let UnixSeconds(now) = run.probe.now();
    message.created_time = Some(UnixSeconds(now.saturating_sub(7_200)));
    message.expires_time = Some(UnixSeconds(now.saturating_sub(3_600)));
    run.probe.say(&message).await.expect_refusal()
}

async fn plain_ping(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    run.probe.post(ping(run, &me)?.to_bytes(), PLAIN_MEDIA_TYPE).await.expect_refusal()
}

/// Account requests in the name of a DID that proves nothing: nothing may be granted, and nothing kept.
async fn unproved_accounts(run: &mut Run) {
    let Some(dialect) = run.mediation.first().copied() else {
        for point in ["plaintext", "anoncrypt-from"] {
            run.without_account(&format!("DCv2.1-envelope-{point}"), "the target keeps no accounts");
        }
        return;
    };
    let plain = run.probe.again(|| plain_account(run, dialect)).await;
    settle(run, "plaintext", plain).await;
    let hidden = run.probe.again(|| hidden_account(run, dialect)).await;
    settle(run, "anoncrypt-from", hidden).await;
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
