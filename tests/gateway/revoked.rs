//! Keys that are revoked while a body is late: a request is judged by the configuration in force when its salt is
//! spent.

use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Gate, SEGMENT, Upstream, api_key, secret, service, signed};
use crate::http::delete;
use crate::late_bodies::{Late, in_flight};
use crate::spoken::{BOTH, Spoken};

fn rewrite(gate: &Gate, name: &str, change: impl Fn(String) -> String) {
    let path = gate.files.dir.path().join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "{name} says something else now");
    std::fs::write(path, changed).unwrap();
}

/// The entry of a role, changed.
fn entry(text: String, role: &str, change: impl Fn(&str) -> String) -> String {
    let is_of = |entry: &str| entry.contains(&format!("api_key = \"{}\"", api_key(role)));
    let mut entries = text.split("[[key]]");
    let head = entries.next().unwrap().to_owned();
    entries.fold(head, |text, entry| match is_of(entry) {
        true => text + &change(entry),
        false => text + "[[key]]" + entry,
    })
}

/// A request of the OWNER waits for its body while `change` happens. Returns its answer, and whether its salt is
/// spent; both protocols must agree.
fn meanwhile(upstream: &Upstream, change: impl Fn(&mut Gate)) -> (u16, String) {
    let [by_http_1, by_http_2] = BOTH.map(|spoken| meanwhile_by(spoken, upstream, &change));
    assert_eq!(by_http_1, by_http_2);
    by_http_1
}

fn meanwhile_by(spoken: Spoken, upstream: &Upstream, change: impl Fn(&mut Gate)) -> (u16, String) {
    let mut gate = Gate::with(upstream.address, "", Clock::system());
    let late = Late::delete(spoken, gate.address(), &signed("OWNER"));
    while in_flight(&mut gate) == 0 {
        std::thread::yield_now();
    }
    change(&mut gate);
    let answer = late.end();
    let reasons: Vec<String> = gate
        .metrics()
        .lines()
        .filter(|line| line.starts_with("saltgate_requests_total") && !line.ends_with(" 0"))
        .filter_map(|line| Some(line.split("reason=\"").nth(1)?.split('"').next()?.to_owned()))
        .collect();
    (answer.status, reasons.join(" "))
}

#[test]
fn a_key_that_is_revoked_while_a_body_is_late_deletes_nothing() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let keys = |change: fn(&str) -> String| {
        move |gate: &mut Gate| {
            rewrite(gate, "keys.toml", |text| entry(text, "OWNER", change));
            gate.reload().unwrap();
        }
    };
    let other = |text: &str| format!("[[key]]{}", text.replace(&secret("OWNER"), "another secret, long enough"));
    let and_new = |text: &str| {
        let both = format!("secrets = [\"a new secret, long enough\", \"{}\"]", secret("OWNER"));
        format!("[[key]]{}", text.replace(&format!("secret = \"{}\"", secret("OWNER")), &both))
    };
    let rows: [(&str, fn(&str) -> String, u16, &str); 7] = [
        ("removed", |_| String::new(), 401, "unknown_key"),
        ("switched off", |text| format!("[[key]]{text}active = false\n"), 401, "inactive_key"),
        ("expired", |text| format!("[[key]]{text}expires = 2020-01-01T00:00:00Z\n"), 401, "inactive_key"),
        ("another secret", other, 401, "signature_mismatch"),
        ("without a role", |text| format!("[[key]]{}", text.replace("role = \"OWNER\"", "")), 401, "role_insufficient"),
        (
            "another account",
            |text| format!("[[key]]{}", text.replace("account-1", "account-2")),
            404,
            "segment_not_found",
        ),
        ("a secret more", and_new, 200, "ok"),
    ];
    for (name, change, status, reason) in rows {
        let deleted = upstream.deletes();
        assert_eq!(meanwhile(&upstream, keys(change)), (status, reason.to_owned()), "{name}");
        assert_eq!(upstream.deletes() - deleted, BOTH.len() * usize::from(status == 200), "{name}");
    }
}

#[test]
fn routes_budgets_and_the_upstream_are_those_in_force_when_the_salt_is_spent() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let elsewhere = Upstream::start(service("account-1", "member-1"));
    let config = |more: &'static str| {
        move |gate: &mut Gate| {
            rewrite(gate, "saltgate.toml", |text| text + more);
            gate.reload().unwrap();
        }
    };
    let gone = config("[[route]]\nmethod = \"DELETE\"\npath = \"/elsewhere/{segmentId}\"\n");
    assert_eq!(meanwhile(&upstream, gone), (404, "route_not_found".into()));
    let owner = "[[route]]\nmethod = \"DELETE\"\npath = \"/crm-core/v1/segments/{segmentId}\"\nlinked_automations = \"refuse\"\n";
    // The service lists no automations: it only matters that they were looked up.
    assert_eq!(meanwhile(&upstream, config(owner)), (502, "ownership_unavailable".into()));
    let spent = |gate: &mut Gate| {
        rewrite(gate, "saltgate.toml", |text| text + "[budget]\nper_key = \"1/hour\"\n");
        gate.reload().unwrap();
        assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    };
    assert_eq!(meanwhile(&upstream, spent), (429, "ok budget_spent".into()));
    let before = upstream.deletes();
    let address = elsewhere.address.to_string();
    let moved = move |gate: &mut Gate| {
        let from = upstream_of(gate);
        rewrite(gate, "saltgate.toml", |text| text.replace(&from, &address));
        gate.reload().unwrap();
    };
    assert_eq!(meanwhile(&upstream, moved), (200, "ok".into()));
    assert_eq!((upstream.deletes(), elsewhere.deletes()), (before, 2));
}

fn upstream_of(gate: &Gate) -> String {
    let text = std::fs::read_to_string(gate.files.path()).unwrap();
    text.split("servers = [\"http://").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[test]
fn a_key_that_expires_while_a_body_is_late_deletes_nothing_and_nothing_is_spent() {
    for spoken in BOTH {
        expires_meanwhile(spoken);
    }
}

fn expires_meanwhile(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (clock, time) = Clock::manual(Clock::system().now());
    let files = crate::harness::Files::new(upstream.address, "");
    let keys = files.dir.path().join("keys.toml");
    let expires = saltgate::parts::rfc3339(clock.now() + Duration::from_secs(60));
    let text = std::fs::read_to_string(&keys).unwrap();
    let text = entry(text, "OWNER", |entry| format!("[[key]]{entry}expires = {expires}\n"));
    std::fs::write(&keys, text).unwrap();
    let mut gate = Gate::from_files(files, clock.clone());
    let header = crate::harness::signed_at("OWNER", clock.now(), &crate::harness::salt());
    let late = Late::delete(spoken, gate.address(), &header);
    while in_flight(&mut gate) == 0 {
        std::thread::yield_now();
    }
    time.advance(Duration::from_secs(61));
    assert_eq!(late.end().status, 401);
    assert!(gate.metrics().contains(r#"reason="inactive_key"} 1"#));
    assert_eq!(upstream.deletes(), 0);

    // Its salt was not spent: with a longer expiry, the key may use its header.
    rewrite(&gate, "keys.toml", |text| text.replace(&format!("expires = {expires}\n"), ""));
    gate.reload().unwrap();
    assert_eq!(spoken.delete(gate.address(), &header).status, 200);
    assert!(upstream.last.lock().unwrap().iter().any(|seen| seen.method == "DELETE" && seen.target.ends_with(SEGMENT)));
}
