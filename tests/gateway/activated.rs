//! Sockets that whoever starts the gateway passes in: by a program of the test's own, and by systemd's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Files, Upstream, service, signed, until};
use crate::http::{Request, delete};
use crate::operations::{Process, text, told};
use crate::reload_command::CONTROL;
use crate::spoken::BOTH;

/// Passes sockets in: `name=kind` each, where a kind is tcp, unix:PATH, datagram or connection.
const PASS: &str = r#"
import fcntl, os, socket, sys
program, *wanted = sys.argv[1:]
sockets, names = [], []
for one in wanted:
    name, _, kind = one.partition("=")
    if kind == "tcp":
        made = socket.create_server(("127.0.0.1", 0))
    elif kind.startswith("unix:"):
        made = socket.socket(socket.AF_UNIX); made.bind(kind[5:]); made.listen()
    elif kind == "datagram":
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); made.bind(("127.0.0.1", 0))
    else:
        other = socket.create_server(("127.0.0.1", 0)); made = socket.socket(); made.connect(other.getsockname())
    sockets.append(made); names.append(name)
# Out of the way of the numbers that they get.
held = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 100) for one in sockets]
for number, fd in enumerate(held):
    os.dup2(fd, 3 + number)
    os.close(fd)
os.environ.update(LISTEN_FDS=str(len(held)), LISTEN_FDNAMES=":".join(names))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.dup2(1, 2)
os.execv(program, [program, *os.environ["ARGUMENTS"].split()])
"#;

