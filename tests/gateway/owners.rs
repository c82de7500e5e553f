//! Whose segment it is, asked of PostgreSQL (contract §5): real servers, and PgBouncer in transaction mode.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use saltgate::parts::{Clock, Config};

use crate::harness::{Files, Gate, PATIENT, SEGMENT, Upstream, service, signed, until};
use crate::http::get;
use crate::operations::Process;
use crate::postgres::{PASSWORD, PgBouncer, Postgres, url};

const QUERY: &str = "select account_id, owner_id from segment where id = $1";

/// A server with a table of segments, of which there is one.
fn crm() -> Postgres {
    let server = Postgres::start();
    fill(&server);
    server
}

fn fill(server: &Postgres) {
    server.sql("create table segment (id text, account_id text, owner_id varchar(40))");
    server.sql("grant select on segment to gate");
    owner(server, "'account-1', 'member-1'");
}

/// Makes this the owner of the segment: the account and the creator, in SQL.
fn owner(server: &Postgres, values: &str) {
    server.sql(&format!("delete from segment; insert into segment values ('{SEGMENT}', {values})"));
}

/// A service that knows nothing about owners.
fn upstream() -> Upstream {
    Upstream::start(service("account-9", "member-9"))
}

/// The section, with the patience of all tests unless another timeout is given.
fn section(url: &str, query: &str, more: &str) -> String {
    let more = if more.contains("timeout = ") { more.to_owned() } else { format!("timeout = \"{PATIENT}\"\n{more}") };
    format!("[ownership.postgres]\nurl = \"{url}\"\nquery = \"\"\"{query}\"\"\"\n{more}")
}

fn gate(upstream: &Upstream, url: &str, query: &str, more: &str) -> Gate {
    Gate::with(upstream.address, &section(url, query, more), Clock::system())
}

fn status(gate: &Gate, role: &str) -> u16 {
    gate.delete(&signed(role)).status
}

fn ready(gate: &Gate) -> String {
    get(gate.admin(), "/ready").body
}

