//! What systemd is told, by a socket of the test's own; and the watchdog, with a worker that really hangs.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{Files, Latch, Upstream, deleting_after, salt, service, signed, until};
use crate::http::{Request, delete};
use crate::operations::{Process, told};
use crate::reload_command::CONTROL;
use crate::spoken::Spoken;

/// A service manager that hears what it is told.
struct Manager {
    socket: UnixDatagram,
    /// What `NOTIFY_SOCKET` says.
    name: String,
    heard: RefCell<Vec<String>>,
}

impl Manager {
    fn new(address: &SocketAddr, name: String) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, name, heard: RefCell::default() }
    }

    fn at_a_path(files: &Files) -> Self {
        let path = files.dir.path().join("notify");
        Self::new(&SocketAddr::from_pathname(&path).unwrap(), path.display().to_string())
    }

    fn at_an_abstract_name() -> Self {
        let name = format!("saltgate-test-{}", salt());
        Self::new(&SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}"))
    }

    /// Everything that was told so far.
    fn heard(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            self.heard.borrow_mut().push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        self.heard.borrow().clone()
    }

    /// Waits until it is told something with this in it, behind the first `after` of all that it heard.
    fn hears(&self, after: usize, what: &str) {
        until(&format!("systemd hears {what}"), || self.heard().iter().skip(after).any(|told| told.contains(what)));
    }

    fn pings(&self) -> usize {
        self.heard().iter().filter(|told| *told == "WATCHDOG=1").count()
    }
}

/// A gateway with these variables in its environment.
pub fn serve_with(files: &Files, environment: &str) -> Process {
    let program = env!("CARGO_BIN_EXE_saltgate");
    let run = format!("{environment} exec {program} serve --config {} 2>&1", files.path().display());
    let child = Command::new("sh").args(["-c", &run]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    Process::reading(child, files)
}

#[test]
fn systemd_is_told_of_the_start_of_reloads_of_a_drain_and_of_the_end() {
    for at_a_path in [true, false] {
        let latch = Latch::default();
        let upstream = Upstream::start(deleting_after(&latch));
        let files = Files::new(upstream.address, CONTROL);
        let manager = if at_a_path { Manager::at_a_path(&files) } else { Manager::at_an_abstract_name() };
        let mut process = serve_with(&files, &format!("NOTIFY_SOCKET='{}'", manager.name));
        manager.hears(0, "READY=1\nSTATUS=serving on 127.0.0.1:");

        let before = manager.heard().len();
        process.signal("-HUP");
        manager.hears(before, "READY=1\nSTATUS=serving on 127.0.0.1:");
        let reloading = manager.heard()[before].clone();
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.lines().next().unwrap().parse::<u64>().unwrap() > 0, "{reloading}");

        let good = std::fs::read_to_string(files.path()).unwrap();
        let wrong = good.replace("[limits]\n", "[limits]\nidle_timeout = \"soon\"\nmax_bodybytes = 3\n");
        std::fs::write(files.path(), wrong).unwrap();
        let before = manager.heard().len();
        process.signal("-HUP");
        manager.hears(before, "READY=1\nSTATUS=serving on 127.0.0.1:");
        manager.hears(before, "not reloaded, 2 faults, the first is ");

        let mut busy = Spoken::Http1.connect(process.address());
        busy.send(&Request::delete(&signed("OWNER")));
        until("the deletion was sent", || upstream.deletes() == 1);
        std::fs::write(files.path(), good).unwrap();
        told(&["drain", "--wait", "0s", "--config", files.path().to_str().unwrap()], "");
        manager.hears(0, "STATUS=draining: 1 requests are under way");
        assert!(!manager.heard().iter().any(|told| told.contains("STOPPING=1")), "it stays: {:?}", manager.heard());
        process.signal("-TERM");
        manager.hears(0, "STOPPING=1\nSTATUS=draining");
        latch.open();
        process.wait();
        assert_eq!(busy.answer().unwrap().status, 200);
    }
}

#[test]
fn systemd_is_told_that_the_gateway_is_fenced_and_that_a_sigterm_ends_it() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[replay.memory]\nwhen_new = \"fence\"\n");
    let manager = Manager::at_a_path(&files);
    let mut process = serve_with(&files, &format!("NOTIFY_SOCKET='{}'", manager.name));
    manager.hears(0, "READY=1\nSTATUS=fenced until 20");
    process.signal("-TERM");
    process.wait();
    manager.hears(0, "STOPPING=1\nSTATUS=draining");
}

