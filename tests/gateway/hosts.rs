//! The host of an HTTP/2 request, whichever of its two fields names it.

use std::net::SocketAddr;

use saltgate::parts::Clock;

use crate::harness::{Gate, Upstream, service, signed};
use crate::http2::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, frame, head};

const BAD_REQUEST: u8 = 0x8C;
const OK: u8 = 0x88;
const PASSES: &str = "[passthrough]\nmethods = [\"POST\"]\nprefixes = [\"/crm-core/\"]\n";

/// The answer to these fields, on a connection of their own: a status in HPACK's encoding, or `None` for a reset.
fn told(gate: SocketAddr, method: &str, fields: &[(&str, &str)]) -> Option<u8> {
    let mut raw = Raw::to(gate, &[]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(method, fields))).unwrap();
    let (kind, _, payload) = raw.until(|kind, _| kind == HEADERS || kind == RST_STREAM).expect("an answer");
    // A change of the table size may come first.
    (kind == HEADERS).then(|| payload.iter().copied().find(|byte| byte & 0xE0 != 0x20).unwrap())
}

#[test]
fn a_host_field_without_an_authority_is_accepted() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, PASSES, Clock::system());
    let header = signed("OWNER");
    let authorization = ("authorization", header.as_str());
    for (name, fields) in [
        ("none", vec![]),
        ("none that says anything", vec![("host", "")]),
        ("two", vec![("host", "gate"), ("host", "gate")]),
        ("two and an authority", vec![(":authority", "gate"), ("host", "gate"), ("host", "gate")]),
        ("an unlike pair", vec![(":authority", "gate"), ("host", "other")]),
        ("an unlike port", vec![(":authority", "gate"), ("host", "gate:80")]),
        ("one that is no host", vec![("host", "gate:x")]),
        ("a user", vec![("host", "me@gate")]),
        ("a list", vec![("host", "a, b")]),
    ] {
        for method in ["DELETE", "POST"] {
            let fields = [&fields[..], &[authorization]].concat();
            assert_eq!(told(gate.address(), method, &fields), Some(BAD_REQUEST), "{method}: {name}");
        }
    }
    assert_eq!((upstream.deletes(), upstream.gets()), (0, 0), "nothing was sent");

    assert_eq!(told(gate.address(), "DELETE", &[("host", "Gate:8080"), authorization]), Some(OK), "nothing was spent");
    let sent = |field: &str| -> Vec<String> {
        let head = upstream.last.lock().unwrap().last().unwrap().head.to_lowercase();
        head.lines().filter_map(|line| line.strip_prefix(field).map(str::to_owned)).collect()
    };
    assert_eq!((sent("x-forwarded-host: "), sent("host: ").len()), (vec!["gate:8080".to_owned()], 1));
    told(gate.address(), "POST", &[("host", "passing")]);
    assert_eq!(sent("host: "), ["passing"], "what passes keeps its host");
    let pair = [(":authority", "gate"), ("host", "GATE"), ("authorization", &signed("OWNER"))];
    assert_eq!(told(gate.address(), "DELETE", &pair), Some(OK), "a pair that says the same");
}
