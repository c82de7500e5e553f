//! `saltgate probe`: asks the gateway of this machine, without a shell and without its secrets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;

use crate::harness::{Files, Latch, Upstream, deleting_after, service, signed, until};
use crate::http::Request;
use crate::operations::{Process, text, told};
use crate::spoken::Spoken;

/// Probes by a configuration that has nothing but this.
fn probe(endpoint: &str, config: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probed.toml");
    std::fs::write(&file, config).unwrap();
    told(&["probe", endpoint, "--config", file.to_str().unwrap()], "")
}

fn admin(address: impl std::fmt::Display) -> String {
    // The rest of a real configuration needs secrets, which a probe may not have.
    format!("[admin]\naddress = \"{address}\"\n[upstream]\nservers = [\"${{NOT_SET_ANYWHERE}}\"]\n")
}

fn assert_fails(probed: &Output, with: &[&str]) {
    let said = text(&probed.stderr);
    assert_eq!(probed.status.code(), Some(1), "{said}");
    for part in with {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_probe_says_whether_the_gateway_is_ready_and_why_not() {
    let latch = Latch::default();
    let upstream = Upstream::start(deleting_after(&latch));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    for endpoint in ["live", "ready"] {
        let probed = probe(endpoint, &admin(process.admin()));
        assert_eq!(probed.status.code(), Some(0), "{}", text(&probed.stderr));
        assert_eq!(text(&probed.stdout), format!("{endpoint}\n"));
    }

    let mut caller = Spoken::Http1.connect(process.address());
    caller.send(&Request::delete(&signed("OWNER")));
    until("the deletion was sent", || upstream.deletes() == 1);
    process.signal("-TERM");
    until("it drains", || process.log().contains("\"draining\""));
    until("it says so", || probe("ready", &admin(process.admin())).status.code() == Some(1));
    let admin = admin(process.admin());
    assert_fails(&probe("ready", &admin), &["503", "/ready", "draining: the process is ending"]);
    assert_eq!(probe("live", &admin).status.code(), Some(0), "what drains lives");
    latch.open();
    assert_eq!(caller.answer().unwrap().status, 200);
    until("it is gone", || probe("live", &admin).status.code() == Some(1));
    assert_fails(&probe("live", &admin), &["cannot be reached", "is the gateway running?"]);
}

#[test]
fn a_listener_on_every_address_is_probed_on_loopback() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for every in ["0.0.0.0", "[::]"] {
        let files = Files::new(upstream.address, "");
        let config = std::fs::read_to_string(files.path()).unwrap();
        let wildcard =
            config.replace("[admin]\naddress = \"127.0.0.1:0\"", &format!("[admin]\naddress = \"{every}:0\""));
        assert_ne!(config, wildcard);
        std::fs::write(files.path(), wildcard).unwrap();
        let process = Process::serve(&files);
        let probed = probe("ready", &admin(format!("{every}:{}", process.admin().port())));
        assert_eq!(probed.status.code(), Some(0), "{every}: {}", text(&probed.stderr));
    }
}

#[test]
fn a_probe_of_something_else_fails_in_time_and_says_what_is_wrong() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_fails(&probe("live", &admin(silent.local_addr().unwrap())), &["no answer within 5s"]);
    let endless = program(|stream| while stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").is_ok_and(|()| slowly()) {});
    assert_fails(&probe("live", &admin(endless)), &["no answer within 5s"]);
    let other = program(|stream| drop(stream.write_all(b"SSH-2.0-OpenSSH\r\n")));
    assert_fails(&probe("live", &admin(other)), &["is this the admin listener?"]);
    let huge = program(|stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    assert_fails(&probe("live", &admin(huge)), &["is this the admin listener?"]);
    let listener = program(|stream| drop(stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nno\x1b!")));
    let probed = probe("ready", &admin(listener));
    assert_fails(&probed, &["answered 401", "no\\u{1b}!"]);
}

/// Takes its time, but ends.
fn slowly() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(200));
    true
}

/// A program that answers a request so.
fn program(play: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        play(&mut stream);
    });
    address
}

#[test]
fn a_configuration_that_cannot_be_probed_by_is_told_and_still_exits_with_1() {
    assert_fails(&probe("live", "[upstream]\n"), &["admin.address", "nothing that can be probed"]);
    assert_fails(&probe("live", "[admin]\naddress = \"127.0.0.1:0\"\n"), &["admin.address", "the port 0"]);
    assert_fails(&probe("live", "[admin]\naddress = \"localhost\"\n"), &["probed.toml:2: admin.address"]);
    assert_fails(&probe("live", "[admin\n"), &["probed.toml:1"]);
    assert_fails(&told(&["probe", "ready", "--config", "/nowhere/gate.toml"], ""), &["is not there"]);
    assert_eq!(told(&["probe", "alive"], "").status.code(), Some(2));
}
