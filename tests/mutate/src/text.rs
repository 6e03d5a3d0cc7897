//! Texts similar to a given one, which a reader of base64, a DID URL or an identifier might mistake for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The alphabet of base64url, in the order of its values.
const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What was changed, and the resulting text.
type Near = (String, String);

/// Texts that differ slightly from `text`: the change, and the new text, which is never the old one.
pub fn close_to(text: &str) -> Vec<Near> {
    let mut out = with_other_characters(text);
    out.extend(with_other_ends(text));
    if text.starts_with("did:") {
        out.extend(with_other_did(text));
    }
    if let Ok(parsed) = serde_json::from_str::<Value>(text) {
        out.push(("JSON of itself".into(), json!(parsed).to_string()));
    }
    out.retain(|(_, new)| new != text);
    out
}

/// Changes every character of short texts, some of long ones, and the ends of all.
fn with_other_characters(text: &str) -> Vec<Near> {
    let mut out: Vec<Near> = Vec::new();
    let chars: Vec<char> = text.chars().collect();
    let step = (chars.len() / 8).max(1);
    let places: BTreeSet<usize> =
        (0..chars.len()).step_by(step).chain(chars.len().saturating_sub(3)..chars.len()).collect();
    for at in places {
        let mut add = |what: &str, change: &dyn Fn(&mut Vec<char>)| {
            let mut changed = chars.clone();
            change(&mut changed);
            out.push((what.to_owned(), changed.into_iter().collect()));
        };
        for new in ['A', '_'] {
            add("one character", &|chars| chars[at] = new);
        }
        add("case of one character", &|chars| {
            let here = chars[at];
            let lower = here.is_ascii_lowercase();
            chars[at] = if lower { here.to_ascii_uppercase() } else { here.to_ascii_lowercase() };
        });
        add("one character less", &|chars| _ = chars.remove(at));
        add("one character more", &|chars| chars.insert(at, '-'));
    }
    // The last character of base64 may hold unused bits.
    if let Some((last, rest)) = chars.split_last() {
        for new in ALPHABET.chars().filter(|new| new != last).step_by(7) {
            out.push(("last character".into(), rest.iter().chain([&new]).collect()));
        }
    }
    for cut in 1..=4.min(chars.len()) {
        out.push(("cut off".into(), chars[..chars.len() - cut].iter().collect()));
    }
    out.push(("alphabet of plain base64".into(), text.replace('-', "+").replace('_', "/")));
    out.push(("all upper case".into(), text.to_uppercase()));
    out.push(("all lower case".into(), text.to_lowercase()));
    out
}

/// Adds something before it, after it, or in the middle.
fn with_other_ends(text: &str) -> Vec<Near> {
    let mut out: Vec<Near> = Vec::new();
    for end in ["=", "==", "===", "A", "AA", "AAAA", " ", "\n", ".", "\u{0}"] {
        out.push((format!("{end:?} at the end"), format!("{text}{end}")));
        out.push((format!("{end:?} at the beginning"), format!("{end}{text}")));
    }
    if let Some((half, other)) = text.split_at_checked(text.len() / 2) {
        for between in ["\n", " ", "\r\n", "="] {
            out.push(("something between".into(), format!("{half}{between}{other}")));
        }
    }
    out
}

/// Another DID, key or spelling in place of a DID or DID URL.
fn with_other_did(text: &str) -> Vec<Near> {
    let (name, fragment) = text.split_once('#').unwrap_or((text, ""));
    let first = fragment.bytes().next().unwrap_or(b'x');
    let encoded = format!("{name}#%{first:02x}{}", fragment.get(1..).unwrap_or_default());
    let mut out: Vec<Near> = [
        ("another DID", format!("did:example:mallory#{fragment}")),
        ("DID in other case", format!("{}#{fragment}", name.to_uppercase())),
        ("query", format!("{name}?a=b#{fragment}")),
        ("path", format!("{name}/a#{fragment}")),
        ("no fragment", name.to_owned()),
        ("fragment alone", format!("#{fragment}")),
        ("two fragments", format!("{text}#{fragment}")),
        ("encoded fragment", encoded),
        ("another key", format!("{name}#agree-p-384")),
        ("another use", format!("{name}#auth-ed25519")),
        ("a key nobody has", format!("{name}#key-9")),
    ]
    .map(|(what, new)| (what.to_owned(), new))
    .into();
    if let Some((short, _)) = name.rsplit_once(":z") {
        out.push(("short form".into(), format!("{short}#{fragment}")));
    }
    out
}
