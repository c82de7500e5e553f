//! The decision table: who may delete which segment. A header can be used once.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Gate, ROLES, SEGMENT, Upstream, salt, service, signed, signed_at};
use crate::http::Request;
use crate::spoken::{BOTH, Spoken};

const UNAUTHORIZED: &str = r#"{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}"#;

#[test]
fn the_decision_table_in_full() {
    let columns =
        [("account-1", "member-1"), ("account-1", "member-2"), ("account-2", "member-1"), ("account-2", "member-2")];
    for (account, creator) in columns {
        let upstream = Upstream::start(service(account, creator));
        let gate = Gate::before(&upstream);
        for role in ROLES {
            for (exists, spoken) in [true, false].into_iter().flat_map(|exists| BOTH.map(|spoken| (exists, spoken))) {
                let segment = if exists { SEGMENT } else { "CRMSG1000000000000000SGM00000000" };
                let before = upstream.deletes();
                let gets = upstream.gets();
                let ask = Request::new("DELETE", &format!("/crm-core/v1/segments/{segment}"));
                let answer = spoken.ask(gate.address(), &ask.field("authorization", &signed(role)));
                let expected = match (role, account, creator, exists) {
                    ("" | "ADMIN", ..) => 401,
                    (_, "account-2", ..) | (.., false) => 404,
                    ("OWNER", ..) | (.., "member-1", true) => 200,
                    _ => 401,
                };
                let row = format!("{spoken:?}: {role:?}, created by {creator} in {account}, there: {exists}");
                assert_eq!(answer.status, expected, "{row}: {answer:?}");
                assert_eq!(upstream.deletes() - before, usize::from(expected == 200), "{row}");
                assert!(answer.field("x-request-id").is_some_and(|id| id.len() == 32 && id != "theirs"), "{row}");
                if expected == 401 {
                    assert_eq!(answer.body, UNAUTHORIZED, "{row}");
                    assert_eq!(answer.field("www-authenticate"), Some("HMAC-SHA256"), "{row}");
                }
                if matches!(role, "" | "ADMIN") {
                    assert_eq!(upstream.gets(), gets, "{row}: nothing is looked up");
                }
            }
        }
    }
}

#[test]
fn every_failed_authentication_gets_the_same_bytes_and_is_not_forwarded() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let now = Clock::system().now();
    let good = signed("OWNER");
    let (hour, salted) = (Duration::from_secs(3600), salt());
    let headers: Vec<(&str, Vec<String>)> = vec![
        ("none", vec![]),
        ("two", vec![good.clone(), good.clone()]),
        ("bearer", vec!["Bearer abc".into()]),
        ("empty", vec![String::new()]),
        ("unknown key", vec![good.replace("NCSOWNER", "NCSNOBODY")]),
        ("another key's secret", vec![good.replace("NCSOWNER", "NCSMEMBER")]),
        ("another salt", vec![signed_at("OWNER", now, &salted).replace(&salted, &salt())]),
        ("an hour old", vec![signed_at("OWNER", now - hour, &salt())]),
        ("an hour ahead", vec![signed_at("OWNER", now + hour, &salt())]),
    ];
    for spoken in BOTH {
        let mut seen = Vec::new();
        for (name, values) in &headers {
            let ask = Request::new("DELETE", &format!("/crm-core/v1/segments/{SEGMENT}"));
            let ask = values.iter().fold(ask, |ask, value| ask.field("authorization", value));
            let answer = spoken.ask(gate.address(), &ask);
            assert_eq!((answer.status, answer.body.as_str()), (401, UNAUTHORIZED), "{spoken:?}: {name}");
            let fields: Vec<String> = answer
                .head
                .lines()
                .filter(|l| !l.starts_with("x-request-id") && !l.starts_with("date"))
                .map(str::to_owned)
                .collect();
            seen.push(fields);
        }
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{spoken:?}: {seen:?}");
    }
    assert_eq!((upstream.deletes(), upstream.gets()), (0, 0));
    assert_eq!(gate.delete(&good).status, 200, "what was refused spent nothing");
}

#[test]
fn a_date_out_of_the_window_is_refused_before_the_body_is_read() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let (now, hour) = (Clock::system().now(), Duration::from_secs(3600));
    for (at, spoken) in [now - hour, now + hour].into_iter().flat_map(|at| BOTH.map(|spoken| (at, spoken))) {
        let mut caller = spoken.connect(gate.address());
        caller.begin(&Request::delete(&signed_at("OWNER", at, &salt())), Some(100_000));
        assert_eq!(caller.status().unwrap().status, 401, "{spoken:?}");
    }
}

