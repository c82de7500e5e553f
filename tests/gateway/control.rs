//! Freezing, and the other commands of the control socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use saltgate::parts::Clock;
use saltgate::parts::Target;
use saltgate::parts::{Question, ask};

use crate::harness::{
    Files, Gate, Latch, PATIENCE, Upstream, answer, api_key, but_delete, salt, secret, service, signed, signed_at,
    until,
};
use crate::http::{Kept, delete};
use crate::operations::{Process, text, told};
use crate::spoken::{BOTH, Spoken};

const CONTROL: &str = "[control]\nsocket = \"c.sock\"\n";

pub fn command(files: &Files, arguments: &[&str], input: &str) -> Output {
    let mut all = arguments.to_vec();
    let config = files.path();
    all.extend(["--config", config.to_str().unwrap()]);
    told(&all, input)
}

fn done(files: &Files, arguments: &[&str]) -> String {
    let output = command(files, arguments, "");
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn socket(files: &Files) -> PathBuf {
    files.dir.path().join("c.sock")
}

fn freeze_all(wait: Duration) -> Question {
    Question::Freeze { target: Target::All, reason: None, wait }
}

#[test]
fn a_freeze_survives_kill_and_restart_until_it_is_lifted() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, CONTROL);
    let mut gate = Process::serve(&files);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    assert!(
        done(&files, &["freeze", "key", "NCSOWNER", "--reason", "a leaked key\u{1b}[2J"])
            .contains("key NCSOWNER is frozen")
    );
    let held = delete(gate.address(), &signed("OWNER"));
    assert_eq!((held.status, held.error_code().as_str()), (423, "Frozen"), "{held:?}");
    assert_eq!(held.field("retry-after"), None);
    assert_eq!(delete(gate.address(), &signed("DEVELOPER")).status, 200, "another key");
    gate.kill();

    let mut gate = Process::serve(&files);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 423, "after kill -9");
    let list = done(&files, &["freeze", "--list"]);
    assert!(list.contains("key NCSOWNER") && list.contains("a leaked key") && list.contains("uid"), "{list}");
    assert!(!list.contains('\u{1b}'), "the reason is escaped: {list:?}");
    done(&files, &["freeze", "account", "account-1"]);
    assert_eq!(delete(gate.address(), &signed("DEVELOPER")).status, 423, "the account");
    done(&files, &["freeze", "all"]);
    done(&files, &["unfreeze", "account", "account-1"]);
    assert_eq!(delete(gate.address(), &signed("DEVELOPER")).status, 423, "everything");
    assert!(done(&files, &["unfreeze", "all"]).contains("still frozen: key NCSOWNER"));
    assert_eq!(delete(gate.address(), &signed("DEVELOPER")).status, 200);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 423);
    done(&files, &["unfreeze", "key", "NCSOWNER"]);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    assert!(done(&files, &["freeze", "--list"]).contains("nothing is frozen"));
    assert_eq!(upstream.deletes(), 4);
    let log = gate.log();
    assert!(log.contains("freeze lifted by command"), "{log}");
    gate.signal("-TERM");
    gate.wait();
    assert!(!socket(&files).exists(), "the socket is gone with the gateway");
    let frozen = files.record().iter().filter(|line| line["kind"] == "refused" && line["reason"] == "frozen").count();
    assert_eq!(frozen, 5, "a request that spent its salt is recorded");
}

