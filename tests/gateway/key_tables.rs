//! Keys in PostgreSQL (contract §4): changes, faults and outages of real servers.

use std::path::Path;
use std::time::Duration;

use saltgate::parts::{Clock, Config};

use crate::harness::{Files, Gate, ROLES, Upstream, api_key, salt, secret, service, signed, signed_at, until};
use crate::http::get;
use crate::late_bodies::{Late, in_flight};
use crate::postgres::{PASSWORD, PgBouncer, Postgres, url};
use crate::spoken::BOTH;

/// A revocation is in force within this time.
const SOON: Duration = Duration::from_secs(2);
/// A table of somebody else, whose columns have other names.
const OTHERS: &str = "query = \"select name as api_key, secret as secret_1, customer as account, person as member, upper(role) as role, enabled as active from credential\"\n";

fn schema(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/postgres").join(name)
}

/// A server with the schema of `deploy/postgres` and the keys of the tests.
pub fn ours() -> Postgres {
    let server = Postgres::start();
    fill(&server);
    server
}

pub fn fill(server: &Postgres) {
    ["schema.sql", "schema-2.sql"].iter().for_each(|name| server.file_of_sql(&schema(name)));
    for role in ROLES.into_iter().filter(|role| !["", "ADMIN"].contains(role)) {
        let (key, secret) = (api_key(role), secret(role));
        server.sql(&format!(
            "insert into saltgate.key (api_key, account, member, role, secret_1) values ('{key}', 'account-1', 'member-1', '{role}', '{secret}')"
        ));
    }
    server.sql("grant saltgate_read to gate");
}

/// A server with the table of somebody else.
fn theirs() -> Postgres {
    let server = Postgres::start();
    server.sql("create table credential (name text, secret text, customer text, person text, role text, enabled boolean, updated_at timestamptz default clock_timestamp())");
    for role in ["OWNER", "MEMBER"] {
        let (key, secret) = (api_key(role), secret(role));
        server.sql(&format!(
            "insert into credential values ('{key}', '{secret}', 'account-1', 'member-1', lower('{role}'), true)"
        ));
    }
    server.sql("grant select on credential to gate");
    server
}

pub fn revoke(server: &Postgres, role: &str) {
    server.sql(&format!("update saltgate.key set state = 'revoked' where api_key = '{}'", api_key(role)));
}

pub fn upstream() -> Upstream {
    Upstream::start(service("account-1", "member-1"))
}

/// The files of a gate with these keys.
pub fn files(upstream: &Upstream, url: &str, more: &str) -> Files {
    let files = Files::new(upstream.address, "");
    let text = std::fs::read_to_string(files.path()).unwrap();
    let table = format!("[directory.postgres]\nurl = \"{url}\"\n{more}");
    let changed = text.replace("[directory.file]\npath = \"keys.toml\"\n", &table);
    assert_ne!(text, changed);
    std::fs::write(files.path(), changed).unwrap();
    files
}

fn gate(upstream: &Upstream, url: &str, more: &str) -> Gate {
    Gate::from_files(files(upstream, url, more), Clock::system())
}

/// Looks often.
pub const HASTY: &str = "interval = \"100ms\"\n";

pub fn ready(gate: &Gate) -> String {
    get(gate.admin(), "/ready").body
}

pub fn status(gate: &Gate, role: &str) -> u16 {
    gate.delete(&signed(role)).status
}

/// Waits until the key is refused, and returns how long that took.
pub fn refused_after(gate: &Gate, role: &str) -> Duration {
    let clock = Clock::system();
    let started = clock.elapsed();
    until("the key is refused", || status(gate, role) == 401);
    clock.elapsed() - started
}

