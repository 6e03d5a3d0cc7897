//! The command as a person or a script sees it: help, exit statuses, errors with remedies, and the story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use einmal_flows::out_of_band::Invitation;
use einmal_tests::Einmal;
use serde_json::Value;

/// The program under test.
const EINMAL: Einmal = Einmal(env!("CARGO_BIN_EXE_einmal-under-test"));

/// Every step of the story, in order.
const STORY: [&str; 13] = [
    "nodes-up",
    "mediation-granted",
    "resident-card-issued",
    "library-card-issued",
    "library-accepts",
    "false-name-refused",
    "replay-refused",
    "tampered-refused",
    "foreign-issuer-refused",
    "expired-refused",
    "revoked-refused",
    "mediator-killed-and-back",
    "mediator-blind",
];

fn run(arguments: &[&str]) -> Output {
    EINMAL.run(arguments)
}

/// Exit status, standard output and standard error.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn fails(output: &Output, status: i32, words: &[&str]) {
    let (code, out, err) = told(output);
    assert_eq!(code, status, "standard output: {out}\nstandard error: {err}");
    for word in words {
        assert!(err.contains(word), "`{word}` is not in: {err}");
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A mediator's folder, ready to run on any free port.
fn mediator(folder: &Path) -> String {
    let dir = folder.join("mediator");
    let made = run(&["init", "mediator", "--dir", path(&dir), "--listen", "127.0.0.1:0"]);
    assert!(made.status.success(), "{:?}", told(&made));
    path(&dir).to_owned()
}

/// The verbs a help text lists.
fn verbs(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect()
}

/// All verbs, including groups, as the words to type.
fn all_verbs() -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut todo = vec![Vec::<String>::new()];
    while let Some(words) = todo.pop() {
        let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        arguments.push("--help");
        let (code, out, err) = told(&run(&arguments));
        assert_eq!(code, 0, "{words:?} --help: {err}");
        assert!(err.is_empty(), "help belongs on standard output: {err}");
        for verb in verbs(&out) {
            todo.push(words.iter().cloned().chain([verb]).collect());
        }
        found.push((words, out));
    }
    found
}

#[test]
fn every_verb_has_help_and_says_what_it_does() {
    let found = all_verbs();
    let known: Vec<String> = found.iter().map(|(words, _)| words.join(" ")).collect();
    for verb in [
        "demo",
        "init",
        "run",
        "invite",
        "accept",
        "city offer",
        "city revoke",
        "city issued",
        "city register",
        "citizen list",
        "citizen show",
        "citizen export",
        "citizen pending",
        "merchant request",
        "merchant result",
        "send",
        "inbox",
        "status",
        "doctor",
    ] {
        assert!(known.iter().any(|one| one == verb), "{verb} is missing from {known:?}");
    }
    for (words, help) in &found {
        assert!(help.contains("Usage: "), "{words:?}: {help}");
        assert!(!help.lines().next().unwrap_or_default().is_empty(), "{words:?} does not say what it does");
    }
}

#[test]
fn every_verb_that_does_something_shows_an_example() {
    for (words, help) in all_verbs() {
        if verbs(&help).is_empty() {
            assert!(help.contains("Example"), "`einmal {}` shows no example", words.join(" "));
            assert!(help.contains(&format!("einmal {}", words.join(" "))), "{words:?}: {help}");
        }
    }
}

#[test]
fn wrong_use_ends_with_status_2() {
    fails(&run(&[]), 2, &["Usage"]);
    fails(&run(&["dance"]), 2, &["dance", "--help"]);
    fails(&run(&["run"]), 2, &["--dir"]);
    fails(&run(&["run", "--dir", "x", "--listen", "somewhere"]), 2, &["--listen"]);
    fails(&run(&["init", "king", "--dir", "x"]), 2, &["king", "city, merchant, citizen, mediator"]);
    let mut of_city = Invitation::new("1".try_into().unwrap(), "did:web:city.example".parse().unwrap());
    of_city.goal_code = Some("einmal.connect".into());
    for (mediator, why) in
        [(of_city.to_url("https://city.example"), "einmal.connect"), ("foo".into(), "no invitation")]
    {
        let refused = run(&["init", "citizen", "--dir", "x", "--mediator", &mediator]);
        fails(&refused, 2, &[why, "at the mediator"]);
    }
    fails(&run(&["city", "offer", "resident-card", "--dir", "x"]), 2, &["--person"]);
    fails(&run(&["city", "revoke", "x", "--dir", "x"]), 2, &["--reason"]);
    fails(&run(&["merchant", "result", "x", "--wait", "soon", "--dir", "x"]), 2, &["--wait"]);
}

