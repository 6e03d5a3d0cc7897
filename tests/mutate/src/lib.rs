//! Every single change to a JSON text that a hostile or careless writer might make, for testing its readers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod text;

use serde_json::{Map, Value, json};

pub use text::close_to;

/// The name under which serde_json passes raw JSON to itself. Code that reads a `Value` from a `Value`, or from
/// storage, parses the text under it without any bounds of a strict reader.
const RAW: &str = "$serde_json::private::RawValue";

/// Prefix of [`Change::what`] if a known member was added; its name, a colon and the kind of its value follow.
pub const ADDED: &str = "known member ";

/// Marks a place whose text is written by hand.
const MARK: &str = "\u{1}MARK\u{1}";

/// A JSON text that differs from a valid one in one place.
#[derive(Clone, Debug)]
pub struct Change {
    /// JSON pointer to the place, in the valid text.
    pub path: String,
    /// What was done there.
    pub what: String,
    /// The whole changed text; not always JSON.
    pub text: String,
}

/// All paths of a value, parents first.
pub fn paths(value: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, out: &mut Vec<String>) {
        out.push(path.to_owned());
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(name, value)| walk(value, &format!("{path}/{name}"), out))
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(at, value)| walk(value, &format!("{path}/{at}"), out));
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(value, "", &mut out);
    out
}

