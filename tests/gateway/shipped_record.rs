//! The copy of the record in PostgreSQL ([audit.ship]): complete through kills of both sides, and a witness of the disk.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Files, Upstream, but_delete, service, signed, until};
use crate::http::{delete, get};
use crate::operations::{Process, text, told};
use crate::postgres::{PgBouncer, Postgres, url};

/// A server with the table of `deploy/postgres`.
fn database() -> Postgres {
    let server = Postgres::start();
    server.file_of_sql(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/postgres/record.sql"));
    server.sql("grant saltgate_ship to gate");
    server
}

fn ship(url: &str) -> String {
    format!("[audit]\npath = \"record\"\n[audit.ship]\npostgres = \"{url}\"\ninterval = \"50ms\"\ntimeout = \"2s\"\n")
}

/// The complete lines in the files.
fn on_disk(files: &Files) -> usize {
    let whole = |path| std::fs::read(path).unwrap().iter().filter(|byte| **byte == b'\n').count();
    files.record_files().into_iter().map(whole).sum()
}

fn copied(server: &Postgres) -> usize {
    server.sql("select count(*) from saltgate.record").parse().unwrap()
}

fn audit(command: &str, files: &Files, more: &[&str]) -> (Option<i32>, String) {
    let path = files.path();
    let output = told(&[&["audit", command, "--config", path.to_str().unwrap(), "--shipped"], more].concat(), "");
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn shown(files: &Files, more: &[&str]) -> Vec<Value> {
    let (code, said) = audit("show", files, more);
    assert_eq!(code, Some(0), "{said}");
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_line_arrives_once_through_kills_of_the_database_and_of_the_gateway() {
    let (mut server, upstream) = (database(), Upstream::start(service("account-1", "member-1")));
    let pooler = PgBouncer::before(&server);
    let files = Files::new(upstream.address, &ship(&url(pooler.port)));
    let deletes = |process: &Process, count: usize| {
        for _ in 0..count {
            assert_eq!(delete(process.address(), &signed("OWNER")).status, 200, "no deletion waits for the copy");
        }
    };
    let mut process = Process::serve(&files);
    deletes(&process, 5);
    until("all is copied", || copied(&server) == on_disk(&files));

    server.kill();
    deletes(&process, 20);
    until("it is said", || process.log().contains("audit.ship: the record is not copied"));
    let unshipped = || {
        let metrics = get(process.admin(), "/metrics").body;
        let line = metrics.lines().find(|line| line.starts_with("saltgate_record_unshipped_seconds "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    until("the metric says so", || unshipped() > 0.0);
    server.run();
    until("all is copied after the database was away", || copied(&server) == on_disk(&files));
    until("the metric says so", || unshipped() == 0.0);

    // What a killed gateway could not copy any more, the next one with the directory does.
    server.kill();
    deletes(&process, 10);
    process.kill();
    server.run();
    let process = Process::serve(&files);
    deletes(&process, 3);
    until("all of both processes is copied", || copied(&server) == on_disk(&files));
    let mut process = process;
    process.signal("-TERM");
    process.wait();
    assert_eq!(copied(&server), on_disk(&files), "the end, too: {}", process.log());
    let last = shown(&files, &[]).pop().unwrap();
    assert_eq!(last["kind"], "closed", "{last}");
    assert_eq!(
        server.sql("select count(*) from (select distinct convert_from(bytes, 'UTF8') from saltgate.record) as lines"),
        copied(&server).to_string()
    );
    let (code, said) = audit("verify", &files, &[]);
    assert!(code == Some(0) && said.contains("of 2 processes"), "{said}");
    assert_eq!(shown(&files, &["--decision", "deleted"]).len(), upstream.deletes());
}

#[test]
fn the_copy_shows_what_was_cut_off_or_changed_on_disk_and_the_disk_what_was_changed_in_the_copy() {
    let (server, upstream) = (database(), Upstream::start(service("account-1", "member-1")));
    let files = Files::new(upstream.address, &ship(&server.url()));
    let mut process = Process::serve(&files);
    for _ in 0..3 {
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    }
    process.signal("-TERM");
    process.wait();
    assert_eq!(audit("verify", &files, &[]).0, Some(0));
    let file = files.record_files().remove(0);
    let whole = std::fs::read_to_string(&file).unwrap();
    let refused = |content: &str, why: &str| {
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, content).unwrap();
        let (code, said) = audit("verify", &files, &[]);
        assert!(code == Some(1) && said.contains(why), "{why}: {said}");
    };
    let mut lines: Vec<&str> = whole.lines().collect();
    lines.truncate(lines.len() - 2);
    refused(&format!("{}\n", lines.join("\n")), "it is cut off");
    refused(&whole.replace("\"outcome\":\"deleted\"", "\"outcome\":\"unknown\""), "is changed");
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(audit("verify", &files, &[]).0, Some(0));

    // The gateway's own role can do neither; an owner of the database can, and the chain shows it.
    let denied =
        |statement: &str| server.sql(&format!("select has_table_privilege('gate', 'saltgate.record', '{statement}')"));
    assert_eq!(["insert", "update", "delete", "truncate"].map(denied), ["t", "f", "f", "f"]);
    server.sql("update saltgate.record set bytes = convert_to(replace(convert_from(bytes, 'UTF8'), 'account-1', 'account-2'), 'UTF8') where line = 3");
    let (code, said) = audit("verify", &files, &[]);
    assert!(code == Some(1) && said.contains(":3: is changed"), "{said}");
}

#[test]
fn one_gateway_reads_and_reconciles_what_others_copied() {
    let server = database();
    let lost = Upstream::start(but_delete(|stream| drop(stream.shutdown(std::net::Shutdown::Both))));
    let files = Files::new(lost.address, &ship(&server.url())).hasty();
    let mut process = Process::serve(&files);
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 502);
    process.signal("-TERM");
    process.wait();

    let gone =
        Upstream::start(std::sync::Arc::new(|_, stream| crate::harness::answer(stream, "404 Not Found", "", "{}")));
    let auditor = Files::new(gone.address, &ship(&server.url())).hasty();
    std::fs::create_dir(auditor.dir.path().join("record")).unwrap();
    assert_eq!(shown(&auditor, &["--unknown"]).len(), 1);
    let (code, said) = audit("reconcile", &auditor, &[]);
    assert!(code == Some(0) && said.contains("deleted: the upstream no longer has the segment"), "{said}");
    assert_eq!(copied(&server), on_disk(&files) + on_disk(&auditor), "what was found is copied, too");
    assert_eq!(shown(&files, &["--unknown"]).len(), 0);
    let (code, said) = audit("reconcile", &auditor, &[]);
    assert!(code == Some(0) && said.contains("no outcome is unknown"), "{said}");
}

#[test]
fn what_cannot_be_copied_is_said_and_a_wrong_configuration_is_refused() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let server = Postgres::start();
    let files = Files::new(upstream.address, &ship(&server.url()));
    let process = Process::serve(&files);
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    until("the missing table is named", || process.log().contains("saltgate.record"));
    assert!(!process.log().contains("the-pass%word"));
    let check = |more: &str| {
        let files = Files::new(upstream.address, more);
        let told = told(&["check", "--config", files.path().to_str().unwrap()], "");
        (told.status.code(), text(&told.stderr))
    };
    let (code, said) = check("[audit]\npath = \"record\"\n[audit.ship]\npostgres = \"mysql://gate@db/crm\"\n");
    assert!(code == Some(78) && said.contains("audit.ship.postgres"), "{said}");
    let (code, said) = check("[audit]\npath = \"record\"\n[audit.ship]\ninterval = \"1s\"\n");
    assert!(code == Some(78) && said.contains("audit.ship.postgres"), "{said}");
    let (code, said) = audit("show", &Files::new(upstream.address, ""), &[]);
    assert!(code == Some(1) && said.contains("copies the record nowhere"), "{said}");
}