#[test]
fn flag_of_another_role_is_wrong_use_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("node");
    for (role, flag, value) in [
        ("mediator", "--description", path(folder.path())),
        ("city", "--requests", path(folder.path())),
        ("city", "--trust", "did:web:a.example"),
        ("merchant", "--mediator", "http://127.0.0.1:7000/"),
        ("citizen", "--status-ttl", "5"),
        ("citizen", "--name", "Anna"),
        ("citizen", "--listen", "127.0.0.1:0"),
        ("citizen", "--public-url", "https://anna.example"),
    ] {
        fails(
            &run(&["init", role, "--dir", path(&dir), flag, value]),
            2,
            &[flag, role, "einmal init --help"],
        );
        assert!(!dir.exists(), "{role} {flag}");
    }
    let url = "https://city.example/agent";
    fails(&run(&["init", "city", "--dir", path(&dir), "--public-url", url]), 2, &["https://city.example"]);
    assert!(!dir.exists());
}

#[test]
fn missing_node_names_the_command_that_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = path(folder.path());
    for arguments in [
        vec!["run"],
        vec!["status"],
        vec!["invite"],
        vec!["inbox"],
        vec!["send", "--to", "x", "hello"],
        vec!["accept", "http://127.0.0.1/?_oob=e30"],
        vec!["citizen", "list"],
        vec!["city", "issued"],
        vec!["merchant", "request", "x"],
    ] {
        let arguments: Vec<&str> = arguments.into_iter().chain(["--dir", dir]).collect();
        fails(&run(&arguments), 1, &["einmal init", dir]);
    }
}

#[test]
fn verb_on_a_node_that_does_not_run_names_the_command_that_runs_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    fails(&run(&["status", "--dir", &dir]), 1, &["no node runs", "einmal run --dir"]);
}

#[test]
fn errors_are_one_json_object_for_scripts() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["status", "--json", "--dir", path(folder.path())]);
    let (code, out, err) = told(&output);
    assert_eq!((code, out.as_str()), (1, ""));
    let error: Value = serde_json::from_str(err.trim()).unwrap();
    assert!(error["error"].as_str().unwrap().contains("einmal init"), "{error}");
}

#[test]
fn wrong_use_is_one_json_object_for_scripts_too() {
    for arguments in
        [&["--json", "statsu"][..], &["status", "--json"], &["accept", "--wait", "x", "--json", "--dir", "x"]]
    {
        let (code, out, err) = told(&run(arguments));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        let error: Value =
            serde_json::from_str(err.trim()).unwrap_or_else(|_| panic!("{arguments:?}: {err}"));
        assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        assert!(error["remedy"].as_str().unwrap().contains("--help"), "{error}");
    }
    // Behind `--` it is a word like any other.
    fails(&run(&["statsu", "--", "--json"]), 2, &["error: unrecognized"]);
}

#[test]
fn second_init_is_refused_and_keeps_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let key = fs::read(Path::new(&dir).join("store.key")).unwrap();
    fails(&run(&["init", "citizen", "--dir", &dir]), 1, &["already holds a node", "empty folder"]);
    assert_eq!(fs::read(Path::new(&dir).join("store.key")).unwrap(), key);
    assert!(fs::read_to_string(Path::new(&dir).join("einmal.toml")).unwrap().contains("mediator"));
}

#[test]
fn wrong_passphrase_is_refused_and_the_right_one_opens() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("node");
    let dir = path(&dir);
    let with = |passphrase: &str, arguments: &[&str]| {
        EINMAL.command(arguments).env("EINMAL_PASSPHRASE", passphrase).output().unwrap()
    };
    let arguments = ["init", "mediator", "--passphrase", "--dir", dir, "--listen", "127.0.0.1:0"];
    assert!(with("the right one", &arguments).status.success());
    fails(&with("the wrong one", &["run", "--dir", dir]), 1, &["wrong passphrase"]);
    fails(&run(&["run", "--dir", dir]), 2, &["EINMAL_PASSPHRASE"]);
    let (_, out, _) = told(&with("the right one", &["doctor", "--json", "--dir", dir]));
    let findings: Vec<Value> = serde_json::from_str(&out).unwrap();
    let store = findings.iter().find(|one| one["part"] == "store").unwrap();
    assert_eq!((&store["ok"], &store["state"]), (&true.into(), &"ok".into()), "{store}");
}

/// Runs the command at a terminal, types `answers` one by one, each after a prompt, and returns what the terminal
/// showed; `None` if there is no `script` to make a terminal with.
fn at_a_terminal(arguments: &[&str], answers: &[&str]) -> Option<(bool, String)> {
    let line = [&[EINMAL.0], arguments].concat().join(" ");
    let mut command = Command::new("script");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EINMAL_")) {
        command.env_remove(name);
    }
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: there is no `script` here");
        return None;
    };
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    for (number, answer) in answers.iter().enumerate() {
        let prompts = |shown: &[u8]| String::from_utf8_lossy(shown).matches(": ").count();
        let mut byte = [0];
        while prompts(&shown) <= number && output.read(&mut byte).unwrap() > 0 {
            shown.push(byte[0]);
        }
        // The prompt appears a moment before the terminal stops echoing input.
        std::thread::sleep(Duration::from_millis(300));
        input.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }
    output.read_to_end(&mut shown).unwrap();
    Some((child.wait().unwrap().success(), String::from_utf8_lossy(&shown).into_owned()))
}

