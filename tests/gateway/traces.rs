//! Traces: whose context is continued, which spans reach a collector, and what a collector that fails costs.

mod collector;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{
    Files, Gate, SEGMENT, Upstream, api_key, but_delete, salt, secret, service, signed, signed_at, until,
};
use crate::http::{Answer, Kept, Request, values};
use crate::operations::{Process, saltgate, text};
use crate::spoken::{BOTH, Spoken};
use crate::tls::Authority;
use collector::{Collector, Reply, Span};

const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const THEIR_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const THEIR_SPAN: &str = "b7ad6b7169203331";
const PROXIED: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n";

/// A gateway with this `[trace]`. Its clients are trusted proxies, or are not.
fn gate(upstream: &Upstream, trace: &str, proxied: bool) -> Gate {
    let files = Files::new(upstream.address, trace);
    if proxied {
        files.listen(PROXIED);
    }
    Gate::by(files)
}

/// A deletion with a context of the client's.
fn with_context(traceparent: &str) -> Request {
    let request = Request::delete(&signed("OWNER")).field("traceparent", traceparent);
    request.field("tracestate", "rojo=1").field("tracestate", "congo=2")
}

fn id(answer: &Answer) -> &str {
    answer.field("x-request-id").unwrap()
}

/// The trace, the span and the flags of a `traceparent` that the service received with the last request of this method.
fn received(upstream: &Upstream, method: &str) -> (String, String, String) {
    let last = upstream.last.lock().unwrap();
    let last = last.iter().rev().find(|seen| seen.method == method).unwrap();
    let all: Vec<&str> = values(&last.head, "traceparent").collect();
    assert_eq!(all.len(), 1, "{}", last.head);
    let parts: Vec<String> = all[0].split('-').map(str::to_owned).collect();
    assert_eq!((parts.len(), parts[0].as_str()), (4, "00"), "{all:?}");
    (parts[1].clone(), parts[2].clone(), parts[3].clone())
}

/// All values of this field in the last deletion that the service received.
fn sent(upstream: &Upstream, name: &str) -> Vec<String> {
    let last = upstream.last.lock().unwrap();
    let last = last.iter().rev().find(|seen| seen.method == "DELETE").unwrap();
    values(&last.head, name).map(str::to_owned).collect()
}

fn own(spans: &[Span]) -> &Span {
    spans.iter().find(|span| span.name.starts_with("saltgate ")).unwrap()
}

fn counted(gate: &Gate, name: &str) -> u64 {
    let metrics = gate.metrics();
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_deletion_is_a_span_with_its_gates_as_events_and_its_parts_as_children() {
    BOTH.into_iter().for_each(is_a_span);
}

fn is_a_span(spoken: Spoken) {
    let (upstream, collector) = (Upstream::start(service("account-1", "member-1")), Collector::start());
    let gate = gate(&upstream, &collector.settings("1", ""), false);
    let salt = salt();
    let header = signed_at("OWNER", Clock::system().now(), &salt);
    let answer = spoken.delete(gate.address(), &header);
    assert_eq!(answer.status, 200);
    let spans = collector.of(id(&answer));
    let own = own(&spans);
    assert_eq!((own.name.as_str(), own.kind, own.parent.as_str(), own.status), ("saltgate DELETE", 2, "", 0));
    assert_eq!(own.trace, id(&answer), "the id of a new trace is the request id");
    assert!(own.links.is_empty() && own.state.is_empty());
    for (name, value) in [
        ("http.request.method", "DELETE"),
        ("http.response.status_code", "200"),
        ("http.route", "/crm-core/v1/segments/{segmentId}"),
        ("saltgate.outcome", "forwarded"),
        ("saltgate.reason", "ok"),
    ] {
        assert_eq!(own.attribute(name), value, "{name}");
    }
    let gates: Vec<&str> = own.events.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "inspect",
        "authenticate",
        "admit",
        "read",
        "spend",
        "route",
        "authorize",
        "safeguard",
        "record",
        "release",
        "send",
    ];
    assert_eq!(gates, expected, "{spoken:?}");
    let times = own.events.iter().map(|(_, at)| *at).chain([own.end]);
    assert!(std::iter::once(own.start).chain(times).is_sorted(), "{own:?}");

    let mut children: Vec<&Span> = spans.iter().filter(|span| span.parent == own.id).collect();
    children.sort_by_key(|span| span.start);
    let names: Vec<_> = children.iter().map(|span| (span.name.as_str(), span.kind)).collect();
    assert_eq!(names, [("claim salt", 1), ("look up owner", 3), ("record intent", 1), ("send", 3)]);
    for child in &children {
        assert!(own.start <= child.start && child.start <= child.end && child.end <= own.end, "{child:?} {own:?}");
    }
    let trace = id(&answer).to_owned();
    assert_eq!(received(&upstream, "GET"), (trace.clone(), children[1].id.clone(), "01".into()));
    assert_eq!(received(&upstream, "DELETE"), (trace, children[3].id.clone(), "01".into()));
    assert_eq!(children[3].attribute("http.response.status_code"), "200");

    let (head, body, _) = collector.requests().remove(0);
    let head = head.to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1") && head.contains("content-type: application/x-protobuf"));
    let signature = header.rsplit('=').next().unwrap();
    let body = String::from_utf8_lossy(&body);
    for private in [&api_key("OWNER"), "account-1", "member-1", SEGMENT, &salt, signature, &secret("OWNER")] {
        assert!(!body.contains(private), "{private}");
    }
    until("they are counted", || counted(&gate, "saltgate_trace_spans_sent_total") == 5);
    assert_eq!(counted(&gate, "saltgate_trace_spans_dropped_total"), 0);
}