#[test]
fn a_revocation_is_in_force_within_two_seconds_also_through_pgbouncer() {
    let (server, upstream) = (ours(), upstream());
    let pooler = PgBouncer::before(&server);
    let direct = gate(&upstream, &server.url(), "");
    let pooled = gate(&upstream, &url(pooler.port), "");
    // Looks too rarely to find anything by itself.
    let announced =
        gate(&upstream, &url(pooler.port), &format!("interval = \"10m\"\nlisten_url = \"{}\"\n", server.url()));
    until("it listens", || {
        server.sql("select count(*) from pg_stat_activity where query = 'listen saltgate_key'") == "1"
    });
    server.sql("create role clerk login in role saltgate_admin");
    for (gate, role) in [(&direct, "OWNER"), (&pooled, "MEMBER"), (&announced, "DEVELOPER")] {
        assert!(ready(gate).contains("\"directory\":\"ok\""), "{}", ready(gate));
        assert_eq!(status(gate, role), 200);
        let revoke = format!("update saltgate.key set state = 'revoked' where api_key = '{}'", api_key(role));
        server.sql(&format!("set session authorization clerk; {revoke}"));
        let took = refused_after(gate, role);
        assert!(took < SOON, "{took:?}");
    }
    assert!(direct.metrics().contains("saltgate_directory_keys 3"), "revoked keys are still known");
    let record = direct.files.record_text();
    assert!(record.contains("\"by\":\"postgres\"") && record.contains("\"NCSOWNER\""), "{record}");
    let changes =
        server.sql("select changed_by, api_key, what, columns from saltgate.key_change order by number desc limit 1");
    assert_eq!(changes, "clerk|NCSDEVELOPER|changed|{state}");
    assert!(!server.sql("select * from saltgate.key_change").contains(&secret("OWNER")));
}

/// Shows why the mark of the last change is no way to find changes: A changes a row first and commits last.
#[test]
fn a_revocation_that_commits_out_of_order_is_found_where_a_mark_of_the_last_change_misses_it() {
    let (server, upstream) = (theirs(), upstream());
    let gate = gate(&upstream, &server.url(), &format!("{OTHERS}{HASTY}"));
    assert_eq!((status(&gate, "OWNER"), status(&gate, "MEMBER")), (200, 200));
    let (mut a, mut b) = (server.session(), server.session());
    let revoke = |role| {
        format!(
            "update credential set enabled = false, updated_at = clock_timestamp() where name = '{}'",
            api_key(role)
        )
    };
    a.run("begin");
    a.run(&revoke("OWNER"));
    b.run(&format!("begin; {}; commit", revoke("MEMBER")));
    refused_after(&gate, "MEMBER");
    // A reader that asks for what changed after the last change it has seen.
    let mark = server.sql("select max(updated_at) from credential");
    let since = || server.sql(&format!("select count(*) from credential where updated_at > '{mark}'"));
    assert_eq!((since().as_str(), status(&gate, "OWNER")), ("0", 200), "nothing has committed yet");
    a.run("commit");
    assert_eq!(since(), "0", "such a reader never learns of it");
    assert!(refused_after(&gate, "OWNER") < SOON);
}

#[test]
fn writers_take_turns_and_their_commits_have_the_order_of_their_versions() {
    let server = ours();
    let version = || server.sql("select version from saltgate.key_version");
    let before: i64 = version().parse().unwrap();
    let (mut a, mut b) = (server.session(), server.session());
    let touch = |role| format!("update saltgate.key set expires = now() where api_key = '{}'", api_key(role));
    a.run("begin");
    a.run(&touch("OWNER"));
    let second = touch("MEMBER");
    let waiting = std::thread::spawn(move || {
        b.run(&second);
        b
    });
    until("B waits for A", || {
        server.sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == "1"
    });
    // Were B's row locked already, this would be a circle.
    a.run(&touch("MEMBER"));
    assert_eq!(version(), before.to_string());
    a.run("commit");
    drop(waiting.join().unwrap());
    assert_eq!(version(), (before + 3).to_string());
}

