//! What the process does when it is told to end, once and twice, and what does not end it.

use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use crate::harness::{Behaviour, Files, Latch, Upstream, answer, service, signed, until};
use crate::http::{Request, delete, get};
use crate::operations::Process;
use crate::spoken::{BOTH, Spoken};

const PASSES: &str = "[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/p/\"]\n";
/// So long that a test that waits for it fails.
const NEVER: &str = "[limits]\nbody_timeout = \"10m\"\nidle_timeout = \"10m\"\ndrain_timeout = \"10m\"\n";

/// A service that answers a DELETE once the latch is open, and whose answer to `/p/endless` never ends.
fn held() -> (Upstream, Latch) {
    let release = Latch::default();
    let (ordinary, released) = (service("account-1", "member-1"), release.clone());
    let play: Behaviour = Arc::new(move |seen, stream| match (seen.method.as_str(), seen.target.as_str()) {
        ("DELETE", _) => {
            released.wait();
            answer(stream, "200 OK", "", "{}");
        }
        ("GET", "/p/endless") => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun");
        }
        _ => ordinary(seen, stream),
    });
    (Upstream::start(play), release)
}

fn patient(files: Files) -> Files {
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), config.replace("\"700ms\"", "\"10m\"")).unwrap();
    files
}

fn exit_of(mut process: Process) -> (ExitStatus, String) {
    let process = std::cell::RefCell::new(&mut process);
    until("it has ended", || process.borrow_mut().child.try_wait().unwrap().is_some());
    let status = process.borrow_mut().child.wait().unwrap();
    let log = process.borrow().log();
    (status, log)
}

#[test]
fn a_second_signal_closes_all_but_the_deletion_that_was_sent() {
    for (spoken, first, second) in
        [(Spoken::Http1, "-TERM", "-TERM"), (Spoken::Http2, "-TERM", "-INT"), (Spoken::Http1, "-INT", "-QUIT")]
    {
        let (upstream, release) = held();
        let files = patient(Files::new(upstream.address, &format!("{PASSES}{NEVER}")));
        let process = Process::serve(&files);
        let address = process.address();

        let mut deleting = spoken.connect(address);
        deleting.send(&Request::delete(&signed("OWNER")));
        until("the deletion was sent", || upstream.deletes() == 1);
        // On an HTTP/2 connection several requests are in progress.
        let mut waiting = spoken.connect(address);
        waiting.begin(&Request::delete(&signed("OWNER")), Some(2));
        let mut endless = spoken.connect(address);
        endless.send(&Request::new("GET", "/p/endless"));
        assert_eq!(endless.status().unwrap().status, 200);
        let mut silent = Spoken::Http1.connect(address);
        let open = "saltgate_connections 4";
        until("all of them are there", || get(process.admin(), "/metrics").body.contains(open));

        process.signal(first);
        until("it drains", || process.log().contains("\"draining\""));
        process.signal(second);
        for caller in [&mut waiting, &mut endless, &mut silent] {
            caller.ended();
        }
        release.open();
        assert_eq!(deleting.answer().unwrap().status, 200, "{spoken:?}: the sent deletion is awaited");
        deleting.ended();
        let (status, log) = exit_of(process);
        assert_eq!(status.code(), Some(0), "{spoken:?}: nothing was lost: {log}");
        assert!(log.contains("second signal") && log.contains("\"drained\""), "{log}");
        let outcomes: Vec<_> = files.record().into_iter().filter(|line| line["kind"] == "outcome").collect();
        assert_eq!((outcomes.len(), &outcomes[0]["outcome"]), (1, &"deleted".into()), "{outcomes:?}");
    }
}

#[test]
fn a_second_signal_ends_the_drain_delay() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let limits = "[limits]\ndrain_delay = \"10m\"\ndrain_timeout = \"10m\"\n";
    for spoken in BOTH {
        let files = Files::new(upstream.address, limits);
        let process = Process::serve(&files);
        let mut idle = spoken.connect(process.address());
        assert_eq!(idle.ask(&Request::delete(&signed("OWNER"))).unwrap().status, 200);
        process.signal("-TERM");
        until("it drains", || process.log().contains("\"draining\""));
        process.signal("-TERM");
        idle.ended();
        let (status, log) = exit_of(process);
        assert_eq!(status.code(), Some(0), "{spoken:?}: {log}");
    }
}

