//! Reloads: what they log, what they refuse, and when they may happen.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Files, Upstream, service, signed, until};
use crate::http::delete;
use crate::operations::{Process, text, told};

#[test]
fn a_reload_logs_what_check_warns_of() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    let keys = files.dir.path().join("keys.toml");
    let misspelt = std::fs::read_to_string(&keys).unwrap().replace("\"OWNER\"", "\"OWNR\"");
    std::fs::write(&keys, misspelt).unwrap();
    process.signal("-HUP");
    until("it is reloaded", || process.log().contains("\"reloaded\""));
    until("the misspelt role is in the log", || process.log().contains("OWNR"));
    let checked = told(&["check", "--config", files.path().to_str().unwrap()], "");
    let warnings = text(&checked.stderr);
    let misspelt = warnings.lines().find(|line| line.contains("OWNR")).unwrap();
    let message = misspelt.strip_prefix("warning: ").unwrap().replace('"', "\\\"");
    let log = process.log();
    let line = log.lines().find(|line| line.contains(&message)).unwrap_or_else(|| panic!("{message} is not in {log}"));
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 401, "the reload was taken");
}

#[test]
fn an_empty_keys_file_is_accepted_only_with_allow_empty() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    let keys = files.dir.path().join("keys.toml");

    for lost in ["", "# all gone\n", "key = []\n"] {
        std::fs::write(&keys, lost).unwrap();
        let before = process.log().matches("not reloaded").count();
        process.signal("-HUP");
        until("it is not taken", || process.log().matches("not reloaded").count() > before);
        assert!(process.log().contains("allow_empty = true"), "it says what to do: {}", process.log());
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200, "the old keys stay in force");
        assert_eq!(told(&["check", "--config", files.path().to_str().unwrap()], "").status.code(), Some(78));
    }

    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), config.replace("[directory.file]\n", "[directory.file]\nallow_empty = true\n"))
        .unwrap();
    process.signal("-HUP");
    until("it is taken", || process.log().contains("\"reloaded\""));
    until("it is warned of", || process.log().contains("every request would be refused\""));
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 401);
}

#[test]
fn a_sighup_during_the_start_is_handled_once_the_gateway_serves() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let keys = files.dir.path().join("keys.toml");
    let text = std::fs::read(&keys).unwrap();
    std::fs::remove_file(&keys).unwrap();
    // Reading a pipe blocks until something is written: so the test controls how long this start takes.
    assert!(Command::new("mkfifo").arg(&keys).status().unwrap().success());
    let config = files.path();
    let run = format!("exec {} serve --config {} 2>&1", env!("CARGO_BIN_EXE_saltgate"), config.display());
    let child = Command::new("sh").args(["-c", &run]).stdout(Stdio::piped()).spawn().unwrap();

    let mut pipe = std::fs::OpenOptions::new().write(true).open(&keys).unwrap();
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    pipe.write_all(&text).unwrap();
    drop(pipe);

    let process = Process::reading(child, &files);
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&keys).unwrap();
    pipe.write_all(&text).unwrap();
    drop(pipe);
    until("the reload is done", || process.log().contains("\"reloaded\""));
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
}

#[test]
fn a_secret_with_a_likely_mistake_causes_a_warning() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let keys = files.dir.path().join("keys.toml");
    let entry = |secret: &str| {
        format!("[[key]]\napi_key = \"K\"\nsecret = {secret}\naccount = \"a\"\nmember = \"m\"\nrole = \"OWNER\"\n")
    };
    let file = files.dir.path().join("secret");
    let check = |environment: &str| {
        let path = files.path();
        let mut command = crate::operations::saltgate(&["check", "--config", path.to_str().unwrap()]);
        command.env("SECRET_OF_THE_TEST", environment).output().unwrap()
    };
    const PLAIN: &str = "hunter2-hunter2-hunter2";
    for (bytes, by_environment, by_file) in [
        (PLAIN.to_owned(), None, None),
        (format!("{PLAIN}\n"), Some("line end"), None),
        (format!("{PLAIN}\r\n"), Some("line end"), None),
        (format!("{PLAIN}\r"), Some("line end"), Some("line end")),
        (format!("{PLAIN}\r\n\r\n"), Some("line end"), Some("line end")),
        (format!("{PLAIN} "), Some("blank"), Some("blank")),
        (format!("{PLAIN} \n"), Some("line end"), Some("blank")),
        (format!("\"{PLAIN}\""), Some("quotes"), Some("quotes")),
        (format!("'{PLAIN}'\n"), Some("line end"), Some("quotes")),
        (format!("\u{FEFF}{PLAIN}"), Some("byte order mark"), Some("byte order mark")),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        for (entry, warned) in
            [(entry("{ env = \"SECRET_OF_THE_TEST\" }"), by_environment), (entry("{ file = \"secret\" }"), by_file)]
        {
            std::fs::write(&keys, &entry).unwrap();
            let checked = check(&bytes);
            let said = text(&checked.stderr);
            assert_eq!(checked.status.code(), Some(0), "{said}");
            match warned {
                None => assert_eq!(said, "", "{bytes:?} by {entry}"),
                Some(why) => assert!(said.contains("key.secret") && said.contains(why), "{bytes:?} by {entry}: {said}"),
            }
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