#[test]
fn outages_change_nothing_until_the_database_is_back() {
    let (mut server, upstream) = (ours(), upstream());
    let mut pooler = PgBouncer::before(&server);
    let gates = [gate(&upstream, &server.url(), HASTY), gate(&upstream, &url(pooler.port), HASTY)];
    pooler.kill();
    until("it is noticed", || ready(&gates[1]).contains("degraded: its keys may be outdated"));
    assert_eq!(get(gates[1].admin(), "/ready").status, 200);
    assert_eq!(status(&gates[1], "OWNER"), 200);
    revoke(&server, "DEVELOPER");
    pooler.run();
    for gate in &gates {
        refused_after(gate, "DEVELOPER");
    }
    server.kill();
    for gate in &gates {
        until("it is noticed", || ready(gate).contains("degraded: its keys may be outdated"));
        assert_eq!(status(gate, "OWNER"), 200);
    }
    server.run();
    revoke(&server, "OWNER");
    for gate in &gates {
        refused_after(gate, "OWNER");
        assert_eq!(status(gate, "MEMBER"), 200, "and nobody else");
        assert!(ready(gate).contains("\"directory\":\"ok\""));
    }
}

#[test]
fn keys_that_are_not_confirmed_within_max_stale_are_refused_with_503() {
    let (mut server, upstream) = (ours(), upstream());
    let gate = gate(&upstream, &server.url(), &format!("{HASTY}max_stale = \"3s\"\n"));
    assert_eq!(status(&gate, "OWNER"), 200);
    server.kill();
    let header = signed("OWNER");
    let mut last = gate.delete(&signed("OWNER"));
    until("nobody is let through", || {
        last = gate.delete(&signed("OWNER"));
        last.status == 503
    });
    let deletes = upstream.deletes();
    assert!(last.body.contains("\"ServiceUnavailable\""), "{}", last.body);
    assert_eq!(gate.delete(&header).status, 503);
    assert_eq!(status(&gate, ""), 503, "and strangers get the same");
    let told = get(gate.admin(), "/ready");
    assert_eq!(told.status, 503);
    assert!(told.body.contains("its keys are older than max_stale"), "{}", told.body);
    assert!(get(gate.admin(), "/status.json").body.contains("older than max_stale"));
    assert!(gate.metrics().contains("reason=\"keys_unavailable\""));
    server.run();
    until("it serves again", || gate.delete(&header).status == 200);
    assert_eq!(upstream.deletes(), deletes + 1, "the refused header was not spent, and now it is");
    // What was revoked while the database could not be reached never passes again.
    server.kill();
    until("nobody is let through", || status(&gate, "OWNER") == 503);
    let (deletes, mut other) = (upstream.deletes(), server);
    other.run();
    revoke(&other, "OWNER");
    until("it serves again", || status(&gate, "MEMBER") == 200);
    until("the key is refused", || status(&gate, "OWNER") == 401);
    assert!(upstream.deletes() > deletes);
}