/// A path with every list index written as `#`.
pub fn general(path: &str) -> String {
    let part = |part: &str| {
        if part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty() {
            "#".to_owned()
        } else {
            part.to_owned()
        }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The value without the member or entry at `path`.
fn without(value: &Value, path: &str) -> Option<Value> {
    let mut changed = value.clone();
    let (parent, name) = path.rsplit_once('/')?;
    match changed.pointer_mut(parent)? {
        Value::Object(map) => drop(map.remove(name)?),
        Value::Array(list) => drop(list.remove(name.parse().ok()?)),
        _ => return None,
    }
    Some(changed)
}

/// The value with `new` in place of what is at `path`.
pub fn replaced(value: &Value, path: &str, new: Value) -> Value {
    let mut changed = value.clone();
    *changed.pointer_mut(path).unwrap() = new;
    changed
}

/// All changes of `value`, place by place; objects also get each missing member of `known`.
pub fn changes(value: &Value, known: &[&str]) -> Vec<Change> {
    let mut out = Vec::new();
    for path in paths(value) {
        let mut place =
            Place { whole: value, path: &path, here: value.pointer(&path).unwrap(), out: Vec::new() };
        place.exchange();
        place.name_twice();
        match place.here {
            Value::Object(map) => place.in_object(map, known),
            Value::Array(list) => place.in_list(list),
            Value::String(text) => place.in_text(text),
            Value::Number(number) => place.in_number(number),
            _ => {}
        }
        out.append(&mut place.out);
    }
    out
}

/// One place of a value, and the changes made there.
struct Place<'a> {
    whole: &'a Value,
    path: &'a str,
    here: &'a Value,
    out: Vec<Change>,
}

impl Place<'_> {
    fn add(&mut self, what: impl Into<String>, text: String) {
        self.out.push(Change { path: self.path.to_owned(), what: what.into(), text });
    }

    /// Puts another value in this place.
    fn put(&mut self, what: impl Into<String>, new: Value) {
        self.add(what, replaced(self.whole, self.path, new).to_string());
    }

    /// Writes another text in this place, JSON or not.
    fn write(&mut self, what: impl Into<String>, text: &str) {
        let marked = replaced(self.whole, self.path, json!(MARK)).to_string();
        self.add(what, marked.replace(&json!(MARK).to_string(), text));
    }

    /// Removes this place, or puts a value of another kind there.
    fn exchange(&mut self) {
        if let Some(changed) = without(self.whole, self.path) {
            self.add("remove", changed.to_string());
        }
        let here = self.here;
        for (what, new) in [
            ("null", Value::Null),
            ("true", json!(true)),
            ("number", json!(7)),
            ("negative", json!(-1)),
            ("text", json!("x")),
            ("empty text", json!("")),
            ("empty list", json!([])),
            ("empty object", json!({})),
            ("in a list", json!([here])),
            ("in an object", json!({"x": here})),
        ] {
            if new != *here {
                self.put(what, new);
            }
        }
    }

    /// Names the member twice, in the text since JSON values cannot express it; or names it in capitals.
    fn name_twice(&mut self) {
        let Some((parent, name)) = self.path.rsplit_once('/') else { return };
        if !self.whole.pointer(parent).is_some_and(Value::is_object) {
            return;
        }
        let (here, quoted) = (self.here, json!(name));
        for (what, again) in
            [("twice", here.clone()), ("twice, first other", json!("x")), ("twice, null", Value::Null)]
        {
            self.write(what, &format!("{again},{quoted}:{here}"));
            self.write(format!("{what}, last"), &format!("{here},{quoted}:{again}"));
        }
        self.add("other case", renamed(self.whole, parent, name, &name.to_uppercase()));
    }

    fn in_object(&mut self, map: &Map<String, Value>, known: &[&str]) {
        let here = self.here;
        self.put("unknown member", with_member(map, "x-unknown", json!({"a": [1]})));
        let comma = if map.is_empty() { "" } else { "," };
        let inner = here.to_string();
        let twice = format!("{{\"x-unknown\":1,\"x-unknown\":2{comma}{}", &inner[1..]);
        self.write("unknown member named twice", &twice);
        for name in known.iter().filter(|name| !map.contains_key(**name)) {
            for (kind, new) in [
                ("text", json!("DEF")),
                ("null", Value::Null),
                ("object", json!({"kid": "did:example:mallory#agree-x25519"})),
            ] {
                self.put(format!("{ADDED}{name}: {kind}"), with_member(map, name, new));
            }
        }
        for inner in ["[1]", "{"] {
            let named = json!({RAW: inner});
            self.put("name of raw JSON alone", named.clone());
            self.put("name of raw JSON within", with_member(map, "x-raw", named));
        }
        if map.len() > 1 {
            let members: Vec<String> =
                map.iter().rev().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
            self.write("reorder", &format!("{{{}}}", members.join(",")));
        }
        self.write("space", &format!(" \n{here}\t "));
    }

    fn in_list(&mut self, list: &[Value]) {
        if list.len() > 1 {
            self.put("reverse", list.iter().rev().cloned().collect());
        }
        if let Some(first) = list.first() {
            self.put("entry twice", list.iter().chain([first]).cloned().collect());
            self.put("entry seventy times", json!(vec![first; 70]));
        }
    }

    fn in_text(&mut self, text: &str) {
        for (what, new) in close_to(text) {
            self.put(what, json!(new));
        }
        let inner = self.here.to_string();
        if let Some(first) = text.chars().next() {
            let escaped = format!("\"\\u{:04x}{}", u32::from(first), &inner[1 + first.len_utf8()..]);
            self.write("escape", &escaped);
        }
        for bad in ["\\ud800", "\\u0000", "\\x41", "\u{7f}"] {
            self.write(format!("raw {bad}"), &format!("\"{bad}{}", &inner[1..]));
        }
    }

    fn in_number(&mut self, number: &serde_json::Number) {
        for new in [number.as_i64().unwrap_or(0) + 1, 0, i64::MAX] {
            self.put("another number", json!(new));
        }
        self.put("as text", json!(number.to_string()));
        self.put("as fraction", json!(number.as_f64().unwrap_or(0.5) + 0.5));
    }
}

fn with_member(map: &Map<String, Value>, name: &str, new: Value) -> Value {
    let mut more = map.clone();
    more.insert(name.to_owned(), new);
    Value::Object(more)
}

fn renamed(value: &Value, parent: &str, name: &str, new: &str) -> String {
    let mut changed = value.clone();
    if let Some(Value::Object(map)) = changed.pointer_mut(parent) {
        let inner = map.remove(name).unwrap();
        map.insert(new.to_owned(), inner);
    }
    changed.to_string()
}