/// Ends the load, however the test ends.
struct Ends<'t>(&'t AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn after_a_freeze_returns_the_upstream_gets_no_new_deletion() {
    // A slow service: a deletion in progress takes longer than writing to the file system.
    let done = Arc::new(AtomicUsize::new(0));
    let one_more = done.clone();
    let upstream = Upstream::start(but_delete(move |stream| {
        std::thread::sleep(Duration::from_millis(20));
        one_more.fetch_add(1, Ordering::SeqCst);
        answer(stream, "200 OK", "", "{}");
    }));
    let gate = Gate::with(upstream.address, &format!("[runtime]\nworkers = 2\n{CONTROL}"), Clock::system());
    let (address, path) = (gate.address(), socket(&gate.files));
    let (ending, held) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for spoken in BOTH.repeat(3) {
            let (ending, held) = (&ending, &held);
            threads.spawn(move || {
                while !ending.load(Ordering::SeqCst) {
                    let status = spoken.delete(address, &signed("OWNER")).status;
                    assert!(status == 200 || status == 423, "{status}");
                    if status == 423 {
                        held.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let _ends = Ends(&ending);
        for round in 0..25 {
            let before = upstream.deletes();
            until("deletions pass", || upstream.deletes() > before + 5);
            let mut left = None;
            ask(&path, &freeze_all(PATIENCE), PATIENCE, |line| left = line["still_leaving"].as_u64()).unwrap();
            let frozen = (upstream.deletes(), done.load(Ordering::SeqCst));
            assert_eq!(left, Some(0));
            assert_eq!(frozen.0, frozen.1, "round {round}: all that had left have come to their end");
            let already = held.load(Ordering::SeqCst);
            until("many more come", || held.load(Ordering::SeqCst) > already + 40);
            assert_eq!((upstream.deletes(), done.load(Ordering::SeqCst)), frozen, "round {round}");
            ask(&path, &Question::Unfreeze(Target::All), PATIENCE, drop).unwrap();
        }
    });
}

#[test]
fn a_freeze_reports_deletions_that_it_could_not_wait_for() {
    BOTH.into_iter().for_each(could_not_wait_for);
}

fn could_not_wait_for(spoken: Spoken) {
    let (go, stay) = mpsc::channel::<()>();
    let stay = Mutex::new(stay);
    let upstream = Upstream::start(but_delete(move |stream| {
        let _ = stay.lock().unwrap().recv();
        answer(stream, "200 OK", "", "{}");
    }));
    let files = Files::new(upstream.address, CONTROL);
    let gate = Process::serve(&files);
    let address = gate.address();
    let client = std::thread::spawn(move || spoken.delete(address, &signed("OWNER")).status);
    until("it is sent", || upstream.deletes() == 1);
    let output = command(&files, &["freeze", "all", "--wait", "0"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("1 deletions that were permitted before the freeze"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(spoken.delete(address, &signed("OWNER")).status, 423, "it is in force all the same");
    go.send(()).unwrap();
    assert!(done(&files, &["freeze", "all"]).contains("no deletion that was permitted before is still in progress"));
    assert_eq!(client.join().unwrap(), 200);
}

#[test]
fn a_freeze_during_a_request_stops_it_at_the_last_check() {
    BOTH.into_iter().for_each(is_judged_last);
}

fn is_judged_last(spoken: Spoken) {
    // The service is slow to list the automations: by then the freeze was checked once already.
    let (asked, go) = (Latch::default(), Latch::default());
    let (told_asked, may_go, ordinary) = (asked.clone(), go.clone(), service("account-1", "member-1"));
    let upstream = Upstream::start(Arc::new(move |seen, stream| {
        if !seen.target.ends_with("/automations") {
            return ordinary(seen, stream);
        }
        told_asked.open();
        may_go.wait();
        answer(stream, "200 OK", "", r#"{"total":0,"automations":[]}"#);
    }));
    let guarded = "[automations]\ntotal = \"/total\"\n[[route]]\npath = \"/crm-core/v1/segments/{segmentId}\"\nlinked_automations = \"refuse\"\n";
    let mut gate = Gate::with(upstream.address, &format!("{CONTROL}{guarded}"), Clock::system());
    let address = gate.address();
    let client = std::thread::spawn(move || spoken.delete(address, &signed("OWNER")));
    asked.wait();
    ask(&socket(&gate.files), &freeze_all(PATIENCE), PATIENCE, drop).unwrap();
    go.open();
    let held = client.join().unwrap();
    assert_eq!((held.status, upstream.deletes()), (423, 0), "{held:?}");
    gate.drain();
    let record = gate.files.record();
    let of_it = |kind: &str| record.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of_it("intent").len(), 1);
    let outcomes = of_it("outcome");
    assert_eq!((&outcomes[0]["outcome"], &outcomes[0]["reason"]), (&"not_sent".into(), &"frozen".into()));
    assert_eq!(of_it("refused").len(), 0, "told once");
}

fn observing(upstream: &Upstream, more: &str) -> Files {
    let files = Files::new(upstream.address, more);
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), format!("mode = \"observe\"\n{config}")).unwrap();
    files
}

#[test]
fn a_freeze_in_observe_mode_does_not_claim_to_stop_deletions() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = observing(&upstream, CONTROL);
    let gate = Process::serve(&files);
    let output = command(&files, &["freeze", "all"], "");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(said.contains("only observes") && !said.contains("still in progress"), "{said}");
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    files.configure(upstream.address, CONTROL);
    gate.signal("-HUP");
    until("it is enforced", || delete(gate.address(), &signed("OWNER")).status == 423);
    assert!(done(&files, &["freeze", "all"]).contains("no deletion that was permitted before is still in progress"));
}

#[test]
fn a_freeze_waits_for_deletions_that_observe_mode_let_through() {
    BOTH.into_iter().for_each(waits_for_what_was_observed);
}

fn waits_for_what_was_observed(spoken: Spoken) {
    let (asked, go) = (Latch::default(), Latch::default());
    let (told_asked, may_go, ordinary) = (asked.clone(), go.clone(), service("account-1", "member-1"));
    let upstream = Upstream::start(Arc::new(move |seen, stream| {
        if seen.method == "GET" {
            told_asked.open();
            may_go.wait();
        }
        ordinary(seen, stream);
    }));
    let files = observing(&upstream, CONTROL);
    let observing = std::fs::read_to_string(files.path()).unwrap();
    let mut gate = Gate::from_files(files, Clock::system());
    let address = gate.address();
    let client = std::thread::spawn(move || spoken.delete(address, &signed("OWNER")).status);
    asked.wait();
    std::fs::write(gate.files.path(), observing.replace("mode = \"observe\"", "")).unwrap();
    gate.reload().unwrap();
    let mut left = None;
    let path = socket(&gate.files);
    ask(&path, &freeze_all(Duration::ZERO), PATIENCE, |line| left = line["still_leaving"].as_u64()).unwrap();
    assert_eq!((left, upstream.deletes()), (Some(1), 0), "it has not been sent yet");
    go.open();
    ask(&path, &freeze_all(PATIENCE), PATIENCE, |line| left = line["still_leaving"].as_u64()).unwrap();
    assert_eq!((left, upstream.deletes()), (Some(0), 1));
    assert_eq!(client.join().unwrap(), 200);
}

#[test]
fn slow_clients_of_the_control_socket_delay_neither_a_freeze_nor_the_end() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::with(upstream.address, CONTROL, Clock::system());
    let path = socket(&gate.files);
    let mut idle: Vec<_> = (0..60).map(|_| UnixStream::connect(&path).unwrap()).collect();
    ask(&path, &freeze_all(PATIENCE), PATIENCE, drop).expect("a freeze gets through between them");
    gate.drain();
    for stream in &mut idle {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert_eq!(text(&said), "", "the freeze answered before the gateway ended");
    }
}

#[test]
fn a_damaged_freeze_state_stops_the_start_and_one_without_a_socket_applies() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, &format!("{CONTROL}state = \"kept\"\n"));
    let gate = Process::serve(&files);
    done(&files, &["freeze", "all"]);
    drop(gate);
    let state = files.dir.path().join("kept/freeze.json");
    let written = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, &written[..written.len() / 2]).unwrap();
    let refused = told(&["serve", "--config", files.path().to_str().unwrap()], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("what is frozen is unknown"), "{}", text(&refused.stderr));
    // Removing the socket from the configuration lifts no freeze.
    std::fs::create_dir_all(files.dir.path().join("record.control")).unwrap();
    std::fs::write(files.dir.path().join("record.control/freeze.json"), written).unwrap();
    files.configure(upstream.address, "");
    let gate = Process::serve(&files);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 423);
    assert_eq!(upstream.deletes(), 0);
}

