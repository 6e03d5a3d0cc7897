//! Envelopes the target must not act upon, each broken in one way.

use einmal_did::Did;
use einmal_didcomm::{
    ENCRYPTED_MEDIA_TYPE, Irregularity, Message, PLAIN_MEDIA_TYPE, SenderProtection, UnixSeconds,
};
use einmal_keys::{base64url_decode, base64url_encode};
use serde_json::{Value, json};

use super::{
    Run,
    answer::Heard,
    basics::{PING, answers_ping},
};

/// All of them. Each is preceded by its sound twin: silence says something only where a sound message is answered.
pub(super) async fn run(run: &mut Run) {
    if let Err(problem) = twin(run).await {
        let why = format!("a sound ping is not answered, so silence says nothing: {problem}");
        run.report.not_checked("DCv2.1-envelope", &why);
        return;
    }
    for (point, bend) in TAMPERED {
        let ignored = tampered(run, bend).await;
        run.report.settle(format!("DCv2.1-envelope-{point}"), ignored);
    }
    for (point, rule) in [("apv", Irregularity::Apv), ("apu", Irregularity::Apu)] {
        let ignored = irregular(run, rule).await;
        run.report.settle(format!("DCv2.1-envelope-{point}"), ignored);
    }
    let from = from_not_sender(run).await;
    run.report.settle("DCv2.1-envelope-from-not-sender", from);
    let to = to_not_recipient(run).await;
    run.report.settle("DCv2.1-envelope-to-not-recipient", to);
    let expired = expired(run).await;
    run.report.settle("DCv2.1-envelope-expired", expired);
    let plain = plain_ping(run).await;
    run.report.settle("DCv2.1-envelope-plaintext-silent", plain);
    unproved_accounts(run).await;
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

fn ping(run: &Run, me: &Did) -> Result<Message, String> {
    run.probe.request(PING, me, &json!({"response_requested": true}))
}

async fn twin(run: &Run) -> Result<(), String> {
    let me = run.probe.stranger()?;
    answers_ping(run, &ping(run, &me)?, SenderProtection::Authcrypt).await
}

async fn ignored(run: &Run, bytes: Vec<u8>) -> Result<(), String> {
    let answer = run.probe.post(bytes, ENCRYPTED_MEDIA_TYPE).await;
    match &answer.heard {
        Heard::Lost(problem) => Err(format!("nothing was heard at all: {problem}")),
        _ => answer.expect_refusal(),
    }
}

async fn tampered(run: &Run, bend: Bend) -> Result<(), String> {
    let me = run.probe.stranger()?;
    let sound = run.probe.pack(&ping(run, &me)?, SenderProtection::Authcrypt).await?;
    let mut envelope: Value = serde_json::from_slice(&sound).map_err(|error| error.to_string())?;
    bend(&mut envelope).ok_or("our own envelope has another form")?;
    ignored(run, envelope.to_string().into_bytes()).await
}

async fn irregular(run: &Run, rule: Irregularity) -> Result<(), String> {
    let me = run.probe.stranger()?;
    let bytes = run.probe.pack_raw(&ping(run, &me)?.to_bytes(), &me, rule).await?;
    ignored(run, bytes).await
}

/// The proved sender speaks in the name of somebody else, whom the answer would go to.
async fn from_not_sender(run: &Run) -> Result<(), String> {
    let (me, victim) = (run.probe.stranger()?, run.probe.stranger()?);
    let bytes = run.probe.pack_raw(&ping(run, &victim)?.to_bytes(), &me, Irregularity::None).await?;
    ignored(run, bytes).await
}

async fn to_not_recipient(run: &Run) -> Result<(), String> {
    let (me, other) = (run.probe.stranger()?, run.probe.stranger()?);
    let mut message = ping(run, &me)?;
    message.to = vec![other];
    let bytes = run.probe.pack_raw(&message.to_bytes(), &me, Irregularity::None).await?;
    ignored(run, bytes).await
}

async fn expired(run: &Run) -> Result<(), String> {
    let me = run.probe.stranger()?;
    let mut message = ping(run, &me)?;
    let UnixSeconds(now) = run.probe.now();
    message.created_time = Some(UnixSeconds(now.saturating_sub(7_200)));
    message.expires_time = Some(UnixSeconds(now.saturating_sub(3_600)));
    run.probe.say(&message).await.expect_refusal()
}

async fn plain_ping(run: &Run) -> Result<(), String> {
    let me = run.probe.stranger()?;
    run.probe.post(ping(run, &me)?.to_bytes(), PLAIN_MEDIA_TYPE).await.expect_refusal()
}

/// Accounts asked for in the name of somebody who proves nothing: nothing may be granted, and nothing kept.
async fn unproved_accounts(run: &mut Run) {
    let Some(dialect) = run.mediation.first().copied() else {
        for point in ["plaintext", "anoncrypt-from"] {
            run.report.not_offered(&format!("DCv2.1-envelope-{point}"), "the target keeps no accounts");
        }
        return;
    };
    let request = dialect.kind("mediate-request");
    let plain = async {
        let victim = run.probe.stranger()?;
        let message = run.probe.request(&request, &victim, &json!({}))?;
        let answer = run.probe.post(message.to_bytes(), PLAIN_MEDIA_TYPE).await;
        answer.expect_refusal()
    };
    let plain = plain.await;
    run.report.settle("DCv2.1-envelope-plaintext", plain);
    let hidden = async {
        let victim = run.probe.stranger()?;
        let message = run.probe.request(&request, &victim, &json!({}))?;
        run.probe.say_as(&message, SenderProtection::Anoncrypt).await.expect_refusal()
    };
    let hidden = hidden.await;
    run.report.settle("DCv2.1-envelope-anoncrypt-from", hidden);
}
