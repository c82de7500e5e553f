//! Invisible characters, and those that change how others are shown, are escaped in everything that the gateway
//! writes.

use std::sync::Arc;

use crate::harness::{Files, SEGMENT, Upstream, answer, signed, until};
use crate::http::{Request, delete, exchange};
use crate::http2::{END_HEADERS, END_STREAM, HEADERS, Raw, block, frame};
use crate::operations::{Process, told};

/// CSI as one character, a change of text direction, a line separator, a zero-width space, an invisible tag.
const ODD: &str = "\u{9b}2J\u{202e}\u{2028}\u{200b}\u{e0041}";

/// Checks that the text contains none of those characters, but contains `shown`.
fn plain(what: &str, text: &str, shown: &str) {
    let hidden = text.chars().find(|&c| c != '\n' && saltgate::parts::is_hidden(c));
    assert_eq!(hidden, None, "{what}: {text:?}");
    assert!(text.contains(shown), "{what}: {text}");
}

#[test]
fn text_from_strangers_is_escaped_wherever_it_is_written() {
    // The service lets its customers choose names, and has odd values for one segment.
    let upstream = Upstream::start(Arc::new(|seen, stream| {
        let name = format!("세그먼트{ODD}");
        match seen.method.as_str() {
            "GET" if seen.target.ends_with("odd") => {
                answer(stream, "200 OK", &format!("Content-Encoding: x{ODD}\r\n"), "{}");
            }
            "GET" => {
                let body = serde_json::json!({"accountId": "account-1", "ownerId": "member-1", "name": name});
                answer(stream, "200 OK", "", &body.to_string());
            }
            _ => answer(stream, "200 OK", "", "{}"),
        }
    }));
    let more = "[control]\nsocket = \"c.sock\"\n[ownership.upstream]\naccount = \"/accountId\"\ncreator = \"/ownerId\"\nname = \"/name\"\n";
    let files = Files::new(upstream.address, more);
    let mut gate = Process::serve(&files);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    let send = |path: &str, authorization: &str| {
        exchange(gate.address(), &Request::delete_at(path, authorization).closing().http1()).status
    };
    // HTTP/1 refuses such bytes before a path is known; HTTP/2 has a path all the same.
    assert_eq!(send(&format!("/no/{ODD}"), "none"), 400);
    let path = format!("/no/{ODD}");
    let head = block(&[(":method", "DELETE"), (":scheme", "http"), (":authority", "gate"), (":path", &path)]);
    let mut raw = Raw::to(gate.address(), &[]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).unwrap();
    raw.until(|kind, stream| (kind, stream) == (HEADERS, 1)).expect("it is answered");
    assert_eq!(send(&format!("/crm-core/v1/segments/{}odd", &SEGMENT[..20]), &signed("OWNER")), 502);

    let config = files.path();
    let command = |arguments: &[&str], input: &str| {
        let mut all = arguments.to_vec();
        all.extend(["--config", config.to_str().unwrap()]);
        let output = told(&all, input);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    plain("refusals", &command(&["refusals"], ""), "\\u{202e}");
    let json = command(&["refusals", "--json"], "");
    plain("refusals --json", &json, "\\u202e");
    let mut told = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert!(told.any(|line| line["path"] == path), "a JSON parser gets the original text: {json}");
    plain("freeze", &command(&["freeze", "key", "NCSOWNER", "--reason", &format!("why {ODD}")], ""), "is frozen");
    plain("freeze --list", &command(&["freeze", "--list"], ""), "why \\u{9b}2J\\u{202e}");
    let header = signed("OWNER").replacen("date=2", &format!("date={ODD}2"), 1);
    for live in [&["explain"][..], &["explain", "--live"]] {
        plain("explain", &command(live, &header), "verdict: 401");
        plain("explain", &command(live, &header.replace("date", ODD)), "verdict: 401");
    }
    until("all is logged", || gate.log().contains("frozen by command") && gate.log().contains("malformed_request"));
    plain("the log", &gate.log(), "\\u009b2J\\u202e\\u2028\\u200b\\udb40\\udc41");
    gate.signal("-TERM");
    gate.wait();

    plain("the record", &files.record_text(), "세그먼트\\u009b2J\\u202e");
    assert!(files.record().iter().any(|line| line["name"] == format!("세그먼트{ODD}")), "it reads back");
    // A record of another build may contain them unescaped.
    let [record] = &files.record_files()[..] else { panic!("one process wrote one file") };
    let raw = std::fs::read_to_string(record).unwrap().replace("\\u202e", "\u{202e}");
    std::fs::write(record, raw).unwrap();
    plain("audit show", &command(&["audit", "show"], ""), "세그먼트\\u009b2J\\u202e");
    plain("audit verify", &command(&["audit", "verify"], ""), "FAULT");

    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), config.replace("\"c.sock\"", &format!("\"c.sock\"\n\"x{ODD}\" = \"{ODD}\""))).unwrap();
    plain("check", &command(&["check"], ""), "\\u{202e}");
    std::fs::write(files.path(), format!("{ODD} = 1")).unwrap();
    plain("serve", &command(&["serve"], ""), "saltgate.toml");
}
