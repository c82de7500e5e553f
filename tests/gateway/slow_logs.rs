//! A log whose reader is slow, on a non-blocking pipe (as a supervisor in Node or Go creates it).

use std::io::{BufRead, BufReader, pipe};
use std::process::{Child, Command};
use std::sync::mpsc::sync_channel;

use serde_json::Value;

use crate::harness::{Files, PATIENCE, Upstream, service, until};
use crate::http::{Request, exchange, get};
use crate::operations::saltgate;

/// A process that is killed with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[test]
fn a_full_non_blocking_pipe_tears_no_line() {
    const REQUESTS: usize = 500;
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let (reader, writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut child =
        Ended(saltgate(&["serve", "--config", files.path().to_str().unwrap()]).stderr(writer).spawn().unwrap());
    // It reads a line only when it is asked for one.
    let (send, lines) = sync_channel(0);
    std::thread::spawn(move || {
        BufReader::with_capacity(512, reader).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    let next = || {
        let line = lines.recv_timeout(PATIENCE).expect("nothing is lost that there was room for");
        serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("torn: {line}"))
    };
    let serving = std::iter::repeat_with(next).find(|line| line["message"] == "serving").unwrap();
    let address = |of: &str| serving[of].as_str().unwrap().parse().unwrap();
    let (gate, admin) = (address("address"), address("admin"));
    // More than a pipe holds, while nobody reads.
    let path = format!("/{}", "x".repeat(240));
    for _ in 0..REQUESTS {
        let request = Request::new("DELETE", &path).closing().http1();
        assert_eq!(exchange(gate, &request).status, 401);
    }
    until("all have ended", || {
        let metrics = get(admin, "/metrics").body;
        metrics.contains(&format!("reason=\"missing_credentials\"}} {REQUESTS}\n"))
    });
    let mut decisions = 0;
    while decisions < REQUESTS {
        decisions += usize::from(next()["message"] == "decision");
    }
    assert!(get(admin, "/metrics").body.contains("saltgate_log_dropped_total 0\n"));
    assert!(Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap().success());
    for line in lines {
        serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("torn: {line}"));
    }
    assert!(child.0.wait().unwrap().success());
}