#[test]
fn the_context_of_an_untrusted_client_becomes_a_link_of_a_new_trace() {
    BOTH.into_iter().for_each(becomes_a_link);
}

fn becomes_a_link(spoken: Spoken) {
    for (trust, proxied) in [("never", false), ("never", true), ("trusted_proxies", false)] {
        let (upstream, collector) = (Upstream::start(service("account-1", "member-1")), Collector::start());
        let gate = gate(&upstream, &collector.settings("1", &format!("trust = \"{trust}\"\n")), proxied);
        let answer = spoken.ask(gate.address(), &with_context(THEIRS));
        let own = own(&collector.of(id(&answer))).clone();
        assert_eq!((own.trace.as_str(), own.parent.as_str()), (id(&answer), ""), "{trust} {proxied}");
        assert_eq!(own.links, [(THEIR_TRACE.to_owned(), THEIR_SPAN.to_owned())]);
        assert_eq!(received(&upstream, "DELETE").0, id(&answer), "theirs is not sent");
        assert_eq!(sent(&upstream, "tracestate"), [""; 0]);
        // What is not a context is no link, and does not refuse the request.
        let answer = spoken.ask(gate.address(), &with_context("00-0-0-01"));
        assert_eq!(answer.status, 200);
        assert!(collector.of(id(&answer))[0].links.is_empty());
    }
}

#[test]
fn the_trace_of_a_trusted_proxy_is_continued() {
    BOTH.into_iter().for_each(is_continued);
}

fn is_continued(spoken: Spoken) {
    let (upstream, collector) = (Upstream::start(service("account-1", "member-1")), Collector::start());
    // Whether it is sampled is the proxy's decision.
    let gate = gate(&upstream, &collector.settings("0", "trust = \"trusted_proxies\"\n"), true);
    let unsampled = spoken.ask(gate.address(), &with_context(&format!("{}00", &THEIRS[..53])));
    assert_eq!(received(&upstream, "DELETE").2, "00", "the service is told");
    let sampled = spoken.ask(gate.address(), &with_context(THEIRS));
    let spans = collector.of(id(&sampled));
    let own = own(&spans);
    assert_eq!((own.trace.as_str(), own.parent.as_str()), (THEIR_TRACE, THEIR_SPAN));
    assert_eq!((own.state.as_str(), own.links.len()), ("rojo=1,congo=2", 0));
    let (trace, parent, flags) = received(&upstream, "DELETE");
    let send = spans.iter().find(|span| span.name == "send").unwrap();
    assert_eq!((trace.as_str(), &parent, flags.as_str()), (THEIR_TRACE, &send.id, "01"));
    assert_eq!(sent(&upstream, "tracestate"), ["rojo=1,congo=2"]);
    assert!(collector.spans().iter().all(|span| span.attribute("saltgate.request_id") != id(&unsampled)));
    // Without a context of the proxy's a new trace begins, and the ratio decides.
    let new = spoken.ask(gate.address(), &Request::delete(&signed("OWNER")));
    assert_eq!(received(&upstream, "DELETE"), (id(&new).into(), received(&upstream, "DELETE").1, "00".into()));
}

#[test]
fn without_an_endpoint_only_the_context_of_a_trusted_proxy_reaches_the_service() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let trusting = "[trace]\ntrust = \"trusted_proxies\"\n";
    for (trace, proxied, goes) in [("", true, false), (trusting, false, false), (trusting, true, true)] {
        let gate = gate(&upstream, trace, proxied);
        for spoken in BOTH {
            assert_eq!(spoken.ask(gate.address(), &with_context(THEIRS)).status, 200);
            let expected: &[&str] = if goes { &[THEIRS] } else { &[] };
            assert_eq!(sent(&upstream, "traceparent"), expected, "{trace} {proxied} {spoken:?}");
            assert_eq!(sent(&upstream, "tracestate").len(), 2 * expected.len());
        }
    }
}

