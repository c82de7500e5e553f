//! The record from outside: what a killed gateway leaves behind, what strangers can make it write, and what the
//! commands report.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use saltgate::parts::Clock;
use serde_json::Value;

use crate::harness::{Files, Gate, PATIENCE, SEGMENT, Upstream, answer, but_delete, lines_in, service, signed, until};
use crate::http::{Request, delete, get};
use crate::operations::{Process, saltgate, text, told};
use crate::spoken::BOTH;

fn audit(command: &str, files: &Files, more: &[&str]) -> (Option<i32>, String) {
    let path = files.path();
    let mut arguments = vec!["audit", command, "--config", path.to_str().unwrap()];
    arguments.extend(more);
    let output = told(&arguments, "");
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn shown(files: &Files, more: &[&str]) -> Vec<Value> {
    let (code, said) = audit("show", files, more);
    assert_eq!(code, Some(0), "{said}");
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every complete line of every file, without torn last lines.
fn whole_lines(files: &Files) -> Vec<Value> {
    let mut lines = Vec::new();
    for path in files.record_files() {
        let bytes = std::fs::read(path).unwrap();
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let split = bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines.extend(split.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
    }
    lines
}

/// Sends deletions until told to end; tolerates all errors.
fn load(address: SocketAddr, ending: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let ending = ending.clone();
    std::thread::spawn(move || {
        while !ending.load(Ordering::Relaxed) {
            let Ok(mut stream) = TcpStream::connect(address) else { return };
            let request = Request::delete(&signed("OWNER")).closing().http1();
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            if stream.write_all(request.as_bytes()).is_err() {
                return;
            }
            let _ = stream.read_to_end(&mut Vec::new());
        }
    })
}

/// Runs a gateway under load from three clients until `kill` has killed it.
fn killed(files: &Files, kill: impl FnOnce(&Process)) {
    let mut process = Process::serve(files);
    let (address, ending) = (process.address(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..3).map(|_| load(address, &ending)).collect();
    kill(&process);
    process.child.wait().unwrap();
    ending.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
}

fn kill_9(process: u32) {
    let _ = Command::new("kill").args(["-9", &process.to_string()]).status();
}

fn pause(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}

/// Checks that the record verifies, and that it has an intent for every DELETE that the upstream got.
fn assert_nothing_is_lost(files: &Files, upstream: &Upstream, kills: usize) {
    let (code, said) = audit("verify", files, &[]);
    assert_eq!(code, Some(0), "{said}");
    let lines = whole_lines(files);
    let ids = |kind: &str| -> HashSet<&str> {
        lines.iter().filter(|line| line["kind"] == kind).map(|line| line["request_id"].as_str().unwrap()).collect()
    };
    let (intents, outcomes) = (ids("intent"), ids("outcome"));
    let seen = upstream.last.lock().unwrap();
    let sent: Vec<&str> = seen
        .iter()
        .filter(|seen| seen.method == "DELETE")
        .map(|seen| {
            seen.head.lines().find_map(|l| l.to_lowercase().starts_with("x-request-id: ").then(|| &l[14..])).unwrap()
        })
        .collect();
    assert!(sent.len() >= kills / 4, "the kills were under load: {} sent", sent.len());
    for id in &sent {
        assert!(intents.contains(id), "the upstream saw {id}, and no intent is on record");
    }
    let unknown: HashSet<String> =
        shown(files, &["--unknown"]).iter().map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
    for id in &intents {
        assert!(outcomes.contains(id) || unknown.contains(*id), "{id} has no outcome and is not listed");
    }
}

#[test]
fn after_a_kill_under_load_the_record_verifies_and_every_deletion_has_its_intent() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[runtime]\nworkers = 2\n");
    let kills = 80;
    for n in 0..kills {
        // At moments spread evenly from the first request to the middle of the load.
        killed(&files, |process| {
            pause(300 + n * 450);
            kill_9(process.child.id());
        });
    }
    assert_nothing_is_lost(&files, &upstream, kills as usize);
}

#[test]
fn a_kill_right_after_an_intent_or_a_send_leaves_the_intent() {
    // In every second run, the upstream kills the gateway between sending and outcome.
    let victim = Arc::new(AtomicU32::new(0));
    let hand = victim.clone();
    let upstream = Upstream::start(but_delete(move |stream| match hand.swap(0, Ordering::SeqCst) {
        0 => answer(stream, "200 OK", "", "{}"),
        process => kill_9(process),
    }));
    let files = Files::new(upstream.address, "[runtime]\nworkers = 2\n");
    let directory = files.dir.path().join("record");
    let kills = 40;
    for n in 0..kills {
        killed(&files, |process| {
            if n % 2 == 0 {
                victim.store(process.child.id(), Ordering::SeqCst);
                until("the upstream kills it", || victim.load(Ordering::SeqCst) == 0);
            } else {
                // Between intent and sending: at the moment a new intent appears. Only this process writes to the
                // files.
                let (size, clock) = (|| size_of_lines(&directory), Clock::system());
                let (start, since) = (size(), clock.elapsed());
                while size() == start {
                    assert!(clock.elapsed() - since < PATIENCE, "no intent is written");
                    std::thread::yield_now();
                }
                kill_9(process.child.id());
            }
        });
    }
    assert_nothing_is_lost(&files, &upstream, kills);
    let unknown = shown(&files, &["--unknown"]).len();
    assert!(unknown >= kills / 2, "those that were killed between sending and outcome are listed: {unknown}");
    let process = Process::serve(&files);
    until("the start reports them", || process.log().contains("saltgate audit show --unknown"));
}

/// The size of all lines of a record, in all of its files.
fn size_of_lines(directory: &Path) -> u64 {
    lines_in(directory).iter().map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn a_kill_during_a_write_leaves_only_a_torn_last_line() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[runtime]\nworkers = 2\n");
    let kills = 30;
    for n in 0..kills {
        // The kernel writes as much as the limit allows, and kills the process at the next byte.
        let run = format!(
            "ulimit -c 0; exec prlimit --fsize={} {} serve --config {} 2>&1 >/dev/null",
            900 + n * 151,
            env!("CARGO_BIN_EXE_saltgate"),
            files.path().display()
        );
        let child = Command::new("sh").args(["-c", &run]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut process = Process::reading(child, &files);
        let (address, ending) = (process.address(), Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..3).map(|_| load(address, &ending)).collect();
        process.child.wait().unwrap();
        ending.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
    assert_nothing_is_lost(&files, &upstream, kills);
    let (_, said) = audit("verify", &files, &[]);
    assert!(said.matches("is incomplete: the process ended").count() >= kills * 3 / 4, "{said}");
}

#[test]
fn strangers_and_repeats_are_counted_and_not_recorded_one_by_one() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::before(&upstream);
    let spent = signed("OWNER");
    assert_eq!(gate.delete(&spent).status, 200);
    let size = || size_of_lines(&gate.files.dir.path().join("record"));
    let before = size();
    for n in 0..200 {
        let header = match n % 4 {
            0 => spent.clone(),
            1 => signed("NOBODY"),
            2 => format!("Bearer {}", "x".repeat(400)),
            _ => spent.replace("NCSOWNER", "NCSMEMBER"),
        };
        assert_eq!(BOTH[n / 4 % 2].delete(gate.address(), &header).status, 401);
    }
    assert_eq!(size(), before, "nobody who is not let in writes a byte");
    assert!(gate.drain());
    let lines = gate.files.record();
    let counted: Vec<_> = lines.iter().filter(|line| line["kind"] == "counted").collect();
    let [counted] = counted[..] else { panic!("{lines:?}") };
    for reason in ["salt_reused", "unknown_key", "unsupported_scheme", "signature_mismatch"] {
        assert_eq!(counted["counts"][reason], 50, "{counted}");
        let samples = counted["samples"][reason].as_array().unwrap();
        assert!((1..=3).contains(&samples.len()), "{counted}");
    }
    assert!(size_of(counted) < 4096);
    let salt = spent.split("salt=").nth(1).unwrap().split(',').next().unwrap();
    assert!(!counted.to_string().contains(salt));
}

fn size_of(line: &Value) -> usize {
    line.to_string().len()
}

#[test]
fn the_record_can_be_queried_and_changes_to_it_are_reported() {
    let upstream = Upstream::start(Arc::new(|seen, stream| match seen.method.as_str() {
        "GET" => {
            let owner = r#""accountId":"account-1","ownerId":"member-2","name":"봄 세일""#;
            answer(stream, "200 OK", "", &format!(r#"{{"segmentId":"{SEGMENT}",{owner}}}"#));
        }
        _ => answer(stream, "409 Conflict", "", "{}"),
    }));
    let more = "[ownership.upstream]\naccount = \"/accountId\"\ncreator = \"/ownerId\"\nname = \"/name\"\n";
    let mut gate = Gate::with(upstream.address, more, Clock::system());
    assert_eq!(gate.delete(&signed("OWNER")).status, 409);
    assert_eq!(gate.delete(&signed("MEMBER")).status, 401);
    let files = &gate.files;
    let (code, said) = audit("verify", files, &[]);
    assert_eq!(code, Some(0), "while it is being written: {said}");
    let kinds = |more: &[&str]| -> Vec<String> {
        shown(files, more).iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect()
    };
    until("it is written", || kinds(&["--segment", SEGMENT]) == ["intent", "outcome", "refused"]);
    assert_eq!(kinds(&["--key", "NCSMEMBER"]), ["keys", "refused"]);
    assert_eq!(kinds(&["--decision", "refused_by_upstream", "--account", "account-1"]), ["outcome"]);
    assert_eq!(kinds(&["--decision", "refuse", "--since", "1h"]), ["refused"]);
    assert_eq!(kinds(&["--until", "2020-01-01"]).len(), 0);
    let outcome = &shown(files, &["--decision", "refused_by_upstream"])[0];
    assert_eq!((&outcome["name"], &outcome["creator"]), (&"봄 세일".into(), &"member-2".into()));
    assert_eq!((&outcome["upstream_status"], &outcome["reason"]), (&409.into(), &"ok".into()));
    assert!(outcome["duration_seconds"].as_f64().unwrap() > 0.0);

    let (_, head) = audit("head", files, &[]);
    assert!(gate.drain());
    let files = &gate.files;
    let kept = ["--head", head.trim()];
    assert_eq!(audit("verify", files, &kept).0, Some(0));
    let file = &files.record_files()[0];
    let name = file.file_name().unwrap().to_str().unwrap();
    let whole = std::fs::read_to_string(file).unwrap();
    let replace = |with: &str| {
        std::fs::remove_file(file).unwrap();
        std::fs::write(file, with).unwrap();
    };
    replace(&whole.replacen("member-2", "member-1", 1));
    let (code, said) = audit("verify", files, &kept);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("FAULT: {name}:3: is changed")), "{said}");
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    replace(&[lines[0], lines[1], &lines[3..].concat()].concat());
    let (code, said) = audit("verify", files, &kept);
    assert!(code == Some(1) && said.contains(&format!("{name}:3: lines 3 to 3")), "{said}");
    replace(&lines[..2].concat());
    let (code, said) = audit("verify", files, &kept);
    assert!(code == Some(1) && said.contains("cut off"), "{said}");
    assert_eq!(told(&["audit", "verify", "--path", "/no/such"], "").status.code(), Some(1));
    assert_eq!(told(&["audit", "verify"], "").status.code(), Some(2));
    assert_eq!(saltgate(&["audit", "verify", "--path", "/", "--head", "x"]).status().unwrap().code(), Some(2));
}

#[test]
fn kept_heads_reveal_missing_and_forged_files() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::patient(&upstream, "");
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    let (code, heads) = audit("head", &gate.files, &[]);
    assert_eq!(code, Some(0), "{heads}");
    assert!(gate.drain());
    let files = &gate.files;
    let list = files.dir.path().join("heads.txt");
    std::fs::write(&list, &heads).unwrap();
    let verify = |more: &[&str]| audit("verify", files, &[&["--heads", list.to_str().unwrap()], more].concat());
    assert_eq!(verify(&[]).0, Some(0), "{}", verify(&[]).1);
    // A complete chain under another process's name, dated a year back.
    let real = files.record_files()[0].clone();
    let header = format!(
        r#"{{"n":1,"prev":"{}","kind":"header","format":1,"instance":"00112233aabbccdd","file":1,"time":"2025-01-01T00:00:00.000Z"}}"#,
        "0".repeat(64)
    );
    let made_up = real.with_file_name("record-00112233aabbccdd-000001.jsonl");
    std::fs::write(&made_up, format!("{header}\n")).unwrap();
    let one = audit("verify", files, &["--head", heads.trim()]);
    assert_eq!(one.0, Some(0), "nobody said that one head is all: {}", one.1);
    let (code, said) = verify(&[]);
    assert!(code == Some(1) && said.contains("claims to have started at 2025-01-01"), "{said}");
    std::fs::remove_file(&made_up).unwrap();
    std::fs::remove_file(&real).unwrap();
    let (code, said) = verify(&[]);
    assert!(code == Some(1) && said.contains("are missing: removed"), "{said}");
    assert_eq!(verify(&["--retain", "365d"]).0, Some(1));
    until("it is old enough", || verify(&["--retain", "1s"]).0 == Some(0));
}

#[test]
fn reconcile_asks_once_about_each_unknown_outcome() {
    // It answers no DELETE; the first look-up after them finds the segment gone, or there, or fails.
    let said = Arc::new(std::sync::Mutex::new("200 OK"));
    let says = said.clone();
    let ordinary = service("account-1", "member-1");
    let upstream = Upstream::start(Arc::new(move |seen, stream| match seen.method.as_str() {
        "DELETE" => drop(stream.shutdown(std::net::Shutdown::Both)),
        _ if *says.lock().unwrap() == "200 OK" => ordinary(seen, stream),
        _ => answer(stream, *says.lock().unwrap(), "", "{}"),
    }));
    let mut gate = Gate::hasty(&upstream, "");
    assert_eq!(audit("reconcile", &gate.files, &[]).0, Some(0), "nothing is unknown yet");
    for _ in 0..2 {
        assert_eq!(gate.delete(&signed("OWNER")).status, 502);
    }
    let asked = |status: &'static str| {
        *said.lock().unwrap() = status;
        let before = upstream.gets();
        let (code, said) = audit("reconcile", &gate.files, &[]);
        (code, said, upstream.gets() - before)
    };
    let (code, told, gets) = asked("503 Service Unavailable");
    assert_eq!((code, gets), (Some(1), 2), "{told}");
    assert!(told.contains("stays unknown: the upstream answered 503"), "{told}");
    assert_eq!(gate.files.record_files().len(), 1, "what learned nothing writes nothing");
    let (code, told, gets) = asked("404 Not Found");
    assert_eq!((code, gets), (Some(0), 2), "{told}");
    assert!(told.contains("deleted: the upstream no longer has the segment"), "{told}");
    let seen = upstream.last.lock().unwrap().last().unwrap().head.to_lowercase();
    assert!(seen.contains("x-saltgate-member: member-1") && seen.contains("x-request-id: "), "{seen}");
    assert_eq!(asked("200 OK").2, 0, "a reconciled outcome is not looked up again");
    assert_eq!(gate.delete(&signed("OWNER")).status, 502);
    let (code, told, _) = asked("200 OK");
    assert!(code == Some(1) && told.contains("may be in progress"), "{told}");
    // Longer than the service has for an answer.
    std::thread::sleep(Duration::from_millis(4_500));
    let (code, told, gets) = asked("200 OK");
    assert!(code == Some(0) && gets == 1 && told.contains("not deleted"), "{told}");
    assert_eq!(shown(&gate.files, &["--unknown"]).len(), 0);
    let closed: Vec<Value> = shown(&gate.files, &[]).into_iter().filter(|line| line["kind"] == "reconciled").collect();
    let outcomes: Vec<_> = closed.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["deleted", "deleted", "not_deleted"]);
    assert!(gate.drain());
    assert_eq!(audit("verify", &gate.files, &[]).0, Some(0));
}

#[test]
fn low_space_is_reported_before_the_disk_is_full() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let config = std::fs::read_to_string(files.path()).unwrap();
    let free = "low_water = \"1000000GiB\"\nrotate_size = \"4KiB\"\nretain = \"365d\"\n";
    std::fs::write(files.path(), config.replace("path = \"record\"\n", &format!("path = \"record\"\n{free}"))).unwrap();
    let process = Process::serve(&files);
    let ready = get(process.admin(), "/ready");
    assert!(process.log().contains("little space is left"));
    assert!(ready.status == 200 && ready.body.contains("degraded: less space"), "{}", ready.body);
    for _ in 0..8 {
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    }
    assert!(files.record_files().len() > 1, "a new file was begun");
    let (code, said) = audit("verify", &files, &[]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_record_can_be_verified_while_it_is_written() {
    use saltgate::parts::{Retention, Unread, heads, unknown, verify};
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[runtime]\nworkers = 2\n");
    let config = std::fs::read_to_string(files.path()).unwrap();
    let small = "path = \"record\"\nsync = \"os\"\nrotate_size = \"8KiB\"\n";
    std::fs::write(files.path(), config.replace("path = \"record\"\n", small)).unwrap();
    let directory = files.dir.path().join("record");
    let mut kept = Vec::new();
    killed(&files, |process| {
        let (clock, mut files) = (Clock::system(), 0);
        let began = clock.elapsed();
        // Until it was verified often enough and enough was written meanwhile, however busy the machine is.
        while kept.len() < 20 || files <= 5 {
            assert!(clock.elapsed() - began < PATIENCE, "{} heads, {files} files", kept.len());
            let report = verify(&directory, &kept, Retention::Forever).unwrap();
            assert_eq!(report.faults, []);
            files = report.files;
            assert_eq!(
                unknown(&directory, &mut Unread::default()).unwrap(),
                Vec::<Value>::new(),
                "a deletion in progress is not unknown"
            );
            kept.extend(heads(&directory, &mut Unread::default()).unwrap());
            pause(5_000);
        }
        kill_9(process.child.id());
    });
    let report = verify(&directory, &kept, Retention::Forever).unwrap();
    assert_eq!(report.faults, []);
    assert!(kept.len() >= 20 && report.files > 5, "{} heads, {} files", kept.len(), report.files);
}
