//! Which parts of a client's request reach the service.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use crate::harness::{Files, Gate, KEEPS, SEGMENT, Upstream, service, signed, until};
use crate::http::{Answer, Received, Request};
use crate::spoken::{BOTH, Spoken};

const PASSES: &str = "[passthrough]\nmethods = [\"GET\", \"POST\", \"PUT\"]\nprefixes = [\"/\"]\n";

fn send(spoken: Spoken, gate: &Gate, line: &str, fields: &str, body: &str) -> Answer {
    let (method, target) = line.split_once(' ').unwrap();
    spoken.ask(gate.address(), &Request::new(method, target).fields(fields).text(body))
}

fn delete(spoken: Spoken, gate: &Gate, query: &str, fields: &str, body: &str) -> Answer {
    let line = format!("DELETE /crm-core/v1/segments/{SEGMENT}{query}");
    send(spoken, gate, &line, &format!("Authorization: {}\r\n{fields}", signed("OWNER")), body)
}

fn last(upstream: &Upstream) -> Received {
    upstream.last.lock().unwrap().last().cloned().unwrap()
}

#[test]
fn a_deletion_is_sent_without_query_and_body_unless_its_route_keeps_them() {
    BOTH.into_iter().for_each(leaves_without);
}

fn leaves_without(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::patient(&upstream, "");
    let fields = "Content-Type: application/json\r\nContent-Language: ko\r\nDigest: x\r\nAccept: */*\r\n";
    assert_eq!(delete(spoken, &gate, "?reason=a%20b&force=1", fields, r#"{"force":true}"#).status, 200);
    let seen = last(&upstream);
    assert_eq!((seen.target.as_str(), seen.body.as_str()), (&*format!("/crm-core/v1/segments/{SEGMENT}"), ""));
    let head = seen.head.to_lowercase();
    assert!(!head.contains("content-") && !head.contains("digest") && !head.contains("transfer-"), "{head}");
    assert!(head.contains("accept: */*"), "{head}");

    let gate = Gate::patient(&upstream, KEEPS);
    assert_eq!(delete(spoken, &gate, "?reason=a%20b", fields, "why").status, 200);
    let seen = last(&upstream);
    let expected = format!("/crm-core/v1/segments/{SEGMENT}?reason=a%20b");
    assert_eq!((seen.target, seen.body.as_str()), (expected, "why"), "as received");
    let head = seen.head.to_lowercase();
    assert!(head.contains("content-type: application/json") && head.contains("content-length: 3"), "{head}");
    // The examples of the API page announce JSON and send nothing; a service that parses JSON would then fail.
    assert_eq!(delete(spoken, &gate, "", fields, "").status, 200);
    assert!(!last(&upstream).head.to_lowercase().contains("content-"), "without a body no field describes one");
}

#[test]
fn a_body_that_is_not_forwarded_is_still_read_and_bounded() {
    BOTH.into_iter().for_each(is_read_and_bounded);
}

fn is_read_and_bounded(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let more = "[limits]\nmax_body_bytes = \"1KiB\"\nbody_timeout = \"300ms\"\n";
    let gate = Gate::patient(&upstream, more);
    assert_eq!(delete(spoken, &gate, "", "", &"x".repeat(1025)).status, 413);
    let mut endless = spoken.connect(gate.address());
    endless.begin(&Request::delete(&signed("OWNER")), Some(9));
    assert_eq!(endless.answer().unwrap().status, 408, "it never ends");
    assert_eq!(upstream.deletes(), 0);
    assert_eq!(delete(spoken, &gate, "", "", &"x".repeat(1024)).status, 200);
}

#[test]
fn a_query_that_names_a_method_is_refused_in_every_spelling() {
    BOTH.into_iter().for_each(names_a_method);
}

fn names_a_method(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::patient(&upstream, &format!("{PASSES}{KEEPS}"));
    let segment = format!("/crm-core/v1/segments/{SEGMENT}");
    for query in [
        "_method=DELETE",
        ".method=DELETE",
        "%2Emethod=DELETE",
        "_method%00=DELETE",
        "_method[]=DELETE",
        "a;_method=DELETE",
        "+_method=DELETE",
        "%255Fmethod=DELETE",
        "X-HTTP-Method-Override=DELETE",
    ] {
        for path in [&*segment, "/other"] {
            let refused = send(spoken, &gate, &format!("POST {path}?{query}"), "", "");
            assert_eq!((refused.status, refused.error_code().as_str()), (400, "BadRequest"), "{path} {query}");
        }
        assert_eq!(delete(spoken, &gate, &format!("?{query}"), "", "").status, 400, "{query}");
    }
    // `method` may mean anything, but it is refused on the path of a deletion. So is a form, which can contain
    // `_method`.
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let (posted, looks_like_it) = (format!("POST {segment}"), format!("POST {}/", segment.to_uppercase()));
    for (line, fields, body, status) in [
        (&*format!("POST {segment}?method=DELETE"), "", "", 401),
        (&posted, form, "_method=DELETE", 401),
        (&looks_like_it, form, "_method=DELETE", 401),
        (&posted, "Content-Type: multipart/form-data; boundary=x\r\n", "", 401),
        ("POST /messages?method=sms", "", "", 404),
        ("POST /crm-core/v1/segments", form, "name=x", 404),
    ] {
        // A request that passes gets the service's own 404.
        let passed = status == 404;
        let before = upstream.gets();
        assert_eq!(send(spoken, &gate, line, fields, body).status, status, "{line} {fields:?}");
        assert_eq!(upstream.gets() - before, usize::from(passed), "{line} {fields:?}");
    }
    assert_eq!(upstream.deletes(), 0);
}

#[test]
fn saltgate_is_no_authorization_service() {
    BOTH.into_iter().for_each(is_no_authorizer);
}

fn is_no_authorizer(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::patient(&upstream, PASSES);
    let segment = format!("/crm-core/v1/segments/{SEGMENT}");
    let authorization = format!("Authorization: {}\r\n", signed("OWNER"));
    let named = if spoken == Spoken::Http1 { "Connection: X-Forwarded-Uri\r\n" } else { "" };
    for (line, fields) in [
        ("GET /auth", "X-Original-Method: DELETE\r\n".to_owned()),
        ("GET /auth", "x_forwarded_method: delete\r\n".to_owned()),
        ("GET /auth", format!("X-Original-URI: {segment}?x=1\r\n")),
        ("GET /auth", format!("X-Forwarded-Uri: https://crm.example{segment}\r\n{named}")),
        (&*format!("GET {segment}"), format!("X-Forwarded-Method: DELETE\r\n{authorization}")),
        (&*format!("GET {segment}"), authorization.clone()),
        (&*format!("GET {segment}/"), authorization.clone()),
        (&*format!("GET {}", segment.to_uppercase()), authorization.replace("HMAC", "hmac")),
    ] {
        let refused = send(spoken, &gate, line, &fields, "");
        assert!([401, 404, 405].contains(&refused.status), "{line} {fields:?}: {refused:?}");
    }
    assert_eq!((upstream.gets(), upstream.deletes()), (0, 0), "nobody is asked");
    for (line, fields) in [
        (&*format!("GET {segment}"), "Authorization: Bearer x\r\n".to_owned()),
        ("GET /crm-core/v1/segments", format!("Authorization: {}\r\n", signed("OWNER"))),
        ("GET /auth", format!("X-Forwarded-Method: GET\r\nX-Forwarded-Uri: {segment}\r\n")),
    ] {
        let before = upstream.gets();
        send(spoken, &gate, line, &fields, "");
        assert_eq!(upstream.gets() - before, 1, "{line} {fields:?} passes");
    }
}

#[test]
fn passing_requests_keep_forwarding_fields_only_from_a_trusted_proxy() {
    BOTH.into_iter().for_each(says_where_it_came_from);
}

fn says_where_it_came_from(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let claims = "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\nx_forwarded_proto: https\r\n\
                  X-Real-IP: 192.0.2.1\r\nTrue-Client-IP: 192.0.2.1\r\nX.Real.IP: 192.0.2.1\r\nX-Own: 1\r\n\
                  x_saltgate_account: account-1\r\n";
    let told = |gate: &Gate| {
        assert_eq!(send(spoken, gate, "GET /other", claims, "").status, 404, "the service's own");
        let head = last(&upstream).head.to_lowercase();
        assert!(head.contains("x-own: 1") && !head.contains("saltgate_account"), "{head}");
        head.matches("192.0.2.1").count() + head.matches("https").count()
    };
    assert_eq!(told(&Gate::patient(&upstream, PASSES)), 0, "a stranger's word");
    let files = Files::new(upstream.address, PASSES);
    files.listen("[[listener]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n");
    assert_eq!(told(&Gate::by(files)), 6, "a trusted proxy's");
}

/// Forwards only what `proxy` passes on.
fn relay(listener: TcpListener, to: SocketAddr) {
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (Ok(near), Ok(far)) = (near, TcpStream::connect(to)) else { return };
            for (mut from, mut to) in
                [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far.try_clone().unwrap(), near)]
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}

#[test]
fn a_loop_is_answered_508_and_a_gateway_behind_a_gateway_is_no_loop() {
    BOTH.into_iter().for_each(comes_back);
}

fn comes_back(spoken: Spoken) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = Gate::by(Files::new(listener.local_addr().unwrap(), PASSES));
    relay(listener, gate.address());
    let looped = send(spoken, &gate, "GET /other", "", "");
    assert_eq!((looped.status, looped.error_code().as_str()), (508, "LoopDetected"), "{looped:?}");
    until("it is counted", || gate.metrics().contains(r#"reason="loop_detected"} 1"#));

    let upstream = Upstream::start(service("account-1", "member-1"));
    let inner = Gate::patient(&upstream, PASSES);
    let outer = Gate::by(Files::new(inner.address(), PASSES));
    assert_eq!(send(spoken, &outer, "GET /other", "Via: 1.1 saltgate\r\n", "").status, 404, "the service's own");
    let head = last(&upstream).head.to_lowercase();
    assert_eq!(head.lines().filter(|line| line.starts_with("via: 1.1 saltgate")).count(), 3, "{head}");
}

#[test]
fn check_finds_routes_with_a_common_path_and_a_gateway_before_itself() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let sound = std::fs::read_to_string(files.path()).unwrap();
    let check = |config: &str| {
        std::fs::write(files.path(), config).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_saltgate")).args(["check", "--config"]).arg(files.path()).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let route = |path: &str, role: &str| format!("[[route]]\npath = \"{path}\"\nothers = \"{role}\"\n");
    for (one, other) in [
        ("/v1/lists/{id}", "/v1/lists/{listId}"),
        ("/v1/{x}/b", "/v1/a/{y}"),
        ("/v1/lists/{id}", "/v1/lists/{id}/deletion-check"),
        ("/v1/lists/{id}", "/V1/Lists/{id}"),
    ] {
        let (code, told) = check(&format!("{sound}{}{}", route(one, "OWNER"), route(other, "MEMBER")));
        assert_eq!(code, Some(78), "{one} {other}: {told}");
        assert!(told.contains("shares the path") && told.contains(one) && told.contains(other), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    assert_eq!(check(&format!("{sound}{}{}", route("/v1/a/{x}", "OWNER"), route("/v1/b/{x}", "OWNER"))).0, Some(0));
    let itself = sound.replacen("127.0.0.1:0", &upstream.address.to_string(), 1);
    let (code, told) = check(&itself);
    assert!(code == Some(78) && told.contains("upstream.servers") && told.contains("own listener"), "{code:?} {told}");
}