/// `check --live`, with this segment if there is one: the status, and what it printed.
fn check_live(file: &Path, segment: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saltgate"));
    command.args(["check", "--live", "--config"]).arg(file);
    command.args(segment.into_iter().flat_map(|segment| ["--segment", segment]));
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn the_decision_table_holds_for_owners_in_postgresql_also_through_pgbouncer() {
    let (server, upstream) = (crm(), upstream());
    let pooler = PgBouncer::before(&server);
    for url in [server.url(), url(pooler.port)] {
        let gate = gate(&upstream, &url, QUERY, "");
        for (values, by_role) in [
            ("'account-1', 'member-1'", [("OWNER", 200), ("DEVELOPER", 200), ("MEMBER", 200), ("", 401)]),
            ("'account-1', 'member-2'", [("OWNER", 200), ("DEVELOPER", 401), ("MEMBER", 401), ("", 401)]),
            ("'account-2', 'member-1'", [("OWNER", 404), ("DEVELOPER", 404), ("MEMBER", 404), ("", 401)]),
        ] {
            owner(&server, values);
            for (role, expected) in by_role {
                let before = upstream.deletes();
                assert_eq!(status(&gate, role), expected, "{role} and {values}");
                assert_eq!(upstream.deletes() - before, usize::from(expected == 200), "{role} and {values}");
            }
        }
        server.sql("delete from segment");
        for (role, expected) in [("OWNER", 404), ("MEMBER", 404), ("", 401)] {
            assert_eq!(status(&gate, role), expected, "{role} and no row");
        }
        assert!(ready(&gate).contains("\"ownership\":\"ok\""), "{}", ready(&gate));
        assert!(gate.metrics().contains("saltgate_part_ok{part=\"ownership\"} 1"));
        owner(&server, "'account-1', 'member-2'");
        assert_eq!(status(&gate, "OWNER"), 200);
        let sent = upstream.last.lock().unwrap().last().cloned().unwrap().head.to_lowercase();
        assert!(sent.contains("x-saltgate-creator: member-2\r\n") && !sent.contains("if-match"), "{sent}");
    }
    assert_eq!(upstream.gets(), 0, "the service is not asked");
}

#[test]
fn many_deletions_share_one_connection_and_each_gets_its_own_answer() {
    let (server, upstream) = (crm(), upstream());
    let pooler = PgBouncer::before(&server);
    // Half of the segments are somebody else's.
    server.sql("delete from segment; insert into segment select 'S' || n, 'account-' || 1 + n % 2, 'member-1' from generate_series(0, 39) as n");
    for url in [server.url(), url(pooler.port)] {
        let gate = gate(&upstream, &url, QUERY, "[runtime]\nworkers = 1\n");
        std::thread::scope(|scope| {
            for number in 0..40 {
                let address = gate.address();
                scope.spawn(move || {
                    for _ in 0..5 {
                        let answer = crate::http::delete_segment(address, &signed("MEMBER"), &format!("S{number}"));
                        assert_eq!(answer.status, if number % 2 == 0 { 200 } else { 404 }, "S{number}");
                    }
                });
            }
        });
        let connections = "select count(*) from pg_stat_activity where usename = 'gate'";
        assert!(["1", "2"].contains(&&*server.sql(connections)), "PgBouncer has two at most");
        assert_eq!(gate.metrics().matches("saltgate_part_ok{part=\"ownership\"} 1").count(), 1);
    }
}

#[test]
fn an_answer_in_doubt_deletes_nothing_and_the_log_and_the_check_name_it() {
    let (server, upstream) = (crm(), upstream());
    server.sql("create table odd (id text, account_id text, owner_id text)");
    server.sql("grant select on odd to gate");
    server.sql(&format!("insert into odd values ('{SEGMENT}', 'account-1', 'a'), ('{SEGMENT}', 'account-1', 'a')"));
    for (select, named) in [
        ("null, 'member-1'", "first column (the account) of ownership.postgres.query is NULL"),
        ("'account-1', null", "second column (the creator) of ownership.postgres.query is NULL"),
        ("'account-1', ''", "second column (the creator) of ownership.postgres.query is not 1 to 128 visible ASCII"),
        ("'two words', 'member-1'", "first column (the account) of ownership.postgres.query is not 1 to 128"),
        ("'account-1', '회원'", "second column (the creator) of ownership.postgres.query is not 1 to 128"),
        ("1.0, 'member-1'", "first column (the account) of ownership.postgres.query is numeric; expected text"),
        ("'account-1', '{}'::json", "second column (the creator) of ownership.postgres.query is json"),
        ("s.*", "does not have exactly two columns"),
        ("account_id, no_such_column", "no_such_column"),
        // The database's own message quotes the value.
        ("account_id, (owner_id || 'hunter2')::int", "SQLSTATE 22P02"),
    ] {
        let query = format!("select {select} from segment s where id = $1");
        doubtful(&upstream, &server.url(), &query, named);
    }
    doubtful(&upstream, &server.url(), &QUERY.replace("segment", "odd"), "more than one row for the segment");
    assert_eq!(upstream.deletes(), 0);
    // Whose segment it is decides before its creator does.
    let elsewhere = gate(&upstream, &server.url(), "select 'account-2', null from segment where id = $1", "");
    assert_eq!(status(&elsewhere, "OWNER"), 404);
}

/// A deletion is 502, and both the log and `check --live` say why.
fn doubtful(upstream: &Upstream, url: &str, query: &str, named: &str) {
    let files = Files::new(upstream.address, &section(url, query, ""));
    let gate = Process::serve(&files);
    assert_eq!(crate::http::delete(gate.address(), &signed("OWNER")).status, 502, "{query}");
    let logged = || gate.log().lines().any(|line| line.contains("ownership_unavailable") && line.contains(named));
    until(&format!("the log names {named:?}"), logged);
    assert!(!gate.log().contains("hunter2"));
    let (code, told) = check_live(&files.path(), Some(SEGMENT));
    assert_eq!(code, Some(1), "{told}");
    let failed: Vec<&str> = told.lines().filter(|line| line.starts_with("failed: ownership.postgres at ")).collect();
    assert!(failed.iter().any(|line| line.contains(named) && !line.contains("hunter2")), "{told}");
}

#[test]
fn ids_may_be_of_any_type_that_has_one_form_and_the_segments_id_is_bound() {
    let (server, upstream) = (crm(), upstream());
    let uuid = "0b1e8f3c-7a52-4d0e-9a35-2f1d6c1b8e77";
    for (types, id, account, creator) in [
        ("id text, a text, c text", "S1", "account-1", "member-1"),
        ("id varchar(64), a varchar(20), c char(20)", "S1", "account-1", "member-1"),
        ("id name, a name, c text", "S1", "account-1", "member-1"),
        ("id uuid, a uuid, c uuid", uuid, uuid, uuid),
        ("id bigint, a bigint, c integer", "42", "7", "8"),
        ("id smallint, a smallint, c smallint", "42", "7", "8"),
    ] {
        server.sql("drop table if exists typed");
        server.sql(&format!("create table typed ({types})"));
        server.sql("grant select on typed to gate");
        server.sql(&format!("insert into typed values ('{id}', '{account}', '{creator}')"));
        let gate = {
            let more = section(&server.url(), "select a, c from typed where id = $1;", "");
            let files = Files::new(upstream.address, &more);
            let keys = files.dir.path().join("keys.toml");
            let text = std::fs::read_to_string(&keys).unwrap();
            let text = text.replace("account = \"account-1\"", &format!("account = \"{account}\""));
            std::fs::write(&keys, text.replace("member = \"member-1\"", &format!("member = \"{creator}\""))).unwrap();
            let (code, told) = check_live(&files.path(), None);
            assert_eq!(code, Some(0), "{told}");
            assert!(told.contains("ok: ownership.postgres at ") && !told.contains(PASSWORD), "{told}");
            let (code, told) = check_live(&files.path(), Some(id));
            assert!(code == Some(0) && told.contains(&format!("has the account {account:?}")), "{told}");
            Gate::by(files)
        };
        let delete = |segment: &str| crate::http::delete_segment(gate.address(), &signed("MEMBER"), segment).status;
        assert_eq!(delete(id), 200, "{types}");
        // An id that the column cannot hold is no segment that is known not to be there.
        let other = if types.contains("text") || types.contains("var") || types.contains("name") { 404 } else { 502 };
        assert_eq!(delete("OR-1"), other, "{types}");
        assert!(ready(&gate).contains("\"ownership\":\"ok\""), "{}", ready(&gate));
    }
}

#[test]
fn without_the_database_nothing_is_deleted_and_deletions_go_on_when_it_is_back() {
    let (mut server, upstream) = (crm(), upstream());
    let mut pooler = PgBouncer::before(&server);
    let gates = [
        gate(&upstream, &server.url(), QUERY, "[runtime]\nworkers = 1\n"),
        gate(&upstream, &url(pooler.port), QUERY, "timeout = \"5s\"\n[runtime]\nworkers = 1\n"),
    ];
    for gate in &gates {
        assert_eq!(status(gate, "OWNER"), 200);
    }
    // Connections that ended meanwhile are replaced, and the question is asked again.
    server.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'gate'");
    assert_eq!(status(&gates[0], "OWNER"), 200);
    pooler.kill();
    pooler.run();
    // A first attempt may have failed meanwhile.
    until("deletions go on", || status(&gates[1], "OWNER") == 200);
    // The server stays, and its connections end.
    let deletes = upstream.deletes();
    server.kill();
    for gate in &gates {
        let refused = gate.delete(&signed("OWNER"));
        assert!([502, 504].contains(&refused.status), "{}", refused.status);
        assert!(ready(gate).contains("\"ownership\":\"degraded: "), "{}", ready(gate));
        assert_eq!(get(gate.admin(), "/ready").status, 200, "every gateway has the same database");
        assert!(!ready(gate).contains(PASSWORD));
    }
    assert_eq!(status(&gates[0], "OWNER"), 502, "nothing listens there");
    assert!(gates[0].metrics().contains("reason=\"ownership_unavailable\""));
    assert_eq!(upstream.deletes(), deletes);
    server.run();
    for gate in &gates {
        until("its end is noticed without a request", || ready(gate).contains("\"ownership\":\"ok\""));
        assert_eq!(status(gate, "OWNER"), 200);
    }
}

#[test]
fn look_ups_that_take_too_long_are_504_and_one_process_of_the_database_waits() {
    let (server, upstream) = (crm(), upstream());
    let pooler = PgBouncer::before(&server);
    let mut somebody = server.session();
    for url in [server.url(), url(pooler.port)] {
        let gate = gate(&upstream, &url, QUERY, "timeout = \"3s\"\n[runtime]\nworkers = 1\n");
        assert_eq!(status(&gate, "OWNER"), 200);
        let deletes = upstream.deletes();
        somebody.run("begin; lock table segment in access exclusive mode");
        let clock = Clock::system();
        let started = clock.elapsed();
        std::thread::scope(|scope| {
            for _ in 0..5 {
                let address = gate.address();
                scope.spawn(move || assert_eq!(crate::http::delete(address, &signed("OWNER")).status, 504));
            }
        });
        let took = clock.elapsed() - started;
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert!(ready(&gate).contains("took longer than ownership.postgres.timeout"), "{}", ready(&gate));
        assert_eq!(upstream.deletes(), deletes);
        let waiting = "select count(*) from pg_stat_activity where usename = 'gate' and wait_event_type = 'Lock'";
        assert_eq!(server.sql(waiting), "1", "however many deletions came");
        somebody.run("commit");
        assert_eq!(status(&gate, "OWNER"), 200, "{}", ready(&gate));
    }
    // The database may have a limit of its own.
    server.sql("alter role gate set statement_timeout = '200ms'");
    let gate = gate(&upstream, &server.url(), QUERY, "[runtime]\nworkers = 1\n");
    assert_eq!(status(&gate, "OWNER"), 200);
    somebody.run("begin; lock table segment in access exclusive mode");
    assert_eq!(status(&gate, "OWNER"), 504);
    somebody.run("commit");
    assert_eq!(status(&gate, "OWNER"), 200);
}

/// PgBouncer keeps its clients' connections while it is led to another server, so the first check of a connection is not enough.
#[test]
fn a_standby_is_not_believed_also_behind_a_connection_that_led_to_the_primary() {
    let upstream = upstream();
    let primary = Postgres::with(&["wal_level=replica"]);
    fill(&primary);
    let standby = primary.standby();
    until("the standby has caught up", || standby.sql("select count(*) from segment") == "1");
    let pooler = PgBouncer::before(&primary);
    let pooled = gate(&upstream, &url(pooler.port), QUERY, "[runtime]\nworkers = 1\n");
    let direct = gate(&upstream, &standby.url(), QUERY, "[runtime]\nworkers = 1\n");
    assert_eq!((status(&pooled, "MEMBER"), status(&direct, "MEMBER")), (200, 502));
    assert!(ready(&direct).contains("\"ownership\":\"degraded: "), "{}", ready(&direct));
    pooler.lead_to(&standby);
    until("it leads to the standby", || status(&pooled, "MEMBER") != 200);
    // Neither that there is such a segment is believed, nor that there is none.
    let deletes = upstream.deletes();
    assert_eq!(status(&pooled, "MEMBER"), 502);
    primary.sql("delete from segment");
    until("the standby has caught up", || standby.sql("select count(*) from segment") == "0");
    assert_eq!(status(&pooled, "MEMBER"), 502);
    assert_eq!(upstream.deletes(), deletes);
    standby.sql("select pg_promote()");
    owner(&standby, "'account-1', 'member-1'");
    for gate in [&pooled, &direct] {
        until("the new primary is asked", || ready(gate).contains("\"ownership\":\"ok\""));
        assert_eq!(status(gate, "MEMBER"), 200);
    }
}

#[test]
fn what_is_wrong_with_the_database_is_said_without_a_password() {
    let (server, upstream) = (crm(), upstream());
    let wrong = server.url().replace("%25word", "%25hunter2");
    let none = server.url().replace("/crm", "/no_such_database");
    let encrypted = server.url().replace("?sslmode=disable", "");
    for (url, more, expected) in [
        (&wrong, "", "password authentication failed"),
        (&none, "", "no_such_database"),
        (&encrypted, "ca = \"ca.pem\"\n", "ownership.postgres.ca: "),
    ] {
        let gate = gate(&upstream, url, QUERY, more);
        assert_eq!(status(&gate, "OWNER"), 502);
        let told = ready(&gate);
        assert!(told.contains(expected) && !told.contains("hunter2") && !told.contains(PASSWORD), "{told}");
    }
    assert_eq!(upstream.deletes(), 0);
}

#[test]
fn a_reload_takes_another_query_and_keeps_the_connection_of_the_same_one() {
    let (server, upstream) = (crm(), upstream());
    let mut gate = gate(&upstream, &server.url(), QUERY, "[runtime]\nworkers = 1\n");
    assert_eq!(status(&gate, "MEMBER"), 200);
    let backend = || server.sql("select pid from pg_stat_activity where usename = 'gate'");
    let before = backend();
    assert_eq!(gate.reload(), Ok(Vec::new()));
    assert_eq!((status(&gate, "MEMBER"), backend()), (200, before.clone()));
    let text = std::fs::read_to_string(gate.files.path()).unwrap();
    std::fs::write(gate.files.path(), text.replace("owner_id from", "'member-2' from")).unwrap();
    assert_eq!(gate.reload(), Ok(Vec::new()));
    assert_eq!(status(&gate, "MEMBER"), 401);
    until("the old connection is closed", || backend() != before && !backend().contains('\n'));
}

#[test]
fn faults_of_the_settings_are_named() {
    let upstream = upstream();
    let good = "postgres://u:hunter2@h/d";
    for (url, query, more, expected) in [
        ("postgres://u:hunter2@h/d?sslmode=prefer", QUERY, "", "ownership.postgres.url: has an sslmode"),
        ("postgres://u:hunter2@h/d?target_session_attrs=any", QUERY, "", "target_session_attrs other than read-write"),
        (good, "select account_id, owner_id from segment", "", "ownership.postgres.query: has no $1"),
        (good, "select account_id from segment where id = $1", "", "selects 1 columns, not two"),
        (good, "select a, b from s where id = $1 and x = $2", "", "has the parameter $2"),
        (good, "select a, b from s where id = $1; drop table s", "", "more than one statement"),
        (good, "update s set a = b where id = $1 returning a, b", "", "begins with none of select, with"),
        (good, QUERY, "[ownership.delegate]\n", "more than one source is named"),
        (good, QUERY, "querry = \"\"\ntimeout = \"1s\"\n", "did you mean `query`?"),
    ] {
        let files = Files::new(upstream.address, &section(url, query, more));
        let faults = Config::load(&files.path()).unwrap_err();
        let told: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        assert!(told.contains(expected) && !told.contains("hunter2"), "{told}");
    }
    let files = Files::new(upstream.address, &section(&format!("{good}?sslmode=disable"), QUERY, ""));
    let warnings = Config::load(&files.path()).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.to_string().contains("can say whose a segment is")));
}
