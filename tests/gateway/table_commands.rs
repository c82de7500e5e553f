//! `saltgate keys` with a table in PostgreSQL: what it does to the rows, and what it knows of the gateways.

use std::path::Path;

use saltgate::parts::Clock;

use crate::harness::{Files, Gate, Upstream, api_key, secret, service, signed, until};
use crate::keys_command::{postgres, server, sh};
use crate::operations::{Process, text};
use crate::postgres::Postgres;

/// Runs `saltgate keys` with these arguments for the clerk: status, output, errors.
fn keys(server: &Postgres, folder: &Path, arguments: &str) -> (Option<i32>, String, String) {
    let output = sh(folder, &format!("saltgate keys {arguments} {}", postgres(server)));
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn done(server: &Postgres, folder: &Path, arguments: &str) -> (String, String) {
    let (status, said, complained) = keys(server, folder, arguments);
    assert_eq!(status, Some(0), "{arguments}: {said}{complained}");
    (said, complained)
}

fn version(server: &Postgres) -> i64 {
    server.sql("select version from saltgate.key_version").parse().unwrap()
}

#[test]
fn each_command_is_one_change_of_the_table() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    std::fs::write(folder.join("kek"), [7; 32]).unwrap();
    std::fs::write(
        folder.join("saltgate.toml"),
        "[directory.postgres]\nurl = \"postgres://gate:${NOT_SET_HERE}@127.0.0.1:1/crm?sslmode=disable\"\n[seal]\nkeys = [{ id = \"k\", file = \"kek\" }]\n",
    )
    .unwrap();
    let row = |columns: &str| server.sql(&format!("select {columns} from saltgate.key where api_key = 'ONE'"));
    let mut before = version(&server);
    let mut counted = |by: i64| {
        before += by;
        assert_eq!(version(&server), before);
    };
    let (first, told) = done(&server, folder, "add ONE --account a --member m --role MEMBER");
    assert!(told.contains("no gateway that runs has registered"), "{told}");
    assert_eq!(row("account, member, role, state, secret_1"), format!("a|m|MEMBER|active|{}", first.trim_end()));
    counted(1);
    let (second, _) = done(&server, folder, "rotate ONE --end 2037-01-01T00:00:00Z");
    assert_eq!(
        row("secret_2, secret_1_expires at time zone 'UTC'"),
        format!("{}|2037-01-01 00:00:00", second.trim_end())
    );
    counted(1);
    let (listed, _) = done(&server, folder, "list");
    let line =
        "ONE a/m MEMBER active; secrets: in the table until 2037-01-01T00:00:00.000Z, in the table\n1 key; digest ";
    assert!(listed.starts_with(line), "{listed}");
    assert_eq!(done(&server, folder, "seal --config saltgate.toml").0, "sealed 2 secrets\n");
    assert!(row("secret_1").starts_with("sg1:k:") && row("secret_2").starts_with("sg1:k:"));
    counted(1);
    assert_eq!(done(&server, folder, "seal --config saltgate.toml").0, "sealed 0 secrets\n");
    counted(0);
    done(&server, folder, "promote ONE --config saltgate.toml");
    assert_eq!(row("secret_2 is null, secret_1_expires is null, secret_1 like 'sg1:k:%'"), "t|t|t");
    counted(1);
    // The second one is sealed for the place of the first now.
    let file = format!(
        "[[key]]\napi_key = \"ONE\"\nsecret = \"{}\"\naccount = \"a\"\nmember = \"m\"\nrole = \"MEMBER\"\n",
        second.trim_end()
    );
    std::fs::write(folder.join("same.toml"), &file).unwrap();
    assert_eq!(done(&server, folder, "diff same.toml --config saltgate.toml").0, "the same keys\n");
    done(&server, folder, "expire ONE --at 2038-01-01T00:00:00Z --config saltgate.toml");
    assert_eq!(row("expires at time zone 'UTC'"), "2038-01-01 00:00:00");
    counted(1);
    assert_eq!(done(&server, folder, "diff same.toml --config saltgate.toml").0, "changed ONE: expires\n");
    done(&server, folder, "revoke ONE --config saltgate.toml");
    assert_eq!(row("state"), "revoked");
    counted(1);
    let more = "[[key]]\napi_key = \"TWO\"\nsecrets = [\"the first of TWO\", { env = \"TWO\" }]\naccount = \"a\"\nmember = \"m\"\nrole = \"OWNER\"\n\
                active = false\nexpires = 2037-01-01T00:00:00Z\nsecret_1_expires = 2036-01-01T00:00:00Z\n\
                [[key]]\napi_key = \"THREE\"\nsecret = \"the secret of THREE\"\naccount = \"b\"\nmember = \"n\"\nrole = \"MEMBER\"\n";
    std::fs::write(folder.join("more.toml"), more).unwrap();
    let (said, _) = done(&server, folder, "import more.toml --config saltgate.toml");
    assert!(said.starts_with("2 keys are added; "), "{said}");
    counted(1);
    let two = server.sql(
        "select state, secret_1, secret_2, expires at time zone 'UTC', secret_1_expires at time zone 'UTC' from saltgate.key where api_key = 'TWO'",
    );
    assert_eq!(two, "inactive|the first of TWO|env:TWO|2037-01-01 00:00:00|2036-01-01 00:00:00");
    let changes = server.sql("select count(*), bool_and(changed_by = 'clerk') from saltgate.key_change");
    assert_eq!(changes, "8|t", "each change is on record with who made it");
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    done(&server, folder, "add ONE --account a --member m --role MEMBER");
    let secret = server.sql("select secret_1 from saltgate.key");
    std::fs::write(
        folder.join("clash.toml"),
        format!(
            "[[key]]\napi_key = \"TWO\"\nsecret = \"{secret}\"\naccount = \"a\"\nmember = \"m\"\nrole = \"MEMBER\"\n"
        ),
    )
    .unwrap();
    std::fs::write(
        folder.join("relative.toml"),
        "[[key]]\napi_key = \"TWO\"\nsecret = { file = \"relative.toml\" }\naccount = \"a\"\nmember = \"m\"\nrole = \"MEMBER\"\n",
    )
    .unwrap();
    let before = (version(&server), server.sql("select * from saltgate.key"));
    for (arguments, expected, why) in [
        ("add ONE --account a --member m --role MEMBER", 1, "has the key ONE already"),
        ("add TWO --account a --member m", 1, "holds no key without a role, such as TWO"),
        ("add no-key --account a --member m --role MEMBER", 78, "its api_key is not 1 to 64 letters and digits"),
        ("add TWO --account '' --member m --role MEMBER", 78, "key TWO: its account is NULL, or not"),
        ("rotate TWO", 1, "has no key TWO"),
        ("promote ONE", 1, "has only one secret for ONE"),
        ("seal", 1, "there is no key to seal by"),
        ("import clash.toml", 78, "have a secret in common"),
        ("import relative.toml", 1, "cannot hold a secret of TWO"),
        ("list --file clash.toml", 2, "cannot be used with"),
    ] {
        let (status, said, complained) = keys(&server, folder, arguments);
        assert_eq!(status, Some(expected), "{arguments}: {said}{complained}");
        assert!(said.is_empty() && complained.contains(why), "{arguments}: {complained}");
        assert!(!complained.contains(&secret), "{complained}");
        assert_eq!((version(&server), server.sql("select * from saltgate.key")), before, "{arguments}");
    }
    // The gateway's role may read only, and an unset variable is no password.
    let url = format!("--postgres '{}'", server.url());
    let reader = sh(folder, &format!("saltgate keys revoke ONE {url}"));
    assert!(text(&reader.stderr).contains("saltgate_admin to whoever changes keys"), "{}", text(&reader.stderr));
    let unset = sh(folder, "saltgate keys list --postgres 'postgres://clerk:${NOT_SET_HERE}@127.0.0.1:1/crm'");
    assert!(text(&unset.stderr).contains("names a variable"), "{}", text(&unset.stderr));
    assert_eq!((version(&server), server.sql("select * from saltgate.key")), before);
}

