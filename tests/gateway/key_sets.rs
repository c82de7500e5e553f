//! Changes of the keys are on record, and each deletion names the keys by which it was judged.

use serde_json::{Value, json};

use crate::harness::{Files, Upstream, secret, service, signed, until};
use crate::http::delete;
use crate::operations::{Process, text, told};

fn of_kind(files: &Files, kind: &str) -> Vec<Value> {
    files.record().into_iter().filter(|line| line["kind"] == kind).collect()
}

fn audit(files: &Files, command: &str, more: &[&str]) -> String {
    let config = files.path();
    let arguments = [&["audit", command, "--config", config.to_str().unwrap()], more].concat();
    let output = told(&arguments, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_record_tells_by_which_keys_each_deletion_was_judged() {
    const OTHER: &str = "a secret that is on no record";
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let keys = files.dir.path().join("keys.toml");
    let mut process = Process::serve(&files);
    let first = std::fs::read_to_string(&keys).unwrap();
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);

    let second = first.replace("\"NCSADMIN\"", "\"NCSNEW\"").replace(&secret("MEMBER"), OTHER);
    std::fs::write(&keys, second.replace("role = \"DEVELOPER\"", "role = \"OWNER\"")).unwrap();
    until("the change is on record", || of_kind(&files, "keys").len() == 2);
    // Until then a deletion by the keys of before would pass, and be on record.
    until("it is in force", || process.log().contains("the new ones are in force"));
    assert_eq!(delete(process.address(), &signed("MEMBER")).status, 401);
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);

    // A reload that changes no key is no line.
    process.signal("-HUP");
    until("it is reloaded", || process.log().contains("\"reloaded\""));
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);

    let other = files.dir.path().join("other.toml");
    std::fs::write(&other, &first).unwrap();
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), config.replace("\"keys.toml\"", "\"other.toml\"")).unwrap();
    process.signal("-HUP");
    until("the first keys are in force", || delete(process.address(), &signed("MEMBER")).status == 200);
    process.signal("-TERM");
    process.wait();

    let lines = of_kind(&files, "keys");
    let told: Vec<_> = lines.iter().map(|line| (line["key_set"].as_u64().unwrap(), line["by"].clone())).collect();
    assert_eq!(told, [(1, json!("start")), (2, json!("watch")), (3, json!("reload"))]);
    let all = json!(["NCSOWNER", "NCSDEVELOPER", "NCSMEMBER", "NCSNONE", "NCSADMIN"]);
    assert_eq!((&lines[0]["added"], &lines[0]["keys"]), (&all, &json!(5)));
    assert_eq!((&lines[1]["added"], &lines[1]["removed"]), (&json!(["NCSNEW"]), &json!(["NCSADMIN"])));
    assert_eq!(lines[1]["changed"], json!({ "NCSMEMBER": ["secrets"], "NCSDEVELOPER": ["role"] }));
    assert_eq!(lines[2]["digest"], lines[0]["digest"], "the same keys have the same digest");
    assert_ne!(lines[1]["digest"], lines[0]["digest"]);

    let sets = |kind| -> Vec<u64> { of_kind(&files, kind).iter().map(|l| l["key_set"].as_u64().unwrap()).collect() };
    assert_eq!((sets("intent"), sets("outcome")), (vec![1, 2, 2, 3], vec![1, 2, 2, 3]));
    let record = files.record_text();
    assert!(!record.contains(OTHER) && !record.contains(&secret("OWNER")), "no secret is on record");

    let verified = audit(&files, "verify", &[]);
    assert!(verified.contains("sound: ") && verified.contains(", 3 sets of keys, "), "{verified}");
    let shown: Vec<Value> = audit(&files, "show", &["--key", "NCSMEMBER"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = shown.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["keys", "keys", "keys", "intent", "outcome"], "what concerns the key");

    // A change of the record is a fault.
    let [path] = &files.record_files()[..] else { panic!("one file") };
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(path, record.replace("\"NCSNEW\"", "\"NCSNEVER\"")).unwrap();
    let config = files.path();
    let changed = crate::operations::told(&["audit", "verify", "--config", config.to_str().unwrap()], "");
    assert_eq!(changed.status.code(), Some(1), "{}", text(&changed.stdout));
}

#[test]
fn many_keys_take_several_lines() {
    const MANY: usize = 4_500;
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let mut keys = std::fs::read_to_string(files.dir.path().join("keys.toml")).unwrap();
    for n in 0..MANY {
        keys += &format!(
            "[[key]]\napi_key = \"NCS{n}\"\nsecret = \"a secret of its own {n:05}\"\naccount = \"a\"\nmember = \"m\"\n"
        );
    }
    std::fs::write(files.dir.path().join("keys.toml"), keys).unwrap();
    let mut process = Process::serve(&files);
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    process.signal("-TERM");
    process.wait();
    let lines = of_kind(&files, "keys");
    let parts: Vec<_> = lines.iter().map(|line| (line["part"].as_u64().unwrap(), line["parts"].clone())).collect();
    assert_eq!(parts, [(1, json!(3)), (2, json!(3)), (3, json!(3))]);
    let named: usize = lines.iter().map(|line| line["added"].as_array().unwrap().len()).sum();
    assert_eq!(named, MANY + 5);
    let verified = audit(&files, "verify", &[]);
    assert!(verified.contains("sound: ") && verified.contains(", 1 sets of keys, "), "{verified}");
}
