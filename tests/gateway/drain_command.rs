//! `saltgate drain`: the clients go elsewhere, what is under way ends, and the process stays until it is told to end.

use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{Files, Latch, Upstream, deleting_after, service, signed, until};
use crate::http::{Request, delete, get};
use crate::operations::{Process, saltgate, text, told};
use crate::reload_command::CONTROL;
use crate::spoken::{BOTH, Spoken};
use crate::tls::Authority;

const DONE: &str = "drained: nothing is under way; the process stays until it gets SIGTERM\n";

fn drain(files: &Files, wait: &str) -> Output {
    told(&["drain", "--wait", wait, "--config", files.path().to_str().unwrap()], "")
}

/// One that waits for long.
fn begin(files: &Files) -> Child {
    let mut command = saltgate(&["drain", "--wait", "5m", "--config", files.path().to_str().unwrap()]);
    command.stdin(Stdio::null()).spawn().unwrap()
}

fn assert_done(drained: &Output) {
    assert_eq!((drained.status.code(), text(&drained.stdout)), (Some(0), DONE.into()), "{}", text(&drained.stderr));
}

fn assert_says(drained: &Output, code: i32, parts: &[&str]) {
    let said = text(&drained.stderr);
    assert_eq!((drained.status.code(), text(&drained.stdout)), (Some(code), String::new()), "{said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
}

/// A gateway whose service answers a deletion once the latch is open.
fn held(limits: &str) -> (Upstream, Latch, Files) {
    let latch = Latch::default();
    let upstream = Upstream::start(deleting_after(&latch));
    let files = Files::new(upstream.address, &format!("[limits]\n{limits}{CONTROL}"));
    (upstream, latch, files)
}

fn outcomes(files: &Files) -> Vec<String> {
    let outcomes = files.record().into_iter().filter(|line| line["kind"] == "outcome");
    outcomes.map(|line| line["outcome"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_drain_by_command_ends_what_is_under_way_and_leaves_the_process_until_sigterm() {
    BOTH.into_iter().for_each(drains_by_command);
}

fn drains_by_command(spoken: Spoken) {
    let (upstream, latch, files) = held("");
    let mut process = Process::serve(&files);
    let (address, admin) = (process.address(), process.admin());
    let mut idle = spoken.connect(address);
    assert_eq!(idle.ask(&Request::delete("HMAC-SHA256 x")).unwrap().status, 401);
    let mut busy = spoken.connect(address);
    busy.send(&Request::delete(&signed("OWNER")));
    until("the deletion was sent", || upstream.deletes() == 1);

    let both = [begin(&files), begin(&files)];
    until("/ready says so", || get(admin, "/ready").status == 503);
    until("nothing more is accepted", || TcpStream::connect(address).is_err());
    idle.ended();
    assert_eq!([get(admin, "/live").status, get(admin, "/metrics").status], [200, 200]);
    let early = drain(&files, "100ms");
    let left = "it accepts no more; 1 requests are under way, 1 of which have spent their salts, on ";
    assert_says(&early, 1, &["not drained after 0.1 s", left]);

    latch.open();
    let answer = busy.answer().unwrap();
    let announced = (spoken == Spoken::Http1).then_some("close");
    assert_eq!((answer.status, answer.field("connection")), (200, announced), "{spoken:?}");
    busy.ended();
    for drain in both {
        assert_done(&drain.wait_with_output().unwrap());
    }
    assert_eq!(outcomes(&files), ["deleted"], "{spoken:?}: it is on record before the drain returns");
    assert_done(&drain(&files, "0s"));
    assert!(process.child.try_wait().unwrap().is_none(), "the process stays");
    assert_eq!(
        [get(admin, "/live").status, get(admin, "/ready").status, get(admin, "/metrics").status],
        [200, 503, 200]
    );
    assert_eq!(process.log().matches("\"draining\"").count(), 1, "it is one drain, however often it is asked for");

    process.signal("-TERM");
    process.wait();
    assert_eq!(process.child.wait().unwrap().code(), Some(0), "{}", process.log());
    assert!(files.record_text().contains("\"closed\""), "the record ends in order");
    assert_says(&drain(&files, "1s"), 1, &["c.sock", "no gateway with this control.socket is running"]);
}

#[test]
fn a_sigterm_after_a_drain_that_took_too_long_still_waits_for_what_was_sent() {
    BOTH.into_iter().for_each(waits_for_what_was_sent);
}

fn waits_for_what_was_sent(spoken: Spoken) {
    let (upstream, latch, files) = held("drain_timeout = \"10m\"\n");
    let mut process = Process::serve(&files);
    let mut busy = spoken.connect(process.address());
    busy.send(&Request::delete(&signed("OWNER")));
    until("the deletion was sent", || upstream.deletes() == 1);
    assert_says(&drain(&files, "0s"), 1, &["not drained after 0 s", "1 requests"]);
    process.signal("-TERM");
    until("it says so", || process.log().contains("told to end"));
    let waiting = begin(&files);
    until("it waits", || process.log().matches("a drain by command").count() == 2);
    assert!(process.child.try_wait().unwrap().is_none());
    latch.open();
    assert_eq!(busy.answer().unwrap().status, 200, "{spoken:?}");
    assert_done(&waiting.wait_with_output().unwrap());
    process.wait();
    assert_eq!(process.child.wait().unwrap().code(), Some(0), "{}", process.log());
    assert_eq!(outcomes(&files), ["deleted"]);
}

#[test]
fn a_drain_cuts_nothing_off_and_a_sigterm_does_after_drain_timeout() {
    let (upstream, _latch, files) = held("drain_timeout = \"300ms\"\n");
    let mut process = Process::serve(&files);
    let mut busy = Spoken::Http1.connect(process.address());
    busy.send(&Request::delete(&signed("OWNER")));
    until("the deletion was sent", || upstream.deletes() == 1);
    // Longer than drain_timeout, which counts from the signal on.
    assert_says(&drain(&files, "1s"), 1, &["Nothing of it is cut off"]);
    assert!(outcomes(&files).is_empty());
    let waiting = begin(&files);
    until("it waits", || process.log().matches("a drain by command").count() == 2);
    process.signal("-TERM");
    assert_says(&waiting.wait_with_output().unwrap(), 1, &["drain_timeout is over: requests were cut off"]);
    process.wait();
    assert_eq!(process.child.wait().unwrap().code(), Some(1), "{}", process.log());
    assert_eq!(outcomes(&files), ["unknown"]);
}

#[test]
fn a_drain_joins_that_of_a_sigterm_and_is_told_how_it_ended() {
    let (upstream, latch, files) = held("drain_timeout = \"10m\"\n");
    let mut process = Process::serve(&files);
    let mut busy = Spoken::Http1.connect(process.address());
    busy.send(&Request::delete(&signed("OWNER")));
    until("the deletion was sent", || upstream.deletes() == 1);
    process.signal("-TERM");
    until("it drains", || process.log().contains("\"draining\""));
    let waiting = begin(&files);
    until("it waits", || process.log().contains("a drain by command"));
    latch.open();
    assert_done(&waiting.wait_with_output().unwrap());
    process.wait();
    assert_eq!(busy.answer().unwrap().status, 200);
}

#[test]
fn while_a_drain_announces_itself_requests_are_answered_and_sigterm_does_not_cut_that_short() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, &format!("[limits]\ndrain_delay = \"10m\"\n{CONTROL}"));
    let mut process = Process::serve(&files);
    assert_says(&drain(&files, "0s"), 1, &["still accepts connections (drain_delay)", "0 requests"]);
    until("/ready says so", || get(process.admin(), "/ready").status == 503);
    for told_to_end in [false, true] {
        if told_to_end {
            process.signal("-TERM");
            until("it says so", || process.log().contains("told to end"));
        }
        until("answers say so", || {
            let answer = delete(process.address(), &signed("OWNER"));
            assert_eq!(answer.status, 200);
            answer.field("connection") == Some("close")
        });
    }
    process.signal("-TERM");
    process.wait();
    assert_eq!(process.child.wait().unwrap().code(), Some(0), "{}", process.log());

    // With a short one it is over by itself.
    let files = Files::new(upstream.address, &format!("[limits]\ndrain_delay = \"200ms\"\n{CONTROL}"));
    let process = Process::serve(&files);
    assert_done(&drain(&files, "20s"));
    assert!(TcpStream::connect(process.address()).is_err());
}

#[test]
fn a_deletion_by_tls_is_answered_while_the_gateway_drains() {
    for version in ["--http1.1", "--http2"] {
        let (upstream, latch, files) = held("");
        let authority = Authority::new();
        authority.write(files.dir.path(), "gate", &["localhost"]);
        files.listen(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ chain = \"gate.pem\", key = \"gate.key\" }] }\n",
        );
        let process = Process::serve(&files);
        let url =
            format!("https://localhost:{}/crm-core/v1/segments/{}", process.address().port(), crate::harness::SEGMENT);
        let mut curl = Command::new("curl");
        // OpenSSL takes a certificate that has the name of its authority for one that signed itself.
        curl.args(["-sS", version, "--noproxy", "*", "--insecure"]);
        curl.args([
            "-X",
            "DELETE",
            "-H",
            &format!("Authorization: {}", signed("OWNER")),
            "-w",
            " %{http_code} %{http_version}",
        ]);
        let curl = curl.arg(&url).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("the deletion was sent", || upstream.deletes() == 1);
        let draining = begin(&files);
        until("nothing more is accepted", || TcpStream::connect(process.address()).is_err());
        latch.open();
        let got = curl.wait_with_output().unwrap();
        let expected = if version == "--http2" { "{} 200 2" } else { "{} 200 1.1" };
        assert_eq!(text(&got.stdout), expected, "{}", text(&got.stderr));
        assert_done(&draining.wait_with_output().unwrap());
        assert_eq!(outcomes(&files), ["deleted"]);
    }
}

#[test]
fn a_folder_of_the_control_socket_that_is_missing_is_named() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[control]\nsocket = \"none/c.sock\"\n");
    let folder = files.dir.path().join("none");
    let folder = folder.to_str().unwrap();
    let named = format!("neither is its folder {folder}");
    assert_says(&drain(&files, "1s"), 1, &[&named, "no gateway with this control.socket is running"]);
    let config = files.path();
    for command in ["serve", "check"] {
        let refused = told(&[command, "--config", config.to_str().unwrap()], "");
        let said = text(&refused.stderr);
        assert!(!refused.status.success(), "{command}");
        assert!(
            said.contains("control.socket") && said.contains(&format!("the folder {folder} does not exist")),
            "{said}"
        );
        assert!(said.contains("mkdir"), "{said}");
    }
}

#[test]
fn a_wait_that_is_no_duration_or_too_long_is_a_fault_of_the_command_line() {
    for (wait, why) in [("30", "not a duration"), ("soon", "not a duration"), ("11m", "longer than 600s")] {
        let refused = told(&["drain", "--wait", wait], "");
        assert_eq!(refused.status.code(), Some(2), "{wait}");
        assert!(text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
}
