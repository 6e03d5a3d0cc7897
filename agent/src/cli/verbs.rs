//! Each verb: what it asks of the folder or of the running node, and what it prints.

use std::{path::Path, process::ExitCode, time::Duration};

use age::secrecy::ExposeSecret;
use einmal_storage::StoreError;
use serde_json::{Value, json};

use super::{
    args::{Bench, CitizenVerb, CityVerb, Cli, Conformance, MediatorVerb, MerchantVerb, Verb},
    ask::{self, Answer},
    init, output, runtime,
};
use crate::{
    backup, bench,
    config::{self, Config, Role},
    conformance, control, demo, doctor,
    error::SetupError,
    log,
    run::{self, RunOptions},
};

/// Most decisions in one exchange.
const MAX_DECISIONS: usize = 4;
/// Seconds a verb waits for the node's answer beyond what it was asked to wait.
const PATIENCE: u64 = 30;

/// Longest a running node may take for its backup.
const BACKUP_PATIENCE: Duration = Duration::from_secs(3600);

/// Runs one verb.
pub(super) fn run(cli: Cli) -> Result<ExitCode, SetupError> {
    let json = cli.json;
    match cli.verb {
        Verb::Demo { data, keep } => {
            let passed = runtime()?.block_on(demo::play(demo::Options { data, keep, json }))?;
            return Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Bench(Bench::Mediator { only, runs, folder }) => {
            let options = bench::Options { only, runs: runs.into(), folder, json };
            runtime()?.block_on(bench::mediator(options))?;
        }
        Verb::Bench(Bench::Crash { kills, folder }) => {
            let nothing_lost = runtime()?.block_on(bench::crash(kills, folder, json))?;
            return Ok(if nothing_lost { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Conformance(asked) => return conformance(asked, json),
        Verb::Backup { dir, out } => back_up(&dir.dir, &out, json)?,
        Verb::Restore { file, dir } => {
            let restored = backup::restore(&file, &dir.dir, backup::passphrase()?)?;
            let answer = json!({
                "role": restored.role, "records": restored.records, "letters": restored.letters,
                "missing": restored.missing,
            });
            output::answer(&answer, json);
            if !restored.missing.is_empty() {
                output::remark(
                    "files that einmal.toml names are in no backup: put them there before it is started",
                );
            }
        }
        Verb::Init(asked) => init::make(&asked, json)?,
        Verb::Run { dir, listen, log_json } => {
            log::start(log_json)?;
            runtime()?.block_on(run::run(RunOptions { dir: dir.dir, listen, json }))?;
        }
        Verb::Invite { dir, person } => {
            let answer = ask_node(&dir.dir, "invite", json!({"person": person}))?;
            output::answer(&answer, json);
            show_qr(&answer, json);
        }
        Verb::Accept { what, dir, yes, wait } => return accept(&dir.dir, what, yes, wait, json),
        Verb::City { verb } => city(verb, json)?,
        Verb::Mediator { verb } => mediator(verb, json)?,
        Verb::Citizen { verb } => citizen(verb, json)?,
        Verb::Merchant { verb } => return merchant(verb, json),
        Verb::Send { dir, to, all, text } => {
            let input = json!({"to": to, "text": text, "all": all});
            output::answer(&ask_node(&dir.dir, "send", input)?, json);
        }
        Verb::Inbox { dir } => output::answer(&ask_node(&dir.dir, "inbox", json!({}))?, json),
        Verb::Status { dir } => output::answer(&ask_node(&dir.dir, "status", json!({}))?, json),
        Verb::Doctor { dir } => return examine(&dir.dir, json),
    }
    Ok(ExitCode::SUCCESS)
}

fn ask_node(dir: &Path, command: &str, input: Value) -> Result<Value, SetupError> {
    if !config::is_node(dir) {
        return Err(SetupError::NotInitialised { dir: dir.to_owned() });
    }
    let wait = input.get("wait_seconds").and_then(Value::as_u64).unwrap_or(0);
    control::call(dir, command, input, Duration::from_secs(wait + PATIENCE))
}

fn show_qr(answer: &Value, json: bool) {
    if let (false, Some(url)) = (json, answer.get("invitation").and_then(Value::as_str)) {
        output::qr(url);
    }
}

/// Takes an invitation or what waits for a decision, asks for consent, and waits for the outcome.
fn accept(
    dir: &Path,
    what: Option<String>,
    yes: bool,
    wait: u64,
    json: bool,
) -> Result<ExitCode, SetupError> {
    for_citizens(dir)?;
    let threads = match what {
        Some(url) if url.contains("://") => {
            if !yes && config::is_node(dir) && !ask::may_begin(&url)? {
                output::answer(&json!({"state": "declined"}), json);
                return Ok(ExitCode::FAILURE);
            }
            let begun = ask_node(dir, "accept", json!({"url": url, "yes": yes, "wait_seconds": wait}))?;
            if let Some(thread) = begun.get("thread").and_then(Value::as_str) {
                vec![thread.to_owned()]
            } else {
                output::answer(&begun, json);
                return Ok(if is_pending(&begun) { ExitCode::FAILURE } else { ExitCode::SUCCESS });
            }
        }
        Some(thread) => vec![thread],
        None => waiting(dir)?,
    };
    if threads.is_empty() {
        return Err(SetupError::Refused("nothing waits for a decision; give an invitation URL".into()));
    }
    let mut status = ExitCode::SUCCESS;
    for thread in threads {
        let outcome = settle(dir, &thread, yes, wait)?;
        // What has not ended in the time given has not been taken either.
        let undecided = outcome.get("decide").is_some_and(|decide| !decide.is_null());
        if is_pending(&outcome)
            || undecided
            || outcome.get("state").and_then(Value::as_str) == Some("abandoned")
        {
            status = ExitCode::FAILURE;
        }
        output::answer(&outcome, json);
    }
    Ok(status)
}

/// Says so by the verb that was typed: the node would name a command of its own.
fn for_citizens(dir: &Path) -> Result<(), SetupError> {
    match Config::load(dir) {
        Ok(config) if config.role != Role::Citizen => Err(SetupError::Refused(format!(
            "`einmal accept` is for a citizen, and {} holds a {}; see: einmal --help",
            dir.display(),
            config.role
        ))),
        _ => Ok(()),
    }
}

fn is_pending(answer: &Value) -> bool {
    answer.get("pending").and_then(Value::as_bool).unwrap_or(false)
}

fn waiting(dir: &Path) -> Result<Vec<String>, SetupError> {
    let pending = ask_node(dir, "pending", json!({}))?;
    let threads = pending.as_array().into_iter().flatten();
    Ok(threads.filter_map(|one| one.get("thread")?.as_str().map(str::to_owned)).collect())
}

fn settle(dir: &Path, thread: &str, yes: bool, wait: u64) -> Result<Value, SetupError> {
    let progress = || ask_node(dir, "progress", json!({"thread": thread, "wait_seconds": wait}));
    let mut now = progress()?;
    // An issuer may ask for a proof before it offers: each is a decision of its own.
    for _ in 0..MAX_DECISIONS {
        if now.get("decide").is_none_or(Value::is_null) {
            break;
        }
        let view = now.get("decide").unwrap_or(&Value::Null);
        let agree = match if yes { Answer::Agree } else { ask::consent(view)? } {
            Answer::Later => break,
            answer => answer == Answer::Agree,
        };
        // Agreed is to what was shown here: the node refuses if something else is asked by now.
        ask_node(dir, "decide", json!({"thread": thread, "agree": agree, "shown": view.get("shown")}))?;
        now = progress()?;
    }
    Ok(now)
}

fn city(verb: CityVerb, json: bool) -> Result<(), SetupError> {
    let (dir, command, input) = match verb {
        CityVerb::Offer { template, person, after, valid_for, direct, dir } => {
            let input = json!({
                "template": template, "person": person, "after": after, "valid_for": valid_for, "direct": direct,
            });
            (dir, "offer", input)
        }
        CityVerb::Revoke { credential, reason, dir } => {
            (dir, "revoke", json!({"credential": credential, "reason": reason}))
        }
        CityVerb::Devices { person, dir } => (dir, "devices", json!({"person": person})),
        CityVerb::Unbind { person, device, dir } => {
            (dir, "unbind", json!({"person": person, "device": device}))
        }
        CityVerb::Withdraw { thread, dir } => (dir, "withdraw", json!({"thread": thread})),
        CityVerb::Reload { dir } => (dir, "reload", json!({})),
        CityVerb::Issued { person, dir } => (dir, "issued", json!({"person": person})),
        CityVerb::Register { dir } => (dir, "register", json!({})),
    };
    let answer = ask_node(&dir.dir, command, input)?;
    output::answer(&answer, json);
    show_qr(&answer, json);
    Ok(())
}

fn citizen(verb: CitizenVerb, json: bool) -> Result<(), SetupError> {
    let (dir, command, input) = match verb {
        CitizenVerb::List { dir } => (dir, "list", json!({})),
        CitizenVerb::Forget { card, dir } => (dir, "forget", json!({"card": card})),
        CitizenVerb::Show { card, dir } => (dir, "show", json!({"card": card})),
        CitizenVerb::Export { card, dir } => (dir, "export", json!({"card": card})),
        CitizenVerb::Rotate { peer, dir } => (dir, "rotate", json!({"peer": peer})),
        CitizenVerb::Peers { dir } => (dir, "peers", json!({})),
        CitizenVerb::Pending { dir } => (dir, "pending", json!({})),
    };
    output::answer(&ask_node(&dir.dir, command, input)?, json);
    Ok(())
}

/// The running node makes its own backup; otherwise the folder is opened here.
fn back_up(dir: &Path, out: &Path, json: bool) -> Result<(), SetupError> {
    let passphrase = backup::new_passphrase()?;
    let out = std::path::absolute(out).map_err(|error| SetupError::input(out, error))?;
    // Here, so that it is told alike whether the node runs or not.
    backup::refuse_existing(&out)?;
    let written = match backup::backup_folder(dir, &out, passphrase.clone()) {
        Err(SetupError::Store(StoreError::InUse { .. })) => {
            let dir = std::path::absolute(dir).map_err(|error| SetupError::input(dir, error))?;
            let input = json!({"dir": dir, "out": out, "passphrase": passphrase.expose_secret()});
            control::call(&dir, "backup", input, BACKUP_PATIENCE)?
        }
        written => {
            let written = written?;
            json!({"records": written.records, "letters": written.letters})
        }
    };
    output::answer(&written, json);
    Ok(())
}

fn mediator(verb: MediatorVerb, json: bool) -> Result<(), SetupError> {
    let (dir, command, input) = match verb {
        MediatorVerb::Accounts { dir } => (dir, "accounts", json!({})),
        MediatorVerb::Queues { dir } => (dir, "queues", json!({})),
        MediatorVerb::Drop { id, dir } => (dir, "drop", json!({"id": id})),
        MediatorVerb::Limits { dir } => (dir, "limits", json!({})),
    };
    output::answer(&ask_node(&dir.dir, command, input)?, json);
    Ok(())
}

fn merchant(verb: MerchantVerb, json: bool) -> Result<ExitCode, SetupError> {
    match verb {
        MerchantVerb::Request { template, dir } => {
            let answer = ask_node(&dir.dir, "request", json!({"template": template}))?;
            output::answer(&answer, json);
            show_qr(&answer, json);
            Ok(ExitCode::SUCCESS)
        }
        MerchantVerb::Result { thread, wait, dir } => {
            let answer = ask_node(&dir.dir, "result", json!({"thread": thread, "wait_seconds": wait}))?;
            output::answer(&answer, json);
            let accepted = answer.get("accepted").and_then(Value::as_bool).unwrap_or(false);
            Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Runs the suite of `docs/conformance.md` against any target, including our own nodes.
fn conformance(asked: Conformance, json: bool) -> Result<ExitCode, SetupError> {
    let options = conformance::Options {
        target: asked.target,
        only: asked.only,
        timeout: Duration::from_secs(asked.timeout),
        allow_private: asked.allow_private,
        listen: asked.listen,
        public_url: asked.public_url,
        total: conformance::TOTAL,
    };
    let report = runtime()?.block_on(conformance::run(&options))?;
    if json {
        report.to_json().iter().for_each(|line| output::answer(line, true));
    } else {
        output::text(&report.to_table());
    }
    Ok(if report.conforms() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Examines each part of a node without changing any.
fn examine(dir: &Path, json: bool) -> Result<ExitCode, SetupError> {
    let findings = runtime()?.block_on(doctor::examine(dir));
    if json {
        output::answer(&findings.iter().map(doctor::Finding::to_json).collect(), true);
    } else {
        findings.iter().for_each(|finding| output::text(&finding.to_text()));
    }
    let healthy = findings.iter().all(|finding| finding.state != doctor::State::Failed);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
