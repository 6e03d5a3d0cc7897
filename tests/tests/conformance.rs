//! The conformance suite: our mediator passes, a simulator that breaks one rule is caught at that rule, misuse is told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    net::TcpListener,
    path::Path,
    process::Output,
    sync::Arc,
    time::{Duration, Instant},
};

use einmal::conformance::{self, Level, Options, Report, Verdict};
use einmal_tests::{Einmal, Fault, MediatorSimulator, Running};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};

/// Simulators looked at side by side: most of the time is spent in waiting for what must not come.
const AT_ONCE: usize = 16;

/// Each rule a simulator breaks, and the requirements of level MUST that fail for it, and no others.
const BITES: [(Fault, &[&str]); 41] = [
    (Fault::AnswersPingsThatWantNoAnswer, &["TP2-response-not-requested"]),
    (Fault::TakesAbsentResponseRequestedForFalse, &["TP2-response-default"]),
    (Fault::AnswersWithoutReturnRoute, &["DCv2.1-transport-return-route-none"]),
    (
        Fault::AnswersInAnotherThread,
        &["DCv2.1-envelope-reply-thread", "DCv2.1-transport-socket", "DCv2.1-transport-socket-survives"],
    ),
    (Fault::AnswersAnonymously, &["DCv2.1-envelope-reply-proves-sender"]),
    (Fault::DisclosesMoreThanAskedFor, &["DF2-match"]),
    (Fault::FailsOnUnknownFeatureTypes, &["DF2-unknown-feature-type"]),
    (Fault::ListsPickupFourAndDoesNotSpeakIt, &["DF2-works-what-is-listed", "MP4-status-count"]),
    (Fault::BelievesPlaintext, &["DCv2.1-envelope-plaintext"]),
    (Fault::BelievesAnonymousFrom, &["DCv2.1-envelope-anoncrypt-from"]),
    (Fault::IgnoresWrongApv, &["DCv2.1-envelope-apu", "DCv2.1-envelope-apv"]),
    (Fault::IgnoresWrongFrom, &["DCv2.1-envelope-from-not-sender"]),
    (Fault::IgnoresMissingTo, &["DCv2.1-envelope-to-not-recipient"]),
    (
        Fault::IgnoresBrokenCiphertext,
        &[
            "DCv2.1-envelope-ciphertext-tampered",
            "DCv2.1-envelope-protected-tampered",
            "DCv2.1-envelope-tag-tampered",
        ],
    ),
    (Fault::ReportsWithoutParent, &["RP2-form"]),
    (Fault::AnswersReportsWithReports, &["RP2-no-loop"]),
    (Fault::WritesRoutingDidAsTextInThree, &["CM3-grant-routing-did"]),
    (Fault::WritesRoutingDidAsListInTwo, &["CM2-grant-routing-did"]),
    (Fault::SaysSuccessForUnknownRemovals, &["CM2-update-remove-unknown", "CM3-update-remove-unknown"]),
    (Fault::NeverRemoves, &["CM2-query", "CM3-query", "RT2-removed"]),
    (Fault::IgnoresPagination, &["CM2-query-paginated", "CM3-query-paginated"]),
    (Fault::ListsEverybodysDids, &["CM2-query-own", "CM3-query-own"]),
    (Fault::QueuesForAnybody, &["RT2-removed", "RT2-unregistered"]),
    (Fault::ChangesPayloads, &["RT2-payload-unchanged"]),
    (Fault::MixesRecipients, &["RT2-recipients-apart"]),
    (Fault::MixesRecipientsAndDeliversTwoAtMost, &["RT2-recipients-apart"]),
    (Fault::DeletesOnDelivery, &["MP3-delivery-keeps", "MP4-delivery-keeps"]),
    (
        Fault::GivesFreshIdsOnRedelivery,
        &["MP3-delivery-redelivery-same-id", "MP4-delivery-redelivery-same-id"],
    ),
    (Fault::IgnoresLimits, &["MP3-delivery-limit", "MP4-delivery-limit"]),
    (Fault::DeletesAllWhenOneIsReceived, &["MP3-received-deletes", "MP4-received-deletes"]),
    (Fault::LetsAnybodyConfirm, &["MP3-received-foreign", "MP4-received-foreign"]),
    (Fault::HandsMailToAnyAccount, &["MP3-recipient-foreign", "MP4-recipient-foreign"]),
    (Fault::AnswersEmptyQueueOfThreeByDelivery, &["MP3-empty-queue", "MP3-socket-empty"]),
    (Fault::AnswersEmptyQueueOfFourByStatus, &["MP4-empty-queue", "MP4-socket-empty"]),
    (Fault::ForgetsRecipientDidInStatus, &["MP3-status-recipient-did", "MP4-status-recipient-did"]),
    (Fault::CountsInSecondsInFour, &["MP4-times-milliseconds"]),
    (
        Fault::NeverPushes,
        &["MP3-live-keeps", "MP3-live-push", "MP4-live-keeps", "MP4-live-push", "MP4-live-wrapped"],
    ),
    (Fault::PushesUnasked, &["MP3-live-off-default", "MP4-live-off-default"]),
    (Fault::ForgetsWhatItPushed, &["MP3-live-keeps", "MP4-live-keeps"]),
    (Fault::PushesBareInFour, &["MP4-live-wrapped"]),
    (
        Fault::KeepsSilentOnSockets,
        &[
            "DCv2.1-transport-socket",
            "DCv2.1-transport-socket-survives",
            "MP3-live-keeps",
            "MP3-live-off-default",
            "MP3-live-status",
            "MP3-socket",
            "MP3-socket-empty",
            "MP4-live-keeps",
            "MP4-live-off-default",
            "MP4-live-status",
            "MP4-socket",
            "MP4-socket-empty",
        ],
    ),
];

