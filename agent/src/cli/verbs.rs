//! Each verb: what it asks of the folder or of the running node, and what it prints.

use std::{path::Path, process::ExitCode, time::Duration};

use einmal_storage::StoreError;
use serde_json::{Value, json};

use super::{
    args::{Bench, CitizenVerb, CityVerb, Cli, Conformance, MediatorVerb, MerchantVerb, Verb},
    ask::{self, Answer},
    init, output, runtime,
};
use crate::{
    backup, bench,
    command::{
        Accept, Card, CitizenCommand, CityCommand, Command, CommonCommand, Decide, DropId, Invite,
        MediatorCommand, MerchantCommand, Nothing, OfPerson, Offer, PeerName, Person, Revoke, SendText,
        Template, Thread, Unbind,
    },
    config::{self, Config, Role},
    conformance,
    control::{self, Asked, BackUp, Request},
    demo, doctor,
    error::SetupError,
    log,
    run::{self, RunOptions},
};

/// Most decisions in one exchange.
const MAX_DECISIONS: usize = 4;
/// How long a verb waits for the node's answer beyond what it was asked to wait.
const PATIENCE: Duration = Duration::from_secs(30);

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
            let answer = ask_node(&dir.dir, CommonCommand::Invite(Invite { person }))?;
            output::answer(&answer, json);
            show_qr(&answer, json);
        }
        Verb::Accept { what, dir, yes, wait } => return accept(&dir.dir, what, yes, wait, json),
        Verb::City { verb } => city(verb, json)?,
        Verb::Mediator { verb } => mediator(verb, json)?,
        Verb::Citizen { verb } => citizen(verb, json)?,
        Verb::Merchant { verb } => return merchant(verb, json),
        Verb::Send { dir, to, all, text } => {
            let letter = SendText { to, text, all };
            output::answer(&ask_node(&dir.dir, CommonCommand::Send(letter))?, json);
        }
        Verb::Inbox { dir } => {
            output::answer(&ask_node(&dir.dir, CommonCommand::Inbox(Nothing {}))?, json);
        }
        Verb::Status { dir } => {
            output::answer(&ask_node(&dir.dir, CommonCommand::Status(Nothing {}))?, json);
        }
        Verb::Doctor { dir } => return examine(&dir.dir, json),
    }
    Ok(ExitCode::SUCCESS)
}

fn ask_node(dir: &Path, command: impl Into<Command>) -> Result<Value, SetupError> {
    ask_waiting(dir, command, 0)
}

/// Asks the node, and waits for that many seconds while its answer is `pending`.
fn ask_waiting(dir: &Path, command: impl Into<Command>, wait: u64) -> Result<Value, SetupError> {
    if !config::is_node(dir) {
        return Err(SetupError::NotInitialised { dir: dir.to_owned() });
    }
    control::call(dir, &Request::waiting(command, wait), PATIENCE)
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
            let taken = CitizenCommand::Accept(Accept { url, yes, mediator: false });
            let begun = ask_waiting(dir, taken, wait)?;
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
    let pending = ask_node(dir, CitizenCommand::Pending(Nothing {}))?;
    let threads = pending.as_array().into_iter().flatten();
    Ok(threads.filter_map(|one| one.get("thread")?.as_str().map(str::to_owned)).collect())
}

fn settle(dir: &Path, thread: &str, yes: bool, wait: u64) -> Result<Value, SetupError> {
    let thread = thread.to_owned();
    let asked = Thread { thread: thread.clone() };
    let progress = || ask_waiting(dir, CitizenCommand::Progress(asked.clone()), wait);
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
        let shown = view.get("shown").and_then(Value::as_str).map(str::to_owned);
        ask_node(dir, CitizenCommand::Decide(Decide { thread: thread.clone(), agree, shown }))?;
        now = progress()?;
    }
    Ok(now)
}

