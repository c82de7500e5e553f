//! Whoever reads the memory of a running gateway, or of `saltgate keys add`, finds no secret as text: a gateway needs only the
//! state of the MAC that was made of it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;

use saltgate::parts::{Clock, Secret, SigningKey, header_value, rfc3339};

use crate::harness::{Files, ROLES, Upstream, api_key, salt, secret, service, signed, until};
use crate::http::{delete, get};
use crate::key_tables::{HASTY, files, upstream};
use crate::operations::{Process, saltgate, text, told};
use crate::postgres::Postgres;

const PAGE: usize = 4096;
const SEAL: &str = "[seal]\nkeys = [{ id = \"k\", file = \"kek\" }]\n";

/// The ranges of pages that a process has in memory and can write to, with their content.
fn pages(pid: u32) -> Vec<Vec<u8>> {
    let of = |name: &str| std::fs::File::open(format!("/proc/{pid}/{name}")).unwrap();
    let (memory, present) = (of("mem"), of("pagemap"));
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| usize::from_str_radix(at, 16).unwrap());
        let mut entries = vec![0; (end - start) / PAGE * 8];
        let read = present.read_at(&mut entries, (start / PAGE * 8) as u64).unwrap_or_default();
        let is_present: Vec<bool> =
            entries[..read].as_chunks::<8>().0.iter().map(|entry| entry[7] & 0xC0 != 0).collect();
        let mut page = 0;
        while page < is_present.len() {
            let many = is_present[page..].iter().take_while(|is| **is).count();
            if many > 0 {
                let mut bytes = vec![0; many * PAGE];
                let read = memory.read_at(&mut bytes, (start + page * PAGE) as u64).unwrap_or_default();
                bytes.truncate(read);
                found.push(bytes);
            }
            page += many.max(1);
        }
    }
    found
}

/// How often a text is in the memory of a process.
fn count(pid: u32, text: &str) -> usize {
    let finder = memchr::memmem::Finder::new(text);
    pages(pid).iter().map(|range| finder.find_iter(range).count()).sum()
}

/// Waits until none of these is in memory, and checks that what is there can be found at all.
fn holds_none(pid: u32, known: &str, secrets: &[&str]) {
    assert!(count(pid, known) > 0, "the memory can be read");
    for secret in secrets {
        until("no copy of the secret is in memory", || count(pid, secret) == 0);
    }
}

fn signed_with(key: &str, secret: &str) -> String {
    let (date, salt) = (rfc3339(Clock::system().now()), salt());
    let signature = SigningKey::new(&Secret::new(secret.as_bytes()).unwrap()).sign(&date, &salt);
    header_value(key, &date, &salt, &signature)
}

/// A gateway's files, with the keys of the tests sealed.
fn sealed(upstream: &Upstream) -> Files {
    let files = Files::new(upstream.address, SEAL);
    std::fs::write(files.dir.path().join("kek"), [7; 32]).unwrap();
    let done = told(&["keys", "seal", "--config", files.path().to_str().unwrap()], "");
    assert!(done.status.success(), "{}", text(&done.stderr));
    files
}

