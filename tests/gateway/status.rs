//! The status page and its JSON: whether all is well and why not, for a browser and without a name of anybody.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;

use saltgate::parts::Clock;
use serde_json::Value;

use crate::harness::{Files, Gate, Latch, SEGMENT, Upstream, deleting_after, service, signed, until};
use crate::http::{Request, delete, exchange, get};
use crate::operations::{Process, text, told};

fn page(admin: std::net::SocketAddr) -> String {
    let answer = get(admin, "/status");
    assert_eq!(answer.status, 200);
    is_sound(&answer.body);
    answer.body
}

fn json(admin: std::net::SocketAddr) -> Value {
    serde_json::from_str(&get(admin, "/status.json").body).unwrap()
}

/// What stands in the first section, without markup.
fn verdict(page: &str) -> String {
    let section = page.split("<section").nth(1).unwrap();
    let section = section.split("</section>").next().unwrap().split_once('>').unwrap().1;
    let text = section.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect::<String>();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every element is closed, in order; every id is there once, and every label names one; nothing is loaded or run.
fn is_sound(page: &str) {
    assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"), "{page}");
    let (mut open, mut ids, mut labels) = (Vec::new(), BTreeSet::new(), Vec::new());
    for tag in
        page.split('<').skip(1).filter_map(|part| Some(part.split_once('>')?.0)).filter(|tag| !tag.starts_with('!'))
    {
        let name = tag.split(' ').next().unwrap();
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()), "{tag}");
        } else if !tag.ends_with('/') && !["meta", "link", "br"].contains(&name) {
            open.push(name.to_owned());
        }
        for attribute in ["style=", " on", "src=", "href=\"h", "href=\"//"] {
            assert!(!tag.contains(attribute), "{tag}");
        }
        assert!(!["script", "link", "img", "iframe", "form", "object"].contains(&name), "{tag}");
        for (mark, to) in [(" id=\"", true), (" aria-labelledby=\"", false)] {
            let Some((_, rest)) = tag.split_once(mark) else { continue };
            let id = rest.split('"').next().unwrap().to_owned();
            if to { assert!(ids.insert(id.clone()), "{id} is there twice") } else { labels.push(id) }
        }
        assert!(name != "th" || tag.contains("scope=\""), "{tag}");
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    assert!(labels.iter().all(|label| ids.contains(label)) && labels.len() >= 8, "{labels:?}");
    for once in ["<h1>", "<main>", "<header>", "<title>", "name=\"viewport\""] {
        assert_eq!(page.matches(once).count(), 1, "{once}");
    }
}

#[test]
fn a_gateway_that_is_well_says_so_and_names_nobody() {
    let upstream = Upstream::start(service("account-1", "member-2"));
    let gate = Gate::before(&upstream);
    let used = signed("OWNER");
    assert_eq!(gate.delete(&used).status, 200);
    for authorization in [&used, &signed("MEMBER"), &signed("NOBODY"), &signed("")] {
        assert_eq!(gate.delete(authorization).status, 401);
    }
    let admin = gate.admin();
    let answer = get(admin, "/status");
    let policy = answer.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{name}");
    }
    let page = page(admin);
    assert_eq!(verdict(&page), "Ready All is well.", "{page}");
    for shown in ["there is no such apiKey", "salt reused", "reachable", "3 of 1000000", "upstream.servers"] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    let json = json(admin);
    assert_eq!((&json["verdict"], &json["troubles"]), (&"ready".into(), &serde_json::json!([])));
    assert_eq!(
        json["requests"][0],
        serde_json::json!({
            "outcome": "forwarded", "reason": "ok", "last_minute": 1, "last_10_minutes": 1, "last_hour": 1, "since_start": 1
        })
    );
    let reasons: Vec<&str> =
        json["refusals"].as_array().unwrap().iter().map(|it| it["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["role_insufficient", "unknown_key", "not_creator", "salt_reused"], "newest first");
    assert_eq!(json["salts"]["held"], 3);
    assert_eq!(json["keys"]["count"], 5);
    assert_eq!(json["record"]["writable"], true);
    let head = json["record"]["head"].as_str().unwrap();
    assert_eq!(head.split('/').count(), 4, "{head}");
    for shown in [page, json.to_string()] {
        for name in ["NCS", "member-", "account-", SEGMENT, "the secret", "salt="] {
            assert!(!shown.contains(name), "{name} is in {shown}");
        }
    }
}

#[test]
fn the_query_says_how_often_the_page_loads_itself_and_nothing_else() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    assert_eq!(get(gate.admin(), "/status").field("refresh"), None);
    assert_eq!(get(gate.admin(), "/status?refresh=5").field("refresh"), Some("5"));
    for wrong in [
        "refresh=0",
        "refresh=3601",
        "refresh=+5",
        "refresh=",
        "refresh=5;url=http://a",
        "other=1",
        "refresh=5&refresh=6",
    ] {
        let answer = get(gate.admin(), &format!("/status?{wrong}"));
        assert_eq!((answer.status, answer.field("refresh")), (400, None), "{wrong}");
    }
    for path in ["/status", "/status.json"] {
        let answer = exchange(gate.admin(), &Request::new("POST", path).closing().http1());
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{path}");
    }
}