fn command(files: &Files, sockets: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", PASS, env!("CARGO_BIN_EXE_saltgate")]).args(sockets);
    command.env("ARGUMENTS", format!("serve --config {}", files.path().display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn activated(files: &Files, sockets: &[&str]) -> Process {
    Process::reading(command(files, sockets).spawn().unwrap(), files)
}

/// What a gateway says that does not start, and its exit status.
fn refused(files: &Files, sockets: &[&str]) -> (String, Option<i32>) {
    let ended = command(files, sockets).output().unwrap();
    (text(&ended.stdout), ended.status.code())
}

fn listening(upstream: &Upstream, listeners: &str, more: &str) -> Files {
    let files = Files::new(upstream.address, more);
    files.listen(listeners);
    files
}

fn by_unix(path: &Path) -> u16 {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(Request::delete(&signed("OWNER")).http1().as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap()
}

#[test]
fn all_workers_accept_from_a_socket_that_is_passed_in() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let listeners = "[[listener]]\naddress = \"fd:gate\"\n[[listener]]\naddress = \"fd:local\"\n";
    let files = listening(&upstream, listeners, "[runtime]\nworkers = 3\n");
    let socket = files.dir.path().join("gate.sock");
    let local = format!("local=unix:{}", socket.display());
    let mut process = activated(&files, &["gate=tcp", &local]);
    let address = process.address();
    let ending = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..6)
        .map(|n| {
            let ending = ending.clone();
            std::thread::spawn(move || {
                let mut served = 0;
                while !ending.load(Ordering::Relaxed) {
                    assert_eq!(BOTH[n % 2].delete(address, &signed("OWNER")).status, 200);
                    served += 1;
                }
                served
            })
        })
        .collect();
    until("there is load", || upstream.deletes() > 60);
    assert_eq!(by_unix(&socket), 200);
    ending.store(true, Ordering::Relaxed);
    let served: usize = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(upstream.deletes(), served + 1);
    process.signal("-TERM");
    process.wait();
    assert!(socket.exists(), "it belongs to whoever made it");
    assert_eq!(process.child.wait().unwrap().code(), Some(0), "{}", process.log());
}

#[test]
fn a_name_that_was_not_passed_in_is_a_fault_that_lists_those_that_were() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = listening(&upstream, "[[listener]]\naddress = \"fd:gat\"\n", "");
    let wrong = |sockets: &[&str], why: &str| {
        let (said, code) = refused(&files, sockets);
        assert_eq!(code, Some(78), "{said}");
        assert!(
            said.contains("saltgate.toml: listener.address: fd:gat cannot be listened on") && said.contains(why),
            "{said}"
        );
    };
    wrong(&["gate=tcp", "web=tcp"], r#"the names are "gate", "web""#);
    wrong(&[], "no socket was passed in");
    wrong(&["gat=tcp", "gat=tcp"], "2 sockets of this name were passed in");
    wrong(&["gat=datagram"], "it is of another kind; expected a listening socket");
    wrong(&["gat=connection"], "it is a connection; expected a listening socket");
    // What was passed to a parent is not this process's.
    let mut inherited = command(&files, &["gat=tcp"]);
    let said = text(&inherited.env("LISTEN_PID", "1").output().unwrap().stdout);
    assert!(said.contains("no socket was passed in"), "{said}");
}

#[test]
fn a_reload_takes_a_passed_socket_away_and_brings_it_back() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let passed = "[[listener]]\naddress = \"fd:gate\"\n";
    let files = listening(&upstream, passed, CONTROL);
    let process = activated(&files, &["gate=tcp", "spare=tcp"]);
    let warned = process.log();
    assert!(warned.contains("\"name\":\"spare\"") && warned.contains("waits in vain"), "{warned}");
    let address = process.address();
    assert_eq!(delete(address, &signed("OWNER")).status, 200);
    let reload = || told(&["reload", "--config", files.path().to_str().unwrap()], "");

    files.listen("[[listener]]\naddress = \"unix:other.sock\"\n");
    assert!(reload().status.success());
    assert_eq!(by_unix(&files.dir.path().join("other.sock")), 200);
    // The kernel still takes connections, which wait for whoever accepts next.
    let mut waiting = TcpStream::connect(address).unwrap();
    waiting.write_all(Request::delete(&signed("OWNER")).field("connection", "close").http1().as_bytes()).unwrap();
    files.listen("[[listener]]\naddress = \"fd:other\"\n");
    let refused = reload();
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains(r#"the names are "gate", "spare""#), "{}", text(&refused.stderr));
    files.listen(passed);
    assert!(reload().status.success());
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(delete(address, &signed("OWNER")).status, 200);
}

#[test]
fn a_listener_on_a_passed_socket_is_checked_as_far_as_its_name_tells() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let check = |listeners: &str| {
        let files = listening(&upstream, listeners, "");
        let checked = told(&["check", "--config", files.path().to_str().unwrap()], "");
        (checked.status.code(), text(&checked.stderr))
    };
    let one = |more: &str| format!("[[listener]]\naddress = \"fd:gate\"\n{more}");
    assert_eq!(check(&one("trusted_proxies = [\"10.0.0.0/8\", \"unix\"]\n")).0, Some(0), "it may be either");
    for (listeners, why) in [
        (one(&one("")), "is set twice"),
        (one("mode = \"0660\"\n"), "has a mode already"),
        ("[[listener]]\naddress = \"fd:\"\n".into(), "names no socket"),
        ("[[listener]]\naddress = \"fd:a b\"\n".into(), "names no socket"),
        ("[[listener]]\naddress = \"fd:a:b\"\n".into(), "names no socket"),
    ] {
        let (code, said) = check(&listeners);
        assert_eq!(code, Some(78), "{listeners}: {said}");
        assert!(said.contains(why), "{listeners}: {said}");
    }
    let (code, said) = check(&one("trusted_proxies = [\"0.0.0.0/0\"]\n"));
    assert_eq!(code, Some(0));
    assert!(said.contains("fd:gate is not known to be loopback"), "{said}");
}

#[test]
fn systemd_socket_activate_starts_a_gateway_with_the_first_connection() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = listening(&upstream, "[[listener]]\naddress = \"fd:gate\"\n", "[runtime]\nworkers = 2\n");
    let socket = files.dir.path().join("gate.sock");
    let run = format!(
        "exec systemd-socket-activate -l {} --fdname=gate {} serve --config {} 2>&1",
        socket.display(),
        env!("CARGO_BIN_EXE_saltgate"),
        files.path().display()
    );
    let child = Command::new("sh").args(["-c", &run]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    until("systemd listens (tests/requirements.sh installs it)", || UnixStream::connect(&socket).is_ok());
    let mut process = Process::reading(child, &files);
    assert_eq!(by_unix(&socket), 200);
    process.signal("-TERM");
    process.wait();
    assert_eq!(process.child.wait().unwrap().code(), Some(0), "{}", process.log());
}
