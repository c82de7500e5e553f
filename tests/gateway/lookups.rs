//! Which answers to a look-up are used, and which are refused.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;

use crate::harness::{Files, Gate, SEGMENT, Upstream, answer, but_delete, service, signed, until};
use crate::http::delete;
use crate::operations::Process;
use crate::spoken::BOTH;
use crate::upstreams::Authority;

/// The pointers for a service that has account and creator in an inner object.
const NESTED: &str = "[ownership.upstream]\naccount = \"/owner/accountId\"\ncreator = \"/owner/memberId\"\n";

/// A service that answers look-ups with this head and body, and accepts all deletions.
fn answering(fields: &str, body: &str) -> Upstream {
    let (fields, body) = (fields.to_owned(), body.to_owned());
    let ordinary = service("account-1", "member-1");
    Upstream::start(Arc::new(move |seen, stream| match seen.method.as_str() {
        "GET" => answer(stream, "200 OK", &fields, &body),
        _ => ordinary(seen, stream),
    }))
}

/// Sends a deletion by an OWNER over each protocol. Returns the status, and how often it was sent.
fn fares(gate: &Gate, upstream: &Upstream) -> (u16, usize) {
    let [by_http_1, by_http_2] = BOTH.map(|spoken| {
        let before = upstream.deletes();
        (spoken.delete(gate.address(), &signed("OWNER")).status, upstream.deletes() - before)
    });
    assert_eq!(by_http_1, by_http_2);
    by_http_1
}

/// Sends a deletion by an OWNER. Returns the status, and how many were sent.
fn deleted_after(fields: &str, body: &str, more: &str) -> (u16, usize) {
    let upstream = answering(fields, body);
    let gate = Gate::patient(&upstream, more);
    fares(&gate, &upstream)
}