#[test]
fn a_fence_is_told_with_its_end() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, "[replay.memory]\nwhen_new = \"fence\"\n", Clock::system());
    let told = verdict(&page(gate.admin()));
    assert!(told.starts_with("Fenced until 20") && told.contains("min") && told.contains("replay"), "{told}");
    let json = json(gate.admin());
    assert_eq!(json["verdict"], "fenced");
    assert!(json["fenced_until"].as_str().unwrap().starts_with("20"), "{json}");
}

#[test]
fn a_record_that_cannot_be_written_is_told_until_it_can() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let process = Process::limited_to(&files, 4096);
    until("the record is full", || {
        delete(process.address(), &signed("OWNER"));
        json(process.admin())["verdict"] == "not_ready"
    });
    let told = verdict(&page(process.admin()));
    assert!(told.starts_with("Not ready") && told.contains("record: cannot be written"), "{told}");
    assert!(page(process.admin()).contains("no: deletions are refused"));
    process.lift_limit();
    until("it can be written again", || json(process.admin())["verdict"] == "ready");
}

#[test]
fn a_service_that_cannot_be_reached_is_told_and_the_gateway_stays_ready() {
    // A port that nobody listens on.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gate = Gate::with(gone, "", Clock::system());
    until("it is noticed", || {
        gate.delete(&signed("OWNER"));
        json(gate.admin())["verdict"] == "degraded"
    });
    let page = page(gate.admin());
    assert!(verdict(&page).starts_with("Ready, but degraded") && verdict(&page).contains("upstream"), "{page}");
    assert!(page.contains("not used, or not reachable"));
    assert_eq!(get(gate.admin(), "/ready").status, 200);
}

#[test]
fn a_drain_is_told_while_it_lasts() {
    let latch = Latch::default();
    let upstream = Upstream::start(deleting_after(&latch));
    let files = Files::new(upstream.address, "[limits]\ndrain_delay = \"20s\"\n");
    let mut process = Process::serve(&files);
    process.signal("-TERM");
    until("it drains", || json(process.admin())["verdict"] == "draining");
    assert!(verdict(&page(process.admin())).starts_with("Draining"));
    latch.open();
    process.signal("-TERM");
    process.wait();
}

#[test]
fn what_is_frozen_is_counted_and_a_refused_reload_is_told() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[control]\nsocket = \"c.sock\"\n");
    let mut gate = Gate::from_files(files, Clock::system());
    let config = gate.files.path().display().to_string();
    let freeze = |what: &[&str]| {
        let arguments = [&["freeze"], what, &["--reason", "a leak", "--config", &config]].concat();
        assert!(told(&arguments, "").status.success());
    };
    freeze(&["key", "NCSOWNER"]);
    let told = json(gate.admin());
    assert_eq!(told["frozen"], serde_json::json!({"all": 0, "account": 0, "key": 1}));
    assert_eq!(told["remarks"], serde_json::json!(["Some keys or accounts are frozen."]));
    freeze(&["all"]);
    assert!(verdict(&page(gate.admin())).contains("Everything is frozen"));
    assert!(!page(gate.admin()).contains("NCSOWNER") && !page(gate.admin()).contains("a leak"));

    let hash = told["config"]["hash"].as_str().unwrap().to_owned();
    let text = std::fs::read_to_string(gate.files.path()).unwrap();
    std::fs::write(gate.files.path(), format!("nonsense = 1\n{text}")).unwrap();
    assert!(gate.reload().is_err());
    assert!(verdict(&page(gate.admin())).contains("The last reload was refused"));
    assert_eq!(json(gate.admin())["config"]["hash"], hash.as_str());
    std::fs::write(gate.files.path(), text.replace("[limits]\n", "[limits]\nbody_timeout = \"9s\"\n")).unwrap();
    gate.reload().unwrap();
    let told = json(gate.admin());
    assert_ne!(told["config"]["hash"], hash.as_str());
    assert!(
        told["config"]["differences"].as_array().unwrap().contains(&"limits.body_timeout = \"9s\"".into()),
        "{told}"
    );
}

#[test]
fn text_of_the_configuration_is_no_markup_and_a_password_is_not_shown() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = format!(
        "[audit]\npath = \"a<i>b&c'\"\n[replay.redis]\nurl = \"redis://user:pass-word-1@{gone}\"\nwhen_new = \"accept\"\n"
    );
    let gate = Gate::with(upstream.address, &more, Clock::system());
    let page = page(gate.admin());
    assert!(page.contains("a&lt;i&gt;b&amp;c&#39;") && !page.contains("<i>"), "{page}");
    assert!(!page.contains("pass-word-1") && !get(gate.admin(), "/status.json").body.contains("pass-word-1"));
    assert!(page.contains("replay.redis.url"), "{page}");
}

