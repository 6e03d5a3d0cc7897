//! Coordinate mediation, versions 2.0 and 3.0: accounts, registrations and their list.

use einmal_did::Did;
use einmal_didcomm::Message;
use einmal_keys::KeyKind;
use serde_json::{Value, json};

use super::{
    Run,
    answer::Answer,
    ids::id,
    outcome::{Needed, Outcome, Problem, holds},
    probe::in_thread,
};

/// How one version spells what both versions say.
#[derive(Debug)]
pub(super) struct Dialect {
    /// First part of the ids of its requirements.
    pub(super) tag: &'static str,
    pub(super) protocol: &'static str,
    pub(super) update: &'static str,
    updated: &'static str,
    query: &'static str,
    list: &'static str,
    /// Member of the list that holds the DIDs.
    entries: &'static str,
    /// Whether `routing_did` is an array.
    routing_is_list: bool,
}

/// Both versions, the newer first.
pub(super) const DIALECTS: [Dialect; 2] = [
    Dialect {
        tag: "CM3",
        protocol: "https://didcomm.org/coordinate-mediation/3.0",
        update: "recipient-update",
        updated: "recipient-update-response",
        query: "recipient-query",
        list: "recipient",
        entries: "dids",
        routing_is_list: true,
    },
    Dialect {
        tag: "CM2",
        protocol: "https://didcomm.org/coordinate-mediation/2.0",
        update: "keylist-update",
        updated: "keylist-update-response",
        query: "keylist-query",
        list: "keylist",
        entries: "keys",
        routing_is_list: false,
    },
];

/// An account of ours.
pub(super) struct Account {
    /// The DID it was granted to.
    pub(super) me: Did,
    /// The DIDs by which mail for us is routed.
    pub(super) routing: Vec<Did>,
    dialect: &'static Dialect,
    /// Whether the grant wrote them in the form of its version.
    form: Outcome,
}

impl Dialect {
    /// The type of a message.
    pub(super) fn kind(&self, message: &str) -> String {
        format!("{}/{message}", self.protocol)
    }
}

/// Tries a version; returns whether the target speaks it.
pub(super) async fn opens(run: &mut Run, dialect: &'static Dialect) -> bool {
    let grant = id!(dialect, "grant");
    let first = run.probe.twice(|| first(run, dialect)).await;
    let (answered, threaded) = match first {
        Ok((message, threaded)) => (Ok(message), threaded),
        Err(problem) => (Err(problem), Ok(())),
    };
    let denied = answered.as_ref().is_ok_and(|message| message.kind.is(&dialect.kind("mediate-deny")));
    if !run.opens(dialect.tag, dialect.protocol, grant.clone(), answered.map(|_| ())) {
        return false;
    }
    // An account in the wrong thread is an account: what depends on it can be looked at.
    run.report.settle(grant, threaded);
    if denied {
        run.report.not_checked(dialect.tag, "the target gives strangers no account");
    }
    !denied
}

/// Asks for mediation; the answer, and whether it names the request as its thread.
async fn first(run: &Run, dialect: &Dialect) -> Outcome<(Message, Outcome)> {
    let me = run.probe.stranger()?;
    let kinds = [dialect.kind("mediate-grant"), dialect.kind("mediate-deny")];
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    run.probe.get_with_thread(&dialect.kind("mediate-request"), &me, &json!({}), &kinds).await
}

/// Asks for an account.
pub(super) async fn enrol(run: &Run, dialect: &'static Dialect, me: Did) -> Outcome<Account> {
    let message = grant(run, dialect, &me).await?;
    let named = match message.body.get("routing_did") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one.as_str()],
        _ => Vec::new(),
    };
    let routing: Vec<Did> = named.into_iter().filter_map(|text| Did::parse(text).ok()).collect();
    // Without a routing DID, mail may still be routed by the DID of the mediator itself.
    let form = match message.body.get("routing_did") {
        _ if routing.is_empty() => Err("the grant names no routing_did".into()),
        Some(Value::Array(_)) if dialect.routing_is_list => Ok(()),
        Some(Value::String(_)) if !dialect.routing_is_list => Ok(()),
        other => {
            let text = other.map_or("absent".to_owned(), Value::to_string);
            Err(Problem::Broken(format!("routing_did is {text}")))
        }
    };
    Ok(Account { me, routing, dialect, form })
}

async fn grant(run: &Run, dialect: &Dialect, me: &Did) -> Outcome<Message> {
    let kind = dialect.kind("mediate-grant");
    run.probe.get(&dialect.kind("mediate-request"), me, &json!({}), &[&kind]).await
}

