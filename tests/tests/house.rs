//! The repository itself: dependencies point one way, protocols do no I/O, files say what they are for.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use serde_json::Value;

/// Packages that nothing in `protocols/` may reach.
const WORLDLY: [&str; 10] =
    ["tokio", "libp2p", "sled", "axum", "reqwest", "hyper", "socket2", "mio", "async-std", "rustls"];

/// Each of our packages, and which others of ours it may use, including its tests.
const ARROWS: [(&str, &[&str]); 10] = [
    ("einmal-keys", &[]),
    ("einmal-did", &["einmal-keys"]),
    ("einmal-mutate", &[]),
    ("einmal-didcomm", &["einmal-keys", "einmal-did", "einmal-mutate"]),
    ("einmal-credentials", &["einmal-keys", "einmal-did", "einmal-mutate"]),
    ("einmal-flows", &["einmal-keys", "einmal-did", "einmal-didcomm"]),
    ("einmal-register", &[]),
    ("einmal-storage", &[]),
    ("einmal-p2p", &[]),
    (
        "einmal",
        &[
            "einmal-keys",
            "einmal-did",
            "einmal-didcomm",
            "einmal-credentials",
            "einmal-flows",
            "einmal-register",
            "einmal-storage",
            "einmal-p2p",
        ],
    ),
];

/// The modules of the node, bottom to top: each may use those before it.
const MODULES: [&str; 31] = [
    // The foundation.
    "error",
    "config",
    "clock",
    "steady",
    "log",
    "rates",
    "open_files",
    "db",
    "passphrase",
    "home",
    "guard",
    "command",
    // What handlers see.
    "identity",
    "resolve",
    "delivery",
    "transport",
    "handler",
    // What is handled, and the loop that handles it.
    "service",
    "role",
    "node",
    // What brings it in.
    "net",
    "mailbox",
    "mend",
    // Programs around a node.
    "backup",
    "control",
    "run",
    "child",
    "doctor",
    "bench",
    "conformance",
    "demo",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The workspace as cargo resolves it: packages by id, and what each uses, apart from its own tests.
struct Graph {
    names: BTreeMap<String, String>,
    folders: BTreeMap<String, PathBuf>,
    uses: BTreeMap<String, Vec<String>>,
    uses_in_tests: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
            .arg(root().join("Cargo.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (mut names, mut folders) = (BTreeMap::new(), BTreeMap::new());
        for package in metadata["packages"].as_array().unwrap() {
            names.insert(text(&package["id"]), text(&package["name"]));
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            folders.insert(text(&package["name"]), manifest.parent().unwrap().to_owned());
        }
        let (mut uses, mut uses_in_tests) = (BTreeMap::new(), BTreeMap::new());
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let of_kind = |wanted: fn(&Value) -> bool| -> Vec<String> {
                let kinds =
                    |dep: &&Value| dep["dep_kinds"].as_array().unwrap().iter().any(|k| wanted(&k["kind"]));
                node["deps"].as_array().unwrap().iter().filter(kinds).map(|dep| text(&dep["pkg"])).collect()
            };
            uses.insert(text(&node["id"]), of_kind(|kind| kind != "dev"));
            uses_in_tests.insert(text(&node["id"]), of_kind(|kind| kind == "dev"));
        }
        Self { names, folders, uses, uses_in_tests }
    }

    fn id(&self, name: &str) -> &str {
        let (id, _) = self.names.iter().find(|(_, known)| *known == name).unwrap();
        id
    }

    /// Names of all packages that `name` reaches, directly or not.
    fn reached(&self, name: &str) -> BTreeSet<&str> {
        let mut todo = VecDeque::from([self.id(name)]);
        let mut found = BTreeSet::new();
        while let Some(id) = todo.pop_front() {
            for next in &self.uses[id] {
                if found.insert(self.names[next].as_str()) {
                    todo.push_back(next);
                }
            }
        }
        found
    }

    fn protocols(&self) -> Vec<&str> {
        let inside = |(_, folder): &(&String, &PathBuf)| folder.parent() == Some(&root().join("protocols"));
        self.folders.iter().filter(inside).map(|(name, _)| name.as_str()).collect()
    }
}

#[test]
fn protocols_reach_no_runtime_no_store_and_no_network() {
    let graph = Graph::read();
    let protocols = graph.protocols();
    assert!(protocols.len() >= 6, "{protocols:?}");
    for name in protocols {
        let reached = graph.reached(name);
        let worldly: Vec<_> = WORLDLY.iter().filter(|worldly| reached.contains(**worldly)).collect();
        assert!(worldly.is_empty(), "{name} reaches {worldly:?}");
    }
    // The same walk finds them where they are expected.
    let node = graph.reached("einmal");
    for worldly in ["tokio", "sled", "axum", "reqwest", "hyper"] {
        assert!(node.contains(worldly), "the walk no longer finds {worldly} under the node");
    }
}

#[test]
fn arrows_between_our_packages_point_one_way() {
    let graph = Graph::read();
    for (name, allowed) in ARROWS {
        let id = graph.id(name);
        let ours =
            graph.uses[id].iter().chain(&graph.uses_in_tests[id]).map(|used| graph.names[used].as_str());
        for used in ours.filter(|used| used.starts_with("einmal")) {
            assert!(allowed.contains(&used), "{name} must not use {used}");
        }
    }
    for name in graph.protocols() {
        assert!(
            ARROWS.iter().any(|(known, _)| *known == name),
            "{name} has no place in the table of this test"
        );
    }
}

/// The modules named after `crate::`, outside of tests.
fn used_modules(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let text = |ahead: usize| tokens.get(at + ahead).map(ToString::to_string).unwrap_or_default();
        if text(0) == "#" && text(1).replace(' ', "") == "[cfg(test)]" {
            // Skips the attribute and its item, up to a body or a semicolon.
            at += 2;
            let ends = |token: &TokenTree| match token {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                other => other.to_string() == ";",
            };
            at += tokens[at..].iter().position(ends).unwrap_or(0) + 1;
            continue;
        }
        if text(0) == "crate" && text(1) == ":" && text(2) == ":" {
            match tokens.get(at + 3) {
                Some(TokenTree::Ident(module)) => {
                    found.insert(module.to_string());
                }
                Some(TokenTree::Group(group)) => found.extend(heads(group.stream())),
                _ => {}
            }
        }
        if let TokenTree::Group(group) = token {
            used_modules(group.stream(), found);
        }
        at += 1;
    }
}

