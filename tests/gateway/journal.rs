//! A journal in a gateway: kill -9, a full disk, damage, a second process.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use saltgate::parts::Clock;
use saltgate::parts::{Journal, JournalSettings, JournalSync, Room, SpentSalts, WhenNew, Window};

use crate::harness::{Files, KEEPS, PATIENCE, Upstream, service, signed, until};
use crate::http::{Request, delete, get, read_until_closed};
use crate::operations::{Process, text, told};

const JOURNAL: &str = "[replay.journal]\npath = \"replay\"\nwhen_new = \"accept\"\n";
const KILLS: usize = 200;

/// Sends a deletion that may get no answer. Returns its status, if there is one.
fn attempt(gate: SocketAddr, authorization: &str) -> Option<u16> {
    attempt_on(TcpStream::connect(gate).ok()?, authorization)
}

fn attempt_on(mut stream: TcpStream, authorization: &str) -> Option<u16> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // The query, which is forwarded unchanged, distinguishes the headers.
    let request = Request::delete(authorization).query(&format!("salt={}", salt_of(authorization))).closing();
    stream.write_all(request.http1().as_bytes()).ok()?;
    Some(read_until_closed(&mut stream).status).filter(|status| *status > 0)
}

/// The salt of a header, which identifies it.
fn salt_of(header: &str) -> String {
    header.split("salt=").nth(1).unwrap().split(',').next().unwrap().to_owned()
}

#[test]
fn after_a_kill_at_any_moment_no_sent_header_passes_again() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    // Without a record, whose kills are tested elsewhere: so more of the time is spent in the journal.
    let files = Files::new(upstream.address, &format!("{JOURNAL}[audit]\ndanger_no_record = true\n{KEEPS}"));
    let sent: Arc<Mutex<Vec<(String, Option<u16>)>>> = Arc::default();
    for kill in 0..KILLS {
        let mut process = Process::serve(&files);
        let address = process.address();
        let ending = Arc::new(AtomicBool::new(false));
        let load: Vec<_> = (0..3)
            .map(|n| {
                let (sent, ending) = (sent.clone(), ending.clone());
                std::thread::spawn(move || {
                    while !ending.load(Ordering::Relaxed) {
                        // Sometimes a header of an earlier run, which must not pass a second time.
                        let old = getrandom::u32().unwrap().is_multiple_of(8);
                        let known = sent.lock().unwrap();
                        let again = known.get(getrandom::u32().unwrap() as usize % known.len().max(1)).cloned();
                        drop(known);
                        match again.filter(|_| old && n == 0) {
                            // Not if its first answer never arrived: it may not have been spent.
                            Some((header, Some(_))) => {
                                let again = attempt(address, &header);
                                assert!(!matches!(again, Some(200)), "it passed a second time");
                            }
                            _ => {
                                // The gateway was killed, and this header was never sent.
                                let Ok(stream) = TcpStream::connect(address) else { return };
                                let header = signed("OWNER");
                                let status = attempt_on(stream, &header);
                                sent.lock().unwrap().push((header, status));
                            }
                        }
                    }
                })
            })
            .collect();
        let before = sent.lock().unwrap().len();
        until("it is under load", || sent.lock().unwrap().len() > before + kill % 4);
        std::thread::sleep(Duration::from_micros(u64::from(getrandom::u32().unwrap() % 15_000)));
        process.kill();
        ending.store(true, Ordering::Relaxed);
        load.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let process = Process::serve(&files);
    let address = process.address();
    let sent = std::mem::take(&mut *sent.lock().unwrap());
    let answered = sent.iter().filter(|(_, status)| *status == Some(200)).count();
    assert!(answered > KILLS, "{answered} of {} were answered", sent.len());
    for (header, status) in &sent {
        let again = [attempt(address, header), attempt(address, header)];
        // A header whose answer never arrived may not have been spent: then it passes now, once.
        let passes = [*status, again[0], again[1]].iter().filter(|status| **status == Some(200)).count();
        assert!(passes <= 1, "it passed {passes} times: {status:?}, {again:?}");
        assert_eq!(again[1], Some(401));
    }
    let mut deletes: HashMap<String, usize> = HashMap::new();
    for seen in upstream.last.lock().unwrap().iter().filter(|seen| seen.method == "DELETE") {
        *deletes.entry(seen.target.clone()).or_default() += 1;
    }
    assert!(deletes.len() >= answered);
    assert!(deletes.values().all(|count| *count == 1), "a header was forwarded twice");
    let log = process.log();
    assert!(!log.contains("fenced") && !log.contains("discard"), "{log}");
}

#[test]
fn a_second_process_on_the_same_journal_is_refused() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, JOURNAL);
    let process = Process::serve(&files);
    let second = told(&["serve", "--config", files.path().to_str().unwrap()], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another process is using it"), "{}", text(&second.stderr));
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
}

#[test]
fn a_damaged_journal_stops_the_start_until_it_is_explicitly_discarded() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, JOURNAL);
    let mut process = Process::serve(&files);
    let header = signed("OWNER");
    assert_eq!(delete(process.address(), &header).status, 200);
    process.kill();
    std::fs::remove_file(files.dir.path().join("replay/state.json")).unwrap();
    let path = files.path();
    let stopped = told(&["serve", "--config", path.to_str().unwrap()], "");
    assert_eq!(stopped.status.code(), Some(1));
    assert!(text(&stopped.stderr).contains("(state.json) is not"), "{}", text(&stopped.stderr));
    let process = Process::serve_with(&files, &["--discard-replay-journal"]);
    assert_eq!(delete(process.address(), &header).status, 503, "whether it was spent is not known");
    let ready = get(process.admin(), "/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("fenced until"), "{}", ready.body);
    let help = text(&told(&["serve", "--help"], "").stdout);
    assert!(help.contains("--discard-replay-journal") && help.contains("DANGEROUS"), "{help}");
}

#[test]
fn after_sigterm_closed_a_journal_a_reboot_does_not_fence_it() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, JOURNAL);
    for (signal, fenced) in [("-TERM", false), ("-KILL", true)] {
        let mut process = Process::serve(&files);
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
        process.signal(signal);
        process.wait();
        let settings = JournalSettings {
            path: files.dir.path().join("replay"),
            room: Room { max_salts: 1000, max_salts_per_key: 1000 },
            when_new: WhenNew::Fence,
            window: Window::default(),
            sync: JournalSync::Os,
            discard: false,
            boot_id: "another".into(),
            witness_in: None,
        };
        let journal = Journal::open(Clock::system(), settings).unwrap();
        assert_eq!(journal.fenced_until().is_some(), fenced, "{signal}");
        assert_eq!(journal.held() > 0, !fenced, "what the fence covers need not be remembered");
    }
}

#[test]
fn a_claim_that_waits_for_the_disk_is_answered() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, &format!("{JOURNAL}sync = \"each\"\n"));
    let process = Process::serve(&files);
    let header = signed("OWNER");
    assert_eq!(delete(process.address(), &header).status, 200);
    assert_eq!(delete(process.address(), &header).status, 401);
    let check = Command::new(env!("CARGO_BIN_EXE_saltgate"))
        .args(["check", "--all", "--config", files.path().to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(text(&check.stdout).contains("replay.journal.sync = \"each\""), "{}", text(&check.stdout));
}
