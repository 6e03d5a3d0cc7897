//! What the target says of itself: endpoints, profiles, protocols with their roles, and constraints.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::report::clean;

/// Most entries kept of each kind.
const MAX_ENTRIES: usize = 100;

/// A protocol that is disclosed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Protocol {
    id: String,
    roles: Vec<String>,
}

/// An endpoint of the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Endpoint {
    uri: String,
    accept: Vec<String>,
    routing_keys: Vec<String>,
}

/// Everything the target advertises, in bounds.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Advertised {
    endpoints: Vec<Endpoint>,
    /// Of the endpoints and of the invitation.
    profiles: Vec<String>,
    protocols: Vec<Protocol>,
    /// Each with all members it came with.
    constraints: Vec<Map<String, Value>>,
}

fn texts<'a>(list: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    list.into_iter().take(MAX_ENTRIES).map(clean).collect()
}

/// Adds what is not there yet and still fits.
fn add<T: PartialEq>(list: &mut Vec<T>, entry: T) {
    if list.len() < MAX_ENTRIES && !list.contains(&entry) {
        list.push(entry);
    }
}

impl Advertised {
    /// Notes an endpoint and the profiles it accepts.
    pub(super) fn endpoint(&mut self, endpoint: &einmal_did::Endpoint) {
        let accept = texts(endpoint.accept.iter().map(String::as_str));
        self.profiles(&accept);
        let routing_keys = texts(endpoint.routing_keys.iter().map(String::as_str));
        add(&mut self.endpoints, Endpoint { uri: clean(&endpoint.uri), accept, routing_keys });
    }

    /// Notes profiles that are accepted.
    pub(super) fn profiles(&mut self, accepted: &[String]) {
        accepted.iter().for_each(|profile| add(&mut self.profiles, clean(profile)));
    }

    /// Notes a disclosed feature.
    pub(super) fn feature(&mut self, feature_type: &str, disclosed: &Value) {
        let Some(id) = disclosed.get("id").and_then(Value::as_str).map(clean) else { return };
        match feature_type {
            "protocol" => {
                let roles = disclosed.get("roles").and_then(Value::as_array).into_iter().flatten();
                let roles = texts(roles.filter_map(Value::as_str));
                add(&mut self.protocols, Protocol { id, roles });
            }
            "constraint" => {
                let members = disclosed.as_object().into_iter().flatten();
                let plain = members.filter_map(|(name, value)| match value {
                    Value::String(text) => Some((clean(name), clean(text).into())),
                    Value::Number(_) | Value::Bool(_) => Some((clean(name), value.clone())),
                    _ => None,
                });
                let members = plain.filter(|(name, _)| !name.starts_with("feature")).take(MAX_ENTRIES);
                add(&mut self.constraints, members.collect());
            }
            _ => {}
        }
    }

    /// The table for people.
    pub(super) fn to_table(&self) -> String {
        let mut out = "What the target advertises\n".to_owned();
        let mut line = |what: &str, text: &str| {
            let _ = writeln!(out, "  {what:<11} {text}");
        };
        for endpoint in &self.endpoints {
            let by = match endpoint.routing_keys.as_slice() {
                [] => String::new(),
                keys => format!(", by {}", keys.join(", ")),
            };
            line("endpoint", &format!("{}{by}", endpoint.uri));
        }
        self.profiles.iter().for_each(|profile| line("profile", profile));
        for protocol in &self.protocols {
            let roles = match protocol.roles.as_slice() {
                [] => String::new(),
                roles => format!(" as {}", roles.join(", ")),
            };
            line("protocol", &format!("{}{roles}", protocol.id));
        }
        for constraint in &self.constraints {
            let members = constraint.iter().map(|(name, value)| match value {
                Value::String(text) => format!("{name} {text}"),
                other => format!("{name} {other}"),
            });
            line("constraint", &members.collect::<Vec<_>>().join(", "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_advertised_is_shown_once_and_in_bounds() {
        let mut advertised = Advertised::default();
        let ping = json!({"id": "https://didcomm.org/trust-ping/2.0", "roles": ["receiver"]});
        for number in 0..2 * MAX_ENTRIES {
            advertised.feature("protocol", &ping);
            advertised.feature("protocol", &json!({"id": format!("urn:x:{number}\u{1b}[2J")}));
        }
        advertised.feature(
            "constraint",
            &json!({"feature-type": "constraint", "id": "max_receive_bytes", "value": "65536"}),
        );
        let table = advertised.to_table();
        assert_eq!(table.matches("trust-ping/2.0 as receiver").count(), 1, "{table}");
        assert!(table.contains("id max_receive_bytes, value 65536"), "{table}");
        assert_eq!(table.lines().count(), 1 + MAX_ENTRIES + 1);
        assert!(!table.contains('\u{1b}'));
    }
}
