//! When each secret was last used: over restarts, crashes and several gateways (contract §8).

use std::path::Path;

use saltgate::parts::{Clock, Secret, SigningKey, header_value, rfc3339};
use serde_json::Value;

use crate::harness::{Files, Upstream, salt, service, until};
use crate::http::delete;
use crate::operations::{Process, text, told};

const OLD: &str = "the old secret of the key";
const NEW: &str = "the new secret of the key";

fn signed_by(secret: &str) -> String {
    signed_at(secret, Clock::system().now())
}

fn signed_at(secret: &str, at: std::time::SystemTime) -> String {
    let (date, salt) = (rfc3339(at), salt());
    let signature = SigningKey::new(&Secret::new(secret.as_bytes()).unwrap()).sign(&date, &salt);
    header_value("NCSKEY", &date, &salt, &signature)
}

/// The files of a gateway with one key that has two secrets.
fn files(upstream: &Upstream) -> Files {
    let files = Files::new(upstream.address, "[control]\nsocket = \"c.sock\"\n");
    let keys = format!(
        "[[key]]\napi_key = \"NCSKEY\"\nsecrets = [\"{OLD}\", \"{NEW}\"]\naccount = \"account-1\"\nmember = \"member-1\"\nrole = \"OWNER\"\n"
    );
    std::fs::write(files.dir.path().join("keys.toml"), keys).unwrap();
    files
}

/// What `keys list` prints.
fn listed(files: &Files, options: &[&str]) -> String {
    let config = files.path();
    let output = told(&[&["keys", "list", "--config", config.to_str().unwrap()], options].concat(), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The two secrets, and the gateways, as JSON.
fn described(files: &Files, options: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let lines = listed(files, &[&["--json"], options].concat());
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [key, all] = &lines[..] else { panic!("{lines:?}") };
    (key["secrets"].as_array().unwrap().clone(), all["gateways"].as_array().unwrap().clone())
}

/// The times at which a use now may be noted: the minute may end meanwhile.
fn minutes(begin: std::time::SystemTime) -> [String; 2] {
    [begin, Clock::system().now()].map(|at| format!("{}:00.000Z", &rfc3339(at)[..16]))
}

fn last_use_file(files: &Files) -> std::path::PathBuf {
    files.dir.path().join("record.last-use")
}

#[test]
fn the_last_use_of_each_secret_is_listed_and_outlives_restarts() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = files(&upstream);
    let is_never = |secret: &Value| secret["last_used"].is_null() && secret["not_used_since"].is_string();
    assert!(!listed(&files, &[]).contains("used"), "nothing is known before the first start");

    let mut process = Process::serve(&files);
    let begin = Clock::system().now();
    // Neither a wrong signature nor an old header is a use.
    let old = Clock::system().now() - std::time::Duration::from_secs(3600);
    assert_eq!(delete(process.address(), &signed_at(NEW, old)).status, 401);
    assert_eq!(delete(process.address(), &signed_by("another secret, long enough")).status, 401);
    assert_eq!(delete(process.address(), &signed_by(OLD)).status, 200);
    let (secrets, gateways) = described(&files, &[]);
    let used = secrets[0]["last_used"].as_str().unwrap().to_owned();
    assert!(minutes(begin).contains(&used), "{used}");
    assert!(is_never(&secrets[1]), "{secrets:?}");
    assert_eq!((gateways.len(), &gateways[0]["ended"], &gateways[0]["lost"]), (1, &Value::Bool(false), &Value::Null));
    let since = gateways[0]["since"].clone();
    let line = listed(&files, &[]);
    assert!(line.contains(&format!("in the file (last used {}Z on ", &used[..16])), "{line}");
    assert!(line.contains(&format!("in the file (not used since {}Z)", &since.as_str().unwrap()[..16])), "{line}");

    let metrics = crate::http::get(process.admin(), "/metrics").body;
    assert!(metrics.contains("saltgate_old_secrets_used{ends=\"never\"} 1\n"), "{metrics}");
    assert!(metrics.contains("saltgate_old_secrets_used{ends=\"within_24h\"} 0\n") && !metrics.contains("NCSKEY"));

    // Without a gateway the file has it.
    process.signal("-TERM");
    process.wait();
    let (secrets, gateways) = described(&files, &[]);
    assert_eq!((secrets[0]["last_used"].as_str(), &gateways[0]["ended"]), (Some(&*used), &Value::Bool(true)));
    let kept = std::fs::read_to_string(last_use_file(&files)).unwrap();
    assert!(!kept.contains("secret of"), "{kept}");

    // The secrets change their places; the next gateway knows what the one before it knew.
    let keys = files.dir.path().join("keys.toml");
    let text = std::fs::read_to_string(&keys).unwrap();
    std::fs::write(&keys, text.replace(&format!("\"{OLD}\", \"{NEW}\""), &format!("\"{NEW}\", \"{OLD}\""))).unwrap();
    let mut process = Process::serve(&files);
    let (secrets, gateways) = described(&files, &[]);
    assert!(is_never(&secrets[0]) && secrets[1]["last_used"] == *used, "{secrets:?}");
    assert_eq!((&gateways[0]["since"], &gateways[0]["lost"]), (&since, &Value::Null));

    // After a kill some uses may be missing, and it says which.
    process.kill();
    let process = Process::serve(&files);
    let (secrets, gateways) = described(&files, &[]);
    assert!(secrets[1]["last_used"] == *used && gateways[0]["lost"].is_array(), "{secrets:?} {gateways:?}");
    drop(process);
}

#[test]
fn several_gateways_are_listed_together() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (files, others) = (files(&upstream), files(&upstream));
    let (process, mut other) = (Process::serve(&files), Process::serve(&others));
    assert_eq!(delete(process.address(), &signed_by(OLD)).status, 200);
    assert_eq!(delete(other.address(), &signed_by(NEW)).status, 200);
    let begin = Clock::system().now();
    other.signal("-TERM");
    other.wait();
    let path = last_use_file(&others);
    let (secrets, gateways) = described(&files, &["--last-use", path.to_str().unwrap()]);
    assert_eq!(gateways.len(), 2);
    for (secret, gateway) in secrets.iter().zip(&gateways) {
        assert!(secret["last_used"].is_string(), "{secret}, {begin:?}");
        assert_eq!(secret["last_used_on"], gateway["gateway"]);
    }
    let missing = told(&["keys", "list", "--config", files.path().to_str().unwrap(), "--last-use", "/no/such"], "");
    assert_eq!((missing.status.code(), &*text(&missing.stderr)), (Some(1), "saltgate: /no/such does not exist\n"));
}