/// A segment of the caller's account, with these additional members.
fn ours(more: &str) -> String {
    format!(r#"{{"segmentId":"{SEGMENT}","accountId":"account-1","ownerId":"member-1"{more}}}"#)
}

#[test]
fn an_answer_with_a_duplicate_member_name_is_not_used() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
    for (name, body) in [
        ("the account, the right one last", format!(r#"{{"accountId":"account-2",{}"#, &ours("")[1..])),
        ("the account, the right one first", ours(r#","accountId":"account-2""#)),
        ("the same account twice", ours(r#","accountId":"account-1""#)),
        ("another spelling of the same name", ours(r#","\u0061ccountId":"account-2""#)),
        ("the creator", format!(r#"{{"ownerId":"member-2",{}"#, &ours("")[1..])),
        ("a name elsewhere in the document", ours(r#","list":[{"deep":{"x":1,"y":2,"x":1}}]"#)),
        ("deeper than anything that is read", ours(&format!(r#","x":{deep}"#))),
        ("something behind the document", format!("{} {{}}", ours(""))),
    ] {
        assert_eq!(deleted_after("", &body, ""), (502, 0), "{name}: {body:.200}");
    }
    assert_eq!(deleted_after("", &ours(r#","x":{"ownerId":"member-2"}"#), ""), (200, 1), "one name in two objects");
}

#[test]
fn an_account_or_creator_that_no_key_can_have_is_not_used() {
    let with = |account: &str, creator: &str| format!(r#"{{"accountId":"{account}","ownerId":"{creator}"}}"#);
    let longest = "m".repeat(128);
    for odd in [
        " ",
        "a b",
        "member-1 ",
        "\\tmember",
        "세그먼트",
        "\\u202emember",
        "a\\u0000",
        &"m".repeat(129),
        &"m".repeat(1_000_000),
    ] {
        assert_eq!(deleted_after("", &with("account-1", odd), ""), (502, 0), "a creator {odd:.40?}");
        assert_eq!(deleted_after("", &with(odd, "member-1"), ""), (502, 0), "an account {odd:.40?}");
    }
    assert_eq!(deleted_after("", &with("account-1", &longest), ""), (200, 1), "128 bytes are a member");
}

#[test]
fn the_segments_id_is_checked_on_the_whole_path_to_account_and_creator() {
    let owner = r#""owner":{"accountId":"account-1","memberId":"member-1"}"#;
    let nested = |top: &str, in_owner: &str| {
        let owner = owner.replace("\"memberId\"", &format!("{in_owner}\"memberId\""));
        format!("{{{top}{owner}}}")
    };
    for (name, body) in [
        ("another segment at the top", nested(r#""segmentId":"another","#, "")),
        ("another id at the top", nested(r#""id":"another","#, "")),
        ("a contrary id beside the right one", nested(&format!(r#""segmentId":"{SEGMENT}","id":"another","#), "")),
        ("another segment beside the account", nested("", r#""segmentId":"another","#)),
        ("an id that is no text", nested(r#""segmentId":7,"#, "")),
        ("an id of nothing", nested(r#""id":null,"#, "")),
    ] {
        assert_eq!(deleted_after("", &body, NESTED), (502, 0), "{name}: {body}");
    }
    for (name, body) in [
        ("no id anywhere", nested("", "")),
        ("the right one at the top", nested(&format!(r#""segmentId":"{SEGMENT}","#), "")),
        ("a row's number beside it", nested(&format!(r#""segmentId":"{SEGMENT}","id":7,"#), "")),
        ("an id of what is not on the way", nested(r#""author":{"id":"another","segmentId":"x"},"#, "")),
    ] {
        assert_eq!(deleted_after("", &body, NESTED), (200, 1), "{name}: {body}");
    }
    let ids = "[ownership.upstream]\naccount = \"/account/id\"\ncreator = \"/owner/id\"\n";
    let body = format!(r#"{{"id":"{SEGMENT}","account":{{"id":"account-1"}},"owner":{{"id":"member-1"}}}}"#);
    assert_eq!(deleted_after("", &body, ids), (200, 1), "the value at a pointer is not a segment's id");
    let named = "[ownership.upstream]\naccount = \"/accountId\"\ncreator = \"/ownerId\"\nsegment = \"/segmentId\"\n";
    assert_eq!(deleted_after("", &ours(r#","id":"a row's name""#), named), (200, 1), "the setting says where it is");
}

#[test]
fn a_segment_of_another_account_is_404_whatever_the_answer_lacks() {
    for creator in ["null", "7", r#""""#, r#""two words""#] {
        let body = format!(r#"{{"segmentId":"{SEGMENT}","accountId":"account-2","ownerId":{creator}}}"#);
        assert_eq!(deleted_after("", &body, ""), (404, 0), "theirs, created by {creator}");
        let body = body.replace("account-2", "account-1");
        assert_eq!(deleted_after("", &body, ""), (502, 0), "ours, created by {creator}");
    }
    let another = r#"{"segmentId":"another","accountId":"account-2","ownerId":"member-1"}"#;
    assert_eq!(deleted_after("", another, ""), (502, 0), "the owner of another segment is not used");
}

#[test]
fn an_answer_from_a_cache_is_not_used_and_none_is_requested() {
    for kept in [
        "Age: 5\r\n",
        "Age: 0\r\nAge: 0\r\n",
        "Age: 0, 9\r\n",
        "Age: soon\r\n",
        "Age: -0\r\n",
        "Age:\r\n",
        "Cache-Status: edge; hit; ttl=30\r\n",
        "X-Cache: HIT\r\n",
        "X-Cache-Status: STALE\r\n",
        "CF-Cache-Status: HIT\r\n",
    ] {
        assert_eq!(deleted_after(kept, &ours(""), ""), (502, 0), "{kept:?}");
    }
    for fresh in ["Age: 0\r\n", "X-Cache: MISS from edge\r\n", "Cache-Status: edge; fwd=miss; stored\r\n"] {
        assert_eq!(deleted_after(fresh, &ours(""), ""), (200, 1), "{fresh:?}");
    }
    let gone = Upstream::start(Arc::new(|_, stream| answer(stream, "404 Not Found", "Age: 5\r\n", "{}")));
    assert_eq!(fares(&Gate::patient(&gone, ""), &gone), (502, 0), "nor a 404 that a cache kept");
    let asked = gone.last.lock().unwrap().last().cloned().unwrap();
    assert!(asked.head.to_lowercase().contains("\r\ncache-control: no-store\r\n"), "{}", asked.head);
}

/// Checks that the log of a deletion refused with 502, and `check --live`, both name what is wrong.
fn told(files: &Files, named: &str) {
    let gate = Process::serve(files);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 502, "{named}");
    let logged = || gate.log().lines().any(|line| line.contains("ownership_unavailable") && line.contains(named));
    until(&format!("the log names {named:?}"), logged);
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_saltgate"));
    let checked = check.args(["check", "--live", "--segment", SEGMENT, "--config"]).arg(files.path()).output().unwrap();
    let failed = String::from_utf8(checked.stderr).unwrap();
    assert_eq!(checked.status.code(), Some(1), "{failed}");
    let lines = failed.lines().filter(|line| line.starts_with("failed: ") && line.contains(named));
    assert!(lines.count() >= 1, "{named:?} is not in {failed}");
}

#[test]
fn the_log_and_the_check_name_what_is_wrong_with_an_answer() {
    let many = "X: 1\r\n".repeat(99);
    let rows = [
        ("", format!("\u{feff}{}", ours("")), "byte order mark"),
        ("Content-Encoding: gzip\r\n", ours(""), "gzip"),
        ("Content-Type: application/json; charset=euc-kr\r\n", ours("\u{1}"), "Content-Type"),
        (&*many, ours(""), "more than 100 header fields"),
        ("Content-Length: 3\r\n", ours(""), "does not say clearly where it ends"),
        ("", ours(r#","x":{"a":1,"a":2}"#), "occurs twice"),
        ("Age: 17\r\n", ours(""), "age: 17"),
        ("", ours("").replace("account-1", "a b"), "/accountId"),
        ("", "<html>".to_owned(), "is not JSON"),
    ];
    for (fields, body, named) in rows {
        let upstream = answering(fields, &body);
        told(&Files::new(upstream.address, ""), named);
        assert_eq!(upstream.deletes(), 0, "{named}");
    }
}

#[test]
fn an_answer_without_length_or_close_notify_is_refused_by_name() {
    let body = ours("");
    let upstream = Upstream::start(Arc::new(move |_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}");
        let _ = stream.shutdown(Shutdown::Both);
    }));
    let authority = Authority::new();
    let server = authority.abrupt_server("127.0.0.1", upstream.address);
    let files = Files::new(server, "[upstream.tls]\nca = \"roots.pem\"\n");
    std::fs::write(files.dir.path().join("roots.pem"), &authority.pem).unwrap();
    let config = std::fs::read_to_string(files.path()).unwrap().replace("http://", "https://");
    std::fs::write(files.path(), config).unwrap();
    told(&files, "close_notify");
    assert_eq!(upstream.deletes(), 0);
}

#[test]
fn the_log_names_what_is_wrong_with_the_answer_to_a_deletion() {
    let upstream = Upstream::start(but_delete(|stream| answer(stream, "200 OK", &"X: 1\r\n".repeat(99), "{}")));
    let files = Files::new(upstream.address, "");
    let gate = Process::serve(&files);
    for (n, spoken) in BOTH.into_iter().enumerate() {
        let lost = spoken.delete(gate.address(), &signed("OWNER"));
        assert_eq!((lost.status, lost.error_code().as_str()), (502, "OutcomeUnknown"), "{spoken:?}");
        let named = |line: &&str| line.contains("outcome_unknown") && line.contains("more than 100 header fields");
        until("the log names it", || gate.log().lines().filter(named).count() > n);
    }
}

/// Sends a deletion when the service reports these linked automations.
fn guarded(fields: &'static str, says: &str, more: &str) -> (u16, usize) {
    let (says, ordinary) = (says.to_owned(), service("account-1", "member-1"));
    let upstream = Upstream::start(Arc::new(move |seen, stream| match seen.target.ends_with("/automations") {
        true => answer(stream, "200 OK", fields, &says),
        false => ordinary(seen, stream),
    }));
    let route = "[[route]]\npath = \"/crm-core/v1/segments/{segmentId}\"\nlinked_automations = \"refuse\"\n";
    let gate = Gate::patient(&upstream, &format!("{more}{route}"));
    fares(&gate, &upstream)
}

#[test]
fn a_list_of_automations_counts_as_complete_only_if_the_service_says_so() {
    const TOTAL: &str = "[automations]\ntotal = \"/total\"\n";
    const BARE: &str = "[automations]\nlist = \"\"\n";
    for (fields, says) in [
        ("", r#"{"automations":[]}"#),
        ("", r#"{"automations":[],"_links":{"next":{"href":"/x"}}}"#),
        ("", r#"{"automations":[],"next_page_url":"/x"}"#),
        ("", r#"{"automations":[],"@odata.nextLink":"/x"}"#),
        ("", r#"{"automations":[],"totalPages":3}"#),
        ("X-Total-Count: 3\r\n", r#"{"automations":[]}"#),
        ("Content-Range: items 0-0/3\r\n", r#"{"automations":[]}"#),
        ("", r#"{"automations":[{"automationId":"A"}],"automations":[]}"#),
        ("", r#"{"total":1,"automations":[]}"#),
    ] {
        for setting in ["", TOTAL] {
            assert_eq!(guarded(fields, says, setting), (502, 0), "{setting:?} {fields:?} {says}");
        }
    }
    for (fields, says) in [
        ("X-Total-Count: 3\r\n", "[]"),
        ("Content-Range: items 0-0/3\r\n", "[]"),
        ("Link: </x>; rel=\"next\"\r\n", "[]"),
        ("", r#"{"total":0,"automations":[]}"#),
    ] {
        assert_eq!(guarded(fields, says, BARE), (502, 0), "{fields:?} {says}");
    }
    assert_eq!(guarded("", r#"{"total":0,"automations":[]}"#, TOTAL), (200, 1));
    assert_eq!(guarded("", r#"{"total":1,"automations":[{"automationId":"A"}]}"#, TOTAL), (409, 0));
    assert_eq!(guarded("", "[]", BARE), (200, 1));
    assert_eq!(guarded("X-Total-Count: 1\r\n", r#"[{"automationId":"A"}]"#, BARE), (409, 0));
}
