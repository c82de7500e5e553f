//! Starts without PostgreSQL, from the sealed snapshot of its keys (contract §4, §9).

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Files, Gate, Upstream, api_key, salt, secret, signed, signed_at, until};
use crate::http::{delete, get};
use crate::key_tables::{HASTY, files, ours, ready, refused_after, revoke, status, upstream};
use crate::operations::Process;
use crate::postgres::Postgres;

const MINUTE: Duration = Duration::from_secs(60);
const SEAL: &str = "[seal]\nkeys = [{ id = \"2026-12\", file = \"kek\" }]\n";

/// The files of a gate that keeps a snapshot.
fn keeping(upstream: &Upstream, server: &Postgres) -> Files {
    let files = files(upstream, &server.url(), &format!("{HASTY}snapshot = \"state/keys.snapshot\"\n{SEAL}"));
    std::fs::write(files.dir.path().join("kek"), [7; 32]).unwrap();
    files
}

fn snapshot(files: &Files) -> PathBuf {
    files.dir.path().join("state/keys.snapshot")
}

/// Starts a gate again with the files of one that has ended.
fn again(gate: Gate, clock: &Clock) -> Gate {
    Gate::from_files(ended(gate), clock.clone())
}

/// The files of a gate, which ends.
fn ended(mut gate: Gate) -> Files {
    assert!(gate.drain());
    let empty = Files { dir: tempfile::tempdir().unwrap() };
    std::mem::replace(&mut gate.files, empty)
}

fn status_at(gate: &Gate, role: &str, clock: &Clock) -> u16 {
    gate.delete(&signed_at(role, clock.now(), &salt())).status
}

#[test]
fn a_gate_starts_without_the_database_until_max_stale_and_says_so() {
    let (mut server, upstream) = (ours(), upstream());
    let (clock, time) = Clock::manual(Clock::system().now());
    time.advance(60 * MINUTE);
    let gate = Gate::from_files(keeping(&upstream, &server), clock.clone());
    assert_eq!(status_at(&gate, "OWNER", &clock), 200);
    server.kill();
    let confirmed = clock.now();
    time.advance(10 * MINUTE);

    let gate = again(gate, &clock);
    assert_eq!((status_at(&gate, "OWNER", &clock), status_at(&gate, "NOBODY", &clock)), (200, 401));
    let named = format!(
        "its keys are those of the snapshot that the database confirmed at {}",
        saltgate::parts::rfc3339(confirmed)
    );
    let told = get(gate.admin(), "/ready");
    assert!(told.status == 200 && told.body.contains(&named), "{}", told.body);
    let page = get(gate.admin(), "/status.json").body;
    assert!(page.contains(&named) && page.contains("\"degraded\""), "{page}");
    assert!(gate.metrics().contains("saltgate_directory_age_seconds 600"), "{}", gate.metrics());
    let digest = |by: &str| {
        let lines = gate.files.record();
        let found: Vec<_> = lines.iter().filter(|line| line["kind"] == "keys" && line["by"] == by).collect();
        assert_eq!((found.len(), &found[0]["keys"]), (1, &serde_json::json!(3)), "{by}: {found:?}");
        found[0]["digest"].clone()
    };
    assert_eq!(digest("snapshot"), digest("postgres"), "the same keys, and where they are from");
    // What is left of max_stale is less than it was.
    time.advance(5 * MINUTE);
    assert_eq!(status_at(&gate, "OWNER", &clock), 200);
    time.advance(Duration::from_secs(1));
    assert_eq!(status_at(&gate, "OWNER", &clock), 503);
    assert!(ready(&gate).contains("its keys are older than max_stale"), "{}", ready(&gate));

    let gate = again(gate, &clock);
    let deletes = upstream.deletes();
    assert_eq!(status_at(&gate, "OWNER", &clock), 503);
    let told = get(gate.admin(), "/ready");
    assert!(
        told.status == 503 && told.body.contains("its snapshot is not used: the database last confirmed it 901 s ago")
    );
    // A clock that is set back does not make it younger.
    time.set_wall(clock.now() - 10 * MINUTE);
    let gate = again(gate, &clock);
    assert_eq!((status_at(&gate, "OWNER", &clock), upstream.deletes()), (503, deletes));
    server.run();
    until("the keys are read", || status_at(&gate, "OWNER", &clock) == 200);
}

