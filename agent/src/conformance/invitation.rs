//! The target as it is given: a DID or an invitation, the form of that, and a first message under it.

use einmal_did::{DIDCOMM_V2, Did, parse_strict_json};
use einmal_didcomm::{Message, SenderProtection, ThreadId};
use einmal_flows::out_of_band::{Invitation, InvitationBody, InvitationError, url_content};
use serde_json::Value;

use super::{
    Run,
    ids::id,
    knock::is_answered,
    outcome::{Needed, Outcome, holds},
    usage,
};
use crate::error::SetupError;

/// What is looked at of an invitation.
#[derive(Debug)]
pub(super) struct Invited {
    /// What answers to it name as their parent.
    pub(super) thread: ThreadId,
    /// Profiles the inviter accepts; empty means any.
    pub(super) accept: Vec<String>,
}

impl Invited {
    /// Reads an invitation, and who it is from; or what is wrong with its form.
    fn read(content: &[u8]) -> Result<(Did, Self), String> {
        match Invitation::from_json(content) {
            Ok(invitation) => {
                let thread = invitation.thread();
                Ok((invitation.from, Self { thread, accept: invitation.accept }))
            }
            // How much we read of these is our own affair; without them the form is judged all the same.
            Err(InvitationError::OutOfBounds { .. }) => Self::read_at_length(content),
            Err(error) => Err(error.to_string()),
        }
    }

    /// As [`Invited::read`], whatever our own bounds: an invitation is as long as its link at most.
    fn read_at_length(content: &[u8]) -> Result<(Did, Self), String> {
        let value = parse_strict_json(content, content.len()).map_err(|error| error.to_string())?;
        let message = Message::from_value(value).map_err(|error| error.to_string())?;
        let body: InvitationBody = message.body_as().map_err(|error| error.to_string())?;
        let from = message.from.clone().ok_or("`from` is missing")?;
        Ok((from, Self { thread: message.id.to_thread(), accept: body.accept.unwrap_or_default() }))
    }
}

/// Whom a target names, and its invitation, or what is wrong with the form of that.
pub(super) fn read_target(text: &str) -> Result<(Did, Option<Result<Invited, String>>), SetupError> {
    let remedy = "give an out-of-band URL (https://host/path?_oob=...) or a did:peer, did:key or did:web";
    if text.starts_with("did:") {
        let did = Did::parse(text)
            .map_err(|error| usage(format!("`{}` is no DID ({error})", shortened(text)), remedy))?;
        if !matches!(did.method(), "peer" | "key" | "web") {
            return Err(usage(format!("DIDs of method `{}` cannot be resolved here", did.method()), remedy));
        }
        return Ok((did, None));
    }
    let wrong = |problem: &str| usage(format!("`{}` is no invitation ({problem})", shortened(text)), remedy);
    let content = url_content(text).map_err(|error| wrong(&error.to_string()))?;
    match Invited::read(&content) {
        Ok((from, invited)) => Ok((from, Some(Ok(invited)))),
        // Whom it is from is all that is needed to go on; what is wrong with the rest is a finding.
        Err(problem) => {
            let value = parse_strict_json(&content, content.len()).unwrap_or_default();
            let from = value.get("from").and_then(Value::as_str).and_then(|from| Did::parse(from).ok());
            let from = from.ok_or_else(|| wrong(&problem))?;
            Ok((from, Some(Err(problem))))
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// The form of the invitation, if one was given.
pub(super) fn form(run: &mut Run) {
    let invitation = match &run.invitation {
        None => {
            run.report.not_checked("OOB2", "a DID was given, no invitation");
            return;
        }
        Some(Err(problem)) => {
            run.report.settle(id!("OOB2-invitation-form"), Err(problem.clone()));
            run.report.not_checked("OOB2", "the invitation cannot be read");
            return;
        }
        Some(Ok(invitation)) => invitation,
    };
    // An inviter that does not list what it accepts accepts anything.
    run.report.advertised.profiles(&invitation.accept);
    let any = invitation.accept.is_empty();
    let accepts = any || invitation.accept.iter().any(|profile| profile == DIDCOMM_V2);
    let accept = holds(accepts, || format!("accept is {:?}", invitation.accept));
    run.report.passed(id!("OOB2-invitation-form"), "");
    run.report.settle(id!("OOB2-invitation-accept"), accept);
}

/// A first message under the invitation, if one was given.
pub(super) async fn invited(run: &mut Run) {
    let Some(Ok(invitation)) = &run.invitation else { return };
    let taken = async {
        let mut first = run.knock.request(&run.probe, &run.probe.stranger()?)?;
        first.pthid = Some(invitation.thread.clone());
        let answered = is_answered(run, &first, SenderProtection::Authcrypt).await;
        if answered.as_ref().is_err_and(|problem| !problem.is_unknown()) {
            let twin = run.knock.request(&run.probe, &run.probe.stranger()?)?;
            is_answered(run, &twin, SenderProtection::Authcrypt).await.needed("the same without a parent")?;
        }
        answered
    };
    let taken: Outcome = taken.await;
    run.report.settle(id!("OOB2-invitation-response"), taken);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_that_is_neither_invitation_nor_did_is_wrong_use_with_a_remedy() {
        for text in
            ["hello", "did:example:1", "did:peer", "https://host.example/", "https://host.example/?_oob=%"]
        {
            let Err(error @ SetupError::Usage { .. }) = read_target(text) else { panic!("{text}") };
            assert_eq!(error.exit_status(), 2);
            assert!(error.to_string().contains("out-of-band URL"), "{error}");
        }
    }
}