/// The first part of each entry in an import list.
fn heads(list: TokenStream) -> Vec<String> {
    let mut heads = Vec::new();
    let mut begins = true;
    for token in list {
        if begins {
            heads.push(token.to_string());
        }
        begins = token.to_string() == ",";
    }
    heads
}

#[test]
fn modules_of_the_node_use_only_those_below_them() {
    let inside = Path::new("agent/src");
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in sources() {
        let Ok(within) = file.strip_prefix(inside) else { continue };
        let name = within.components().next().unwrap().as_os_str().to_str().unwrap();
        // `cli` is the top; `lib` and `main` only lead to it.
        let module = name.trim_end_matches(".rs").to_owned();
        if !["cli", "lib", "main"].contains(&module.as_str()) && !is_of_tests(&file) {
            used_modules(text.parse().unwrap(), used.entry(module).or_default());
        }
    }
    if used.is_empty() {
        return;
    }
    let place = |module: &str| MODULES.iter().position(|known| *known == module);
    for (module, uses) in &used {
        let own =
            place(module).unwrap_or_else(|| panic!("`{module}` has no place in the table of this test"));
        for other in uses.iter().filter(|other| *other != module) {
            assert!(place(other).is_some_and(|below| below < own), "`{module}` must not use `{other}`");
        }
    }
    // The same walk finds what is expected there.
    assert!(
        used["node"].contains("handler") && used["net"].contains("node") && used["role"].contains("service")
    );
}

/// Files under version control or about to be; `None` outside of a checkout.
fn files() -> Option<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|output| output.status.success());
    let Some(output) = output else {
        eprintln!("skipped: no git checkout at the project's root");
        return None;
    };
    let names = String::from_utf8(output.stdout).unwrap();
    let files: Vec<PathBuf> = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .filter(|f| root().join(f).is_file())
        .collect();
    assert!(files.len() > 100, "only {} files are found", files.len());
    Some(files)
}