#[test]
fn what_was_revoked_while_the_gate_was_down_is_found_when_the_database_is_back() {
    let (mut server, upstream) = (ours(), upstream());
    let gate = Gate::by(keeping(&upstream, &server));
    revoke(&server, "DEVELOPER");
    refused_after(&gate, "DEVELOPER");
    let files = ended(gate);
    let about = snapshot(&files).metadata().unwrap();
    assert_eq!(about.permissions().mode() & 0o7777, 0o600);
    let bytes = std::fs::read(snapshot(&files)).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!holds(&secret("OWNER")) && !holds(&api_key("OWNER")), "nothing of the keys can be read");
    revoke(&server, "MEMBER");
    server.kill();
    let gate = Gate::by(files);
    let all = || ["OWNER", "DEVELOPER", "MEMBER"].map(|role| status(&gate, role));
    assert_eq!(all(), [200, 401, 200], "what was confirmed last");
    server.run();
    until("it is refused", || status(&gate, "MEMBER") == 401);
    assert_eq!(all(), [200, 401, 401]);
    assert!(ready(&gate).contains("\"directory\":\"ok\""), "{}", ready(&gate));
}

#[test]
fn a_snapshot_that_is_not_the_last_of_this_gate_is_not_used() {
    let (mut server, upstream) = (ours(), upstream());
    let mut other = ours();
    let gate = Gate::by(keeping(&upstream, &server));
    let older = std::fs::read(snapshot(&gate.files)).unwrap();
    revoke(&server, "OWNER");
    refused_after(&gate, "OWNER");
    until("it is written", || std::fs::read(snapshot(&gate.files)).unwrap() != older);
    let count = || std::fs::read_to_string(gate.files.dir.path().join("record/counts.json")).unwrap_or_default();
    until("it is counted", || count().contains(".snapshot\":2"));
    // While the gate runs, it knows better than any file.
    let newer = std::fs::read(snapshot(&gate.files)).unwrap();
    std::fs::write(snapshot(&gate.files), &older).unwrap();
    server.kill();
    until("it is noticed", || ready(&gate).contains("degraded"));
    assert_eq!(status(&gate, "OWNER"), 401);
    std::fs::write(snapshot(&gate.files), &newer).unwrap();

    let foreign = Gate::by(keeping(&upstream, &other));
    let of_another = std::fs::read(snapshot(&foreign.files)).unwrap();
    other.kill();
    drop(foreign);
    let mut files = ended(gate);
    let kek = files.dir.path().join("kek");
    let mut damaged = newer.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let rows: [(&str, &[u8], u8, &str); 6] = [
        ("damaged", &damaged, 7, "does not open by the key"),
        ("cut", &newer[..newer.len() - 20], 7, "does not open by the key"),
        ("empty", b"", 7, "it is damaged"),
        ("another sealing key", &newer, 8, "does not open by the key"),
        ("another database", &of_another, 7, "it is of another database"),
        ("an older copy", &older, 7, "is number 1, and the record's folder says 2"),
    ];
    for (what, content, byte, expected) in rows {
        std::fs::write(snapshot(&files), content).unwrap();
        std::fs::write(&kek, [byte; 32]).unwrap();
        let gate = Gate::by(files);
        let told = ready(&gate);
        assert!(told.contains(expected), "{what}: {told}");
        assert_eq!((status(&gate, "OWNER"), status(&gate, "MEMBER")), (503, 503), "{what}");
        files = ended(gate);
    }
    std::fs::write(&kek, [7; 32]).unwrap();
    std::fs::write(snapshot(&files), &newer).unwrap();
    let gate = Gate::by(files);
    assert_eq!((status(&gate, "OWNER"), status(&gate, "MEMBER")), (401, 200), "the last one of this gate");
}

