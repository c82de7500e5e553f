//! Requests that pass without being judged, and observe mode.

use std::io::Write;

use saltgate::parts::Clock;

use crate::harness::{Files, Gate, SEGMENT, Upstream, answer, service, signed, until};
use crate::http::{Received, Request, connect, exchange, get, read_until_closed};
use crate::spoken::{BOTH, Spoken};

const DEMANDS: &str = "[passthrough]\nmethods = [\"GET\", \"POST\"]\nprefixes = [\"/crm-core/\"]\n";
const WATCHES: &str = "[ownership.delegate]\n";

/// A service that answers everything alike.
fn anything() -> Upstream {
    Upstream::start(std::sync::Arc::new(|seen, stream| {
        answer(stream, "201 Created", "X-Kept: yes\r\nX-Saltgate-Role: OWNER\r\n", &format!("{} it is", seen.method));
    }))
}

fn observing(upstream: &Upstream, more: &str) -> Gate {
    let files = Files::new(upstream.address, more);
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), format!("mode = \"observe\"\n{config}")).unwrap();
    Gate::from_files(files, Clock::system())
}

/// The lines of the record about requests.
fn of_requests(gate: &Gate) -> Vec<serde_json::Value> {
    gate.files.record().into_iter().filter(|line| line["kind"] != "header" && line["kind"] != "keys").collect()
}

fn last(upstream: &Upstream) -> Received {
    upstream.last.lock().unwrap().last().cloned().unwrap()
}

#[test]
fn passed_through_requests_go_upstream_as_received() {
    BOTH.into_iter().for_each(goes_as_it_came);
}

