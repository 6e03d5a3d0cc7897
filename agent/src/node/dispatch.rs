//! Protocols every role speaks: ping, feature discovery, problem reports, empty, text messages; and common commands.

use einmal_didcomm::Body;
use einmal_flows::{
    ExchangeKey, Received,
    discover_features::{self, Disclosure},
    empty::Empty,
    report_problem,
    trust_ping::{self, Ping, PingResponse},
};
use serde_json::{Value, json};

use crate::{
    command::{Command, CommonCommand, Nothing},
    db::{DEAD, OUTBOX},
    handler::{Effects, Failure, Handled, PeerFault, RoleService, Shared, our_form, their_form},
    service::{messages, self_report},
};

/// Protocols every role speaks: identifier and roles.
const COMMON: [(&str, &str); 6] = [
    ("https://didcomm.org/trust-ping/2.0", "receiver"),
    ("https://didcomm.org/discover-features/2.0", "responder"),
    ("https://didcomm.org/report-problem/2.0", "notified"),
    ("https://didcomm.org/empty/1.0", "receiver"),
    ("https://didcomm.org/basicmessage/2.0", "receiver"),
    ("https://didcomm.org/out-of-band/2.0", "receiver"),
];

/// Handles a message of a common protocol; false if it belongs to none.
pub(super) fn on_message(
    shared: &Shared,
    role: &dyn RoleService,
    rx: &Received<'_>,
    fx: &mut Effects<'_>,
) -> Result<bool, Failure> {
    let kind = &rx.message().kind;
    if kind.is(Ping::TYPE) {
        if let Some(pong) = trust_ping::answer(rx, shared.now())? {
            fx.answer(pong, &our_form(rx), &their_form(rx))?;
        }
        // A ping may answer an invitation; the role then notes it.
        if rx.message().pthid.is_some() {
            role.on_message(shared, rx, fx)?;
        }
    } else if discover_features::is_question(kind) {
        let draft = discover_features::answer(rx, &features(role), shared.now())?;
        fx.answer(draft, &our_form(rx), &their_form(rx))?;
    } else if kind.is(PingResponse::TYPE) || kind.is(Empty::TYPE) || discover_features::covers(kind) {
        // Nothing more to do: its headers were taken in when it was opened.
    } else if report_problem::is_report(kind) {
        let problem = report_problem::read(rx)?;
        if shared.complaints.admit(&()) {
            tracing::info!(code = %problem.report.code, "a peer reports a problem");
        }
        role.on_message(shared, rx, fx)?;
    } else if kind.is(einmal_flows::basic_message::BasicMessage::TYPE) {
        messages::take(shared, rx, fx)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn features(role: &dyn RoleService) -> Vec<Disclosure> {
    let protocols = COMMON.iter().copied().chain(role.protocols());
    let mut table: Vec<Disclosure> = protocols.map(|(id, role)| Disclosure::protocol(id, &[role])).collect();
    let largest = einmal_didcomm::limits::MAX_ENVELOPE_BYTES.to_string();
    table.push(Disclosure::constraint("max_receive_bytes", largest.into()));
    table
}

/// Tells a proved sender what was wrong, within the budget of the thread.
pub(super) fn report(rx: &Received<'_>, fault: PeerFault, comment: &str, fx: &mut Effects<'_>) -> Handled {
    let key = ExchangeKey::of(rx);
    let budgets = &fx.shared().error_budgets;
    let mut budget = budgets.get(key.as_str()).unwrap_or_default();
    if let Some(draft) = budget.report(rx, fault.report(comment)) {
        budgets.put(key.as_str(), budget);
        fx.answer(draft, &our_form(rx), &their_form(rx))?;
    }
    Ok(())
}

/// Carries out a command of the node's own user.
pub(super) fn command(
    shared: &Shared,
    role: &dyn RoleService,
    command: &Command,
    fx: &mut Effects<'_>,
) -> Result<Value, Failure> {
    let Command::Common(common) = command else { return role.command(shared, command, fx) };
    Ok(match common {
        CommonCommand::Status(Nothing {}) => json!({
            "role": shared.config.role,
            "counters": shared.stats.to_json(),
            "outbox": shared.db.count(OUTBOX)?,
            "given_up": shared.db.count(DEAD)?,
        }),
        CommonCommand::Doctor(Nothing {}) => self_report::report(shared)?,
        CommonCommand::Send(letter) => messages::send(shared, letter, fx)?,
        CommonCommand::Inbox(Nothing {}) => messages::inbox(shared)?,
        CommonCommand::Invite(invite) => role.invite(shared, invite, fx)?,
    })
}