/// A gateway with a control socket, one deletion and two refusals behind it, and a frozen key.
fn with_a_past() -> (Upstream, Gate) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[control]\nsocket = \"c.sock\"\n");
    let gate = Gate::from_files(files, Clock::system());
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    assert_eq!(gate.delete(&signed("NOBODY")).status, 401);
    let config = gate.files.path().display().to_string();
    assert!(told(&["freeze", "key", "NCSMEMBER", "--config", &config], "").status.success());
    assert_eq!(gate.delete(&signed("MEMBER")).status, 423);
    (upstream, gate)
}

#[test]
fn the_command_shows_the_same_and_the_keys() {
    let (_upstream, gate) = with_a_past();
    let config = gate.files.path().display().to_string();
    let shown = told(&["status", "--config", &config], "");
    let shown = (text(&shown.stdout), text(&shown.stderr), shown.status.success());
    assert!(shown.1.is_empty() && shown.2, "{shown:?}");
    for line in [
        "READY\n  Some keys or accounts are frozen.\n",
        "  forwarded ok ",
        ": reachable\n",
        "salts      2 of 1000000 (memory)\n",
        " without an outcome\n",
        "frozen     key NCSMEMBER since 20",
        "key=NCSNOBODY: there is no such apiKey\n",
        "key=NCSMEMBER: ",
    ] {
        assert!(shown.0.contains(line), "{line:?} is not in {}", shown.0);
    }
    let json_line = told(&["status", "--json", "--config", &config], "");
    let json_line: Value = serde_json::from_slice(&json_line.stdout).unwrap();
    assert_eq!(json_line["frozen_targets"][0]["target"], "key NCSMEMBER");
    assert_eq!(json_line["refusals"][1]["api_key"], "NCSNOBODY");
    let page = json(gate.admin());
    for field in ["verdict", "requests", "salts", "frozen", "config", "remarks", "upstreams"] {
        assert_eq!(json_line[field], page[field], "{field}");
    }
    // Its head is one that `audit verify` takes.
    until("the head is that of the last line", || {
        let head = json(gate.admin())["record"]["head"].as_str().unwrap().to_owned();
        let verified = told(&["audit", "verify", "--config", &config, "--head", &head], "");
        verified.status.success() && head.split('/').nth(2) == Some("5")
    });
}

#[test]
fn without_a_gateway_the_commands_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock").display().to_string();
    for command in ["status", "top"] {
        let said = told(&[command, "--socket", &socket], "");
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        assert!(text(&said.stderr).contains("no gateway with this control.socket is running"), "{said:?}");
    }
}

#[test]
fn top_prints_once_where_there_is_no_terminal() {
    let (_upstream, gate) = with_a_past();
    let shown = told(&["top", "--config", gate.files.path().to_str().unwrap()], "");
    assert!(shown.status.success(), "{shown:?}");
    assert_eq!(text(&shown.stdout).matches("Saltgate ").count(), 1);
    assert!(!shown.stdout.contains(&0x1b), "{shown:?}");
}

/// Runs a command on a terminal of 24 lines of 60 columns; leaves it as the first argument says once it has drawn three
/// times. Fails unless the terminal is set as it was and the screen is given back.
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
how, argv = sys.argv[1], sys.argv[2:]
ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
before = termios.tcgetattr(theirs)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(theirs, number)
    os.execv(argv[0], argv)
seen, end, asked, status = b"", time.monotonic() + 20, False, None
while status is None:
    assert time.monotonic() < end, seen
    if select.select([ours], [], [], 0.05)[0]:
        seen += os.read(ours, 65536)
    if not asked and seen.count(b"\x1b[H") >= 3:
        assert termios.tcgetattr(theirs)[3] != before[3], "keys are read one by one"
        asked = True
        os.kill(pid, signal.SIGTERM) if how == "TERM" else os.write(ours, how.encode())
    done, ended = os.waitpid(pid, os.WNOHANG)
    status = os.waitstatus_to_exitcode(ended) if done else None
while select.select([ours], [], [], 0.2)[0]:
    seen += os.read(ours, 65536)
assert status == 0, (status, seen)
after = termios.tcgetattr(theirs)
# The speed of the input may be written out where it was that of the output.
after[2] &= 0xffff
assert after == before, (before, after)
assert seen.startswith(b"\x1b[?1049h\x1b[?25l") and seen.endswith(b"\x1b[?25h\x1b[?1049l"), seen
frame = seen.split(b"\x1b[H")[2].split(b"\x1b[J")[0].decode()
lines = frame.replace("\x1b[K", "").replace("\r", "").split("\n")
assert lines[0].startswith("Saltgate ") and lines[1] == "READY", lines
assert len(lines) <= 24 and all(len(line) <= 60 for line in lines), lines
"#;

#[test]
fn top_draws_again_until_it_is_left_and_gives_the_terminal_back() {
    let (_upstream, gate) = with_a_past();
    for how in ["q", "\u{3}", "TERM"] {
        let program = env!("CARGO_BIN_EXE_saltgate");
        let run = Command::new("python3")
            .args(["-c", ON_A_TERMINAL, how, program, "top", "--config", gate.files.path().to_str().unwrap()])
            .output()
            .unwrap();
        assert!(run.status.success(), "{how:?}: {}{}", text(&run.stdout), text(&run.stderr));
    }
}
