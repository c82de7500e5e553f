//! Observe mode names the reason for which enforce mode refuses: one table of requests, run in both modes over both
//! protocols.

use std::collections::BTreeMap;
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Files, Gate, SEGMENT, Upstream, service, signed, signed_at};
use crate::http::Request;
use crate::http2::{END_HEADERS, END_STREAM, HEADERS, Raw, frame, head};
use crate::spoken::{BOTH, Spoken};

const PASSES: &str =
    "[passthrough]\nmethods = [\"GET\", \"POST\", \"PUT\"]\nprefixes = [\"/p/\", \"/crm-core/v1/automations\"]\n";

/// A gateway in front of a service with one segment, which belongs to another member of the account.
fn gate(upstream: &Upstream) -> Gate {
    Gate::by(Files::new(upstream.address, PASSES))
}

fn set_mode(gate: &mut Gate, mode: &str) {
    let config = std::fs::read_to_string(gate.files.path()).unwrap();
    let rest = config.split_once("[[listener]]").unwrap().1;
    std::fs::write(gate.files.path(), format!("mode = \"{mode}\"\n[[listener]]{rest}")).unwrap();
    gate.reload().unwrap();
}

/// How many requests ended with each reason, whatever their outcome.
fn reasons(gate: &Gate) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::new();
    for line in gate.metrics().lines().filter(|line| line.starts_with("saltgate_requests_total{")) {
        let reason = line.split("reason=\"").nth(1).unwrap().split('"').next().unwrap();
        *reasons.entry(reason.to_owned()).or_default() += line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    }
    reasons
}

/// The reason of the one request that this closure makes.
fn reason_of(gate: &Gate, request: impl FnOnce()) -> String {
    let before = reasons(gate);
    request();
    let mut new = None;
    crate::harness::until("it is counted", || reasons(gate) != before);
    for (reason, count) in reasons(gate) {
        let earlier = before.get(&reason).copied().unwrap_or_default();
        assert!(count - earlier <= 1 && (count == earlier || new.is_none()), "one request, one reason");
        new = if count > earlier { Some(reason) } else { new };
    }
    new.unwrap()
}

/// A name, the reason, and the request, which is signed anew each time.
type Row = (&'static str, &'static str, Box<dyn Fn() -> Request>);

fn row(name: &'static str, reason: &'static str, ask: impl Fn() -> Request + 'static) -> Row {
    (name, reason, Box::new(ask))
}

