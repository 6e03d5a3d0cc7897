//! Services of a DID document: reads a DIDComm endpoint in all the shapes that deployed documents use.

use serde_json::{Map, Value, json};

use crate::{
    Did, DidError,
    limits::{MAX_ENDPOINT_ENTRIES, MAX_ENDPOINTS, MAX_SERVICE_TEXT_LEN},
};

/// The service type of DIDComm v2.
pub const DIDCOMM_MESSAGING: &str = "DIDCommMessaging";

/// The profile of DIDComm v2, as written in `accept`.
pub const DIDCOMM_V2: &str = "didcomm/v2";

/// One service of a DID document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its id, absolute if the document's DID is known. It means nothing beyond being unique.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// Where it is reached, in the owner's order of preference. Empty for a service of unknown shape.
    pub endpoints: Vec<Endpoint>,
}

/// One way to reach a service.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Service Endpoint"; `multiAddrs` from its libp2p transport extension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// A transport URI, or the DID of a mediator.
    pub uri: String,
    /// Profiles accepted there; empty if the owner does not say.
    pub accept: Vec<String>,
    /// Keys or DIDs to wrap forwards for, as written; the message reaches the first of them first.
    pub routing_keys: Vec<String>,
    /// libp2p multiaddresses listened on.
    pub multi_addrs: Vec<String>,
}

impl Endpoint {
    /// An endpoint at `uri` that accepts DIDComm v2, without routing keys.
    pub fn didcomm(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), accept: vec![DIDCOMM_V2.to_owned()], ..Self::default() }
    }

    /// Whether DIDComm v2 may be sent there.
    pub fn accepts_didcomm_v2(&self) -> bool {
        self.accept.is_empty() || self.accept.iter().any(|profile| profile == DIDCOMM_V2)
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("uri".to_owned(), self.uri.as_str().into());
        let lists = [
            ("accept", &self.accept),
            ("routingKeys", &self.routing_keys),
            ("multiAddrs", &self.multi_addrs),
        ];
        for (name, list) in lists {
            if !list.is_empty() {
                object.insert(name.to_owned(), list.as_slice().into());
            }
        }
        Value::Object(object)
    }

    /// Whether a bare string could express the whole endpoint.
    fn is_bare(&self) -> bool {
        self.accept.is_empty() && self.routing_keys.is_empty() && self.multi_addrs.is_empty()
    }
}

impl Service {
    /// A `DIDCommMessaging` service; `id` may be relative (`#service`).
    pub fn didcomm(id: impl Into<String>, endpoints: Vec<Endpoint>) -> Self {
        Self { id: id.into(), kind: DIDCOMM_MESSAGING.to_owned(), endpoints }
    }

    /// Whether this is a DIDComm v2 service.
    pub fn is_didcomm(&self) -> bool {
        self.kind == DIDCOMM_MESSAGING
    }

    /// The service as JSON: one endpoint as an object, several as an array.
    pub(crate) fn to_json(&self) -> Value {
        let endpoint = match self.endpoints.as_slice() {
            [one] if !self.is_didcomm() && one.is_bare() => one.uri.as_str().into(),
            [one] => one.to_json(),
            all => all.iter().map(Endpoint::to_json).collect(),
        };
        json!({ "id": self.id, "type": self.kind, "serviceEndpoint": endpoint })
    }

    /// Reads a service; `default_id` stands in for a missing id.
    ///
    /// If a service of a type other than `DIDCommMessaging` does not look like one, that is no error; it then has no
    /// endpoints.
    pub(crate) fn from_json(base: &Did, value: &Value, default_id: &str) -> Result<Self, DidError> {
        let object =
            value.as_object().ok_or(DidError::Member { member: "service", expected: "an object" })?;
        let id = match object.get("id") {
            None => absolute(base, default_id),
            Some(id) => absolute(base, text(id, "service.id")?),
        };
        let kind = kind(object)?.to_owned();
        let endpoints = match endpoints(object) {
            Err(_) if kind != DIDCOMM_MESSAGING => Vec::new(),
            read => read?,
        };
        Ok(Self { id, kind, endpoints })
    }
}