#[test]
fn a_passphrase_does_not_show_while_it_is_typed_and_is_asked_for_twice_when_it_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("node");
    let dir = path(&dir);
    let init = ["init", "mediator", "--passphrase", "--dir", dir, "--listen", "127.0.0.1:0"];
    let Some((made, shown)) = at_a_terminal(&init, &["seven-geese-fly", "eight-geese-fly"]) else { return };
    assert!(!made && shown.contains("differ"), "{shown}");
    let (made, shown) = at_a_terminal(&init, &["short", "short"]).unwrap();
    assert!(!made && shown.contains("12 characters"), "{shown}");
    let (made, shown) = at_a_terminal(&init, &["seven-geese-fly", "seven-geese-fly"]).unwrap();
    assert!(made && shown.contains("Passphrase: "), "{shown}");
    assert!(!shown.contains("geese"), "{shown}");
    let (opened, shown) = at_a_terminal(&["doctor", "--dir", dir], &["seven-geese-fly"]).unwrap();
    assert!(opened && shown.contains("opens") && !shown.contains("geese"), "{shown}");
    let (opened, shown) = at_a_terminal(&["doctor", "--dir", dir], &["eight-geese-fly"]).unwrap();
    assert!(!opened && shown.contains("wrong passphrase"), "{shown}");
    let file = folder.path().join("x.age");
    let backup = ["backup", "--dir", dir, "--out", path(&file)];
    let (_, shown) = at_a_terminal(&backup, &["twelve-geese-at-least", "others-than-those"]).unwrap();
    assert!(shown.contains("differ") && !shown.contains("geese-at-least"), "{shown}");
}

#[test]
fn misspelt_member_of_the_configuration_is_named_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let file = Path::new(&dir).join("einmal.toml");
    fs::write(&file, "role = \"mediator\"\nlisten = \"127.0.0.1:0\"\nlisen = \"127.0.0.1:0\"\n").unwrap();
    fails(&run(&["run", "--dir", &dir]), 1, &[path(&file), "line 3", "lisen", "listen"]);
    fs::write(&file, "role = \"king\"\n").unwrap();
    fails(&run(&["run", "--dir", &dir]), 1, &[path(&file), "line 1", "king", "mediator"]);
}

#[test]
fn what_is_wrong_with_a_file_that_is_named_is_told_with_its_place_once_and_is_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let init = |role: &str, settings: &str| {
        let dir = folder.path().join(role);
        fs::create_dir_all(&dir).unwrap();
        assert!(run(&["init", role, "--dir", path(&dir)]).status.success());
        fs::write(
            dir.join("einmal.toml"),
            format!("role = \"{role}\"\nlisten = \"127.0.0.1:0\"\n{settings}"),
        )
        .unwrap();
        path(&dir).to_owned()
    };
    let dir = init("mediator", "[tls]\ncertificate = \"a.pem\"\nkey = \"b.pem\"");
    fails(&run(&["run", "--dir", &dir]), 1, &["a.pem", "[tls] certificate"]);
    let dir = init("city", "[city]\n");
    let file = format!("{dir}/einmal.toml: [city] needs `description`");
    fails(&run(&["run", "--dir", &dir]), 1, &[&file]);
    fs::write(Path::new(&dir).join("city.toml"), "name = 1").unwrap();
    fs::write(Path::new(&dir).join("einmal.toml"), "role = \"city\"\n[city]\ndescription = \"city.toml\"")
        .unwrap();
    let output = run(&["run", "--dir", &dir, "--listen", "127.0.0.1:0"]);
    assert_eq!(told(&output).2.matches("city.toml").count(), 1, "{}", told(&output).2);
    let dir = init("merchant", "[merchant]\ntrusted_issuers = [{ did = \"did:web:x.example\" }]");
    fails(&run(&["run", "--dir", &dir]), 1, &["vct = ["]);
}

