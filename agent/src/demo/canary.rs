//! Texts that must not be found, and a scanner that knows them in every form a message could carry them in.

use einmal_keys::base64url_encode;
use serde_json::{Value, json};

/// Shortest text searched for: at least eight of its characters then show in base64 wherever it begins, and shorter
/// ones occur by chance among megabytes of envelopes.
const SHORTEST: usize = 7;
/// Shortest piece of base64 searched for.
const SHORTEST_PIECE: usize = 8;
/// Possible offsets of a text in the groups of three bytes that base64 encodes.
const ALIGNMENTS: usize = 3;

/// A text that must not be found, with a name that may be printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Canary {
    pub(super) name: &'static str,
    text: String,
}

impl Canary {
    /// A canary, unless the text is too short to mean anything.
    pub(super) fn new(name: &'static str, text: &str) -> Option<Self> {
        (text.len() >= SHORTEST).then(|| Self { name, text: text.to_owned() })
    }

    /// The text itself; not to be printed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The text as it appears in plain text and within JSON, which may escape non-ASCII characters.
    fn spellings(&self) -> Vec<String> {
        let json = Value::from(self.text.as_str()).to_string();
        let inner = json.get(1..json.len() - 1).unwrap_or_default();
        let ascii = |upper: bool| {
            let escape = |unit: u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
            let mut text = String::new();
            for character in inner.chars() {
                if character.is_ascii() {
                    text.push(character);
                } else {
                    text.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| escape(*unit)));
                }
            }
            text
        };
        distinct([self.text.clone(), inner.to_owned(), ascii(false), ascii(true)])
    }

    /// Everything to search for: each spelling, its base64url and base64, and the base64url of those, as when a
    /// disclosure is carried in an attachment.
    fn forms(&self) -> Vec<String> {
        let mut forms = self.spellings();
        for spelling in self.spellings() {
            let once: Vec<String> = (0..ALIGNMENTS).map(|offset| piece(&spelling, offset)).collect();
            for text in &once {
                forms.push(text.replace('-', "+").replace('_', "/"));
                forms.extend((0..ALIGNMENTS).map(|offset| piece(text, offset)));
            }
            forms.extend(once);
        }
        forms.retain(|form| form.len() >= SHORTEST_PIECE || form == &self.text);
        distinct(forms)
    }
}

fn distinct(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.into_iter().collect();
    texts.sort();
    texts.dedup();
    texts
}

/// The part of `text` that shows in base64url if it begins `offset` bytes into a group of three, whatever surrounds it.
fn piece(text: &str, offset: usize) -> String {
    let encoded = base64url_encode([vec![0; offset], text.as_bytes().to_vec()].concat());
    // Characters that also hold bits of the neighbours say nothing.
    let first = (offset * 8).div_ceil(6);
    let last = (offset + text.len()) * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_owned()
}

struct Needle {
    name: &'static str,
    bytes: Vec<u8>,
}

/// Searches for canaries in all their forms.
pub(super) struct Scanner {
    canaries: Vec<Canary>,
    needles: Vec<Needle>,
    /// Needles by their first two bytes, so that a scan reads the bytes once.
    by_start: Vec<Vec<usize>>,
}

impl Scanner {
    pub(super) fn new<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> Self {
        let canaries: Vec<Canary> = canaries.into_iter().cloned().collect();
        let mut scanner =
            Self { canaries, needles: Vec::new(), by_start: vec![Vec::new(); usize::from(u16::MAX) + 1] };
        for canary in &scanner.canaries {
            for form in canary.forms() {
                let bytes = form.into_bytes();
                let start = bytes.first_chunk::<2>().map(|start| usize::from(u16::from_be_bytes(*start)));
                if let Some(list) = start.and_then(|start| scanner.by_start.get_mut(start)) {
                    list.push(scanner.needles.len());
                    scanner.needles.push(Needle { name: canary.name, bytes });
                }
            }
        }
        scanner
    }

