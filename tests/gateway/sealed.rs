//! Sealed secrets in the file of keys, in front of a real gateway.

use saltgate::parts::{Clock, Secret, SigningKey, header_value, rfc3339};

use crate::harness::{Files, Upstream, salt, service, until};
use crate::http::delete;
use crate::operations::{Process, text, told};

/// Made by another implementation, for `NCSEXAMPLE000001` as its first secret, by a key whose bytes count from 0.
const SEALED: &str = "sg1:2026-12:202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f:644847ef35202dfe15ffa6d7920ba8f0\
                      e020364f9dcd7ed0fbbd3173c015f2a042ff19db849230dc454cfa18";
const SECRET: &str = "the secret of a known answer";
const KEY: &str = "NCSEXAMPLE000001";
const RING: &str = "[seal]\nkeys = [{ id = \"2027-01\", file = \"newer\" }, { id = \"2026-12\", file = \"kek\" }]\n";

fn signed() -> String {
    let (date, salt) = (rfc3339(Clock::system().now()), salt());
    let signature = SigningKey::new(&Secret::new(SECRET.as_bytes()).unwrap()).sign(&date, &salt);
    header_value(KEY, &date, &salt, &signature)
}

fn entry(api_key: &str, secrets: &str) -> String {
    format!(
        "[[key]]\napi_key = \"{api_key}\"\n{secrets}\naccount = \"account-1\"\nmember = \"member-1\"\nrole = \"OWNER\"\n"
    )
}

fn files(upstream: &Upstream, ring: &str, keys: &str) -> Files {
    let files = Files::new(upstream.address, ring);
    let folder = files.dir.path();
    std::fs::write(folder.join("kek"), (0..32).collect::<Vec<u8>>()).unwrap();
    std::fs::write(folder.join("newer"), format!("{}\n", "5a".repeat(32))).unwrap();
    std::fs::write(folder.join("keys.toml"), keys).unwrap();
    files
}

#[test]
fn a_sealed_secret_is_what_its_customer_signs_with() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let one = entry(KEY, &format!("secret = {{ sealed = \"{SEALED}\" }}"));
    let files = files(&upstream, RING, &one);
    let process = Process::serve(&files);
    assert_eq!(delete(process.address(), &signed()).status, 200);
    // The same as the first of two; as the second it was not sealed, so the keys of before stay in force.
    let keys = files.dir.path().join("keys.toml");
    let two = |first: &str, second: &str| entry(KEY, &format!("secrets = [{first}, {second}]"));
    let (sealed, plain) = (format!("{{ sealed = \"{SEALED}\" }}"), "\"another secret, in the clear\"");
    std::fs::write(&keys, two(&sealed, plain)).unwrap();
    until("it is taken", || process.log().contains("the new ones are in force"));
    assert_eq!(delete(process.address(), &signed()).status, 200);
    std::fs::write(&keys, two(plain, &sealed)).unwrap();
    until("it is refused", || process.log().contains("cannot be used; those of before stay in force"));
    assert_eq!(delete(process.address(), &signed()).status, 200);
    assert!(!process.log().contains(SECRET) && !files.record_text().contains(SECRET));
}

#[test]
fn a_sealed_secret_that_does_not_open_is_a_fault_that_says_why() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let sealed = |text: &str| entry(KEY, &format!("secret = {{ sealed = \"{text}\" }}"));
    let does_not_open = "does not open by the key \"2026-12\"";
    let rows = [
        ("moved to another key", RING, entry("OTHER", &format!("secret = {{ sealed = \"{SEALED}\" }}")), does_not_open),
        ("a byte is changed", RING, sealed(&SEALED.replacen("6448", "6449", 1)), does_not_open),
        (
            "an unknown id",
            RING,
            sealed(&SEALED.replacen("2026", "2025", 1)),
            "by the key \"2025-12\", which [seal] does not",
        ),
        ("no keys at all", "", sealed(SEALED), "is sealed, and [seal] names no keys"),
        ("no sealed text", RING, sealed("sg1:2026-12:00"), "is not a sealed secret; expected sg1:"),
        ("an empty ring", "[seal]\nkeys = []\n", sealed(SEALED), "names no key; expected keys ="),
        (
            "an id twice",
            "[seal]\nkeys = [{ id = \"a\", file = \"kek\" }, { id = \"a\", file = \"newer\" }]\n",
            sealed(SEALED),
            "names \"a\" twice",
        ),
        ("a bad id", "[seal]\nkeys = [{ id = \"a:b\", file = \"kek\" }]\n", sealed(SEALED), "expected 1 to 32 letters"),
        ("no file", "[seal]\nkeys = [{ id = \"a\", file = \"gone\" }]\n", sealed(SEALED), "No such file"),
        (
            "a short file",
            "[seal]\nkeys = [{ id = \"a\", file = \"keys.toml\" }]\n",
            sealed(SEALED),
            "does not hold 32 bytes",
        ),
    ];
    for (what, ring, keys, expected) in rows {
        let files = files(&upstream, ring, &keys);
        let checked = told(&["check", "--config", files.path().to_str().unwrap()], "");
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(78), "{what}: {said}");
        assert!(said.lines().any(|line| line.contains(expected)), "{what}: {said}");
        assert!(!said.contains(SECRET) && !said.contains("644847ef"), "{what}: {said}");
    }
}
