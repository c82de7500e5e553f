//! The number of passing requests is limited, so that they take no descriptors that others need.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Files, Gate, PATIENCE, signed, until};
use crate::http::{delete, exchange, get};
use crate::http2::Client;
use crate::operations::Process;

const OPEN: &str = "[ownership.delegate]\n[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/open/\"]\n";

/// A service that answers deletions at once and nothing else. Counts the requests that it leaves unanswered.
struct Silent {
    address: std::net::SocketAddr,
    waiting: Arc<AtomicUsize>,
}

impl Silent {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = Self { address: listener.local_addr().unwrap(), waiting: Arc::default() };
        listener.set_nonblocking(true).unwrap();
        let waiting = silent.waiting.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, waiting.clone()));
                }
            });
        });
        silent
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, waiting: Arc<AtomicUsize>) {
    let mut came = Vec::new();
    while stream.read_buf(&mut came).await.is_ok_and(|read| read > 0) {
        if came.ends_with(b"\r\n\r\n") && came.starts_with(b"DELETE") {
            came.clear();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        } else if came.ends_with(b"\r\n\r\n") {
            waiting.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0]).await;
            waiting.fetch_sub(1, Ordering::SeqCst);
            return;
        }
    }
}

/// A gateway with at most this many descriptors, soft and hard limit.
fn limited(files: &Files, soft: u32, hard: u32) -> Process {
    let run = format!(
        "exec prlimit --nofile={soft}:{hard} {} serve --config {} 2>&1 >/dev/null",
        env!("CARGO_BIN_EXE_saltgate"),
        files.path().display()
    );
    let child = Command::new("sh").args(["-c", &run]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    Process::reading(child, files)
}

fn files(service: &Silent, limits: &str) -> Files {
    let files = Files::new(service.address, &format!("{OPEN}[limits]\n{limits}"));
    let text = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), text.replace("response_timeout = \"20s\"", "response_timeout = \"60s\"")).unwrap();
    files
}

/// Six clients with a hundred passing requests each, and the statuses that they have received.
fn six_hundred(address: std::net::SocketAddr) -> (Vec<Client>, Arc<std::sync::Mutex<Vec<u16>>>) {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let clients = (0..6).map(|_| Client::by_prior_knowledge(address)).inspect(|client| {
        for _ in 0..100 {
            client.begin("http://gate/open/x", told.clone());
        }
    });
    (clients.collect(), told)
}

#[test]
fn passing_requests_leave_descriptors_for_admin_and_gates() {
    let service = Silent::start();
    let files = files(&service, "");
    let process = limited(&files, 400, 400);
    assert!(process.log().contains("\"needed\":20496"), "the log names the required number: {}", process.log());
    let (_clients, told) = six_hundred(process.address());
    until("each passes or is refused", || service.waiting() + told.lock().unwrap().len() == 600);
    assert!(service.waiting() >= 16, "{} pass", service.waiting());
    assert!(told.lock().unwrap().iter().all(|status| *status == 503), "{:?}", told.lock().unwrap());
    // The others wait longer than anything else in this test.
    assert_eq!(get(process.admin(), "/live").status, 200);
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
}

#[test]
fn a_low_soft_limit_is_raised_to_what_passing_requests_may_need() {
    let service = Silent::start();
    let files = files(&service, "max_connections = 10\nmax_in_flight = 10\n");
    let process = limited(&files, 64, 16_384);
    let (_clients, told) = six_hundred(process.address());
    until("each passes or is refused", || service.waiting() + told.lock().unwrap().len() == 600);
    assert_eq!(*told.lock().unwrap(), Vec::<u16>::new(), "all of them pass");
    assert_eq!(get(process.admin(), "/live").status, 200);
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    assert!(!process.log().contains("fewer descriptors"), "{}", process.log());
}

/// How much processor time the thread with this name has used, in ticks of a hundredth of a second.
fn ticks(process: u32, thread: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let read = |task: &std::path::Path, file: &str| std::fs::read_to_string(task.join(file)).unwrap();
    let task = tasks.map(|task| task.unwrap().path()).find(|task| read(task, "comm").trim() == thread).unwrap();
    let stat = read(&task, "stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_accept_loop_without_descriptors_pauses_and_recovers() {
    use std::os::unix::net::UnixStream;

    let service = Silent::start();
    let files = files(&service, "max_connections = 10\nmax_in_flight = 10\n");
    let text = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), format!("{text}[control]\nsocket = \"control.sock\"\n")).unwrap();
    let process = Process::serve(&files);
    let (pid, admin) = (process.child.id(), process.admin());
    let limit = |descriptors: &str| {
        let (limit, pid) = (format!("--nofile={descriptors}:"), pid.to_string());
        assert!(Command::new("prlimit").args([limit, "--pid".into(), pid]).status().unwrap().success());
    };
    limit("0");
    let _waits = std::net::TcpStream::connect(admin).unwrap();
    let _waits_too = UnixStream::connect(files.dir.path().join("control.sock")).unwrap();
    for what in ["admin listener", "control socket"] {
        let said = || process.log().lines().filter(|line| line.contains(what)).count();
        until("it cannot be accepted", || said() > 0);
    }
    let used = || ticks(pid, "admin") + ticks(pid, "control");
    let before = used();
    std::thread::sleep(Duration::from_secs(1));
    // A loop without a pause would use all the processor time it can get.
    assert!(used() - before < 10, "{} ticks in a second", used() - before);
    assert!(process.log().lines().filter(|line| line.contains("cannot be accepted")).count() < 10);
    limit("4096");
    until("it is accepted", || get(admin, "/live").status == 200);
}

#[test]
fn requests_beyond_max_passing_get_503_and_are_not_sent() {
    let service = Silent::start();
    let request = "GET /open/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for observes in [false, true] {
        let files = files(&service, "max_passing = 2\ndrain_timeout = \"100ms\"\n");
        if observes {
            let text = std::fs::read_to_string(files.path()).unwrap();
            std::fs::write(files.path(), format!("mode = \"observe\"\n{text}")).unwrap();
        }
        let gate = Gate::by(files);
        let waits = || {
            let mut client = std::net::TcpStream::connect(gate.address()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
            client
        };
        let held = [waits(), waits()];
        until("both are on their way", || service.waiting() == 2);
        let refused = exchange(gate.address(), request);
        assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{refused:?}");
        assert_eq!(service.waiting(), 2);
        if !observes {
            assert_eq!(gate.delete(&signed("OWNER")).status, 200, "what is judged has slots of its own");
        }
        drop(held);
    }
}
