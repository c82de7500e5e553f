//! `saltgate keys`: the walk of docs/keys.md, and what it does to a file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use saltgate::parts::{Clock, Secret, SigningKey, header_value, rfc3339};

use crate::harness::{Files, PATIENCE, Upstream, salt, service, until};
use crate::http::delete;
use crate::operations::{Process, text, told};
use crate::postgres::Postgres;

const KEY: &str = "NCSSHOP0000001";

fn signed(secret: &str) -> String {
    let (date, salt) = (rfc3339(Clock::system().now()), salt());
    let signature = SigningKey::new(&Secret::new(secret.as_bytes()).unwrap()).sign(&date, &salt);
    header_value(KEY, &date, &salt, &signature)
}

/// Runs a line of the walk in this folder.
pub fn sh(folder: &Path, line: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_saltgate")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    Command::new("sh")
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", path)
        .env("CLERK_PASSWORD", CLERK)
        .output()
        .unwrap()
}

/// The commands of the walk.
fn walk() -> Vec<String> {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keys.md")).unwrap();
    let lines = document.lines().filter_map(|line| line.strip_prefix("    "));
    let is_command = |line: &&str| {
        // The walk with a table has the same commands.
        ["saltgate ", "(umask", "sed "].iter().any(|begin| line.starts_with(begin)) && !line.contains("--postgres")
    };
    lines.filter(is_command).map(str::to_owned).collect()
}

/// A customer that deletes without a pause, with the secret that it was given last.
struct Customer {
    secret: Arc<Mutex<String>>,
    ended: Arc<AtomicBool>,
    deleted: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Customer {
    fn start(address: std::net::SocketAddr, secret: String) -> Self {
        let (secret, ended, deleted) = (Arc::new(Mutex::new(secret)), Arc::<AtomicBool>::default(), Arc::default());
        let (given, over, count) = (secret.clone(), ended.clone(), Arc::<AtomicUsize>::clone(&deleted));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let secret = given.lock().unwrap().clone();
                assert_eq!(delete(address, &signed(&secret)).status, 200, "a customer is refused");
                count.fetch_add(1, Ordering::Relaxed);
                // It must not keep the processor from the others while it waits for a minute to end.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        Self { secret, ended, deleted, thread }
    }

    /// Some deletions go on.
    fn goes_on(&self) {
        let before = self.deleted.load(Ordering::Relaxed);
        until("the customer goes on", || {
            self.deleted.load(Ordering::Relaxed) > before + 5 || self.thread.is_finished()
        });
    }

    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// The password of the role that changes a table.
const CLERK: &str = "the password of the clerk";

/// A server with both files of `deploy/postgres`, for a gateway and for a clerk.
pub fn server() -> Postgres {
    let server = Postgres::start();
    for file in ["schema.sql", "schema-2.sql"] {
        server.file_of_sql(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/postgres").join(file));
    }
    server.sql("grant saltgate_read to gate");
    server.sql(&format!("create role clerk login password '{CLERK}' in role saltgate_admin"));
    server
}

/// The option that names the table, for the clerk.
pub fn postgres(server: &Postgres) -> String {
    format!("--postgres 'postgres://clerk:${{CLERK_PASSWORD}}@127.0.0.1:{}/crm?sslmode=disable'", server.port)
}

const SETTINGS: &str = "[seal]\nkeys = [{ id = \"2026-12\", file = \"kek\" }]\n[control]\nsocket = \"c.sock\"\n";

#[test]
fn a_key_in_a_file_is_added_rotated_and_revoked_without_one_refused_customer() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, SETTINGS);
    let keys = files.dir.path().join("keys.toml");
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), config.replace("[directory.file]\n", "[directory.file]\nallow_empty = true\n"))
        .unwrap();
    std::fs::write(&keys, "# Our keys.\n").unwrap();
    goes_without_a_refusal(&files, "", || std::fs::read_to_string(&keys).unwrap());
    assert!(std::fs::read_to_string(&keys).unwrap().starts_with("# Our keys.\n"));
}