#[test]
fn of_two_who_change_keys_at_once_one_is_told_to_do_it_again() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    done(&server, folder.path(), "add ONE --account a --member m --role MEMBER");
    let mut other = server.session();
    other.run("begin; update saltgate.key set member = 'n'");
    let command = std::thread::scope(|scope| {
        let command = scope.spawn(|| keys(&server, folder.path(), "revoke ONE"));
        until("it waits for the other", || {
            server.sql("select count(*) from pg_stat_activity where usename = 'clerk' and wait_event_type = 'Lock'")
                == "1"
        });
        other.run("commit");
        command.join().unwrap()
    });
    assert!(command.0 == Some(1) && command.2.contains("changed by somebody else meanwhile"), "{command:?}");
    assert_eq!(server.sql("select member, state from saltgate.key"), "n|active");
    done(&server, folder.path(), "revoke ONE");
}

/// A gateway with this table, and the keys of the tests in it.
fn files(upstream: &Upstream, server: &Postgres) -> Files {
    let files = Files::new(upstream.address, "[control]\nsocket = \"c.sock\"\n");
    let config = std::fs::read_to_string(files.path()).unwrap();
    let table = format!("[directory.postgres]\nurl = \"{}\"\ninterval = \"100ms\"\n", server.url());
    std::fs::write(files.path(), config.replace("[directory.file]\npath = \"keys.toml\"\n", &table)).unwrap();
    files
}