fn options(target: &str) -> Options {
    Options {
        target: target.to_owned(),
        only: None,
        timeout: Duration::from_secs(4),
        allow_private: false,
        listen: None,
    }
}

/// What failed, in order of its names.
fn failed(report: &Report, level: Level) -> Vec<&str> {
    let mut failed = report.ids(level, Verdict::Failed);
    failed.sort_unstable();
    failed
}

async fn against(fault: Fault) -> Report {
    let simulator = MediatorSimulator::start(fault).await;
    conformance::run(&options(simulator.did.as_str())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulator_that_breaks_no_rule_passes_in_all_versions() {
    let report = against(Fault::None).await;
    assert_eq!(failed(&report, Level::Must), Vec::<&str>::new(), "{}", report.to_table());
    assert!(report.ids(Level::Must, Verdict::NotOffered).is_empty(), "{}", report.to_table());
    // A DID was given, so that nothing can be said about an invitation.
    let unseen = report.ids(Level::Must, Verdict::NotChecked);
    assert!(unseen.iter().all(|id| id.starts_with("OOB2")), "{unseen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_rule_is_reported_as_that_requirement_and_no_other() {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = JoinSet::new();
    for (fault, expected) in BITES {
        let places = Arc::clone(&places);
        runs.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let report = against(fault).await;
            let failed = failed(&report, Level::Must);
            (failed != expected).then(|| format!("{fault:?}: expected {expected:?}, failed {failed:?}"))
        });
    }
    let wrong: Vec<String> = runs.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mediator_that_gives_strangers_no_account_is_not_blamed_for_it() {
    let report = against(Fault::DeniesAccounts).await;
    assert_eq!(failed(&report, Level::Must), Vec::<&str>::new(), "{}", report.to_table());
    assert_eq!(report.verdict("CM3-grant"), Verdict::Passed);
    assert_eq!(report.verdict("CM3-update-add"), Verdict::NotChecked);
    assert_eq!(report.verdict("RT2-forward"), Verdict::NotOffered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mediator_of_the_old_version_alone_is_not_blamed_for_the_new_one() {
    let report = against(Fault::SpeaksOldVersionsOnly).await;
    assert_eq!(failed(&report, Level::Must), Vec::<&str>::new(), "{}", report.to_table());
    assert_eq!(report.verdict("CM2-update-add"), Verdict::Passed);
    assert_eq!(report.verdict("CM3-update-add"), Verdict::NotOffered);
    assert_eq!(report.verdict("MP3-delivery"), Verdict::Passed);
    assert_eq!(report.verdict("MP4-delivery"), Verdict::NotOffered);
}

/// The program under test.
const EINMAL: Einmal = Einmal(env!("CARGO_BIN_EXE_einmal-under-test"));

/// A running mediator of ours.
fn ours(folder: &Path) -> Running {
    let dir = folder.join("mediator");
    let dir = dir.to_str().unwrap();
    assert!(EINMAL.run(&["init", "mediator", "--dir", dir]).status.success());
    EINMAL.start(dir, &["--listen", "127.0.0.1:0"])
}

/// Exit status, lines of standard output as JSON, and standard error.
fn told(output: &Output) -> (i32, Vec<Value>, String) {
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    (output.status.code().unwrap(), lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn our_mediator_meets_every_must_and_should() {
    let folder = tempfile::tempdir().unwrap();
    let ours = ours(folder.path());
    let output = EINMAL.command(&["conformance", ours.said("invitation"), "--json"]).output().unwrap();
    let (status, lines, error) = told(&output);
    let failed: Vec<&Value> =
        lines.iter().filter(|line| line["verdict"] == "failed" && line["level"] != "INFO").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(status, 0, "{error}");
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!(summary["conforms"], true);
    let unseen: Vec<&Value> = lines
        .iter()
        .filter(|line| line["level"] == "MUST" && line["verdict"] != "passed")
        .map(|line| &line["id"])
        .collect();
    assert!(unseen.is_empty(), "not everything required was seen to work: {unseen:?}");
}

#[test]
fn only_the_requirements_asked_for_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let ours = ours(folder.path());
    let output = EINMAL
        .command(&["conformance", ours.said("invitation"), "--json", "--only", "TP2"])
        .output()
        .unwrap();
    let (status, lines, _) = told(&output);
    assert_eq!(status, 0);
    assert_eq!(lines.len(), 6, "five requirements and the summary");
    assert!(lines.iter().take(5).all(|line| line["id"].as_str().unwrap().starts_with("TP2-")));
}

#[test]
fn wrong_use_has_status_two_and_names_the_remedy() {
    for (arguments, remedy) in [
        (&["conformance", "hello"][..], "out-of-band URL"),
        (&["conformance", "did:example:1"], "did:peer, did:key or did:web"),
        (&["conformance", "did:web:localhost%3A1", "--only", "XX"], "docs/conformance.md"),
        (&["conformance", "did:web:localhost%3A1", "--timeout", "0"], "--timeout"),
        (&["conformance"], "TARGET"),
    ] {
        let (status, _, error) = told(&EINMAL.command(arguments).output().unwrap());
        assert_eq!(status, 2, "{arguments:?}: {error}");
        assert!(error.contains(remedy), "{arguments:?}: {error}");
    }
}

#[test]
fn target_that_does_not_answer_fails_in_time_and_says_so() {
    // The port is taken and silent: connections stand, and nothing ever comes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let did = format!("did:web:127.0.0.1%3A{port}");
    let begun = Instant::now();
    let output = EINMAL.command(&["conformance", &did, "--json", "--timeout", "1"]).output().unwrap();
    let (status, lines, _) = told(&output);
    assert_eq!(status, 1);
    assert!(begun.elapsed() < Duration::from_secs(10));
    let failed: Vec<&Value> = lines.iter().filter(|line| line["verdict"] == "failed").collect();
    assert!(failed.iter().any(|line| line["id"] == "DCv2.1-did-agreement-key"), "{failed:?}");
    assert!(failed[0]["detail"].as_str().unwrap().contains("in time"), "{failed:?}");
}

#[test]
fn target_that_went_away_fails_with_a_clear_text() {
    let folder = tempfile::tempdir().unwrap();
    let ours = ours(folder.path());
    let invitation = ours.said("invitation").to_owned();
    drop(ours);
    let (status, lines, _) = told(&EINMAL.command(&["conformance", &invitation, "--json"]).output().unwrap());
    assert_eq!(status, 1);
    let answers = lines.iter().find(|line| line["id"] == "DCv2.1-transport-answers").unwrap();
    assert_eq!(answers["verdict"], "failed");
    assert!(answers["detail"].as_str().unwrap().contains("does not answer"), "{answers}");
}