#[test]
fn a_key_in_a_table_is_added_rotated_and_revoked_without_one_refused_customer() {
    let (server, upstream) = (server(), Upstream::start(service("account-1", "member-1")));
    let files = Files::new(upstream.address, SETTINGS);
    let config = std::fs::read_to_string(files.path()).unwrap();
    let table = format!("[directory.postgres]\nurl = \"{}\"\n", server.url());
    std::fs::write(files.path(), config.replace("[directory.file]\npath = \"keys.toml\"\n", &table)).unwrap();
    goes_without_a_refusal(&files, &postgres(&server), || server.sql("select * from saltgate.key"));
    // Every use on the way is of the one key, and nothing of a secret is in any table.
    assert_eq!(server.sql("select distinct api_key from saltgate.key_use"), KEY);
    assert_eq!(server.sql("select distinct changed_by from saltgate.key_change"), "clerk");
}

/// Runs the walk with this option behind each command about keys.
fn goes_without_a_refusal(files: &Files, option: &str, written: impl Fn() -> String) {
    let folder = files.dir.path();
    let (mut process, mut customer, mut done) = (None, None::<Customer>, Vec::new());
    let secret = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap().trim_end().to_owned();
    for line in walk() {
        let command = line.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let line = if command.starts_with("saltgate keys") {
            line.replace("--config saltgate.toml", &format!("--config saltgate.toml {option}"))
        } else {
            line
        };
        let mut output = sh(folder, &line);
        if command == "saltgate keys promote" {
            assert_eq!(output.status.code(), Some(1), "it was used this minute");
            assert!(text(&output.stderr).contains("the old secret may be in use: "), "{}", text(&output.stderr));
            // The use is known by its minute, which must be over.
            let line = line.replace("--idle 24h", "--idle 1s");
            let clock = Clock::system();
            let begun = clock.elapsed();
            while output.status.code() == Some(1) && clock.elapsed() < begun + 5 * PATIENCE {
                customer.as_ref().unwrap().goes_on();
                output = sh(folder, &line);
            }
        }
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}: {said}{complained}");
        let gate = process.get_or_insert_with(|| Process::serve(files));
        match &*command {
            "saltgate keys add" => {
                assert!(said.is_empty() && complained.contains("in force since "), "{said}{complained}");
                customer = Some(Customer::start(gate.address(), secret("first.secret")));
            }
            "saltgate keys list" => assert!(said.contains(&format!("{KEY} account-1/member-1 OWNER active")), "{said}"),
            "saltgate keys rotate" => {
                assert!(complained.contains("and the old one ends at "), "{complained}");
                customer.as_ref().unwrap().goes_on();
                *customer.as_ref().unwrap().secret.lock().unwrap() = secret("second.secret");
            }
            "saltgate keys promote" => {
                assert!(said.contains("in force since "), "{said}");
                assert_eq!(delete(gate.address(), &signed(&secret("first.secret"))).status, 401);
            }
            "saltgate keys reseal" => assert!(said.contains("sealed 1 secrets again"), "{said}"),
            "saltgate keys expire" => customer.take().unwrap().end(),
            "saltgate keys revoke" => {
                assert!(said.contains("in force since ") && said.contains(" on "), "{said}");
                assert_eq!(delete(gate.address(), &signed(&secret("second.secret"))).status, 401, "when it returns");
            }
            _ => {}
        }
        if let Some(customer) = &customer {
            customer.goes_on();
        }
        done.push(command);
    }
    for command in ["add", "list", "rotate", "promote", "reseal", "expire", "revoke"] {
        assert!(done.iter().any(|it| it.ends_with(&format!("keys {command}"))), "{command} is in the walk");
    }
    let (gate, written) = (process.unwrap(), written());
    assert!(written.contains("sg1:2027-06:"), "{written}");
    for name in ["first.secret", "second.secret"] {
        let secret = secret(name);
        assert!(!written.contains(&secret) && !gate.log().contains(&secret) && !files.record_text().contains(&secret));
    }
}

const TWO: &str = "# Ours.\n[[key]] # one\napi_key = \"ONE\"\nsecret = \"the secret of ONE\" # old\naccount = \"a\"\n\
                   member = \"m\"\nrole = \"OWNER\"\n\n[[key]]\napi_key = \"TWO\"\nsecrets = [\"the first of TWO\", \
                   \"the second of TWO\"]\naccount = \"a\"\nmember = \"m\"\n";