#[test]
fn a_verb_that_does_not_fit_the_node_is_named_as_it_was_typed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let node = EINMAL.start(&dir, &[]);
    let output = run(&["accept", "--dir", &dir]);
    fails(&output, 1, &["`einmal accept` is for a citizen", "holds a mediator"]);
    assert!(!told(&output).2.contains("pending"), "{}", told(&output).2);
    fails(&run(&["invite", "--person", "X", "--dir", &dir]), 1, &["--person"]);
    let (code, out, err) = told(&run(&["mediator", "accounts", "--dir", &dir]));
    assert_eq!((code, out.as_str()), (0, "accounts       -\ntotal          0\n"), "{err}");
    for verb in [&["accept"][..], &["merchant", "result", "x"]] {
        let arguments = [verb, &["--dir", &dir, "--wait", "18446744073709551615"]].concat();
        fails(&run(&arguments), 2, &["--wait", "600"]);
    }
    drop(node);
}

#[test]
fn port_in_use_is_told_with_the_flag_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&run(&["run", "--dir", &dir, "--listen", &address]), 1, &[&address, "in use", "--listen"]);
}

#[test]
fn listening_everywhere_without_a_public_url_is_a_wrong_setting() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    fails(&run(&["run", "--dir", &dir, "--listen", "0.0.0.0:0"]), 1, &["public_url"]);
}

#[test]
fn files_that_are_not_there_are_named_with_an_example_of_the_right_ones() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("node");
    for (role, flag, example) in
        [("city", "--description", "wetzlar/city.toml"), ("merchant", "--requests", "wetzlar/requests")]
    {
        let output = run(&["init", role, "--dir", path(&dir), flag, "nowhere"]);
        fails(&output, 1, &["nowhere", example]);
        assert!(!dir.exists(), "nothing was made");
    }
}

#[test]
fn citizen_that_shall_listen_is_a_wrong_setting() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("anna");
    assert!(run(&["init", "citizen", "--dir", path(&dir)]).status.success());
    let flags = ["run", "--dir", path(&dir), "--listen", "127.0.0.1:0"];
    fails(&run(&flags), 1, &["a citizen listens nowhere", "--listen"]);
}

#[test]
fn second_process_on_a_folder_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let mut first = EINMAL.start(&dir, &[]);
    assert!(first.about.is_object());
    fails(&run(&["run", "--dir", &dir]), 1, &["another process", "stop the node"]);
    assert!(run(&["status", "--dir", &dir]).status.success());
    first.signal("-TERM");
    assert_eq!(first.end(), Some(0));
}

#[test]
fn key_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let key = Path::new(&dir).join("store.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    fails(&run(&["run", "--dir", &dir]), 1, &["0644", &format!("chmod 600 {}", path(&key))]);
    fs::remove_file(&key).unwrap();
    fails(&run(&["run", "--dir", &dir]), 1, &[path(&key), "backup"]);
}

#[test]
fn first_line_of_a_running_node_says_who_and_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let mut node = EINMAL.start(&dir, &[]);
    let about = node.about.clone();
    assert!(about["did"].as_str().unwrap().starts_with("did:peer:2"), "{about}");
    let endpoint = about["endpoints"][0].as_str().unwrap();
    assert!(endpoint.starts_with("http://127.0.0.1:"), "{about}");
    let invitation = about["invitation"].as_str().unwrap();
    assert!(invitation.starts_with(endpoint) && invitation.contains("?_oob="), "{about}");
    let invited = Invitation::from_url(invitation).unwrap();
    assert_eq!(invited.from.as_str(), about["did"].as_str().unwrap());
    node.signal("-TERM");
    assert_eq!(node.end(), Some(0));
}

#[test]
fn a_node_told_to_stop_ends_with_status_0_and_starts_again_as_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let mut keys = Vec::new();
    for signal in ["-TERM", "-INT"] {
        let mut node = EINMAL.start(&dir, &[]);
        let did = node.about["did"].as_str().unwrap().to_owned();
        // The endpoint, the last part of a did:peer:2, changes with the port; the keys before it do not.
        keys.push(did.split(".S").next().unwrap().to_owned());
        node.signal(signal);
        assert_eq!(node.end(), Some(0), "{signal}");
        fails(&run(&["status", "--dir", &dir]), 1, &["no node runs"]);
    }
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn a_killed_node_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path());
    let mut node = EINMAL.start(&dir, &[]);
    node.signal("-KILL");
    assert_eq!(node.end(), None);
    let again = EINMAL.start(&dir, &[]);
    assert!(again.about["did"].is_string(), "{}", again.about);
}

/// The story: every step, every attack, on real nodes as separate processes.
#[test]
fn the_demo_passes_every_step_in_order() {
    let output = run(&["demo", "--json"]);
    let (code, out, err) = told(&output);
    let steps: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let failed: Vec<&Value> = steps.iter().filter(|step| step["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{err}");
    let names: Vec<&str> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    assert_eq!(names, STORY);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn the_demo_without_input_is_wrong_use() {
    let folder = tempfile::tempdir().unwrap();
    fails(&run(&["demo", "--data", path(folder.path())]), 2, &["city.toml", "--data"]);
}