#[test]
fn a_lost_or_older_freeze_state_stops_the_start_and_discarding_it_freezes_everything() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, CONTROL);
    let gate = Process::serve(&files);
    done(&files, &["freeze", "key", "NCSMEMBER"]);
    let state = files.dir.path().join("record.control/freeze.json");
    let older = std::fs::read(&state).unwrap();
    done(&files, &["freeze", "key", "NCSOWNER"]);
    drop(gate);
    let refused = |what: &str| {
        let refused = told(&["serve", "--config", files.path().to_str().unwrap()], "");
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(what) && said.contains("freeze.json") && said.contains("--discard-freeze"), "{said}");
    };
    std::fs::remove_file(&state).unwrap();
    refused("is missing");
    std::fs::write(&state, older).unwrap();
    refused("is an older copy");
    let gate = Process::serve_with(&files, &["--discard-freeze"]);
    assert!(gate.log().contains("everything is frozen"), "{}", gate.log());
    for role in ["OWNER", "MEMBER"] {
        assert_eq!(delete(gate.address(), &signed(role)).status, 423);
    }
    done(&files, &["unfreeze", "all"]);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    assert_eq!(upstream.deletes(), 1);
}

#[test]
fn check_names_a_control_socket_whose_folder_does_not_exist() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[control]\nsocket = \"run/c.sock\"\n");
    let folder = files.dir.path().join("run");
    let check = || told(&["check", "--config", files.path().to_str().unwrap()], "");
    let checked = check();
    let fault = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(78), "{fault}");
    for part in ["control.socket: ", folder.to_str().unwrap(), "create it"] {
        assert!(fault.contains(part), "{part}: {fault}");
    }
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(check().status.code(), Some(0), "the folder is all that was missing");
}