#[test]
fn a_gateway_with_sealed_secrets_has_none_of_them_as_text() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = sealed(&upstream);
    let (in_file, in_keys) = ("a secret in a file of its own", "a secret that stands in keys.toml");
    let keys = files.dir.path().join("keys.toml");
    let entry = |key: &str, secret: &str| {
        format!(
            "[[key]]\napi_key = \"{key}\"\nsecret = {secret}\naccount = \"account-1\"\nmember = \"member-1\"\nrole = \"OWNER\"\n"
        )
    };
    let more = entry("NCSFILE", "{ file = \"secret\" }") + &entry("NCSHERE", &format!("\"{in_keys}\""));
    let before = std::fs::read_to_string(&keys).unwrap();
    std::fs::write(files.dir.path().join("secret"), in_file).unwrap();
    std::fs::write(&keys, before.clone() + &more).unwrap();
    let process = Process::serve(&files);
    let pid = process.child.id();
    let all = || {
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
        assert_eq!(delete(process.address(), &signed_with("NCSFILE", in_file)).status, 200);
        assert_eq!(delete(process.address(), &signed_with("NCSHERE", in_keys)).status, 200);
        holds_none(pid, "NCSDEVELOPER", &[&secret("OWNER"), &secret("DEVELOPER"), in_file, in_keys]);
    };
    all();
    // After the file is read again, too.
    std::fs::write(&keys, before + &more + &entry("NCSTHIRD", "\"the third secret in keys.toml\"")).unwrap();
    until("it is taken", || {
        delete(process.address(), &signed_with("NCSTHIRD", "the third secret in keys.toml")).status == 200
    });
    all();
    holds_none(pid, "NCSTHIRD", &["the third secret in keys.toml"]);
}

#[test]
fn keys_add_has_the_secret_in_memory_no_longer_than_it_takes_to_print_it() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, &format!("{SEAL}[control]\nsocket = \"c.sock\"\n"));
    std::fs::write(files.dir.path().join("kek"), [7; 32]).unwrap();
    let gateway = Process::serve(&files);
    let config = files.path();
    let arguments = [
        "keys",
        "add",
        "NCSSHOP0000001",
        "--account",
        "account-1",
        "--member",
        "member-1",
        "--role",
        "OWNER",
        "--config",
    ];
    let mut adding = saltgate(&[&arguments[..], &[config.to_str().unwrap()]].concat()).spawn().unwrap();
    let mut secret = String::new();
    BufReader::new(adding.stdout.take().unwrap()).read_line(&mut secret).unwrap();
    // It waits now for the gateway to take the change, and the gateway does not answer.
    gateway.stop();
    holds_none(adding.id(), "NCSSHOP0000001", &[secret.trim_end()]);
    assert!(adding.try_wait().unwrap().is_none(), "it is still waiting");
    gateway.signal("-CONT");
    assert!(adding.wait().unwrap().success());
    assert_eq!(delete(gateway.address(), &signed_with("NCSSHOP0000001", secret.trim_end())).status, 200);
    holds_none(gateway.child.id(), "NCSSHOP0000001", &[secret.trim_end()]);
}

#[test]
fn neither_sealed_rows_nor_a_snapshot_leave_a_secret_in_memory() {
    let (mut server, upstream) = (Postgres::start(), upstream());
    server.file_of_sql(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/postgres/schema.sql"));
    let of_file = sealed(&upstream);
    let keys = std::fs::read_to_string(of_file.dir.path().join("keys.toml")).unwrap();
    for role in ROLES.into_iter().filter(|role| !["", "ADMIN"].contains(role)) {
        let (_, entry) = keys.split_once(&format!("api_key = \"{}\"", api_key(role))).unwrap();
        let sealed = entry.split("sealed = \"").nth(1).unwrap().split('"').next().unwrap();
        server.sql(&format!(
            "insert into saltgate.key (api_key, account, member, role, secret_1) values ('{}', 'account-1', 'member-1', '{role}', '{sealed}')",
            api_key(role)
        ));
    }
    server.sql("grant saltgate_read to gate");
    let files = files(&upstream, &server.url(), &format!("{HASTY}snapshot = \"keys.snapshot\"\n{SEAL}"));
    std::fs::write(files.dir.path().join("kek"), [7; 32]).unwrap();
    for source in ["the table", "the snapshot"] {
        let mut process = Process::serve(&files);
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200, "{source}");
        let told = get(process.admin(), "/ready").body;
        assert_eq!(told.contains("those of the snapshot"), source == "the snapshot", "{told}");
        holds_none(process.child.id(), "NCSDEVELOPER", &[&secret("OWNER"), &secret("DEVELOPER")]);
        process.kill();
        server.kill();
    }
}