#[test]
fn a_notify_socket_that_nobody_reads_keeps_no_request_and_no_reload_waiting() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let manager = Manager::at_a_path(&files);
    // Somebody else has filled it.
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"X=1", &manager.name).is_ok() {}
    let mut process = serve_with(&files, &format!("NOTIFY_SOCKET='{}' WATCHDOG_USEC=20000", manager.name));
    for reloads in 1..=20 {
        process.signal("-HUP");
        until("it is reloaded", || process.log().matches("\"reloaded\"").count() == reloads);
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    }
    // Once it is read, systemd hears how it is.
    manager.hears(0, "READY=1\nSTATUS=serving");
    while other.send_to(b"X=1", &manager.name).is_ok() {}
    process.signal("-TERM");
    process.wait();
    assert_eq!(process.child.wait().unwrap().code(), Some(0), "{}", process.log());
}

#[test]
fn a_notify_socket_that_is_none_is_told_in_the_log_and_changes_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for (name, said) in [("vsock:2:1234", "NOTIFY_SOCKET is \\\"vsock:2:1234\\\""), ("/nowhere/notify", "\"serving\"")]
    {
        let files = Files::new(upstream.address, "");
        let process = serve_with(&files, &format!("NOTIFY_SOCKET='{name}' WATCHDOG_USEC=20000"));
        until("it says so", || process.log().contains(said));
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    }
}

/// Stops one thread of another process, until its standard input ends.
const STOP: &str = r"
import ctypes, os, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, ALL = 0x4206, 0x4207, 0x40000000
task = int(sys.argv[1])
for request in (SEIZE, INTERRUPT):
    if ptrace(request, task, None, None) != 0:
        sys.exit('this test must be allowed to ptrace its child: ' + os.strerror(ctypes.get_errno()))
os.waitpid(task, ALL)
print('stopped', flush=True)
sys.stdin.readline()
";

fn thread_of(process: &Process, name: &str) -> Option<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    tasks.find(|task| std::fs::read_to_string(task.join("comm")).unwrap_or_default().trim() == name)
}

fn stop(process: &Process, thread: &str) -> Child {
    let task = thread_of(process, thread).unwrap();
    let mut stopper = Command::new("python3");
    stopper.args(["-c", STOP, task.file_name().unwrap().to_str().unwrap()]);
    let mut stopper = stopper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(stopper.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "stopped\n");
    stopper
}

#[test]
fn the_watchdog_is_told_while_all_workers_answer_and_not_while_one_hangs() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[runtime]\nworkers = 2\n");
    let manager = Manager::at_a_path(&files);
    let mut process = serve_with(&files, &format!("NOTIFY_SOCKET='{}' WATCHDOG_USEC=300000", manager.name));
    until("it is told again and again", || manager.pings() > 3);

    let warned = || process.log().matches("a worker does not answer").count();
    let mut stopper = stop(&process, "worker-1");
    // On a busy machine it may have been late before.
    let earlier = warned();
    until("it is in the log", || warned() > earlier);
    let before = manager.pings();
    // Whether nothing comes shows only after the time in which something would have come.
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(manager.pings(), before, "a worker hangs");
    drop(stopper.stdin.take());
    stopper.wait().unwrap();
    until("it is told again", || manager.pings() > before + 3);
    until("that is in the log, too", || process.log().contains("all workers answer again"));

    // Workers that have ended are not waited for.
    let latch = Latch::default();
    let slow = Upstream::start(deleting_after(&latch));
    let files = Files::new(slow.address, CONTROL);
    let manager = Manager::at_a_path(&files);
    let drained = serve_with(&files, &format!("NOTIFY_SOCKET='{}' WATCHDOG_USEC=300000", manager.name));
    let done = told(&["drain", "--wait", "20s", "--config", files.path().to_str().unwrap()], "");
    assert!(done.status.success());
    let before = manager.pings();
    until("it is told after the drain", || manager.pings() > before + 3);
    drop(drained);
    process.signal("-TERM");
    process.wait();
}

#[test]
fn a_watchdog_of_another_process_is_none_of_this_one() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let manager = Manager::at_a_path(&files);
    let with = |more: &str| serve_with(&files, &format!("NOTIFY_SOCKET='{}' {more}", manager.name));
    for (environment, watched) in [
        ("WATCHDOG_USEC=20000", true),
        ("WATCHDOG_USEC=20000 WATCHDOG_PID=$$", true),
        ("WATCHDOG_USEC=20000 WATCHDOG_PID=1", false),
        ("WATCHDOG_USEC=0", false),
        ("WATCHDOG_USEC=often", false),
    ] {
        let process = with(environment);
        let before = manager.heard().len();
        manager.hears(0, "READY=1");
        if watched {
            manager.hears(before, "WATCHDOG=1");
        }
        assert_eq!(thread_of(&process, "watchdog").is_some(), watched, "{environment}");
    }
}
