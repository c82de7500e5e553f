//! `[runtime] io`: the same gateway with its sockets on io_uring and on epoll, and where the kernel forbids io_uring.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Files, Gate, Upstream, service, signed, until};
use crate::http::{delete, get};
use crate::operations::{Process, text};
use saltgate::parts::Clock;

/// Runs a program that may not make a ring, as in a container: the system call is refused with EPERM.
const FORBID: &str = r#"
import ctypes, os, struct, sys
LOAD_NUMBER, IS_SETUP = (0x20, 0, 0, 0), (0x15, 0, 1, 425)
REFUSE, ALLOW = (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)
code = b"".join(struct.pack("HBBI", *step) for step in (LOAD_NUMBER, IS_SETUP, REFUSE, ALLOW))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(Program(4, code)), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Rings are for workers of one core each.
fn with(io: &str) -> String {
    format!("[runtime]\nworkers = 2\nio = \"{io}\"\n")
}

fn files(upstream: &Upstream, io: &str) -> Files {
    let files = Files::new(upstream.address, "");
    let config = std::fs::read_to_string(files.path()).unwrap();
    // Without what the environment of the tests asks for.
    let config = config.lines().filter(|line| *line != "[runtime]" && !line.starts_with("io = "));
    let config: String = config.map(|line| format!("{line}\n")).collect();
    std::fs::write(files.path(), config + &with(io)).unwrap();
    files
}

fn forbidden(command: &str, files: &Files) -> Command {
    let mut python = Command::new("python3");
    python.args(["-c", FORBID, env!("CARGO_BIN_EXE_saltgate"), command, "--config"]).arg(files.path());
    python.stdout(Stdio::piped()).stderr(Stdio::piped());
    python
}

/// Whether the kernel gives rings to this process.
fn has_rings() -> bool {
    let upstream = Upstream::start(service("account-1", "member-1"));
    Gate::by(files(&upstream, "auto")).metrics().contains("saltgate_io_backend{kind=\"uring\"} 1")
}

/// These tests of the gateway, with this kind of sockets. They cover accepted connections and those to the service, HTTP/1 and
/// HTTP/2, TLS and Unix sockets, streamed bodies, slow and lost peers, and pools.
fn pass_with(io: &str) {
    const COVER: &[&str] = &[
        "answers::",
        "conditions::",
        "decisions::",
        "http2::",
        "keep_alive::",
        "pools::",
        "smuggling::",
        "tls::",
        "truncated::",
        "wire::",
    ];
    let tests = Command::new(std::env::current_exe().unwrap())
        .args(COVER)
        .args(["--test-threads", "2"])
        .env("SALTGATE_TEST_IO", io)
        .output()
        .unwrap();
    let said = text(&tests.stdout);
    assert!(tests.status.success() && !said.contains(" 0 passed"), "with {io}: {said}");
}

#[test]
fn the_gateway_is_the_same_on_io_uring() {
    if has_rings() {
        pass_with("uring");
    }
}

#[test]
fn nobody_gets_a_ring_without_asking_for_one() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = files(&upstream, "epoll");
    let config = std::fs::read_to_string(files.path()).unwrap().replace("io = \"epoll\"\n", "");
    std::fs::write(files.path(), config).unwrap();
    assert!(Gate::by(files).metrics().contains("saltgate_io_backend{kind=\"epoll\"} 1"));
}

#[test]
fn the_metrics_and_the_status_name_what_is_used() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let kinds = if has_rings() { vec!["epoll", "uring"] } else { vec!["epoll"] };
    for kind in kinds {
        let gate = Gate::by(files(&upstream, kind));
        assert_eq!(gate.delete(&signed("OWNER")).status, 200);
        let metrics = gate.metrics();
        let named: Vec<_> = metrics.lines().filter(|line| line.starts_with("saltgate_io_backend{")).collect();
        assert_eq!(named, [format!("saltgate_io_backend{{kind=\"{kind}\"}} 1")]);
        let status: Value = serde_json::from_str(&get(gate.admin(), "/status.json").body).unwrap();
        assert_eq!(status["io"], serde_json::json!([kind]));
        let page = get(gate.admin(), "/status").body;
        assert!(page.contains(&format!("<th scope=\"row\">sockets by</th><td>{kind}</td>")), "{page}");
    }
}

#[test]
fn workers_that_share_all_cores_have_no_rings() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, "[runtime]\nworkers = \"shared\"\n", Clock::system());
    assert!(gate.metrics().contains("saltgate_io_backend{kind=\"epoll\"} 1"));
    let files = files(&upstream, "uring");
    let config = std::fs::read_to_string(files.path()).unwrap().replace("workers = 2", "workers = \"shared\"");
    std::fs::write(files.path(), config).unwrap();
    let Err(faults) = saltgate::parts::Config::load(&files.path()) else { panic!("it is taken") };
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert!(faults[0].contains("runtime.io") && faults[0].contains("a ring belongs to one core"), "{faults:?}");
}

#[test]
fn where_io_uring_is_forbidden_auto_uses_epoll() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = files(&upstream, "auto");
    let log = files.dir.path().join("log");
    let mut command = forbidden("serve", &files);
    let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let gate = Process::of(child, log);
    until("it serves", || gate.log().contains("\"serving\""));
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    assert!(gate.log().contains("\"io\":\"epoll\""), "{}", gate.log());
}

#[test]
fn where_io_uring_is_forbidden_uring_is_a_fault_that_says_what_to_do() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = files(&upstream, "uring");
    for command in ["serve", "check"] {
        let told = forbidden(command, &files).output().unwrap();
        let said = text(&told.stderr) + &text(&told.stdout);
        assert_eq!(told.status.code(), Some(78), "{said}");
        for word in ["runtime.io", "Operation not permitted", "seccomp", "kernel.io_uring_disabled", "auto"] {
            assert!(said.contains(word), "{command}: {word}: {said}");
        }
    }
}