#[test]
fn keys_that_change_while_it_runs_keep_their_last_use() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = files(&upstream);
    let process = Process::serve(&files);
    assert_eq!(delete(process.address(), &signed_by(NEW)).status, 200);
    let keys = files.dir.path().join("keys.toml");
    let both = std::fs::read_to_string(&keys).unwrap();
    // The key is gone for a while.
    let stranger = both.replace("NCSKEY", "NCSOTHER").replace("of the key", "of another key");
    for (text, status) in [(&stranger, 401), (&both, 200)] {
        std::fs::write(&keys, text).unwrap();
        until("it is in force", || delete(process.address(), &signed_by(OLD)).status == status);
    }
    let (secrets, _) = described(&files, &[]);
    assert!(secrets.iter().all(|secret| secret["last_used"].is_string()), "{secrets:?}");
    // Promoted.
    std::fs::write(&keys, both.replace(&format!("\"{OLD}\", "), "")).unwrap();
    until("it is in force", || delete(process.address(), &signed_by(OLD)).status == 401);
    let (secrets, _) = described(&files, &[]);
    assert!(secrets.len() == 1 && secrets[0]["last_used"].is_string(), "{secrets:?}");
}

#[test]
fn a_place_that_cannot_be_written_is_named_and_keeps_no_gateway_from_serving() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = files(&upstream);
    let config = std::fs::read_to_string(files.path()).unwrap();
    let elsewhere = "[directory.file]\nlast_use = \"/proc/saltgate/last-use\"\n";
    std::fs::write(files.path(), config.replace("[directory.file]\n", elsewhere)).unwrap();
    let process = Process::serve(&files);
    assert_eq!(delete(process.address(), &signed_by(OLD)).status, 200);
    until("it is named", || process.log().contains("when secrets were last used cannot be kept"));
    let (secrets, _) = described(&files, &[]);
    assert!(secrets[0]["last_used"].is_string(), "the running gateway knows");
    assert!(!Path::new("/proc/saltgate").exists());
}