#[test]
fn with_delegate_the_role_is_still_checked_here() {
    let upstream = Upstream::start(service("account-2", "member-2"));
    let gate = Gate::with(upstream.address, "[ownership.delegate]\n", Clock::system());
    let rows = ["OWNER", "DEVELOPER", "MEMBER"].into_iter().flat_map(|role| BOTH.map(|spoken| (role, spoken)));
    for (n, (role, spoken)) in rows.enumerate() {
        assert_eq!(spoken.delete(gate.address(), &signed(role)).status, 200, "{spoken:?}: {role}");
        let seen = upstream.last.lock().unwrap().last().cloned().unwrap();
        let head = seen.head.to_lowercase();
        let told = format!("x-saltgate-role: {}", role.to_lowercase());
        assert!(head.lines().any(|line| line == told) && !head.contains("x-saltgate-creator"), "{head}");
        assert_eq!(upstream.deletes(), n + 1);
    }
    for (role, spoken) in ["", "ADMIN"].into_iter().flat_map(|role| BOTH.map(|spoken| (role, spoken))) {
        assert_eq!(spoken.delete(gate.address(), &signed(role)).status, 401, "{spoken:?}: {role:?}");
    }
    assert_eq!((upstream.deletes(), upstream.gets()), (6, 0));
}

#[test]
fn a_look_up_has_the_callers_identity_and_nothing_of_the_client() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    for spoken in BOTH {
        let ask = Request::new("DELETE", &format!("/crm-core/v1/segments/{SEGMENT}?a=b"))
            .field("authorization", &signed("MEMBER"))
            .field("cookie", "c=1")
            .field("if-match", "*")
            .field("range", "bytes=0-1")
            .field("x-saltgate-member", "evil")
            .text("hello");
        let answer = spoken.ask(gate.address(), &ask);
        assert_eq!(answer.status, 200, "{spoken:?}: {answer:?}");
        let seen = upstream.last.lock().unwrap().iter().rfind(|seen| seen.method == "GET").cloned().unwrap();
        assert_eq!(seen.body, "", "{spoken:?}");
        assert_eq!(seen.target, format!("/crm-core/v1/segments/{SEGMENT}"), "{spoken:?}: the path alone");
        let mut lines: Vec<String> = seen.head.trim_end().lines().skip(1).map(str::to_lowercase).collect();
        lines.sort();
        let expected = [
            "accept: application/json".to_owned(),
            "cache-control: no-store".to_owned(),
            format!("host: {}", upstream.address),
            format!("x-request-id: {}", answer.field("x-request-id").unwrap()),
            "x-saltgate-account: account-1".to_owned(),
            "x-saltgate-api-key: ncsmember".to_owned(),
            "x-saltgate-member: member-1".to_owned(),
            "x-saltgate-role: member".to_owned(),
        ];
        assert_eq!(lines, expected, "{spoken:?}");
    }
}

#[test]
fn of_500_simultaneous_copies_exactly_one_passes() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, "[runtime]\nworkers = 4\n", Clock::system());
    let header = Arc::new(signed("OWNER"));
    let barrier = Arc::new(Barrier::new(50));
    let address = gate.address();
    let threads: Vec<_> = (0..50)
        .map(|n| {
            let (header, barrier) = (header.clone(), barrier.clone());
            std::thread::spawn(move || match BOTH[n % 2] {
                Spoken::Http1 => {
                    barrier.wait();
                    (0..10).map(|_| crate::http::delete(address, &header).status).collect::<Vec<_>>()
                }
                Spoken::Http2 => {
                    let mut caller = Spoken::Http2.connect(address);
                    barrier.wait();
                    (0..10).for_each(|_| caller.send(&Request::delete(&header)));
                    (0..10).map(|_| caller.answer().unwrap().status).collect()
                }
            })
        })
        .collect();
    let statuses: Vec<u16> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(statuses.len(), 500);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 499);
    assert_eq!(upstream.deletes(), 1);
}