/// The type; if there are several, the one this crate understands.
fn kind(object: &Map<String, Value>) -> Result<&str, DidError> {
    const WRONG: DidError = DidError::Member { member: "service.type", expected: "a text" };
    match object.get("type").ok_or(WRONG)? {
        Value::Array(kinds) => {
            let known = kinds.iter().find(|kind| kind.as_str() == Some(DIDCOMM_MESSAGING));
            text(known.or(kinds.first()).ok_or(WRONG)?, "service.type")
        }
        kind => text(kind, "service.type"),
    }
}

fn endpoints(service: &Map<String, Value>) -> Result<Vec<Endpoint>, DidError> {
    match service.get("serviceEndpoint") {
        Some(Value::Array(list)) => {
            if list.len() > MAX_ENDPOINTS {
                return Err(DidError::TooMany { what: "endpoints", count: list.len(), max: MAX_ENDPOINTS });
            }
            list.iter().map(|one| endpoint(one, service)).collect()
        }
        Some(one) => Ok(vec![endpoint(one, service)?]),
        None => Err(DidError::Member { member: "serviceEndpoint", expected: "present" }),
    }
}

fn endpoint(value: &Value, service: &Map<String, Value>) -> Result<Endpoint, DidError> {
    const WRONG: DidError =
        DidError::Member { member: "serviceEndpoint", expected: "a text, an object or an array of these" };
    // Older documents give a bare string and write its members next to it, in the service.
    let (uri, members) = match value {
        Value::String(_) => (value, service),
        Value::Object(object) => {
            let uri = object
                .get("uri")
                .ok_or(DidError::Member { member: "serviceEndpoint.uri", expected: "present" })?;
            // Seen in WACI documents: an array of one.
            (uri.as_array().and_then(|uris| uris.first()).unwrap_or(uri), object)
        }
        _ => return Err(WRONG),
    };
    let routing = if members.contains_key("routingKeys") { "routingKeys" } else { "routing_keys" };
    Ok(Endpoint {
        uri: text(uri, "serviceEndpoint.uri")?.to_owned(),
        accept: texts(members, "accept")?,
        routing_keys: texts(members, routing)?,
        multi_addrs: texts(members, "multiAddrs")?,
    })
}

/// A list of strings; absent and `null` mean empty.
fn texts(object: &Map<String, Value>, member: &'static str) -> Result<Vec<String>, DidError> {
    match object.get(member) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() > MAX_ENDPOINT_ENTRIES => {
            Err(DidError::TooMany { what: member, count: list.len(), max: MAX_ENDPOINT_ENTRIES })
        }
        Some(Value::Array(list)) => list.iter().map(|entry| Ok(text(entry, member)?.to_owned())).collect(),
        Some(_) => Err(DidError::Member { member, expected: "an array of texts" }),
    }
}

fn text<'v>(value: &'v Value, member: &'static str) -> Result<&'v str, DidError> {
    let text = value.as_str().ok_or(DidError::Member { member, expected: "a text" })?;
    if text.len() > MAX_SERVICE_TEXT_LEN {
        return Err(DidError::TooLong { what: member, len: text.len(), max: MAX_SERVICE_TEXT_LEN });
    }
    Ok(text)
}