#[test]
fn another_sealing_key_is_taken_by_a_reload_and_seals_the_snapshot() {
    let (mut server, upstream) = (ours(), upstream());
    let mut gate = Gate::by(keeping(&upstream, &server));
    std::fs::write(gate.files.dir.path().join("newer"), [8; 32]).unwrap();
    let sealed_by = |files: &Files| {
        let bytes = std::fs::read(snapshot(files)).unwrap_or_default();
        let head = bytes.split(|byte| *byte == b'\n').next().unwrap().to_vec();
        serde_json::from_slice::<serde_json::Value>(&head).unwrap_or_default()["kek"].clone()
    };
    assert_eq!(sealed_by(&gate.files), "2026-12");
    let change = |gate: &mut Gate, from: &str, to: &str| {
        let text = std::fs::read_to_string(gate.files.path()).unwrap();
        std::fs::write(gate.files.path(), text.replace(from, to)).unwrap();
        assert_eq!(gate.reload(), Ok(Vec::new()));
    };
    change(&mut gate, "keys = [", "keys = [{ id = \"2027-06\", file = \"newer\" }, ");
    until("it is sealed again", || sealed_by(&gate.files) == "2027-06");
    change(&mut gate, ", { id = \"2026-12\", file = \"kek\" }", "");
    assert_eq!(status(&gate, "OWNER"), 200);
    let files = ended(gate);
    server.kill();
    assert_eq!(status(&Gate::by(files), "OWNER"), 200, "the old sealing key is not needed any more");
}

#[test]
fn a_snapshot_that_cannot_be_written_keeps_no_key_from_coming_into_force() {
    let (server, upstream) = (ours(), upstream());
    let files = keeping(&upstream, &server);
    std::fs::write(files.dir.path().join("state"), "a file where a folder should be").unwrap();
    let gate = Gate::by(files);
    assert_eq!(status(&gate, "OWNER"), 200);
    let told = ready(&gate);
    assert!(told.contains("degraded: a start without the database would find no keys"), "{told}");
    revoke(&server, "OWNER");
    refused_after(&gate, "OWNER");
    std::fs::remove_file(gate.files.dir.path().join("state")).unwrap();
    revoke(&server, "DEVELOPER");
    refused_after(&gate, "DEVELOPER");
    until("it is well again", || ready(&gate).contains("\"directory\":\"ok\""));
    assert!(snapshot(&gate.files).exists());
}

/// Whatever a gateway was doing when it was killed, the next one finds a whole set of keys: in each, all keys have the same
/// member.
#[test]
fn a_gateway_that_is_killed_while_it_writes_leaves_a_whole_snapshot() {
    let (mut server, upstream) = (ours(), upstream());
    server.sql("insert into saltgate.key (api_key, account, member, role, secret_1) select 'MANY' || n, 'account-1', 'member-1', 'MEMBER', md5(n::text) || md5('b' || n) from generate_series(1, 2000) as n");
    let mut files = keeping(&upstream, &server);
    let text = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), text.replace("interval = \"100ms\"", "interval = \"50ms\"")).unwrap();
    let path = snapshot(&files);
    for round in 0..5_u64 {
        let mut process = Process::serve(&files);
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
        let written = || std::fs::read(&path).unwrap_or_default();
        for change in 0..3 {
            let before = written();
            server
                .sql(&format!("update saltgate.key set member = 'member-{round}-{change}' where api_key like 'MANY%'"));
            if change < 2 {
                until("a snapshot is written", || written() != before);
            }
        }
        // While the last change is read, or put in force, or written.
        std::thread::sleep(Duration::from_millis(round * 60));
        process.kill();
        server.kill();
        let mut gate = Gate::by(files);
        assert_eq!((status(&gate, "OWNER"), status(&gate, "MEMBER")), (200, 200), "{}", ready(&gate));
        assert!(ready(&gate).contains("its keys are those of the snapshot"), "{}", ready(&gate));
        let current = gate.gateway().current().load_full();
        let members: std::collections::BTreeSet<String> = current
            .directory
            .callers()
            .filter(|caller| caller.api_key.starts_with("MANY"))
            .map(|caller| caller.owner.member.to_string())
            .collect();
        assert_eq!((members.len(), current.directory.len()), (1, 2003), "{members:?}");
        drop(current);
        files = ended(gate);
        server.run();
    }
}
