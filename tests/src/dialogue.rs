//! Shared by stories about single messages: codes and names of answers, and strangers that know a node.

use einmal::node::Node;
use einmal_did::Did;
use einmal_didcomm::Message;
use einmal_flows::out_of_band::Invitation;
use serde_json::{Value, json};

use crate::{Stranger, World};

/// Type of a problem report.
pub const REPORT: &str = "https://didcomm.org/report-problem/2.0/problem-report";

/// The code of a problem report.
#[track_caller]
pub fn code(message: &Message) -> &str {
    assert!(message.kind.is(REPORT), "{} is no problem report", message.kind);
    message.body["code"].as_str().unwrap()
}

/// Name of a message, the last part of its type.
pub fn name(message: &Message) -> &str {
    message.kind.as_str().rsplit('/').next().unwrap()
}

/// How many text messages a node has accepted.
pub async fn letters(world: &World, name: &str) -> usize {
    world.ask(name, "inbox", json!({})).await.as_array().unwrap().len()
}

/// The public DID of a node.
pub fn did_of(node: &Node) -> Did {
    node.public_did().unwrap().clone()
}

/// A stranger that has learnt the document of `node`.
pub fn stranger_of(seed: u64, node: &Node) -> Stranger {
    let stranger = Stranger::new(seed);
    stranger.learn(node);
    stranger
}

/// The invitation in the answer to a command.
pub fn invitation_in(answer: &Value) -> Invitation {
    Invitation::from_url(answer["invitation"].as_str().unwrap()).unwrap()
}