#[test]
fn keys_that_become_too_old_while_a_body_is_late_delete_nothing_and_nothing_is_spent() {
    for spoken in BOTH {
        let (mut server, upstream) = (ours(), upstream());
        let (clock, time) = Clock::manual(Clock::system().now());
        let files = files(&upstream, &server.url(), &format!("{HASTY}max_stale = \"60s\"\n"));
        let mut gate = Gate::from_files(files, clock.clone());
        let header = signed_at("OWNER", clock.now(), &salt());
        let late = Late::delete(spoken, gate.address(), &header);
        until("it waits for its body", || in_flight(&mut gate) == 1);
        server.kill();
        until("it is noticed", || ready(&gate).contains("degraded: its keys may be outdated"));
        time.advance(Duration::from_secs(61));
        let answer = late.end();
        assert_eq!((answer.status, upstream.deletes()), (503, 0), "{spoken:?}: {}", answer.body);
        assert!(gate.metrics().contains(r#"reason="keys_unavailable"} 1"#));
        server.run();
        until("the same header passes, as it was not spent", || spoken.delete(gate.address(), &header).status == 200);
    }
}

#[test]
fn a_lock_held_by_somebody_delays_only_the_look() {
    let (server, upstream) = (ours(), upstream());
    let gate = gate(&upstream, &server.url(), &format!("{HASTY}timeout = \"2s\"\n"));
    let mut somebody = server.session();
    somebody.run("begin; lock table saltgate.key_version in access exclusive mode");
    until("it is noticed", || ready(&gate).contains("degraded: its keys may be outdated"));
    assert_eq!(status(&gate, "OWNER"), 200);
    // The database ends the query, too: the process that waits now will not wait for long.
    let waiting = || server.sql("select pid from pg_stat_activity where usename = 'gate' and wait_event_type = 'Lock'");
    let mut first = waiting();
    until("a query waits for the lock", || {
        first = waiting();
        !first.is_empty()
    });
    until("it has been ended", || !waiting().contains(&first));
    somebody.run("commit");
    revoke(&server, "OWNER");
    refused_after(&gate, "OWNER");
}

#[test]
fn a_database_that_stops_or_dies_in_the_middle_of_a_look_delays_only_the_look() {
    let (server, upstream) = (ours(), upstream());
    let gate = gate(&upstream, &server.url(), &format!("{HASTY}timeout = \"2s\"\n"));
    let process = || server.sql("select pid from pg_stat_activity where usename = 'gate' limit 1");
    let send = |signal: &str, pid: &str| {
        assert!(std::process::Command::new("kill").args([signal, pid]).status().unwrap().success());
    };
    // The process of the connection does not answer any more, as if the network were cut.
    let stopped = process();
    send("-STOP", &stopped);
    until("it is noticed", || ready(&gate).contains("longer than directory.postgres.timeout"));
    assert_eq!(status(&gate, "OWNER"), 200);
    revoke(&server, "DEVELOPER");
    refused_after(&gate, "DEVELOPER");
    send("-CONT", &stopped);
    // One that is killed takes all others with it: the server recovers as after a crash.
    until("there is a connection", || !process().is_empty());
    send("-KILL", &process());
    until("it has recovered", || gate.delete(&signed("OWNER")).status == 200 && server.answers());
    revoke(&server, "OWNER");
    refused_after(&gate, "OWNER");
    assert_eq!(status(&gate, "MEMBER"), 200, "and nobody else");
    until("it is well again", || ready(&gate).contains("\"directory\":\"ok\""));
}

#[test]
fn what_is_wrong_is_said_without_a_password_and_mended_without_a_restart() {
    let (server, upstream) = (Postgres::start(), upstream());
    let wrong = server.url().replace("%25word", "%25hunter2");
    let none = server.url().replace("/crm", "/no_such_database");
    let away = url(crate::redis::free_port());
    for (url, more, expected) in [
        (wrong.as_str(), "", "password authentication failed"),
        (&none, "", "no_such_database"),
        (&away, "", "onnection refused"),
        (&server.url(), "", "saltgate.key_version"),
        (&server.url(), "query = \"select 1 as api_key\"\n", "query has no column secret_1"),
        (
            &server.url(),
            "query = \"select 1 as a\"\nversion_query = \"select 1, 2\"\n",
            "version_query does not give exactly one",
        ),
        (
            &server.url(),
            "query = \"select 1 as a\"\nversion_query = \"select null\"\n",
            "version_query does not give exactly one",
        ),
        // The database's own message quotes the value.
        (&server.url(), "query = \"select 'hunter2'::int as api_key\"\n", "SQLSTATE 22P02"),
    ] {
        let gate = gate(&upstream, url, more);
        assert_eq!(status(&gate, "OWNER"), 503);
        let told = ready(&gate);
        assert!(told.contains("its keys have not been read yet: ") && told.contains(expected), "{told}");
        assert!(!told.contains("hunter2") && !told.contains(PASSWORD), "{told}");
    }
    let gate = gate(&upstream, &server.url(), HASTY);
    assert_eq!(status(&gate, "OWNER"), 503);
    fill(&server);
    until("the keys are read", || status(&gate, "OWNER") == 200);
}

#[test]
fn a_row_at_fault_disables_that_key_only() {
    let (server, upstream) = (theirs(), upstream());
    let gate = gate(&upstream, &server.url(), &format!("{OTHERS}{HASTY}"));
    assert_eq!(status(&gate, "OWNER"), 200);
    server.sql(&format!("insert into credential values ('NCSSHORT', 'short', 'account-1', 'member-1', 'owner', true), (null, '{0}', 'a', 'm', 'owner', true), ('NCSTWIN', '{0}', 'account-1', 'member-1', 'owner', true), ('NCSDEVELOPER', '{1}', 'account-1', 'member-1', 'developer', true)", secret("MEMBER"), secret("DEVELOPER")));
    until("the new key is used", || status(&gate, "DEVELOPER") == 200);
    let told = ready(&gate);
    assert!(told.contains("degraded: 3 of its entries are at fault and disabled"), "{told}");
    assert_eq!(status(&gate, "OWNER"), 200);
    assert_eq!(status(&gate, "MEMBER"), 401, "another key has its secret");
    server.sql("delete from credential where name is null or name in ('NCSSHORT', 'NCSTWIN')");
    until("it is well again", || ready(&gate).contains("\"directory\":\"ok\"") && status(&gate, "MEMBER") == 200);
}

#[test]
fn certificates_are_verified_for_the_host() {
    let authority = || {
        let mut parameters = rcgen::CertificateParams::new([]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        (certificate, rcgen::Issuer::new(parameters, key))
    };
    let ((ca, issuer), (other_ca, _)) = (authority(), authority());
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let mut server = ours();
    let (chain, key) = (server.file("chain.pem", &certificate.pem()), server.file("key.pem", &key.serialize_pem()));
    server.sql(&format!(
        "alter system set ssl_cert_file = '{}'; alter system set ssl_key_file = '{}'; alter system set ssl = on",
        chain.display(),
        key.display()
    ));
    server.kill();
    server.run();
    let upstream = upstream();
    let tried = |host: &str, ca: &str| {
        let url = server.url().replace("127.0.0.1", host).replace("?sslmode=disable", "");
        let files = files(&upstream, &url, "ca = \"ca.pem\"\n");
        std::fs::write(files.dir.path().join("ca.pem"), ca).unwrap();
        let gate = Gate::from_files(files, Clock::system());
        (status(&gate, "OWNER"), ready(&gate))
    };
    assert_eq!(tried("localhost", &ca).0, 200);
    let (refused, told) = tried("127.0.0.1", &ca);
    assert!(refused == 503 && told.contains("not valid for name"), "{told}");
    let (refused, told) = tried("localhost", &other_ca);
    assert!(refused == 503 && told.contains("invalid peer certificate"), "{told}");
    // A server without TLS is not spoken to in the clear.
    server.sql("alter system set ssl = off");
    server.sql("select pg_reload_conf()");
    until("TLS is off", || tried("localhost", &ca).0 == 503);
}

#[test]
fn the_gate_shows_its_own_certificate_and_its_login_is_bound_to_that_of_the_server() {
    let mut parameters = rcgen::CertificateParams::new([]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = parameters.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(parameters, key);
    let signed_for = |names: &[&str], user: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, user);
        (parameters.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (of_server, of_gate, of_other) =
        (signed_for(&["localhost"], "db"), signed_for(&[], "gate"), signed_for(&[], "other"));
    let mut server = ours();
    let named = [("chain.pem", &of_server.0), ("key.pem", &of_server.1), ("ca.pem", &ca)]
        .map(|(name, content)| server.file(name, content).display().to_string());
    server.sql(&format!(
        "alter system set ssl_cert_file = '{}'; alter system set ssl_key_file = '{}'; alter system set ssl_ca_file = '{}'; alter system set ssl = on",
        named[0], named[1], named[2]
    ));
    let upstream = upstream();
    let tried = |server: &Postgres, parameters: &str, identity: Option<&(String, String)>| {
        let url =
            format!("{}{parameters}", server.url().replace("127.0.0.1", "localhost").replace("?sslmode=disable", ""));
        let lines = if identity.is_some() { "certificate = \"gate.pem\"\nkey = \"gate.key\"\n" } else { "" };
        let files = files(&upstream, &url, &format!("ca = \"ca.pem\"\n{lines}"));
        let (certificate, key) = identity.unwrap_or(&of_other);
        for (name, content) in [("ca.pem", &ca), ("gate.pem", certificate), ("gate.key", key)] {
            std::fs::write(files.dir.path().join(name), content).unwrap();
        }
        let gate = Gate::from_files(files, Clock::system());
        (status(&gate, "OWNER"), ready(&gate))
    };
    let restarted = |server: &mut Postgres, rule: &str| {
        server.file("data/pg_hba.conf", &format!("local all all trust\n{rule}\n"));
        server.kill();
        server.run();
    };
    // By password: the server offers to bind it.
    restarted(&mut server, "hostssl all all 127.0.0.1/32 scram-sha-256");
    assert_eq!(tried(&server, "?channel_binding=require", None).0, 200);
    // By certificate alone: the password is not asked for, so nothing binds the login to the server.
    restarted(&mut server, "hostssl all gate 127.0.0.1/32 cert");
    assert_eq!(tried(&server, "", Some(&of_gate)).0, 200);
    let (refused, told) = tried(&server, "?channel_binding=require", Some(&of_gate));
    assert!(refused == 503 && told.contains("channel binding"), "{told}");
    for (identity, expected) in [(None, "client certificate"), (Some(&of_other), "certificate authentication failed")] {
        let (refused, told) = tried(&server, "", identity);
        assert!(refused == 503 && told.contains(expected), "{told}");
    }
    let mixed = (of_gate.0.clone(), of_other.1.clone());
    let (refused, told) = tried(&server, "", Some(&mixed));
    assert!(refused == 503 && told.contains("directory.postgres.key is not the key of"), "{told}");
}

#[test]
fn a_standby_is_passed_over_until_it_is_promoted() {
    let upstream = upstream();
    let mut primary = Postgres::with(&["wal_level=replica"]);
    fill(&primary);
    let mut standby = primary.standby();
    let both = server_list(&[standby.port, primary.port]);
    let gate = gate(&upstream, &both, HASTY);
    assert_eq!(status(&gate, "OWNER"), 200);
    assert_eq!(standby.sql("select count(*) from pg_stat_activity where usename = 'gate'"), "0");
    until("the standby has caught up", || standby.sql("select count(*) from saltgate.key") == "3");
    // The standby misses the last commit, so that its next change has a version that the gate has seen already.
    standby.kill();
    revoke(&primary, "DEVELOPER");
    refused_after(&gate, "DEVELOPER");
    let version = |server: &Postgres| server.sql("select version from saltgate.key_version");
    let seen = version(&primary);
    primary.kill();
    standby.run();
    until("it is noticed", || ready(&gate).contains("degraded: its keys may be outdated"));
    standby.sql("select pg_promote()");
    revoke(&standby, "OWNER");
    assert_eq!(version(&standby), seen);
    refused_after(&gate, "OWNER");
    assert_eq!((status(&gate, "MEMBER"), status(&gate, "DEVELOPER")), (200, 200), "what was lost is lost");
}

fn server_list(ports: &[u16]) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let one = url(ports[0]);
    one.replace(&format!("127.0.0.1:{}", ports[0]), &hosts.join(","))
}

#[test]
fn a_reload_keeps_the_keys_of_the_table_and_names_what_needs_a_restart() {
    let (server, upstream) = (ours(), upstream());
    let mut gate = gate(&upstream, &server.url(), HASTY);
    let text = std::fs::read_to_string(gate.files.path()).unwrap();
    assert_eq!(gate.reload(), Ok(Vec::new()));
    assert_eq!(status(&gate, "OWNER"), 200);
    std::fs::write(gate.files.path(), text.replace("100ms", "150ms")).unwrap();
    assert_eq!(gate.reload(), Ok(vec!["directory.postgres.interval".to_owned()]));
    revoke(&server, "OWNER");
    refused_after(&gate, "OWNER");
    // The file has a key that the table has revoked.
    let of_a_file = files(&upstream, "", "");
    Files::configure(&of_a_file, upstream.address, "");
    std::fs::copy(of_a_file.dir.path().join("keys.toml"), gate.files.dir.path().join("keys.toml")).unwrap();
    std::fs::copy(of_a_file.path(), gate.files.path()).unwrap();
    let needs = gate.reload().unwrap();
    assert!(
        needs.contains(&"directory.file.path".to_owned()) && needs.contains(&"directory.postgres.url".to_owned()),
        "{needs:?}"
    );
    assert_eq!((status(&gate, "OWNER"), status(&gate, "MEMBER")), (401, 200), "the keys are still those of the table");
}

#[test]
fn faults_of_the_settings_are_named() {
    let upstream = upstream();
    for (url, more, expected) in [
        ("postgres://u:hunter2@h/d?sslmode=prefer", "", "sslmode"),
        ("postgres://u:hunter2@h/d", "max_stale = \"1s\"\n", "directory.postgres.max_stale"),
        ("postgres://u:hunter2@h/d", "snapshot = \"keys\"\n", "directory.postgres.snapshot: needs a key to seal it by"),
        ("postgres://u:hunter2@h/d?sslmode=disable", "ca = \"ca.pem\"\n", "has no TLS, but ca is set"),
        (
            "postgres://u:hunter2@h/d?sslmode=disable",
            "certificate = \"c.pem\"\nkey = \"c.key\"\n",
            "has no TLS, but certificate is set",
        ),
        ("postgres://u:hunter2@h/d", "certificate = \"c.pem\"\n", "needs both certificate and key"),
        (
            "postgres://u:hunter2@h/d?sslmode=disable&channel_binding=require",
            "",
            "has no TLS, so no login can be bound",
        ),
        ("postgres://u:hunter2@h/d", "[directory.file]\npath = \"keys.toml\"\n", "names two sources of keys"),
    ] {
        let files = files(&upstream, url, more);
        let faults = Config::load(&files.path()).unwrap_err();
        let told: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        assert!(told.contains(expected) && !told.contains("hunter2"), "{told}");
    }
}

/// Takes long in a build that is not optimized: `make field` runs it.
#[test]
#[ignore = "100 000 keys; tests/field/keys/run"]
fn a_revocation_among_a_hundred_thousand_keys_is_in_force_within_two_seconds() {
    let (server, upstream) = (ours(), upstream());
    let many = "insert into saltgate.key (api_key, account, member, role, secret_1) select 'MANY' || n, 'account-' || n, 'member-' || n, 'MEMBER', md5(n::text) || md5('b' || n) from generate_series(1, 100000) as n";
    server.sql(many);
    let gate = gate(&upstream, &server.url(), "timeout = \"60s\"\n");
    assert!(gate.metrics().contains("saltgate_directory_keys 100003"));
    for role in ["OWNER", "MEMBER", "DEVELOPER"] {
        assert_eq!(status(&gate, role), 200);
        revoke(&server, role);
        let took = refused_after(&gate, role);
        println!("in force after {took:?}");
        assert!(took < SOON, "{took:?}");
    }
}