/// The text files, with their text.
fn texts() -> Vec<(PathBuf, String)> {
    let files = files().unwrap_or_default().into_iter();
    files.filter_map(|file| Some((file.clone(), fs::read_to_string(root().join(file)).ok()?))).collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    texts()
        .into_iter()
        .filter(|(file, _)| file.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

#[test]
fn only_fuzzing_makes_messages_whose_sender_nothing_proves() {
    let feature = "unproved-messages";
    let asks = |(file, text): &(PathBuf, String)| file.ends_with("Cargo.toml") && text.contains(feature);
    let asking: Vec<PathBuf> = texts().into_iter().filter(asks).map(|(file, _)| file).collect();
    if asking.is_empty() && files().is_none() {
        return;
    }
    assert_eq!(asking, ["protocols/flows/Cargo.toml", "tests/fuzz-corpus/Cargo.toml"].map(PathBuf::from));
    assert!(!Graph::read().reached("einmal").contains("einmal-fuzz-corpus"));
}

#[test]
fn every_source_file_opens_by_saying_what_it_is_for() {
    let silent: Vec<PathBuf> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(file, _)| file).collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn nothing_is_left_to_be_done() {
    // Assembled here, so that this file does not accuse itself.
    let marks = ["TO", "FIX", "todo", "unimplemented"].map(|mark| match mark {
        "TO" => "TODO".to_owned(),
        "FIX" => "FIXME".to_owned(),
        other => format!("{other}!("),
    });
    for (file, text) in sources() {
        if file.ends_with("tests/tests/house.rs") {
            continue;
        }
        for mark in &marks {
            assert!(!text.contains(mark), "{} contains {mark}", file.display());
        }
    }
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let folders = ["work", "home", "root", "Users"].map(|name| format!("/{name}/"));
    for (file, text) in texts() {
        for folder in &folders {
            for (place, _) in text.match_indices(folder.as_str()) {
                let before = text[..place].chars().next_back();
                // A relative path or a URL may have such a part; an absolute path begins with it.
                let inside = before.is_some_and(|c| c.is_alphanumeric() || "._-~/}*$".contains(c));
                assert!(inside, "{} names a path under {folder}", file.display());
            }
        }
    }
}

#[test]
fn packages_come_from_the_public_index_only() {
    const PUBLIC: &str = "registry+https://github.com/rust-lang/crates.io-index";
    let telling = ["artifact", "mirror", "nexus", "proxy", "registry", "internal"];
    for (file, text) in texts() {
        if file.file_name().is_some_and(|name| name == "Cargo.lock") {
            for line in text.lines().filter(|line| line.starts_with("source = ")) {
                assert_eq!(line, format!("source = \"{PUBLIC}\""), "{}", file.display());
            }
        }
        for (place, scheme) in text.match_indices("://") {
            let host: String = text[place + scheme.len()..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
                .collect();
            // Names reserved for examples are nobody's hosts.
            if host.ends_with(".example") || host.ends_with(".test") || host.ends_with(".invalid") {
                continue;
            }
            let told =
                telling.iter().find(|word| host.split(['.', '-']).any(|label| label.starts_with(**word)));
            assert!(told.is_none(), "{} names the host {host}", file.display());
        }
    }
}

/// Whether a source file has only tests.
fn is_of_tests(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let folders = file.iter().any(|part| part == "tests" || part == "examples" || part == "benches");
    folders || name.ends_with("tests.rs") || matches!(name.as_ref(), "testing.rs" | "test_support.rs")
}

#[test]
fn protocols_read_no_clock_no_file_and_no_socket() {
    let worldly =
        ["SystemTime::now", "Instant::now", "std::net", "std::fs", "std::env", "std::process", "std::thread"];
    let mut seen = 0;
    for (file, text) in sources() {
        if !file.starts_with("protocols") || is_of_tests(&file) {
            continue;
        }
        seen += 1;
        let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in own.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for word in worldly {
                assert!(!line.contains(word), "{}: {line}", file.display());
            }
        }
    }
    assert!(seen > 60 || files().is_none(), "only {seen} sources of protocols were looked at");
}

/// Tests named in the checklist as `path::name`.
fn cited(text: &str) -> Vec<(&str, &str)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.rsplit_once("::"))
        .filter(|(path, _)| path.ends_with(".rs"))
        .collect()
}

#[test]
fn every_test_the_checklist_cites_exists() {
    let file = root().join("docs/negative-tests.md");
    let text = fs::read_to_string(&file).unwrap();
    let cited = cited(&text);
    assert!(cited.len() > 80, "only {} tests are cited", cited.len());
    for (path, name) in cited {
        let source =
            fs::read_to_string(root().join(path)).unwrap_or_else(|_| panic!("{path} does not exist"));
        let place =
            source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{path} has no test {name}"));
        let before: String = source[..place].lines().rev().take(4).collect();
        let is_test = before.contains("#[test]") || before.contains("#[tokio::test]");
        assert!(is_test, "{path}: {name} is no test");
    }
}