#[test]
fn the_socket_is_private_to_one_gateway_and_answers_any_input() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, CONTROL);
    let absent = command(&files, &["freeze", "all"], "");
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("no gateway with this control.socket is running"), "{absent:?}");
    assert_eq!(command(&files, &["freeze", "key"], "").status.code(), Some(2), "which key?");

    let mut gate = Process::serve(&files);
    let mode = std::fs::metadata(socket(&files)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = told(&["serve", "--config", files.path().to_str().unwrap()], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("control.socket"), "{}", text(&second.stderr));
    // A silent client delays nobody, and invalid questions are answered.
    let _silent: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(socket(&files)).unwrap()).collect();
    for nonsense in ["\n", "{}\n", "DELETE / HTTP/1.1\n", "{\"command\":\"freeze\",\"scope\":\"key\"}\n"] {
        let mut stream = UnixStream::connect(socket(&files)).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("{\"error\":"), "{nonsense:?}: {said}");
    }
    let mut stream = UnixStream::connect(socket(&files)).unwrap();
    let _ = stream.write_all(&vec![b'x'; 70 << 10]);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(said.is_empty() || text(&said).contains("65536"), "{}", text(&said));
    let misspelled = command(&files, &["freeze", "key", "ncsowner"], "");
    assert!(text(&misspelled.stderr).contains("no such key"), "{misspelled:?}");
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);

    gate.kill();
    assert!(socket(&files).exists(), "a killed gateway leaves it");
    assert!(text(&command(&files, &["refusals"], "").stderr).contains("no longer running"));
    let gate = Process::serve(&files);
    assert!(done(&files, &["freeze", "--list"]).contains("ncsowner"));
    drop(gate);
}