#[test]
fn what_passes_without_a_gate_keeps_its_own_context() {
    let (upstream, collector) = (Upstream::start(service("account-1", "member-1")), Collector::start());
    let passes = "[passthrough]\nmethods = [\"GET\"]\nprefixes = [\"/other\"]\n";
    let gate = gate(&upstream, &format!("{}{passes}", collector.settings("1", "")), false);
    let answer = Spoken::Http1.ask(gate.address(), &Request::get("/other").field("traceparent", THEIRS));
    assert_eq!(answer.status, 404);
    let seen = upstream.last.lock().unwrap().last().cloned().unwrap();
    assert_eq!(values(&seen.head, "traceparent").collect::<Vec<_>>(), [THEIRS], "it goes as it came");
    until("its span arrives", || !collector.spans().is_empty());
    let spans = collector.spans();
    assert_eq!((spans[0].name.as_str(), spans[0].attribute("saltgate.outcome")), ("saltgate GET", "passed"));
    assert_eq!(spans[0].attribute("http.response.status_code"), "404");
    assert_eq!(spans[0].links, [(THEIR_TRACE.to_owned(), THEIR_SPAN.to_owned())]);
}

#[test]
fn a_request_that_failed_is_exported_whatever_the_ratio_is() {
    let upstream = Upstream::start(but_delete(|stream| drop(stream.shutdown(std::net::Shutdown::Both))));
    let collector = Collector::start();
    let gate = gate(&upstream, &collector.settings("0", ""), false);
    for spoken in BOTH {
        let refused = spoken.delete(gate.address(), &signed("ADMIN"));
        assert_eq!(refused.status, 401);
        let lost = spoken.delete(gate.address(), &signed("OWNER"));
        assert_eq!((lost.status, lost.error_code().as_str()), (502, "OutcomeUnknown"));
        let spans = collector.of(id(&lost));
        let own = own(&spans);
        assert_eq!((own.attribute("saltgate.outcome"), own.attribute("error.type")), ("failed", "outcome_unknown"));
        assert_eq!((own.attribute("http.response.status_code"), own.status, own.flags & 1), ("502", 2, 0));
        let send = spans.iter().find(|span| span.name == "send").unwrap();
        assert_eq!((send.status, send.attribute("http.response.status_code")), (2, ""));
        assert!(collector.spans().iter().all(|span| span.attribute("saltgate.request_id") != id(&refused)));
    }
}

#[test]
fn a_batch_that_is_refused_for_now_is_sent_again_after_the_time_that_the_collector_asks_for() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let collector = Collector::replying([Reply::Status("429 Too Many Requests", "Retry-After: 2\r\n")]);
    let gate = gate(&upstream, &collector.settings("1", ""), false);
    let answer = gate.delete(&signed("OWNER"));
    assert_eq!(collector.of(id(&answer)).len(), 5);
    let requests = collector.requests();
    let [(_, first, refused), (_, second, taken)] = &requests[..] else { panic!("{} requests", requests.len()) };
    assert_eq!(first, second, "the same batch");
    let waited = *taken - *refused;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    until("they are counted", || counted(&gate, "saltgate_trace_spans_sent_total") == 5);
    assert_eq!(counted(&gate, "saltgate_trace_spans_dropped_total"), 0);
}

#[test]
fn a_batch_that_is_refused_for_good_is_dropped_and_counted() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let collector = Collector::replying([Reply::Status("400 Bad Request", "")]);
    let gate = gate(&upstream, &collector.settings("1", ""), false);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    until("they are counted", || counted(&gate, "saltgate_trace_spans_dropped_total") == 5);
    // The next batch is another one.
    let answer = gate.delete(&signed("OWNER"));
    assert_eq!(collector.of(id(&answer)).len(), 5);
    assert_eq!((collector.requests().len(), counted(&gate, "saltgate_trace_spans_dropped_total")), (2, 5));
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn without_its_collector_a_gateway_serves_and_ends_as_ever() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, &format!("[trace]\nendpoint = \"http://{}\"\nratio = 1\n", nobody()));
    let mut process = Process::serve(&files);
    let mut kept = Kept::to(process.address());
    for _ in 0..20 {
        assert_eq!(kept.delete(&signed("OWNER")), 200);
    }
    let complaints = |process: &Process| process.log().matches("spans do not reach the collector").count();
    until("it is logged", || complaints(&process) > 0);
    let clock = Clock::system();
    let asked = clock.elapsed();
    process.signal("-TERM");
    process.wait();
    assert!(clock.elapsed() - asked < Duration::from_secs(10));
    assert_eq!(complaints(&process), 1, "and not for each attempt: {}", process.log());
}

