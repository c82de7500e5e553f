//! `saltgate reload`: what it says, and to whom.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::harness::{Files, Latch, Upstream, deleting_after, service, signed, until};
use crate::http::{Request, delete};
use crate::operations::{Process, saltgate, text, told};
use crate::spoken::Spoken;

pub const CONTROL: &str = "[control]\nsocket = \"c.sock\"\n";

fn reload(files: &Files) -> Output {
    told(&["reload", "--config", files.path().to_str().unwrap()], "")
}

fn write(files: &Files, change: impl FnOnce(String) -> String) {
    std::fs::write(files.path(), change(std::fs::read_to_string(files.path()).unwrap())).unwrap();
}

#[test]
fn a_reload_by_command_says_what_was_taken_and_what_needs_a_restart() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, CONTROL);
    let process = Process::serve(&files);
    let same = reload(&files);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
    assert_eq!(text(&same.stdout), "reloaded: 5 keys (0 added, 0 removed)\nno setting has changed\n");

    write(&files, |config| {
        let config = config.replace("[limits]\n", "[limits]\nidle_timeout = \"61s\"\nmax_in_flight = 7\n");
        config.replace("[audit]\npath = \"record\"\n", "[audit]\npath = \"elsewhere\"\n")
    });
    let keys = files.dir.path().join("keys.toml");
    let text_of_keys = std::fs::read_to_string(&keys).unwrap();
    let odd = text_of_keys.replace("NCSOWNER", "NCSNEW1").replace("\"DEVELOPER\"", "\"DEVELOPR\"");
    std::fs::write(&keys, odd).unwrap();
    let reloaded = reload(&files);
    let said = text(&reloaded.stdout);
    assert_eq!(reloaded.status.code(), Some(0), "{}", text(&reloaded.stderr));
    for line in [
        "reloaded: 5 keys (1 added, 1 removed)",
        "in force: limits.idle_timeout = \"1m 1s\"",
        "at the next start: limits.max_in_flight",
        "at the next start: audit.path",
    ] {
        assert!(said.lines().any(|there| there == line), "{line}: {said}");
    }
    assert!(!said.contains("in force: audit") && !said.contains("in force: limits.max_in_flight"), "{said}");
    let warned = text(&reloaded.stderr);
    assert!(warned.lines().any(|line| line.starts_with("warning: ") && line.contains("DEVELOPR")), "{warned}");
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 401, "the keys are in force");
    assert!(process.log().contains("a reload by command"), "{}", process.log());

    // The same by a signal, which goes on working.
    std::fs::write(&keys, text_of_keys).unwrap();
    process.signal("-HUP");
    until("the keys are in force again", || delete(process.address(), &signed("OWNER")).status == 200);
}

#[test]
fn a_reload_of_a_file_with_two_faults_prints_both_and_exits_with_78() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, CONTROL);
    let process = Process::serve(&files);
    write(&files, |config| config.replace("[limits]\n", "[limits]\nidle_timeout = \"soon\"\nmax_bodybytes = 3\n"));
    let reloaded = reload(&files);
    let said = text(&reloaded.stderr);
    assert_eq!(reloaded.status.code(), Some(78), "{said}");
    assert_eq!(text(&reloaded.stdout), "");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "each fault is a line, and one says what became of it: {said}");
    assert!(lines[..2].iter().any(|line| line.contains("limits.idle_timeout")), "{said}");
    assert!(lines[..2].iter().any(|line| line.contains("max_bodybytes") && line.contains("max_body_bytes")), "{said}");
    assert!(lines[2].contains("the old one stays in force"), "{said}");
    let checked = text(&told(&["check", "--config", files.path().to_str().unwrap()], "").stderr);
    assert_eq!(checked.lines().collect::<Vec<_>>(), lines[..2], "the same as check says");
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200, "the old one is in force");

    // What cannot be read as TOML names no socket, and its fault is the same.
    std::fs::write(files.path(), "nonsense = [").unwrap();
    let reloaded = reload(&files);
    assert_eq!(reloaded.status.code(), Some(78), "{}", text(&reloaded.stderr));
    let socket = files.dir.path().join("c.sock");
    let by_socket = told(&["reload", "--socket", socket.to_str().unwrap()], "");
    assert_eq!(by_socket.status.code(), Some(78));
    assert!(text(&by_socket.stderr).starts_with(&text(&reloaded.stderr)), "{}", text(&by_socket.stderr));
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200, "the old one is in force");
}

#[test]
fn a_reload_while_the_gateway_drains_is_refused_and_one_after_its_end_says_so() {
    let latch = Latch::default();
    let upstream = Upstream::start(deleting_after(&latch));
    let files = Files::new(upstream.address, CONTROL);
    let mut process = Process::serve(&files);
    let mut caller = Spoken::Http1.connect(process.address());
    caller.send(&Request::delete(&signed("OWNER")));
    until("the deletion was sent", || upstream.deletes() == 1);
    process.signal("-TERM");
    until("it drains", || process.log().contains("\"draining\""));
    let reloaded = reload(&files);
    assert_eq!(reloaded.status.code(), Some(1));
    assert!(text(&reloaded.stderr).contains("not reloaded: the gateway is draining"), "{}", text(&reloaded.stderr));
    latch.open();
    assert_eq!(caller.answer().unwrap().status, 200);
    process.wait();
    let gone = reload(&files);
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("no gateway with this control.socket is running"), "{}", text(&gone.stderr));
}

#[test]
fn reloads_by_command_and_by_signal_at_once_are_done_one_after_the_other() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, CONTROL);
    let keys = files.dir.path().join("keys.toml");
    let process = Process::serve(&files);
    let contents = std::fs::read(&keys).unwrap();
    std::fs::remove_file(&keys).unwrap();
    // Whoever reads a pipe waits until it is written to: the first reload lasts as long as the test likes.
    assert!(Command::new("mkfifo").arg(&keys).status().unwrap().success());
    let begin = || {
        let mut command = saltgate(&["reload", "--config", files.path().to_str().unwrap()]);
        command.stdin(Stdio::null()).spawn().unwrap()
    };
    let reloads = [begin(), begin()];
    process.signal("-HUP");
    for done in 1..=3 {
        let mut pipe = std::fs::OpenOptions::new().write(true).open(&keys).unwrap();
        pipe.write_all(&contents).unwrap();
        drop(pipe);
        until("it is reloaded", || process.log().matches("\"reloaded\"").count() == done);
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    }
    for reload in reloads {
        let reloaded = reload.wait_with_output().unwrap();
        assert_eq!(reloaded.status.code(), Some(0), "{}", text(&reloaded.stderr));
    }
}