fn absolute(base: &Did, reference: &str) -> String {
    if reference.starts_with('#') { format!("{base}{reference}") } else { reference.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<Service, DidError> {
        Service::from_json(&Did::parse("did:example:a").unwrap(), value, "#service")
    }

    fn full() -> Endpoint {
        Endpoint {
            uri: "https://mediator.example".into(),
            accept: vec![DIDCOMM_V2.into()],
            routing_keys: vec!["did:example:m#k".into()],
            multi_addrs: Vec::new(),
        }
    }

    #[test]
    fn object_array_and_bare_string_mean_the_same() {
        let members = json!({ "uri": "https://mediator.example", "accept": ["didcomm/v2"],
            "routingKeys": ["did:example:m#k"] });
        for value in [
            json!({ "id": "#s", "type": DIDCOMM_MESSAGING, "serviceEndpoint": members }),
            json!({ "id": "#s", "type": [DIDCOMM_MESSAGING], "serviceEndpoint": [members] }),
            json!({ "id": "#s", "type": DIDCOMM_MESSAGING, "serviceEndpoint": "https://mediator.example",
                "accept": ["didcomm/v2"], "routingKeys": ["did:example:m#k"] }),
            json!({ "id": "did:example:a#s", "type": DIDCOMM_MESSAGING, "serviceEndpoint": "https://mediator.example",
                "accept": ["didcomm/v2"], "routing_keys": ["did:example:m#k"] }),
            json!({ "id": "#s", "type": DIDCOMM_MESSAGING, "serviceEndpoint": [{ "uri": ["https://mediator.example"],
                "accept": ["didcomm/v2"], "routingKeys": ["did:example:m#k"] }] }),
        ] {
            let service = read(&value).unwrap();
            assert_eq!(
                (service.id.as_str(), service.endpoints),
                ("did:example:a#s", vec![full()]),
                "{value}"
            );
        }
    }

    #[test]
    fn emitted_services_are_read_back() {
        let bare = Endpoint { uri: "https://a.example".into(), ..Endpoint::default() };
        let libp2p = Endpoint { multi_addrs: vec!["/ip4/203.0.113.9/tcp/1".into()], ..full() };
        for (kind, endpoints) in [
            (DIDCOMM_MESSAGING, vec![full()]),
            (DIDCOMM_MESSAGING, vec![bare.clone(), libp2p]),
            ("LinkedDomains", vec![bare]),
        ] {
            let service = Service { id: "did:example:a#s".into(), kind: kind.into(), endpoints };
            assert_eq!(read(&service.to_json()).unwrap(), service);
        }
    }

    #[test]
    fn missing_id_is_filled_in_and_null_lists_are_empty() {
        let service = read(&json!({ "type": DIDCOMM_MESSAGING,
            "serviceEndpoint": { "uri": "u", "accept": null, "routingKeys": null } }));
        let service = service.unwrap();
        assert_eq!(service.id, "did:example:a#service");
        assert!(service.endpoints[0].accepts_didcomm_v2());
    }

    #[test]
    fn malformed_didcomm_service_is_refused_and_malformed_unknown_one_is_not() {
        let endpoints = [
            json!(null),
            json!(7),
            json!({}),
            json!({ "uri": 7 }),
            json!({ "uri": "u", "accept": "didcomm/v2" }),
            json!({ "uri": "u", "routingKeys": [7] }),
            json!(["u", 7]),
        ];
        for endpoint in endpoints {
            let service = json!({ "type": DIDCOMM_MESSAGING, "serviceEndpoint": endpoint });
            assert!(matches!(read(&service), Err(DidError::Member { .. })), "{service}");
            let service = json!({ "type": "LinkedDomains", "serviceEndpoint": endpoint });
            assert_eq!(read(&service).unwrap().endpoints, [], "{service}");
        }
        let without = json!({ "type": DIDCOMM_MESSAGING });
        assert_eq!(read(&without), Err(DidError::Member { member: "serviceEndpoint", expected: "present" }));
        for service in
            [json!("s"), json!({ "serviceEndpoint": "u" }), json!({ "type": [], "serviceEndpoint": "u" })]
        {
            assert!(matches!(read(&service), Err(DidError::Member { .. })), "{service}");
        }
    }

    #[test]
    fn numbers_and_lengths_are_bounded() {
        let many = json!({ "type": DIDCOMM_MESSAGING, "serviceEndpoint": vec!["u"; MAX_ENDPOINTS + 1] });
        assert!(matches!(read(&many), Err(DidError::TooMany { what: "endpoints", .. })));
        let keys = json!({ "type": DIDCOMM_MESSAGING,
            "serviceEndpoint": { "uri": "u", "routingKeys": vec!["k"; MAX_ENDPOINT_ENTRIES + 1] } });
        assert!(matches!(read(&keys), Err(DidError::TooMany { what: "routingKeys", .. })));
        let long =
            json!({ "type": DIDCOMM_MESSAGING, "serviceEndpoint": "u".repeat(MAX_SERVICE_TEXT_LEN + 1) });
        assert!(matches!(read(&long), Err(DidError::TooLong { .. })));
    }

    #[test]
    fn endpoint_of_another_profile_only_does_not_accept_didcomm_v2() {
        let other = Endpoint { accept: vec!["didcomm/aip2;env=rfc587".into()], ..full() };
        assert!(!other.accepts_didcomm_v2());
        assert!(full().accepts_didcomm_v2());
    }
}