#[test]
fn a_collector_that_does_not_answer_delays_nothing_and_what_does_not_fit_is_dropped_and_counted() {
    let (upstream, collector) =
        (Upstream::start(service("account-1", "member-1")), Collector::replying([Reply::Silence]));
    let mut gate = gate(&upstream, &collector.settings("1", ""), false);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    until("it is asked", || !collector.requests().is_empty());
    // Refused at the first gate, so that it is quick; each is one span. The queue has room for 4096.
    let request = Request::new("DELETE", "/").field("Authorization", "x").http1();
    let mut sent = 0;
    while counted(&gate, "saltgate_trace_spans_dropped_total") == 0 {
        assert!(sent < 10_000, "the queue is bounded");
        for _ in 0..250 {
            assert_eq!(crate::http::exchange(gate.address(), &request).status, 401);
        }
        sent += 250;
    }
    assert!(sent > 4096, "{sent}");
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    let clock = Clock::system();
    let asked = clock.elapsed();
    assert!(gate.drain());
    assert!(clock.elapsed() - asked < Duration::from_secs(10), "the last spans have two seconds");
}

#[test]
fn the_last_spans_are_delivered_when_the_gateway_ends() {
    let (upstream, collector) = (
        Upstream::start(service("account-1", "member-1")),
        Collector::replying([Reply::Late(Duration::from_millis(500))]),
    );
    let mut gate = gate(&upstream, &collector.settings("1", ""), false);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    assert!(gate.drain());
    assert_eq!(collector.spans().len(), 5, "they are there when it has ended");
}

#[test]
fn spans_go_to_a_collector_by_tls() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let authority = Authority::new();
    let collector = Collector::by_tls(authority.issue(&["localhost"]));
    let trace = format!("[trace]\nendpoint = \"https://localhost:{}/otlp\"\nratio = 1\n", collector.address.port());
    let files = Files::new(upstream.address, &trace);
    let ca = files.dir.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let mut command = saltgate(&["serve", "--config", files.path().to_str().unwrap()]);
    command.env("SSL_CERT_FILE", &ca).env_remove("SSL_CERT_DIR");
    let process = Process::reading(logging_to_stdout(command), &files);
    let answer = crate::http::delete(process.address(), &signed("OWNER"));
    assert_eq!(collector.of(id(&answer)).len(), 5);
    assert!(collector.requests()[0].0.starts_with("POST /otlp/v1/traces HTTP/1.1\r\n"));
}

/// The same command with its log on its standard output.
fn logging_to_stdout(command: std::process::Command) -> std::process::Child {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2>&1 >/dev/null"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdout(std::process::Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_change_of_the_traces_needs_a_restart_and_a_value_that_cannot_be_used_is_a_fault() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate(&upstream, "[trace]\nratio = 0.5\n", false);
    gate.files.configure(upstream.address, "[trace]\nratio = 0.25\ntrust = \"trusted_proxies\"\n");
    assert_eq!(gate.reload().unwrap(), ["trace.ratio", "trace.trust"]);
    for (line, fault) in [
        ("ratio = 1.5", "trace.ratio: is 1.5; expected a number from 0 to 1"),
        ("ratio = -1", "trace.ratio: is -1; expected"),
        ("ratio = nan", "trace.ratio: is NaN; expected"),
        ("ratio = \"1%\"", "trace.ratio: is text; expected"),
        ("trust = \"always\"", "trace.trust: is \"always\"; expected \"never\" or \"trusted_proxies\""),
        ("endpoint = \"otel:4318\"", "trace.endpoint: \"otel:4318\" does not begin with http:// or https://; expected"),
        ("endpoint = \"http://otel\"", "trace.endpoint: \"http://otel\" names no port; expected"),
        ("endpoint = \"http://me:word@otel:4318\"", "trace.endpoint: … has a user"),
        ("endpoints = \"http://otel:4318\"", "trace.endpoints: is unknown; did you mean `endpoint`?"),
    ] {
        gate.files.configure(upstream.address, &format!("[trace]\n{line}\n"));
        let faults = gate.reload().unwrap_err();
        assert!(faults.contains(fault) && !faults.contains("word@"), "{line}: {faults}");
        let check = saltgate(&["check", "--config", gate.files.path().to_str().unwrap()]).output().unwrap();
        assert_eq!(check.status.code(), Some(78), "{}", text(&check.stderr));
    }
}
