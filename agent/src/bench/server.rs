//! The mediator under load: a process of its own on a fresh folder.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use einmal_did::Did;
use serde_json::{Value, json};

use super::{
    Problem,
    http::{Http, post},
    measure,
    party::Party,
};
use crate::child::NodeProcess;

/// A running mediator.
pub(super) struct Server {
    process: NodeProcess,
    pub(super) address: SocketAddr,
    pub(super) did: Did,
    /// Time from starting the process to its first line, which it prints when it listens.
    pub(super) ready: Duration,
}

impl Server {
    /// Makes a folder and starts a mediator on it.
    pub(super) fn fresh(folder: &Path, name: &str) -> Result<Self, Problem> {
        let process = NodeProcess::init(folder, name, "mediator", &[])?;
        Self::start(process)
    }

    fn start(mut process: NodeProcess) -> Result<Self, Problem> {
        let begun = Instant::now();
        process.start(true)?;
        let ready = begun.elapsed();
        let address = process.said("listen")?.parse()?;
        let did = Did::try_from(process.said("did")?)?;
        Ok(Self { process, address, did, ready })
    }

    /// Kills the process and starts it again on the same folder and port.
    pub(super) fn kill_and_start(mut self) -> Result<Self, Problem> {
        self.process.kill()?;
        Self::start(self.process)
    }

    /// Stops the process in order and starts it again.
    pub(super) fn stop_and_start(mut self) -> Result<Self, Problem> {
        self.process.stop()?;
        Self::start(self.process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.about.get("pid").and_then(Value::as_u64).and_then(|pid| pid.try_into().ok()).unwrap_or(0)
    }

    pub(super) fn cpu(&self) -> Duration {
        measure::cpu(self.pid())
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.process.dir.clone()
    }

    pub(super) async fn connect(&self) -> Result<Http, Problem> {
        Http::connect(self.address).await
    }

    /// Opens an account for `party` and registers `dids` for it.
    pub(super) async fn enrol(&self, party: &Party, dids: &[&Did]) -> Result<(), Problem> {
        const FAMILY: &str = "https://didcomm.org/coordinate-mediation/3.0";
        let mut connection = self.connect().await?;
        party.learn(&self.did)?;
        let mut ask = async |kind: &str, body: Value| {
            let request = party.request(&format!("{FAMILY}/{kind}"), &body, &self.did)?;
            let (status, answer) = connection.send(&post(&request)).await?;
            if status != 200 {
                return Err(Problem::from(format!("{kind}: status {status}")));
            }
            party.open(&answer)
        };
        ask("mediate-request", json!({})).await?;
        for some in dids.chunks(50) {
            let updates: Vec<Value> =
                some.iter().map(|did| json!({"recipient_did": did.as_str(), "action": "add"})).collect();
            let answer = ask("recipient-update", json!({"updates": updates})).await?;
            let done = answer.message.body.get("updated").and_then(Value::as_array).cloned();
            let refused =
                done.unwrap_or_default().iter().filter(|one| one["result"] == "client_error").count();
            if refused > 0 {
                return Err(format!("{refused} registrations were refused").into());
            }
        }
        Ok(())
    }
}