impl Account {
    /// Sends updates; returns the entries of the response, and whether it names the request as its thread.
    async fn update(&self, run: &Run, updates: &[(&str, &str)]) -> Outcome<(Vec<Value>, Outcome)> {
        let updates: Vec<Value> =
            updates.iter().map(|(did, action)| json!({"recipient_did": did, "action": action})).collect();
        let kind = self.dialect.kind(self.dialect.updated);
        let body = json!({"updates": updates});
        let request = run.probe.request(&self.dialect.kind(self.dialect.update), &self.me, &body)?;
        let answer = run.probe.say(&request).await.expect(&[&kind], &run.probe)?;
        let updated = answer.body.get("updated").and_then(Value::as_array).cloned();
        let updated = updated.ok_or("the response has no `updated`")?;
        Ok((updated, in_thread(&answer, &request)))
    }

    /// Sends one update; returns its result, which must be that of the first attempt.
    async fn change(&self, run: &Run, did: &str, action: &str) -> Outcome<String> {
        let before = run.probe.failures();
        let result = self.attempt(run, did, action).await?;
        if result == "no_change" && run.probe.failures() > before {
            return Err(Problem::Unknown("an attempt that failed may have been carried out".to_owned()));
        }
        Ok(result)
    }

    /// Sends one update; returns its result.
    async fn attempt(&self, run: &Run, did: &str, action: &str) -> Outcome<String> {
        let (updated, _) = self.update(run, &[(did, action)]).await?;
        let [one] = updated.as_slice() else {
            return Err(format!("{} results for one update", updated.len()).into());
        };
        Ok(echoed(one, did, action)?.to_owned())
    }

    /// Registers a DID.
    pub(super) async fn register(&self, run: &Run, did: &Did) -> Outcome {
        match self.attempt(run, did.as_str(), "add").await?.as_str() {
            "success" | "no_change" => Ok(()),
            other => Err(format!("adding it has the result `{other}`").into()),
        }
    }

    /// Whether a DID is registered.
    pub(super) async fn lists(&self, run: &Run, did: &Did) -> Outcome<bool> {
        let listed = self.list(run, None).await?.dids;
        Ok(listed.iter().any(|text| Did::parse(text).is_ok_and(|named| named.same_as(did))))
    }

    /// Removes a DID.
    pub(super) async fn remove(&self, run: &Run, did: &Did) -> Outcome {
        one_of(self.change(run, did.as_str(), "remove").await, &["success"])
    }

    /// One page of the list, or all of it.
    async fn list(&self, run: &Run, page: Option<(u64, u64)>) -> Outcome<Listed> {
        let body =
            page.map_or(json!({}), |(limit, offset)| json!({"paginate": {"limit": limit, "offset": offset}}));
        let kind = self.dialect.kind(self.dialect.list);
        let request = run.probe.request(&self.dialect.kind(self.dialect.query), &self.me, &body)?;
        let answer = run.probe.say(&request).await.expect(&[&kind], &run.probe)?;
        let entries = answer.body.get(self.dialect.entries).and_then(Value::as_array);
        let entries = entries.ok_or_else(|| format!("the list has no `{}`", self.dialect.entries))?;
        let dids = entries.iter().filter_map(|one| one.get("recipient_did")?.as_str().map(str::to_owned));
        let (dids, threaded) = (dids.collect(), in_thread(&answer, &request));
        Ok(Listed { dids, pagination: answer.body.get("pagination").cloned(), threaded })
    }
}

/// A page of a list.
struct Listed {
    dids: Vec<String>,
    pagination: Option<Value>,
    /// Whether it names the query as its thread.
    threaded: Outcome,
}

/// The result of an update, which must repeat DID and action as they were given.
fn echoed<'a>(updated: &'a Value, did: &str, action: &str) -> Outcome<&'a str> {
    let text = |member: &str| updated.get(member).and_then(Value::as_str).unwrap_or_default();
    holds(text("recipient_did") == did && text("action") == action, || {
        "the result does not name DID and action as they were given".to_owned()
    })?;
    Ok(text("result"))
}

fn one_of(result: Outcome<String>, allowed: &[&str]) -> Outcome {
    let result = result?;
    holds(allowed.contains(&result.as_str()), || format!("the result is `{result}`"))
}

/// All requirements of one version.
pub(super) async fn run(run: &mut Run, dialect: &'static Dialect) {
    let enrolled = run.probe.twice(async || enrol(run, dialect, run.probe.stranger()?).await).await;
    let account = match enrolled {
        Ok(account) => account,
        Err(problem) => {
            run.report.settle(id!(dialect, "grant-routing-did"), Err(problem));
            run.report.not_checked(dialect.tag, "there is no account to try it with");
            return;
        }
    };
    let repeated = repeated(run, &account, dialect).await;
    run.report.settle(id!(dialect, "grant-repeated"), repeated);
    // From the first grant: a peer that has an account may be refused another.
    run.report.settle(id!(dialect, "grant-routing-did"), account.form.clone());
    updates(run, &account, dialect).await;
    listing(run, &account, dialect).await;
    forms(run, dialect).await;
    strangers(run, &account, dialect).await;
}