#[test]
fn refusals_have_reason_and_key_but_no_salt_or_signature() {
    let upstream = Upstream::start(service("account-1", "member-2"));
    let files = Files::new(upstream.address, CONTROL);
    let gate = Process::serve(&files);
    let address = gate.address();
    let header = signed("MEMBER");
    let not_creator = delete(address, &header);
    let reused = delete(address, &header);
    let late = signed_at("DEVELOPER", Clock::system().now() - Duration::from_secs(3600), &salt());
    let skewed = delete(address, &late);
    let unknown = delete(address, &signed("OWNER").replace("NCSOWNER", "NCSNOBODY"));
    assert_eq!(delete(address, &signed("OWNER")).status, 200, "and this is no refusal");
    let refusals = |more: &[&str]| -> Vec<serde_json::Value> {
        let told = done(&files, &[&["refusals", "--json"], more].concat());
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let reasons = |more: &[&str]| -> Vec<String> {
        refusals(more).iter().map(|it| it["reason"].as_str().unwrap().to_owned()).collect()
    };
    until("the last refusal is listed", || refusals(&[]).len() == 4);
    assert_eq!(reasons(&[]), ["not_creator", "salt_reused", "date_skewed", "unknown_key"]);
    for (answer, reason, key) in [
        (&not_creator, "not_creator", "NCSMEMBER"),
        (&reused, "salt_reused", "NCSMEMBER"),
        (&skewed, "date_skewed", "NCSDEVELOPER"),
        (&unknown, "unknown_key", "NCSNOBODY"),
    ] {
        let found = refusals(&["--id", answer.field("x-request-id").unwrap()]);
        assert_eq!(found.len(), 1, "{reason}");
        assert_eq!((&found[0]["reason"], &found[0]["api_key"]), (&reason.into(), &key.into()));
        assert!(found[0]["path"].as_str().unwrap().starts_with("/crm-core/") && found[0]["method"] == "DELETE");
    }
    assert_eq!(reasons(&["--key", "NCSMEMBER"]), ["not_creator", "salt_reused"]);
    assert!(reasons(&["--since", "2099-01-01"]).is_empty());
    assert_eq!(reasons(&["--since", "10m"]).len(), 4);
    let skew = refusals(&["--key", "NCSDEVELOPER"])[0]["skew_seconds"].as_f64().unwrap();
    assert!((-3660.0..-3599.0).contains(&skew), "{skew}");
    let plain = done(&files, &["refusals"]);
    let told = done(&files, &["refusals", "--id", skewed.field("x-request-id").unwrap()]);
    assert!(told.contains("to the customer: The date") && told.contains("시간대"), "{told}");
    for hidden in [&header, &late] {
        for part in
            [hidden.split("salt=").nth(1).unwrap().split(',').next().unwrap(), hidden.rsplit('=').next().unwrap()]
        {
            assert!(!plain.contains(part) && !told.contains(part));
        }
    }
    assert_eq!(command(&files, &["refusals", "--since", "soon"], "").status.code(), Some(2));
}

#[test]
fn explain_live_knows_what_only_the_running_gateway_knows_and_spends_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for store in ["", "[replay.journal]\npath = \"replay\"\nwhen_new = \"accept\"\n"] {
        let files = Files::new(upstream.address, &format!("{CONTROL}{store}"));
        let gate = Process::serve(&files);
        let explain = |header: &str, more: &[&str]| -> String {
            let output = command(&files, &[&["explain", "--live"], more].concat(), header);
            assert!(output.status.success(), "{output:?}");
            let said = text(&output.stdout);
            assert!(!said.contains(&secret("OWNER")) && !said.contains(header.rsplit('=').next().unwrap()), "{said}");
            said
        };
        let header = signed("OWNER");
        for _ in 0..2 {
            let said = explain(&header, &[]);
            assert!(said.contains("not spent yet") && said.contains("verdict: good"), "{said}");
        }
        assert_eq!(delete(gate.address(), &header).status, 200, "explaining spent nothing");
        let said = explain(&header, &[]);
        assert!(said.contains("spent already") && said.contains("401 (salt_reused)"), "{said}");
        assert!(said.contains("to the customer: This signed request was used before"), "{said}");
        let korean = explain(&header, &["--lang", "ko"]);
        assert!(
            korean.contains("이미 쓰였습니다") && korean.contains("고객에게 보낼 말: 이미 사용된 서명입니다"),
            "{korean}"
        );
        // A key that is in the file but not in the running process yet.
        let keys = files.dir.path().join("keys.toml");
        let more =
            "[[key]]\napi_key = \"NCSNEW\"\nsecret = \"a secret that is new here\"\naccount = \"a\"\nmember = \"m\"\n";
        std::fs::write(&keys, std::fs::read_to_string(&keys).unwrap() + more).unwrap();
        let new = signed("OWNER").replace("NCSOWNER", "NCSNEW");
        assert!(explain(&new, &[]).contains("401 (unknown_key)"));
        assert!(explain(&new, &[]).contains("made with the secret of NCSOWNER"));
        let offline = command(&files, &["explain"], &new);
        assert!(text(&offline.stdout).contains("NCSNEW is known"), "{offline:?}");
        done(&files, &["freeze", "key", "NCSOWNER"]);
        assert!(explain(&signed("OWNER"), &[]).contains("423 (frozen)"));
    }
}

#[test]
fn ten_thousand_junk_requests_evict_no_honest_refusal() {
    const JUNK: usize = 10_400;
    let upstream = Upstream::start(service("account-1", "member-2"));
    let files = Files::new(upstream.address, CONTROL);
    files.listen("[[listener]]\naddress = \"127.0.0.1:0\"\nkeep_alive = \"always\"\n");
    let gate = Gate::by(files);
    let honest = delete(gate.address(), &signed("MEMBER"));
    assert_eq!(honest.status, 401, "somebody else created it");
    let id = honest.field("x-request-id").unwrap();
    // A customer with a wrong secret is a stranger, too, but one with a header.
    let mistaken = delete(gate.address(), &signed("OWNER").replace(&api_key("OWNER"), &api_key("MEMBER")));
    assert_eq!(mistaken.status, 401);
    let address = gate.address();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut junk = Kept::to(address);
                (0..JUNK / 4).for_each(|_| assert_eq!(junk.delete("Bearer junk"), 401));
            });
        }
    });
    let refusals = |question| {
        let mut told = Vec::new();
        ask(&socket(&gate.files), &question, PATIENCE, |line| told.push(line)).unwrap();
        told
    };
    for id in [id, mistaken.field("x-request-id").unwrap()] {
        let told = refusals(Question::Refusals { id: Some(id.to_owned()), key: None, since: None });
        assert_eq!(told.len(), 1, "{id}: {told:?}");
    }
    assert_eq!(refusals(Question::Refusals { id: None, key: None, since: None }).len(), 10_002);
}