fn city(verb: CityVerb, json: bool) -> Result<(), SetupError> {
    let (dir, command) = match verb {
        CityVerb::Offer { template, person, after, valid_for, direct, dir } => {
            (dir, CityCommand::Offer(Offer { template, person, after, valid_for, direct }))
        }
        CityVerb::Revoke { credential, reason, dir } => {
            (dir, CityCommand::Revoke(Revoke { credential, reason }))
        }
        CityVerb::Devices { person, dir } => (dir, CityCommand::Devices(Person { person })),
        CityVerb::Unbind { person, device, dir } => (dir, CityCommand::Unbind(Unbind { person, device })),
        CityVerb::Withdraw { thread, dir } => (dir, CityCommand::Withdraw(Thread { thread })),
        CityVerb::Reload { dir } => (dir, CityCommand::Reload(Nothing {})),
        CityVerb::Offers { person, dir } => (dir, CityCommand::Offers(OfPerson { person })),
        CityVerb::Issued { person, dir } => (dir, CityCommand::Issued(OfPerson { person })),
        CityVerb::Register { dir } => (dir, CityCommand::Register(Nothing {})),
    };
    let answer = ask_node(&dir.dir, command)?;
    output::answer(&answer, json);
    show_qr(&answer, json);
    Ok(())
}

fn citizen(verb: CitizenVerb, json: bool) -> Result<(), SetupError> {
    let (dir, command) = match verb {
        CitizenVerb::List { dir } => (dir, CitizenCommand::List(Nothing {})),
        CitizenVerb::Forget { card, dir } => (dir, CitizenCommand::Forget(Card { card })),
        CitizenVerb::Show { card, dir } => (dir, CitizenCommand::Show(Card { card })),
        CitizenVerb::Export { card, dir } => (dir, CitizenCommand::Export(Card { card })),
        CitizenVerb::Rotate { peer, dir } => (dir, CitizenCommand::Rotate(PeerName { peer })),
        CitizenVerb::Peers { dir } => (dir, CitizenCommand::Peers(Nothing {})),
        CitizenVerb::Pending { dir } => (dir, CitizenCommand::Pending(Nothing {})),
    };
    output::answer(&ask_node(&dir.dir, command)?, json);
    Ok(())
}

/// The running node makes its own backup; otherwise the folder is opened here.
fn back_up(dir: &Path, out: &Path, json: bool) -> Result<(), SetupError> {
    let passphrase = backup::new_passphrase()?;
    let out = std::path::absolute(out).map_err(|error| SetupError::input(out, error))?;
    // Here, so that it is told alike whether the node runs or not.
    backup::refuse_existing(&out)?;
    // Without the store's passphrase: the running node has it open.
    let by_node = || {
        let dir = std::path::absolute(dir).map_err(|error| SetupError::input(dir, error))?;
        let asked =
            Asked::Backup(BackUp { dir: dir.clone(), out: out.clone(), passphrase: passphrase.clone() });
        control::call(&dir, &Request { asked, wait_seconds: 0 }, BACKUP_PATIENCE)
    };
    let written = if control::is_running(dir) {
        by_node()?
    } else {
        match backup::backup_folder(dir, &out, passphrase.clone()) {
            // It was started just now.
            Err(SetupError::Store(StoreError::InUse { .. })) => by_node()?,
            written => {
                let written = written?;
                json!({"records": written.records, "letters": written.letters, "damaged": written.damaged})
            }
        }
    };
    output::answer(&written, json);
    Ok(())
}

fn mediator(verb: MediatorVerb, json: bool) -> Result<(), SetupError> {
    let (dir, command) = match verb {
        MediatorVerb::Accounts { dir } => (dir, MediatorCommand::Accounts(Nothing {})),
        MediatorVerb::Queues { dir } => (dir, MediatorCommand::Queues(Nothing {})),
        MediatorVerb::Drop { id, dir } => (dir, MediatorCommand::Drop(DropId { id })),
        MediatorVerb::Limits { dir } => (dir, MediatorCommand::Limits(Nothing {})),
    };
    output::answer(&ask_node(&dir.dir, command)?, json);
    Ok(())
}

fn merchant(verb: MerchantVerb, json: bool) -> Result<ExitCode, SetupError> {
    match verb {
        MerchantVerb::Request { template, dir } => {
            let answer = ask_node(&dir.dir, MerchantCommand::Request(Template { template }))?;
            output::answer(&answer, json);
            show_qr(&answer, json);
            Ok(ExitCode::SUCCESS)
        }
        MerchantVerb::Result { thread, wait, dir } => {
            let answer = ask_waiting(&dir.dir, MerchantCommand::Result(Thread { thread }), wait)?;
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
    Ok(ExitCode::from(report.standing().exit_status()))
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