/// A second request is granted, denied or reported, and the account from the first keeps working.
async fn repeated(run: &Run, account: &Account, dialect: &Dialect) -> Outcome {
    let answer = run.probe.ask(&dialect.kind("mediate-request"), &account.me, &json!({})).await;
    if answer.report().is_none() {
        let kinds = [dialect.kind("mediate-grant"), dialect.kind("mediate-deny")];
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        answer.expect(&kinds, &run.probe)?;
    }
    let works = account.list(run, None).await.map(|_| ());
    works.map_err(|problem| problem.reworded(|text| format!("afterwards the list cannot be had: {text}")))
}

async fn updates(run: &mut Run, account: &Account, dialect: &Dialect) {
    let (Ok(first), Ok(second), Ok(never)) =
        (run.probe.stranger(), run.probe.stranger(), run.probe.stranger())
    else {
        return;
    };
    // Where fresh DIDs need proof, the account's own DID has it; what was lost tells nothing about that.
    let fresh = one_of(account.change(run, first.as_str(), "add").await, &["success"]);
    let own = fresh.as_ref().is_err_and(|problem| !problem.is_unknown());
    run.report.settle(id!(dialect, "register-fresh"), fresh.clone());
    let did = if own { account.me.clone() } else { first };
    let added =
        if own { one_of(account.change(run, did.as_str(), "add").await, &["success"]) } else { fresh };
    let again = one_of(account.change(run, did.as_str(), "add").await, &["no_change", "success"]);
    let is_there = added.as_ref().or(again.as_ref()).map(|_| ()).map_err(Problem::clone);
    run.report.settle(id!(dialect, "update-add"), added);
    run.report.settle(id!(dialect, "update-add-again"), again);
    let removed = account.change(run, did.as_str(), "remove").await;
    run.report.settle(
        id!(dialect, "update-remove"),
        is_there.needed("a DID to remove").and(one_of(removed, &["success"])),
    );
    let unknown = account.change(run, never.as_str(), "remove").await;
    let unknown = one_of(unknown, &["no_change", "client_error"]);
    run.report.settle(id!(dialect, "update-remove-unknown"), unknown);
    let several = several(run, account, did.as_str(), second.as_str()).await;
    run.report.settle(id!(dialect, "update-several"), several.clone());
    // What was lost may not have been added.
    let listed = several.needed("several updates").and(account.list(run, None).await);
    let listed = listed.and_then(|Listed { dids, threaded, .. }| {
        let same = |text: &String, did: &Did| Did::parse(text).is_ok_and(|named| named.same_as(did));
        if !dids.iter().any(|text| same(text, &did)) {
            return Err("the list lacks a DID that was added".into());
        }
        if dids.iter().any(|text| same(text, &second) || same(text, &never)) {
            return Err("the list holds a DID that was never added".into());
        }
        threaded
    });
    run.report.settle(id!(dialect, "query"), listed);
    let removed = one_of(account.change(run, did.as_str(), "remove").await, &["success"]);
    let gone = removed.needed("a removal").and(account.list(run, None).await).and_then(|page| {
        let still = page.dids.iter().any(|text| text == did.as_str());
        holds(!still, || "the list holds a DID that was removed".to_owned())
    });
    run.report.settle(id!(dialect, "query"), gone);
}

/// In one message, adds one DID and removes another that is not there.
async fn several(run: &Run, account: &Account, added: &str, never: &str) -> Outcome {
    let updates = [(added, "add"), (never, "remove")];
    let (updated, threaded) = account.update(run, &updates).await?;
    holds(updated.len() == 2, || format!("{} results for two updates", updated.len()))?;
    for (did, action) in updates {
        let mut named = updated.iter().filter_map(|one| echoed(one, did, action).ok());
        let result = named.next().ok_or("a result does not name DID and action as they were given")?;
        // Whether the result is correct is judged where one update is sent alone.
        let allowed = match action {
            "add" => &["success", "no_change"][..],
            _ => &["success", "no_change", "client_error"],
        };
        holds(allowed.contains(&result), || format!("the result of `{action}` is `{result}`"))?;
    }
    threaded
}