    /// The name of the first canary in `bytes`.
    pub(super) fn found(&self, bytes: &[u8]) -> Option<&'static str> {
        let mut rest = bytes;
        while let Some(start) = rest.first_chunk::<2>() {
            let known =
                self.by_start.get(usize::from(u16::from_be_bytes(*start))).map_or(&[][..], Vec::as_slice);
            let hit = known
                .iter()
                .filter_map(|index| self.needles.get(*index))
                .find(|needle| rest.starts_with(&needle.bytes));
            if let Some(needle) = hit {
                return Some(needle.name);
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        None
    }

    /// Fails with the name of the first canary found in `bytes`.
    pub(super) fn clean(&self, place: &str, bytes: &[u8]) -> Result<(), String> {
        self.found(bytes).map_or(Ok(()), |name| Err(format!("{place} contains {name}")))
    }

    /// Plants every canary in every form and fails if one is missed; returns how many were planted. Otherwise a scanner
    /// that finds nothing anywhere would look like a clean place.
    pub(super) fn finds_what_is_planted(&self) -> Result<usize, String> {
        let mut planted = 0;
        for canary in &self.canaries {
            for (way, bytes) in planted_forms(canary.text()) {
                planted += 1;
                if self.found(&bytes).is_none() {
                    return Err(format!("the scanner passes over {} {way}", canary.name));
                }
            }
        }
        let bland = base64url_encode(vec![b' '; 4096]);
        self.clean("a text without anything in it", bland.as_bytes())?;
        if planted == 0 { Err("there is nothing to look for".into()) } else { Ok(planted) }
    }
}

/// A text as messages, stores and logs may carry it.
fn planted_forms(text: &str) -> Vec<(String, Vec<u8>)> {
    let document = json!({"body": {"content": format!("{text}.")}}).to_string();
    let mut forms = vec![
        ("in plain text".to_owned(), format!("before {text} behind").into_bytes()),
        ("in JSON".to_owned(), document.clone().into_bytes()),
    ];
    for offset in 0..ALIGNMENTS {
        let shifted = base64url_encode(format!("{}{document}", "x".repeat(offset)));
        forms.push((format!("in base64url at offset {offset}"), shifted.clone().into_bytes()));
        for outer in 0..ALIGNMENTS {
            let twice = base64url_encode(format!("{}{shifted}", "x".repeat(outer)));
            forms.push((format!("in base64url twice, at offsets {offset} and {outer}"), twice.into_bytes()));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner(text: &str) -> Scanner {
        Scanner::new(&[Canary::new("a name", text).unwrap()])
    }

    #[test]
    fn every_planted_form_is_found_also_of_texts_with_umlauts_and_quotes() {
        for text in ["Schwarz", "Müller-Lüdenscheidt", "Henßß", "O\"Neill\\Söhne", "29.11.1992", "陈小明"]
        {
            // Plain and JSON, three alignments, and each of these once more.
            assert_eq!(scanner(text).finds_what_is_planted().unwrap(), 2 + 3 + 9, "{text}");
        }
    }

    #[test]
    fn escaped_spellings_of_json_are_found() {
        for (text, escaped) in
            [("Müllerin", r"M\u00fcllerin"), ("Müllerin", r"M\u00FCllerin"), ("a\"bcdefg", r#"a\"bcdefg"#)]
        {
            assert_eq!(scanner(text).found(escaped.as_bytes()), Some("a name"), "{escaped}");
            for offset in 0..ALIGNMENTS {
                let encoded = base64url_encode(format!("{}{escaped}{{", "{".repeat(offset)));
                assert_eq!(scanner(text).found(encoded.as_bytes()), Some("a name"), "{escaped} at {offset}");
            }
        }
    }

    #[test]
    fn base64_with_the_other_alphabet_is_found() {
        let text = "ÿþÿþÿþÿ";
        let encoded = base64url_encode(text).replace('-', "+").replace('_', "/");
        assert!(encoded.contains(['+', '/']), "{encoded}");
        assert_eq!(scanner(text).found(encoded.as_bytes()), Some("a name"));
    }

    #[test]
    fn neighbours_of_a_text_do_not_hide_it() {
        let name = scanner("Schwarz");
        for before in 0u8..=6 {
            let bytes = [vec![0xff; before.into()], b"Schwarz".to_vec(), vec![0xff; 5]].concat();
            assert_eq!(name.found(base64url_encode(bytes).as_bytes()), Some("a name"), "{before}");
        }
    }

    #[test]
    fn another_text_is_not_found() {
        let name = scanner("Schwarz");
        for text in ["Schwarc", "schwarz", "Schwar", "", "S"] {
            assert_eq!(name.found(text.as_bytes()), None, "{text}");
            assert_eq!(name.found(base64url_encode(text).as_bytes()), None, "{text}");
        }
        assert!(name.clean("here", b"x Schwarz x").unwrap_err().contains("here contains a name"));
    }

    #[test]
    fn a_text_too_short_to_mean_anything_is_no_canary() {
        assert!(Canary::new("a name", "Franke").is_none());
        assert!(Canary::new("a name", "Francke").is_some());
    }

    #[test]
    fn a_scanner_that_looks_for_nothing_does_not_pass_its_own_test() {
        assert!(Scanner::new(&[]).finds_what_is_planted().unwrap_err().contains("nothing to look for"));
    }

    #[test]
    fn a_scanner_that_passes_over_a_form_does_not_pass_its_own_test() {
        let mut blind = scanner("Schwarz");
        let plain = |needle: &Needle| needle.bytes == b"Schwarz";
        for list in &mut blind.by_start {
            list.retain(|index| plain(&blind.needles[*index]));
        }
        assert!(blind.finds_what_is_planted().unwrap_err().contains("base64url"));
    }
}