fn keys(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let file = folder.join("keys.toml");
    let source =
        if folder.join("saltgate.toml").exists() { ["--config", "saltgate.toml"] } else { ["--file", "keys.toml"] };
    let path = folder.join(source[1]);
    assert!(file.exists());
    let output = told(&[&["keys"], arguments, &[source[0], path.to_str().unwrap()]].concat(), "");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn folder(content: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.toml"), content).unwrap();
    std::fs::set_permissions(folder.path().join("keys.toml"), PermissionsExt::from_mode(0o640)).unwrap();
    folder
}

fn content(folder: &tempfile::TempDir) -> String {
    std::fs::read_to_string(folder.path().join("keys.toml")).unwrap()
}

#[test]
fn a_change_leaves_the_rest_of_the_file_as_it_was() {
    let rows: [(&[&str], &str, &str); 4] = [
        (&["promote", "TWO"], "[\"the first of TWO\", \"the second of TWO\"]", "[\"the second of TWO\"]"),
        (&["revoke", "ONE"], "role = \"OWNER\"\n", "role = \"OWNER\"\nactive = false\n"),
        (
            &["expire", "ONE", "--at", "2037-01-01T00:00:00Z"],
            "role = \"OWNER\"\n",
            "role = \"OWNER\"\nexpires = 2037-01-01T00:00:00Z\n",
        ),
        (&["list"], "", ""),
    ];
    for (arguments, from, to) in rows {
        let folder = folder(TWO);
        let (status, said, complained) = keys(folder.path(), arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {complained}");
        assert!(!said.is_empty() && !said.contains("secret of") && complained.is_empty(), "{said}{complained}");
        assert_eq!(content(&folder), TWO.replacen(from, to, 1), "{arguments:?}");
        let mode = folder.path().join("keys.toml").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640, "{arguments:?}");
    }
    let folder = folder(TWO);
    let (status, secret, complained) = keys(folder.path(), &["rotate", "ONE"]);
    let secret = secret.trim_end();
    assert_eq!((status, secret.len()), (Some(0), 64), "{complained}");
    assert!(!complained.contains(secret) && complained.contains("not shown again"), "{complained}");
    let list = format!("secrets = [\"the secret of ONE\", \"{secret}\"] # old");
    assert_eq!(content(&folder), TWO.replacen("secret = \"the secret of ONE\" # old", &list, 1));
}

#[test]
fn what_cannot_be_done_is_said_and_writes_nothing() {
    let other = tempfile::tempdir().unwrap();
    let clash = other.path().join("clash.toml");
    std::fs::write(&clash, TWO.replace("\"ONE\"", "\"THREE\"").replace("\"TWO\"", "\"FOUR\"")).unwrap();
    let same = other.path().join("same.toml");
    std::fs::write(&same, TWO).unwrap();
    let (clash, same) = (clash.to_str().unwrap(), same.to_str().unwrap());
    let owner = ["--account", "a", "--member", "m"];
    let add = |key: &'static str| [&["add", key][..], &owner].concat();
    let rows: Vec<(Vec<&str>, i32, &str)> = vec![
        (add("ONE"), 1, "has the key ONE already"),
        (add("no-key"), 78, "expected 1 to 64 letters and digits"),
        (vec!["add", "THREE", "--account", "", "--member", "m"], 78, "key.account"),
        ([&add("THREE")[..], &["--role", "BOSS"]].concat(), 2, "MEMBER, DEVELOPER, OWNER"),
        (vec!["rotate", "THREE"], 1, "has no key THREE"),
        (vec!["rotate", "TWO"], 1, "has two secrets for TWO"),
        (vec!["promote", "ONE"], 1, "has only one secret for ONE"),
        (vec!["promote", "TWO", "--idle", "24h"], 1, "no gateway has kept when it was used"),
        (vec!["rotate", "ONE", "--end", "tomorrow"], 2, "expected how long it is accepted, such as 7d"),
        (vec!["rotate", "ONE", "--end", "2020-01-01T00:00:00Z"], 2, "is not ahead"),
        (vec!["revoke", "one"], 1, "has no key one"),
        (vec!["expire", "ONE", "--at", "tomorrow"], 2, "expected a time with its zone"),
        (vec!["seal"], 1, "there is no key to seal by"),
        (vec!["reseal"], 1, "there is no key to seal by"),
        (vec!["import", same], 1, "has the key ONE already"),
        (vec!["import", clash], 78, "has a secret that signs like one of the key"),
        (vec!["import", "/no/such.toml"], 1, "/no/such.toml: No such file"),
    ];
    for (arguments, expected, why) in rows {
        let folder = folder(TWO);
        let (status, said, complained) = keys(folder.path(), &arguments);
        assert_eq!(status, Some(expected), "{arguments:?}: {said}{complained}");
        assert!(said.is_empty() && complained.contains(why), "{arguments:?}: {said}{complained}");
        assert!(!complained.contains("secret of ONE") && !complained.contains("of TWO\""), "{complained}");
        assert_eq!(content(&folder), TWO, "{arguments:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{arguments:?}");
    }
    for broken in ["[[key]]\nsecret = \"open sesame, op", "key = [{ api_key = \"K\" }]\n"] {
        let folder = folder(broken);
        let (status, said, complained) = keys(folder.path(), &["revoke", "K"]);
        assert!(status == Some(1) && said.is_empty() && !complained.contains("sesame"), "{said}{complained}");
        assert_eq!(content(&folder), broken);
    }
}

#[test]
fn files_are_sealed_compared_and_joined() {
    let folder = folder(TWO);
    let before = folder.path().join("before.toml");
    std::fs::write(&before, TWO).unwrap();
    std::fs::write(folder.path().join("kek"), [7; 32]).unwrap();
    let config = "[directory.file]\npath = \"keys.toml\"\n[seal]\nkeys = [{ id = \"k\", file = \"kek\" }]\n";
    std::fs::write(folder.path().join("saltgate.toml"), config).unwrap();
    let done = |arguments: &[&str]| {
        let (status, said, complained) = keys(folder.path(), arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {complained}");
        said
    };
    assert_eq!(done(&["seal"]), "sealed 3 secrets that stood in the file\n");
    let sealed = content(&folder);
    assert!(!sealed.contains("of ONE\"") && !sealed.contains("of TWO\"") && sealed.matches("sg1:k:").count() == 3);
    assert!(sealed.contains("} # old") && sealed.starts_with("# Ours.\n[[key]] # one\n"), "{sealed}");
    assert_eq!(done(&["seal"]), "sealed 0 secrets that stood in the file\n");
    assert_eq!(content(&folder), sealed);
    // The same keys as before, also after a promotion of a sealed secret and back.
    let before = before.to_str().unwrap();
    assert_eq!(done(&["diff", before]), "the same keys\n");
    done(&["promote", "TWO"]);
    assert_eq!(done(&["diff", before]), "changed TWO: secrets\n");
    let more = folder.path().join("more.toml");
    std::fs::write(
        &more,
        "# Theirs.\n[[key]]\napi_key = \"THREE\"\nsecret = \"the secret of THREE\"\naccount = \"b\"\nmember = \"m\"\n",
    )
    .unwrap();
    let more = more.to_str().unwrap();
    assert_eq!(done(&["diff", more]), "added THREE\nremoved ONE\nremoved TWO\n");
    done(&["import", more]);
    assert!(content(&folder).ends_with(&std::fs::read_to_string(more).unwrap()), "{}", content(&folder));
    let listed = done(&["list"]);
    assert!(listed.contains("THREE b/m no role active; secrets: in the file\n"), "{listed}");
    assert!(listed.contains("ONE a/m OWNER active; secrets: sealed by k\n"), "{listed}");
}

#[test]
fn the_old_secret_ends_by_itself_and_a_promotion_takes_its_end_away() {
    let folder = folder(TWO);
    let (status, secret, complained) = keys(folder.path(), &["rotate", "ONE", "--end", "7d"]);
    assert!(status == Some(0) && secret.len() == 65, "{complained}");
    assert!(complained.contains("and the old one ends at 20"), "{complained}");
    let ending = content(&folder);
    assert!(ending.contains("role = \"OWNER\"\nsecret_1_expires = 20"), "{ending}");
    let (_, listed, _) = keys(folder.path(), &["list"]);
    assert!(listed.contains("secrets: in the file until 20") && listed.contains("Z, in the file\n"), "{listed}");
    assert_eq!(keys(folder.path(), &["promote", "ONE"]).0, Some(0));
    let promoted = content(&folder);
    assert!(!promoted.contains("secret_1_expires") && promoted.contains(secret.trim_end()), "{promoted}");
    // Alone it would be the end of the key.
    let wrong = promoted.replace("role = \"OWNER\"\n", "role = \"OWNER\"\nsecret_1_expires = 2037-01-01T00:00:00Z\n");
    std::fs::write(folder.path().join("keys.toml"), wrong.replace(", \"the second of TWO\"", "")).unwrap();
    let (status, _, complained) = keys(folder.path(), &["list"]);
    assert!(status == Some(78) && complained.contains("ends the first of two secrets"), "{complained}");
}