#[test]
fn a_deletion_that_is_cut_off_is_unknown_in_the_record_and_the_exit_status() {
    BOTH.into_iter().for_each(is_cut_off);
}

fn is_cut_off(spoken: Spoken) {
    let (upstream, _release) = held();
    let files = patient(Files::new(upstream.address, "[limits]\ndrain_timeout = \"300ms\"\n"));
    let process = Process::serve(&files);
    let mut deleting = spoken.connect(process.address());
    deleting.send(&Request::delete(&signed("OWNER")));
    until("the deletion was sent", || upstream.deletes() == 1);
    process.signal("-TERM");
    let (status, log) = exit_of(process);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("\"lost\":1"), "{log}");
    assert!(files.record().iter().any(|line| line["outcome"] == "unknown"), "{}", files.record_text());
}

#[test]
fn sigquit_drains_and_other_signals_are_ignored() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    for ignored in ["-USR1", "-USR2"] {
        process.signal(ignored);
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200, "{ignored}");
    }
    process.signal("-QUIT");
    let (status, log) = exit_of(process);
    assert_eq!(status.code(), Some(0), "{status:?}: {log}");
    assert!(log.contains("\"drained\""), "{log}");
    assert!(files.record_text().contains("\"closed\""), "the record ends in order");
}

#[test]
fn a_sighup_during_a_drain_changes_nothing_and_is_logged() {
    BOTH.into_iter().for_each(hangs_up_while_it_drains);
}

fn hangs_up_while_it_drains(spoken: Spoken) {
    let (upstream, release) = held();
    let files = patient(Files::new(upstream.address, NEVER));
    let process = Process::serve(&files);
    let mut deleting = spoken.connect(process.address());
    deleting.send(&Request::delete(&signed("OWNER")));
    until("the deletion was sent", || upstream.deletes() == 1);
    process.signal("-TERM");
    until("it drains", || process.log().contains("\"draining\""));
    process.signal("-HUP");
    until("it says so", || process.log().contains("not reloaded: the process is draining"));
    release.open();
    assert_eq!(deleting.answer().unwrap().status, 200);
    assert_eq!(exit_of(process).0.code(), Some(0));
}

#[test]
fn a_signal_while_the_keys_are_read_ends_the_process() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for signal in ["-TERM", "-INT", "-QUIT"] {
        let files = Files::new(upstream.address, "");
        let keys = files.dir.path().join("keys.toml");
        std::fs::remove_file(&keys).unwrap();
        // Reading a pipe blocks until something is written, which never happens here.
        assert!(Command::new("mkfifo").arg(&keys).status().unwrap().success());
        let mut command = crate::operations::saltgate(&["serve", "--config", files.path().to_str().unwrap()]);
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        // Opening it for writing blocks until it is being read.
        let pipe = std::fs::OpenOptions::new().write(true).open(&keys).unwrap();
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let child = std::cell::RefCell::new(&mut child);
        until("it has ended", || child.borrow_mut().try_wait().unwrap().is_some());
        assert_eq!(child.borrow_mut().wait().unwrap().code(), Some(0), "{signal}: nothing was opened, nothing is lost");
        drop(pipe);
    }
}

#[test]
fn an_idle_connection_of_a_removed_listener_does_not_delay_the_end() {
    BOTH.into_iter().for_each(idle_on_a_listener_that_is_gone);
}

fn idle_on_a_listener_that_is_gone(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let listener = |path: &str| format!("[[listener]]\naddress = \"unix:{path}\"\n");
    let files = Files::new(upstream.address, NEVER);
    let address = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    let config = std::fs::read_to_string(files.path()).unwrap();
    let process = Process::serve(&files);
    let mut idle = spoken.connect(process.address());
    assert_eq!(idle.ask(&Request::delete(&signed("OWNER"))).unwrap().status, 200);
    let socket = files.dir.path().join("gate.sock");
    std::fs::write(files.path(), config.replacen(address, &listener(socket.to_str().unwrap()), 1)).unwrap();
    process.signal("-HUP");
    until("it is reloaded", || process.log().contains("\"reloaded\""));
    process.signal("-TERM");
    idle.ended();
    assert_eq!(exit_of(process).0.code(), Some(0));
}