/// Runs `keys promote NCSKEY` with these options.
fn promote(files: &Files, options: &[&str]) -> (Option<i32>, String) {
    let config = files.path();
    let output = told(&[&["keys", "promote", "NCSKEY", "--config", config.to_str().unwrap()], options].concat(), "");
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_secret_that_was_used_or_may_have_been_used_is_not_replaced() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = files(&upstream);
    let keys = std::fs::read_to_string(files.dir.path().join("keys.toml")).unwrap();
    let refused = |why: &str, options: &[&str]| {
        let (status, said) = promote(&files, &[&["--idle", "24h"], options].concat());
        assert!(status == Some(1) && said.contains(why) && said.contains("nothing was written"), "{said}");
        assert_eq!(std::fs::read_to_string(files.dir.path().join("keys.toml")).unwrap(), keys);
    };
    refused("no gateway has kept when it was used", &[]);
    let mut process = Process::serve(&files);
    refused("when secrets are used is known since ", &[]);
    assert_eq!(delete(process.address(), &signed_by(OLD)).status, 200);
    refused("it was last used at ", &[]);
    process.signal("-TERM");
    process.wait();
    // As if it had run for two days, and nobody had used the old secret for one.
    let path = last_use_file(&files);
    let kept = std::fs::read_to_string(&path).unwrap();
    let ago = |hours: u64| rfc3339(Clock::system().now() - std::time::Duration::from_secs(hours * 3600));
    let (used, since) = (kept.split("\"used\":\"").nth(1).unwrap(), kept.split("\"since\":\"").nth(1).unwrap());
    let kept = kept.replace(&used[..24], &ago(25)).replace(&since[..24], &ago(48));
    let with = |text: &str| std::fs::write(&path, text).unwrap();
    with(&kept.replace("\"lost\":null", &format!("\"lost\":[\"{}\",\"{}\"]", ago(6), ago(5))));
    refused("it ended without being told to", &[]);
    let until = kept.split("\"until\":\"").nth(1).unwrap();
    with(&kept.replace(&until[..24], &ago(2)).replace("\"ended\":true", "\"ended\":false"));
    refused("it has kept nothing since", &[]);
    with(&kept);
    // A second gateway has seen it.
    let other = files.dir.path().join("other");
    std::fs::write(&other, kept.replace(&ago(25)[..15], &ago(23)[..15])).unwrap();
    refused("it was last used at ", &["--last-use", other.to_str().unwrap()]);
    let (status, said) = promote(&files, &["--idle", "24h"]);
    assert!(status == Some(0) && said.contains("only the newer secret is accepted"), "{said}");
}

#[test]
fn a_secret_that_has_ended_is_refused_and_the_other_goes_on() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = files(&upstream);
    let keys = files.dir.path().join("keys.toml");
    let text = std::fs::read_to_string(&keys).unwrap();
    let end = Clock::system().now() + std::time::Duration::from_secs(3);
    std::fs::write(&keys, format!("{text}secret_1_expires = {}\n", rfc3339(end))).unwrap();
    let process = Process::serve(&files);
    assert_eq!(delete(process.address(), &signed_by(OLD)).status, 200, "it has not ended yet");
    let mut header = String::new();
    until("it has ended", || {
        header = signed_by(OLD);
        delete(process.address(), &header).status == 401
    });
    assert!(Clock::system().now() >= end);
    assert_eq!(delete(process.address(), &signed_by(NEW)).status, 200);
    until("the log has it", || process.log().contains("\"inactive_key\""));
    let explained = told(&["explain", "--config", files.path().to_str().unwrap()], &header);
    let explained = crate::operations::text(&explained.stdout);
    assert!(explained.contains("its first secret, which made this signature, ended at "), "{explained}");
    // Nobody is refused for its sake, so it may be replaced at once.
    let (status, said) = promote(&files, &["--idle", "24h"]);
    assert!(status == Some(0) && said.contains("in force since "), "{said}");
    assert!(!std::fs::read_to_string(&keys).unwrap().contains("secret_1_expires"));
}