fn fill(server: &Postgres) {
    for role in ["OWNER", "MEMBER"] {
        let (key, secret) = (api_key(role), secret(role));
        server.sql(&format!("insert into saltgate.key (api_key, account, member, role, secret_1, secret_2) values ('{key}', 'account-1', 'member-1', '{role}', '{secret}', 'the second secret of {role}')"));
    }
}

#[test]
fn a_revocation_names_every_gateway_on_which_it_holds_and_those_that_do_not_answer() {
    let (server, upstream) = (server(), Upstream::start(service("account-1", "member-1")));
    fill(&server);
    let (one, others) = (files(&upstream, &server), files(&upstream, &server));
    let gate = Gate::from_files(one, Clock::system());
    let process = Process::serve(&others);
    until("both have registered", || {
        server.sql("select count(*) from saltgate.gateway where version is not null") == "2"
    });
    let folder = others.dir.path();
    let (said, _) = done(&server, folder, "revoke NCSMEMBER");
    assert!(said.contains("in force since ") && said.matches(" on ").count() == 2, "{said}");
    assert_eq!((gate.delete(&signed("MEMBER")).status, gate.delete(&signed("OWNER")).status), (401, 200));
    process.stop();
    let (status, _, complained) = keys(&server, folder, "revoke NCSOWNER");
    assert!(status == Some(1) && complained.contains("written, but NOT known to be in force on "), "{complained}");
    assert_eq!(complained.matches("last heard of at ").count(), 1, "{complained}");
    assert_eq!(gate.delete(&signed("OWNER")).status, 401, "on the one that answers");
    let (status, _, complained) = keys(&server, folder, "promote NCSOWNER --idle 1s");
    assert!(status == Some(1) && complained.contains("does not answer"), "{complained}");
    process.signal("-CONT");
    until("it has it, too", || crate::http::delete(process.address(), &signed("OWNER")).status == 401);
    drop(gate);
}

#[test]
fn the_uses_of_all_gateways_are_known_also_of_those_that_have_ended() {
    let (server, upstream) = (server(), Upstream::start(service("account-1", "member-1")));
    fill(&server);
    let (one, others) = (files(&upstream, &server), files(&upstream, &server));
    let folder = others.dir.path();
    let mut process = Process::serve(&others);
    assert_eq!(crate::http::delete(process.address(), &signed("MEMBER")).status, 200);
    let promoted = |why: &str| {
        let (status, said, complained) = keys(&server, folder, "promote NCSMEMBER --idle 24h");
        assert!(status == Some(1) && complained.contains(why), "{said}{complained}");
    };
    promoted("it was last used at ");
    process.signal("-TERM");
    process.wait();
    assert_eq!(server.sql("select ended from saltgate.gateway"), "t");
    let (listed, _) = done(&server, folder, "list");
    assert!(
        listed.contains("NCSMEMBER account-1/member-1 MEMBER active; secrets: in the table (last used "),
        "{listed}"
    );
    assert!(
        listed.contains("NCSOWNER account-1/member-1 OWNER active; secrets: in the table (not used since "),
        "{listed}"
    );

    // Another gateway takes over what the first has seen, and its row goes no further.
    let gate = Gate::from_files(one, Clock::system());
    let instances = "select count(distinct instance), count(*) from saltgate.key_use";
    until("it has taken them over", || {
        server.sql("select count(*) from saltgate.gateway") == "2" && server.sql(instances) == "1|1"
    });
    promoted("it was last used at ");
    // As if all that was two days ago.
    server.sql("update saltgate.key_use set used = used - interval '2 days'");
    promoted("when secrets are used is known since ");
    server.sql("update saltgate.gateway set since = since - interval '2 days'");
    // A third one was killed an hour ago.
    server.sql("insert into saltgate.gateway (instance, name, since, seen, ended) values (repeat('a', 32), 'third', now() - interval '9 hours', now() - interval '1 hour', false)");
    promoted("what was used on third since ");
    server.sql("delete from saltgate.gateway where name = 'third'");
    let (said, _) = done(&server, folder, "promote NCSMEMBER --idle 24h");
    assert!(said.contains("only the newer secret is accepted; in force since "), "{said}");
    assert_eq!(gate.delete(&signed("MEMBER")).status, 401);
    let (json, _) = done(&server, folder, "list --json");
    assert!(json.lines().last().unwrap().contains("\"gateways\":[{") && !json.contains(&secret("OWNER")), "{json}");
}

#[test]
fn a_table_of_schema_sql_alone_still_serves_and_says_what_is_missing() {
    let (server, upstream) = (Postgres::start(), Upstream::start(service("account-1", "member-1")));
    server.file_of_sql(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/postgres/schema.sql"));
    server.sql("grant saltgate_read to gate");
    fill(&server);
    let files = files(&upstream, &server);
    let process = Process::serve(&files);
    assert_eq!(crate::http::delete(process.address(), &signed("OWNER")).status, 200);
    until("it says so", || process.log().contains("schema-2.sql"));
}