fn rows(via: String) -> Vec<Row> {
    let get = |target: &'static str| move || Request::new("GET", target);
    let deletion = |header: fn() -> String| move || Request::delete(&header());
    let on = |method: &'static str, target: String| {
        move || Request::new(method, &target).field("authorization", &signed("OWNER"))
    };
    let segments = "/crm-core/v1/segments";
    let (loops, looping) = (via.clone(), via);
    vec![
        // Passing requests are checked for their form.
        row("passes", "ok", get("/p/x?a=b")),
        row("a method in the query", "malformed_request", get("/p/x?_method=DELETE")),
        row("the same in disguise", "malformed_request", get("/p/x?a=b&%255Fmethod=DELETE")),
        row("another expectation", "malformed_request", move || get("/p/x")().field("expect", "200-ok")),
        row("to be told to go on", "ok", move || get("/p/x")().field("expect", "100-continue")),
        row("a long target", "too_large", || Request::new("GET", &format!("/p/{}", "x".repeat(5000)))),
        row("large fields", "too_large", move || get("/p/x")().field("x", &"x".repeat(17 << 10))),
        row("it passed before", "loop_detected", move || get("/p/x")().field("via", &loops)),
        row("a method in a field", "missing_credentials", move || get("/p/x")().field("x-original-method", "DELETE")),
        row("nothing lets it pass", "missing_credentials", get("/other")),
        // Gated requests.
        row("a good deletion", "ok", deletion(|| signed("OWNER"))),
        row("no header", "missing_credentials", || Request::new("DELETE", &format!("/crm-core/v1/segments/{SEGMENT}"))),
        row("two headers", "repeated_credentials", || {
            Request::delete(&signed("OWNER")).field("authorization", "Bearer x")
        }),
        row("another scheme", "unsupported_scheme", deletion(|| "Bearer x".into())),
        row("no parameters", "malformed_credentials", deletion(|| "HMAC-SHA256 apiKey=x".into())),
        row("nobody's key", "unknown_key", deletion(|| signed("NOBODY"))),
        row("another's signature", "signature_mismatch", deletion(|| signed("OWNER").replace("NCSOWNER", "NCSMEMBER"))),
        row(
            "an old date",
            "date_skewed",
            deletion(|| {
                let now = Clock::system().now();
                signed_at("OWNER", now - Duration::from_secs(3600), &crate::harness::salt())
            }),
        ),
        row("no role", "role_insufficient", deletion(|| signed(""))),
        row("somebody else's segment", "not_creator", deletion(|| signed("MEMBER"))),
        row("no such segment", "segment_not_found", on("DELETE", format!("{segments}/CRMSG1nothere"))),
        row("no route", "route_not_found", on("DELETE", "/elsewhere".into())),
        row("another method", "method_not_allowed", on("PATCH", format!("{segments}/{SEGMENT}"))),
        row("an unknown version", "precondition_failed", || {
            Request::delete(&signed("OWNER")).field("if-match", "\"v0\"")
        }),
        row("the version there is", "ok", || Request::delete(&signed("OWNER")).field("if-match", "\"v1\"")),
        row(
            "a method in a deletion's query",
            "malformed_request",
            on("DELETE", format!("{segments}/{SEGMENT}?_method=GET")),
        ),
        row("an expectation of a deletion", "malformed_request", || {
            Request::delete(&signed("OWNER")).field("expect", "200-ok")
        }),
        row("a deletion that passed before", "loop_detected", move || {
            Request::delete(&signed("OWNER")).field("via", &looping)
        }),
        row("a large body", "too_large", || Request::delete(&signed("OWNER")).body(70_000)),
        row("a dry run", "ok", on("POST", format!("{segments}/{SEGMENT}/deletion-check"))),
    ]
}

#[test]
fn observe_mode_names_the_reason_that_enforce_mode_refuses_for() {
    let upstream = Upstream::start(service("account-1", "member-2"));
    let mut gate = gate(&upstream);
    // The name of this gateway in `Via`.
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    let sent = upstream.last.lock().unwrap().last().unwrap().head.clone();
    let via = sent.lines().find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("via")));
    let via = via.expect("a Via").1.to_owned();
    let rows = rows(via);
    for mode in ["enforce", "observe"] {
        set_mode(&mut gate, mode);
        for spoken in BOTH {
            for (name, reason, ask) in &rows {
                let seen = reason_of(&gate, || drop(spoken.connect(gate.address()).ask(&ask())));
                assert_eq!(seen, *reason, "{mode}, {spoken:?}: {name}");
            }
            let spent = signed("OWNER");
            for reason in ["ok", "salt_reused"] {
                let seen = reason_of(&gate, || drop(spoken.connect(gate.address()).ask(&Request::delete(&spent))));
                assert_eq!(seen, reason, "{mode}, {spoken:?}: a header sent twice");
            }
        }
        let fields = [("host", "gate"), ("authorization", &signed("OWNER"))];
        let seen = reason_of(&gate, || {
            let mut raw = Raw::to(gate.address(), &[]);
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("DELETE", &fields))).unwrap();
            assert!(raw.until(|kind, _| kind == HEADERS).is_some());
        });
        assert_eq!(seen, "ok", "{mode}: HTTP/2 with a Host alone");
    }
    assert_eq!(Spoken::Http1.connect(gate.address()).ask(&Request::new("GET", "/anything")).unwrap().status, 404);
}