#[test]
fn a_path_is_forwarded_as_parsed_or_not_at_all() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let base = "/crm-core/v1/segments";
    for (n, spoken) in BOTH.into_iter().enumerate() {
        let ask = |method: &str, target: &str| {
            spoken.ask(gate.address(), &Request::new(method, target).field("authorization", &signed("OWNER")))
        };
        for target in [
            "/",
            "/crm-core/v1/segments",
            "/crm-core/v1/segments/",
            "/crm-core/v1/segments/%2e%2e",
            "/crm-core/v1/segments/../x",
            "/crm-core//v1/segments/a",
            "/crm-core/v1/segments/a;b",
            "/crm-core/v1/segments/a/",
        ] {
            assert_eq!(ask("DELETE", target).status, 404, "{spoken:?}: {target}");
        }
        let answer = ask("GET", &format!("{base}/{SEGMENT}"));
        assert_eq!((answer.status, answer.field("allow")), (405, Some("DELETE")), "{spoken:?}");
        assert_eq!(ask("DELETE", &format!("{base}/{SEGMENT}?_method=GET")).status, 400, "{spoken:?}");
        assert_eq!(upstream.deletes(), n);
        assert_eq!(ask("DELETE", &format!("{base}/{SEGMENT}?reason=a%20b&x=%2F")).status, 200, "{spoken:?}");
        let seen = upstream.last.lock().unwrap().last().cloned().unwrap();
        assert_eq!(seen.target, format!("{base}/{SEGMENT}"), "{spoken:?}: nobody signed the query");
    }
}

#[test]
fn identity_comes_from_the_gate_and_never_from_the_client() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    for spoken in BOTH {
        let ask = Request::delete(&signed("MEMBER"))
            .field("x-saltgate-role", "OWNER")
            .field("x_saltgate_account", "evil")
            .field("x-forwarded-for", "6.6.6.6")
            .text("hello");
        // HTTP/2 has no Connection.
        let ask = match spoken {
            Spoken::Http1 => ask.field("connection", "close, X-Saltgate-Account"),
            Spoken::Http2 => ask,
        };
        let answer = spoken.ask(gate.address(), &ask);
        assert_eq!(answer.status, 200, "{spoken:?}: {answer:?}");
        let seen = upstream.last.lock().unwrap().last().cloned().unwrap();
        let head = seen.head.to_lowercase();
        for line in [
            "x-saltgate-account: account-1",
            "x-saltgate-member: member-1",
            "x-saltgate-role: member",
            "x-saltgate-api-key: ncsmember",
            "x-saltgate-creator: member-1",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: gate",
            "if-match: \"v1\"",
        ] {
            assert!(head.lines().any(|l| l == line), "{line} is not in {head}");
        }
        assert_eq!(head.lines().filter(|line| line.starts_with("via: 1.1 saltgate-")).count(), 1, "{head}");
        assert!(!head.contains("authorization") && !head.contains("evil") && !head.contains("6.6.6.6"), "{head}");
        assert_eq!(head.matches("x-saltgate-role").count(), 1);
        assert_eq!(seen.body, "", "nobody signed the body");
        assert_eq!(answer.field("x-kept"), Some("yes"));
        assert_eq!(answer.field("x-saltgate-forged"), None);
        assert_eq!(head.lines().find_map(|l| l.strip_prefix("x-request-id: ")), answer.field("x-request-id"));
    }
}

#[test]
fn headers_recorded_from_real_clients_pass_once() {
    let vectors: Vec<serde_json::Value> = serde_json::from_str(include_str!("../vectors.json")).unwrap();
    let upstream = Upstream::start(service("account-1", "member-1"));
    let noon = std::time::UNIX_EPOCH + Duration::from_secs(1_795_473_480);
    let (clock, _hands) = Clock::manual(noon);
    let mut gate = Gate::with(upstream.address, "", clock);
    let key = vectors[0]["apiKey"].as_str().unwrap();
    let secret = vectors[0]["apiSecret"].as_str().unwrap();
    let keys = format!(
        "[[key]]\napi_key = \"{key}\"\nsecret = \"{secret}\"\naccount = \"account-1\"\nmember = \"member-1\"\nrole = \"OWNER\"\n"
    );
    std::fs::write(gate.files.dir.path().join("keys.toml"), keys).unwrap();
    let config = saltgate::parts::Config::load(&gate.files.path());
    gate.gateway().reload(config).unwrap();
    for (n, vector) in vectors.iter().enumerate() {
        let header = vector["header"].as_str().unwrap();
        let spoken = BOTH[n % 2];
        assert_eq!(spoken.delete(gate.address(), header).status, 200, "{spoken:?}: {header}");
        for spoken in BOTH {
            assert_eq!(spoken.delete(gate.address(), header).status, 401, "{spoken:?}: again: {header}");
        }
    }
    assert_eq!(upstream.deletes(), vectors.len());
}