async fn listing(run: &mut Run, account: &Account, dialect: &'static Dialect) {
    let mut mine = Vec::new();
    for _ in 0..3 {
        let Ok(did) = run.probe.stranger() else { return };
        if account.register(run, &did).await.is_ok() {
            mine.push(did.to_string());
        }
    }
    if mine.len() < 3 {
        run.report.not_checked(&format!("{}-query-pag", dialect.tag), "three DIDs could not be registered");
        run.report.not_checked(id!(dialect, "query-own").as_str(), "DIDs could not be registered");
        return;
    }
    let pages = async {
        let page = account.list(run, Some((2, 0))).await?;
        let (first, second) = (page.dids, account.list(run, Some((2, 2))).await?.dids);
        if first.len() > 2 || second.len() > 2 {
            return Err(format!("pages of {} and {} for a limit of 2", first.len(), second.len()).into());
        }
        let all: Vec<&String> = first.iter().chain(&second).collect();
        if mine.iter().any(|did| !all.contains(&did)) {
            return Err("two pages of two do not hold all three".into());
        }
        Ok(page.pagination)
    };
    let pages: Outcome<Option<Value>> = pages.await;
    let told = pages.as_ref().map_err(Problem::clone).and_then(|pagination| {
        let number = |member: &str| pagination.as_ref()?.get(member)?.as_u64();
        match (number("count"), number("offset"), number("remaining")) {
            (Some(_), Some(0), Some(remaining)) if remaining >= 1 => Ok(()),
            _ => {
                let text = pagination.as_ref().map_or("absent".to_owned(), Value::to_string);
                Err(Problem::Broken(format!("pagination is {text}")))
            }
        }
    });
    run.report.settle(id!(dialect, "query-paginated"), pages.map(|_| ()));
    run.report.settle(id!(dialect, "query-pagination"), told);
    let apart = async {
        let other = enrol(run, dialect, run.probe.stranger()?).await.needed("another account")?;
        let theirs = other.list(run, None).await?.dids;
        holds(!mine.iter().any(|did| theirs.contains(did)), || "it does".to_owned())
    };
    let apart: Outcome = apart.await;
    run.report.settle(id!(dialect, "query-own"), apart);
}

/// The forms of DID that can be registered.
async fn forms(run: &mut Run, dialect: &'static Dialect) {
    let forms = [
        (id!(dialect, "register-did-peer-4"), run.probe.stranger_peer_4(KeyKind::X25519)),
        (id!(dialect, "register-did-key"), run.probe.stranger_key()),
    ];
    for (id, did) in forms {
        let registered = async {
            let account = enrol(run, dialect, run.probe.stranger()?).await?;
            account.register(run, &did?).await
        };
        let registered = registered.await;
        run.report.settle(id, registered);
    }
    let own = async {
        let account = enrol(run, dialect, run.probe.stranger()?).await?;
        account.register(run, &account.me).await
    };
    let own = own.await;
    run.report.settle(id!(dialect, "register-own"), own);
}

/// Whether updates are refused as a whole, by a report, or each for itself.
fn refused(answer: &Answer, dialect: &Dialect) -> Outcome {
    let response = answer.opened().filter(|opened| opened.message.kind.is(&dialect.kind(dialect.updated)));
    let results = response.and_then(|opened| opened.message.body.get("updated")?.as_array());
    let failed = |one: &Value| one.get("result").and_then(Value::as_str) == Some("client_error");
    match results {
        Some(results) if !results.is_empty() && results.iter().all(failed) => Ok(()),
        _ => answer.expect_report().map(|_| ()),
    }
}

/// Strangers without an account, and accounts that want another's DID.
async fn strangers(run: &mut Run, account: &Account, dialect: &'static Dialect) {
    let Ok(stranger) = run.probe.stranger() else { return };
    let body = json!({"updates": [{"recipient_did": stranger, "action": "add"}]});
    let answer = run.probe.ask(&dialect.kind(dialect.update), &stranger, &body).await;
    run.report.settle(id!(dialect, "not-granted"), refused(&answer, dialect));
    run.report.settle(id!(dialect, "not-granted-code"), answer.expect_code("e.p.req.not_enroll"));
    let taken = async {
        let other = enrol(run, dialect, run.probe.stranger()?).await.needed("another account")?;
        account.register(run, &account.me).await.needed("a registration")?;
        let answer = other.change(run, account.me.as_str(), "add").await;
        match answer {
            Ok(result) => holds(result != "success", || "it was taken over".to_owned()),
            // Whatever else came instead of a result, nothing was taken over.
            Err(problem) if problem.is_unknown() => Err(problem),
            Err(_) => Ok(()),
        }
    };
    let taken: Outcome = taken.await;
    run.report.settle(id!(dialect, "update-foreign"), taken);
}