fn goes_as_it_came(spoken: Spoken) {
    let upstream = anything();
    let gate = Gate::with(upstream.address, DEMANDS, Clock::system());
    let ask = Request::new("POST", "/crm-core/v1/segments?x=%20y&z")
        .fields(
            "Authorization: Bearer theirs\r\nX-Own: 1\r\nX-Forwarded-For: 192.0.2.1\r\nX-Saltgate-Account: forged\r\n\
             x_saltgate_role: OWNER\r\nX-HTTP-Method-Override: DELETE\r\nX-Rewrite-Url: /elsewhere\r\n",
        )
        .text("hello");
    // HTTP/2 has no Connection.
    let ask = match spoken {
        Spoken::Http1 => ask.fields("Connection: close, X-Hop\r\nX-Hop: 1\r\n"),
        Spoken::Http2 => ask,
    };
    let passed = spoken.ask(gate.address(), &ask);
    assert_eq!((passed.status, passed.body.as_str(), passed.field("X-Kept")), (201, "POST it is", Some("yes")));
    assert_eq!(passed.field("X-Saltgate-Role"), None);
    assert_eq!(passed.field("X-Request-Id").map(str::len), Some(32));
    let seen = last(&upstream);
    assert_eq!((seen.target.as_str(), seen.body.as_str()), ("/crm-core/v1/segments?x=%20y&z", "hello"));
    let head = seen.head.to_lowercase();
    for kept in ["host: gate", "authorization: bearer theirs", "x-own: 1", "via: 1.1 saltgate-"] {
        assert!(head.contains(kept), "{kept} is not in {head}");
    }
    for gone in ["saltgate-account", "saltgate_role", "override", "rewrite", "forwarded", "x-hop", "connection"] {
        assert!(!head.contains(gone), "{gone} is in {head}");
    }
    let metrics = gate.metrics();
    assert!(metrics.contains(r#"saltgate_requests_total{outcome="passed",reason="ok"} 1"#), "{metrics}");
    assert_eq!(of_requests(&gate), Vec::<serde_json::Value>::new(), "nothing was judged, so nothing is on record");
}

#[test]
fn a_body_streams_through_both_ways_beyond_the_limit_for_deletions() {
    let upstream = anything();
    let gate = Gate::with(upstream.address, DEMANDS, Clock::system());
    for spoken in BOTH {
        assert_eq!(spoken.ask(gate.address(), &Request::new("POST", "/crm-core/import").body(300_000)).status, 201);
        assert_eq!(last(&upstream).body.len(), 300_000, "{spoken:?}");
    }
}

#[test]
fn an_incomplete_body_is_the_clients_fault_and_no_unknown_outcome() {
    // The service knows no transfer coding, and never answers.
    let upstream = Upstream::start(std::sync::Arc::new(|_, _| {}));
    let more = format!("{DEMANDS}[limits]\nbody_timeout = \"300ms\"\n");
    let gate = Gate::with(upstream.address, &more, Clock::system());
    let rows = [
        (
            "a chunk of no size",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n",
            false,
            400,
            "malformed_request",
        ),
        ("too slow", "Content-Length: 50\r\n\r\nabc", false, 408, "too_slow"),
        ("cut off", "Content-Length: 50\r\n\r\nabc", true, 400, "client_gone"),
    ];
    for (name, rest, ends, status, reason) in rows {
        let mut stream = connect(gate.address());
        write!(stream, "POST /crm-core/x HTTP/1.1\r\nHost: a\r\n{rest}").unwrap();
        if ends {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let told = read_until_closed(&mut stream);
        assert_eq!(told.status, status, "{name}: {}", told.body);
        assert_eq!(told.field("connection"), Some("close"), "{name}: {}", told.head);
        let counted = format!(",reason=\"{reason}\"}} 1\n");
        until("it is counted", || gate.metrics().contains(&counted));
    }
    assert!(!gate.metrics().contains("outcome_unknown"), "nobody may make us say that: {}", gate.metrics());
}

#[test]
fn unlisted_requests_do_not_pass() {
    let upstream = anything();
    let gate = Gate::with(upstream.address, DEMANDS, Clock::system());
    let segment = format!("/crm-core/v1/segments/{SEGMENT}");
    let rows = [
        ("another method", "PUT /crm-core/x", "", 401),
        ("another prefix", "GET /other", "", 401),
        ("a deletion", &*format!("DELETE {segment}"), "", 401),
        ("out of the prefix", "GET /crm-core/../admin", "", 401),
        ("out of the prefix, escaped", "GET /crm-core/%2e%2e/admin", "", 401),
        ("another method by the query", &*format!("POST {segment}?_method=DELETE"), "", 400),
        ("two hosts", "GET /crm-core/x", "Host: b\r\n", 400),
        ("an upgrade to nothing", "PUT /crm-core/x", "Connection: upgrade\r\nUpgrade: websocket\r\n", 401),
    ];
    for (name, line, fields, status) in rows {
        let sent = format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n");
        assert_eq!(exchange(gate.address(), &sent).status, status, "{name}");
    }
    assert_eq!((upstream.gets(), upstream.deletes()), (0, 0));

    // A signed request that does not pass is told that there is no such route.
    let sent = format!(
        "PUT /crm-core/x HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
        signed("OWNER")
    );
    assert_eq!(exchange(gate.address(), &sent).status, 404);
    // The gates are unchanged.
    assert_eq!(gate.delete(&signed("OWNER")).status, 502, "the service does not say who owns the segment");
    assert_eq!(upstream.deletes(), 0);
}

#[test]
fn a_dead_service_and_a_lost_answer_have_different_answers() {
    BOTH.into_iter().for_each(is_told_apart);
}

fn is_told_apart(spoken: Spoken) {
    let upstream = Upstream::start(std::sync::Arc::new(|_, stream| {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }));
    let mut gate = Gate::with(upstream.address, DEMANDS, Clock::system());
    let lost = spoken.ask(gate.address(), &Request::new("GET", "/crm-core/x"));
    assert_eq!((lost.status, lost.error_code().as_str()), (502, "OutcomeUnknown"));
    assert_eq!(upstream.gets(), 1, "it is not sent again");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    gate.files.configure(nobody, DEMANDS);
    let config = saltgate::parts::Config::load(&gate.files.path());
    gate.gateway().reload(config).unwrap();
    let dead = spoken.ask(gate.address(), &Request::new("GET", "/crm-core/x"));
    assert_eq!((dead.status, dead.error_code().as_str()), (502, "BadGateway"));
}

#[test]
fn observe_mode_forwards_everything_as_received_and_logs_the_verdict() {
    let upstream = anything();
    let gate = observing(&upstream, WATCHES);
    let good = signed("OWNER");
    let rows: [(&str, String, &str); 7] = [
        ("good", format!("Authorization: {good}\r\n"), "ok"),
        ("again", format!("Authorization: {good}\r\n"), "salt_reused"),
        ("no role", format!("Authorization: {}\r\n", signed("")), "role_insufficient"),
        ("nobody", String::new(), "missing_credentials"),
        ("another scheme", "Authorization: Bearer x\r\n".into(), "unsupported_scheme"),
        ("twice", "Authorization: a\r\nAuthorization: b\r\n".into(), "repeated_credentials"),
        ("a large body", format!("Authorization: {}\r\nContent-Length: 70000\r\n", signed("OWNER")), "too_large"),
    ];
    for (name, fields, reason) in &rows {
        let body = if fields.contains("70000") { "x".repeat(70_000) } else { String::new() };
        let sent = format!(
            "DELETE /crm-core/v1/segments/{SEGMENT} HTTP/1.1\r\nHost: crm\r\n{fields}X-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n{body}"
        );
        let passed = exchange(gate.address(), &sent);
        assert_eq!((passed.status, passed.body.as_str()), (201, "DELETE it is"), "{name}");
        let seen = last(&upstream);
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.lines().skip(1).map(str::to_lowercase).collect();
            lines.retain(|line| !line.is_empty() && !line.starts_with("connection:"));
            lines.sort();
            lines
        };
        assert_eq!(lines(&seen.head), lines(sent.split("\r\n\r\n").next().unwrap()), "{name}: exactly as received");
        assert_eq!(seen.body.len(), body.len());
        let told = format!(r#"saltgate_requests_total{{outcome="passed",reason="{reason}"}} 1"#);
        assert!(gate.metrics().contains(&told), "{name}: {told} is not in {}", gate.metrics());
    }
    assert_eq!(upstream.deletes(), rows.len());
    // Other traffic passes, too, and its verdict is reported.
    assert_eq!(get(gate.address(), "/anything").status, 201);
    assert!(gate.metrics().contains(r#"saltgate_requests_total{outcome="passed",reason="missing_credentials"} 2"#));
    assert_eq!(of_requests(&gate), Vec::<serde_json::Value>::new(), "observe mode records nothing");
}

#[test]
fn observe_mode_looks_up_the_owner_before_it_forwards_the_deletion() {
    BOTH.into_iter().for_each(learns_first);
}

fn learns_first(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-2"));
    let gate = observing(&upstream, "");
    assert_eq!(spoken.delete(gate.address(), &signed("MEMBER")).status, 200);
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 200);
    let metrics = gate.metrics();
    for reason in ["not_creator", "ok"] {
        let told = format!(r#"saltgate_requests_total{{outcome="passed",reason="{reason}"}} 1"#);
        assert!(metrics.contains(&told), "{told} is not in {metrics}");
    }
    let methods: Vec<String> = upstream.last.lock().unwrap().iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(methods, ["GET", "DELETE", "GET", "DELETE"]);
}

#[test]
fn observe_mode_reports_what_the_safeguards_would_refuse() {
    BOTH.into_iter().for_each(tells_what_would_be_refused);
}

fn tells_what_would_be_refused(spoken: Spoken) {
    let ordinary = service("account-1", "member-1");
    let upstream = Upstream::start(std::sync::Arc::new(move |seen, stream| {
        if seen.target.ends_with("/automations") {
            let linked = if seen.head.contains("NCSMEMBER") { r#"{"automationId":"A"}"# } else { "" };
            return crate::harness::answer(
                stream,
                "200 OK",
                "",
                &format!(r#"{{"total":{},"automations":[{linked}]}}"#, usize::from(!linked.is_empty())),
            );
        }
        ordinary(seen, stream);
    }));
    let more = "[budget]\nper_key = \"2/hour\"\n[automations]\ntotal = \"/total\"\n[[route]]\npath = \"/crm-core/v1/segments/{segmentId}\"\nlinked_automations = \"refuse\"\n";
    let mut gate = observing(&upstream, more);
    for role in ["OWNER", "OWNER", "OWNER", "MEMBER"] {
        assert_eq!(spoken.delete(gate.address(), &signed(role)).status, 200);
    }
    let note = saltgate::parts::Note { since: String::new(), uid: 0, reason: None };
    gate.gateway().process().freeze.freeze(&saltgate::parts::Target::All, note).unwrap();
    assert_eq!(spoken.delete(gate.address(), &signed("DEVELOPER")).status, 200);
    let metrics = gate.metrics();
    for (reason, count) in [("ok", 2), ("budget_spent", 1), ("automations_linked", 1), ("frozen", 1)] {
        let told = format!(r#"saltgate_requests_total{{outcome="passed",reason="{reason}"}} {count}"#);
        assert!(metrics.contains(&told), "{told} is not in {metrics}");
    }
    assert_eq!(upstream.deletes(), 5);
}

#[test]
fn a_reload_from_observe_to_enforce_keeps_spent_salts() {
    BOTH.into_iter().for_each(turns_into_enforcing);
}

fn turns_into_enforcing(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = observing(&upstream, "");
    let header = signed("OWNER");
    assert_eq!(spoken.delete(gate.address(), &header).status, 200);
    gate.files.configure(upstream.address, "");
    let config = saltgate::parts::Config::load(&gate.files.path());
    assert_eq!(gate.gateway().reload(config).unwrap().needs_restart, Vec::<String>::new());
    assert_eq!(spoken.delete(gate.address(), &header).status, 401, "a header that passed in observe mode is spent");
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 200);
    assert_eq!(upstream.deletes(), 2);
}

#[test]
fn a_long_upload_may_take_its_time_and_a_trickle_may_not() {
    let upstream = anything();
    let more = format!("{DEMANDS}[limits]\nbody_timeout = \"500ms\"\n");
    let gate = Gate::with(upstream.address, &more, Clock::system());
    let send = |piece: usize, pieces: usize| {
        let mut stream = connect(gate.address());
        let head = format!(
            "POST /crm-core/import HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            piece * pieces
        );
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..pieces {
            if stream.write_all(&vec![b'x'; piece]).is_err() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(150));
        }
        read_until_closed(&mut stream).status
    };
    assert_eq!(send(8192, 8), 201, "more than twice body_timeout, and never a pause of as much");
    assert_eq!(last(&upstream).body.len(), 8 * 8192);
    let trickled = send(1, 8);
    // A client that writes after the end may lose the answer to a reset.
    assert!([0, 408].contains(&trickled), "{trickled}");
    assert_eq!(upstream.gets(), 1, "what trickled never was a whole message");
}
