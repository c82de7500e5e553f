//! Requests that clients resend by themselves: distinguished from replays, answered if configured, never forwarded.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{
    Behaviour, Files, Gate, KEEPS, PATIENCE, SEGMENT, Upstream, answer, but_delete, never_answer, salt, secret,
    service, signed, signed_at, until,
};
use crate::http::{Answer, Request};
use crate::late_bodies::Late;
use crate::operations::{Process, text, told};
use crate::redis::{ACCEPT, Redis};
use crate::spoken::{BOTH, Spoken};

const REFUSE: &str = "[replay.memory]\nwhen_new = \"accept\"\n";
const ANSWER: &str = "[replay]\nrepeats = \"answer\"\n[replay.memory]\nwhen_new = \"accept\"\n";
const REPEAT_OF: &str = "X-Saltgate-Repeat-Of";

fn gate(upstream: &Upstream, more: &str) -> Gate {
    Gate::with(upstream.address, more, Clock::system())
}

fn request(method: &str, target: &str, authorization: &str, body: &str) -> Request {
    Request::new(method, target).field("authorization", authorization).text(body)
}

fn path(segment: &str) -> String {
    format!("/crm-core/v1/segments/{segment}")
}

fn id(answer: &Answer) -> &str {
    answer.field("X-Request-Id").unwrap()
}

/// A service that answers each DELETE only when told to, with the number of the deletion.
fn when_told() -> (Behaviour, Sender<()>) {
    let (tell, told) = channel();
    let (told, count) = (Mutex::new(told), AtomicUsize::new(0));
    let play = but_delete(move |stream| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let _ = told.lock().unwrap().recv_timeout(PATIENCE);
        answer(stream, "200 OK", "", &format!("{{\"deletion\":{number}}}"));
    });
    (play, tell)
}

#[test]
fn a_repeat_is_refused_like_a_replay_and_reported_as_a_repeat() {
    BOTH.into_iter().for_each(refused_and_told_apart);
}

fn refused_and_told_apart(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let control = "[control]\nsocket = \"control.sock\"\nstate = \"control\"\n";
    let files = Files::new(upstream.address, &format!("{REFUSE}{control}{KEEPS}"));
    let mut gate = Process::serve(&files);
    let header = signed("OWNER");
    let send = |target: &str, body: &str| spoken.ask(gate.address(), &request("DELETE", target, &header, body));

    let first = send(&path(SEGMENT), "{}");
    assert_eq!(first.status, 200);
    let repeat = send(&path(SEGMENT), "{}");
    let replays =
        [send(&path("another"), "{}"), send(&path(SEGMENT), "[]"), send(&format!("{}?a", path(SEGMENT)), "{}")];
    for refused in replays.iter().chain([&repeat]) {
        assert_eq!(refused.status, 401);
        assert_eq!(refused.body, r#"{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}"#);
        assert_eq!(refused.field(REPEAT_OF), None);
    }
    assert_eq!(upstream.deletes(), 1);

    let of = id(&first).to_owned();
    until("it is logged", || gate.log().contains(id(&replays[2])));
    let log = gate.log();
    let line = |answer: &Answer| -> serde_json::Value {
        let line = log.lines().find(|line| line.contains(&format!("\"request_id\":\"{}\"", id(answer)))).unwrap();
        serde_json::from_str(line).unwrap()
    };
    let repeated = line(&repeat);
    assert_eq!(
        (&repeated["reason"], &repeated["repeat_of"]),
        (&"salt_reused".into(), &of.as_str().into()),
        "{repeated}"
    );
    assert_eq!((&repeated["first"], &repeated["same_client"]), (&"deleted".into(), &true.into()), "{repeated}");
    assert!(repeated["first_seconds_ago"].as_f64().unwrap() > 0.0, "{repeated}");
    for replay in &replays {
        let line = line(replay);
        assert_eq!((&line["reason"], line.get("repeat_of")), (&"salt_reused".into(), None), "{line}");
    }

    let metrics = crate::http::get(gate.admin(), "/metrics").body;
    assert!(metrics.contains("saltgate_repeats_total{first=\"deleted\"} 1\n"), "{metrics}");

    let config = files.path().display().to_string();
    let refusals = text(&told(&["refusals", "--config", &config], "").stdout);
    let told_of = refusals.lines().find(|line| line.contains("a repeat of")).unwrap_or_else(|| panic!("{refusals}"));
    assert!(told_of.contains(&of) && told_of.contains("from the same address: deleted"), "{told_of}");
    assert_eq!(refusals.matches("a repeat of").count(), 1, "{refusals}");
    let json = text(&told(&["refusals", "--json", "--config", &config, "--id", id(&repeat)], "").stdout);
    assert!(json.contains(&format!("\"repeat_of\":\"{of}\"")), "{json}");

    let explained = text(&told(&["explain", "--live", "--config", &config], &header).stdout);
    assert!(explained.contains(&format!("request {of}")) && explained.contains("was carried out"), "{explained}");

    gate.signal("-TERM");
    gate.wait();
    let counted = counted(&files);
    assert_eq!((&counted["counts"]["salt_reused"], &counted["repeats"]["deleted"]), (&4.into(), &1.into()));
    let told = &counted["repeat_of"][&of];
    assert_eq!((&told["request_id"], &told["first"]), (&id(&repeat).into(), &"deleted".into()), "{counted}");
}

#[test]
fn a_repeat_is_recognized_although_its_body_follows_its_head() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for spoken in BOTH {
        let gate = gate(&upstream, REFUSE);
        let header = signed("OWNER");
        assert_eq!(spoken.ask(gate.address(), &request("DELETE", &path(SEGMENT), &header, "{}")).status, 200);
        for pause in [Duration::ZERO, Duration::from_millis(20)] {
            let late = Late::delete(spoken, gate.address(), &header);
            std::thread::sleep(pause);
            assert_eq!(late.end().status, 401);
        }
        let counted = "saltgate_repeats_total{first=\"deleted\"} 2\n";
        assert!(gate.metrics().contains(counted), "{spoken:?}: {}", gate.metrics());
    }
}

/// The line of the record that counts requests that spent nothing.
fn counted(files: &Files) -> serde_json::Value {
    files.record().into_iter().rfind(|line| line["kind"] == "counted").unwrap()
}

#[test]
fn many_repeats_of_one_request_make_one_record_line() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate(&upstream, REFUSE);
    let header = signed("OWNER");
    assert_eq!(gate.delete(&header).status, 200);
    for _ in 0..20 {
        assert_eq!(gate.delete(&header).status, 401);
    }
    assert!(gate.metrics().contains("saltgate_repeats_total{first=\"deleted\"} 20\n"));
    gate.drain();
    let counted = counted(&gate.files);
    assert_eq!(counted["repeats"]["deleted"], 20);
    assert_eq!(counted["repeat_of"].as_object().unwrap().len(), 1);
}

#[test]
fn a_repeat_gets_the_first_answer_and_a_replay_never_does() {
    let upstream = Upstream::start(Arc::new(|seen, stream| match (seen.method.as_str(), &*seen.target) {
        ("GET", target) if target.ends_with("gone") => answer(stream, "404 Not Found", "", "{}"),
        ("GET", target) => {
            let creator = if target.ends_with("others") { "member-2" } else { "member-1" };
            answer(stream, "200 OK", "", &format!(r#"{{"accountId":"account-1","ownerId":"{creator}"}}"#));
        }
        (_, target) if target.ends_with("conflict") => answer(stream, "409 Conflict", "", r#"{"why":"in use"}"#),
        (_, target) if target.ends_with("empty") => {
            use std::io::Write;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
        (_, target) if target.ends_with("large") => answer(stream, "200 OK", "", &"x".repeat(5 << 10)),
        (_, target) if target.ends_with("lost") => drop(stream.shutdown(Shutdown::Both)),
        (_, target) => answer(stream, "200 OK", "", &format!("{{\"deleted\":{target:?}}}")),
    }));
    let mut gate = gate(&upstream, &format!("{ANSWER}{KEEPS}"));
    let address = gate.address();
    let send = |spoken: Spoken, method: &str, segment: &str, header: &str, body: &str| {
        spoken.ask(address, &request(method, &path(segment), header, body))
    };
    let by_both = |row| BOTH.map(|spoken| (spoken, row));
    for (spoken, (role, segment, status)) in [
        ("OWNER", "mine", 200),
        ("MEMBER", "others", 401),
        ("OWNER", "gone", 404),
        ("OWNER", "conflict", 409),
        ("OWNER", "empty", 204),
        ("OWNER", "lost", 502),
    ]
    .into_iter()
    .flat_map(by_both)
    {
        let header = signed(role);
        let first = send(spoken, "DELETE", segment, &header, "{}");
        assert_eq!((first.status, first.field(REPEAT_OF)), (status, None), "{spoken:?}: {segment}");
        let deletes = upstream.deletes();
        // Over either protocol, for the first request and for the repeat.
        for again in [spoken, Spoken::Http1, Spoken::Http2] {
            let repeat = send(again, "DELETE", segment, &header, "{}");
            assert_eq!((repeat.status, &repeat.body), (status, &first.body), "{segment}");
            assert_eq!(repeat.field("Content-Type"), first.field("Content-Type"), "{segment}");
            assert_eq!(repeat.field(REPEAT_OF), Some(id(&first)), "{segment}: {}", repeat.head);
            assert_eq!(repeat.field("WWW-Authenticate").is_some(), status == 401, "{segment}");
            assert_ne!(id(&repeat), id(&first));
        }
        for replay in [
            send(spoken, "DELETE", "another", &header, "{}"),
            send(spoken, "DELETE", segment, &header, "{} "),
            send(spoken, "DELETE", segment, &header, ""),
            send(spoken, "POST", segment, &header, "{}"),
        ] {
            assert_eq!((replay.status, replay.field(REPEAT_OF)), (401, None), "{segment}: {}", replay.head);
        }
        assert_eq!(upstream.deletes(), deletes, "nothing is sent twice");
    }
    // The body is too large to be kept: the repeat gets the status and no invented body.
    for spoken in BOTH {
        let header = signed("OWNER");
        assert_eq!(send(spoken, "DELETE", "large", &header, "").body.len(), 5 << 10);
        let repeat = send(spoken, "DELETE", "large", &header, "");
        assert_eq!((repeat.status, repeat.body.as_str()), (200, "{}"), "{spoken:?}");
        assert_eq!(repeat.field("Content-Type"), Some("application/json"), "{spoken:?}");
    }
    assert_eq!(crate::late_bodies::in_flight(&mut gate), 0);
}

#[test]
fn the_same_salt_under_another_key_is_another_salt() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = gate(&upstream, ANSWER);
    let (now, salt) = (Clock::system().now(), salt());
    let first = gate.delete(&signed_at("OWNER", now, &salt));
    let other = gate.delete(&signed_at("MEMBER", now, &salt));
    assert_eq!((first.status, other.status, other.field(REPEAT_OF)), (200, 200, None));
    assert_eq!(upstream.deletes(), 2);
    assert_ne!(secret("OWNER"), secret("MEMBER"));
}

#[test]
fn a_repeat_waits_for_the_first_request_and_holds_no_slot() {
    BOTH.into_iter().for_each(waits_and_holds_no_slot);
}

fn waits_and_holds_no_slot(spoken: Spoken) {
    let (play, tell) = when_told();
    let upstream = Upstream::start(play);
    let mut gate = gate(&upstream, &format!("{ANSWER}[limits]\nmax_in_flight_per_key = 2\n"));
    let (address, header) = (gate.address(), signed("OWNER"));
    let send = |spoken: Spoken, header: &str| {
        let header = header.to_owned();
        std::thread::spawn(move || spoken.delete(address, &header))
    };
    let first = send(spoken, &header);
    until("the first is under way", || upstream.deletes() == 1);
    let process = gate.gateway().process().clone();
    let mut repeats = Vec::new();
    for waiting in 1..=4 {
        repeats.push(send(BOTH[waiting % 2], &header));
        until("it waits", || process.repeats.waiting() == waiting);
    }
    // The key still has its slot for another request.
    let other = send(spoken, &signed("OWNER"));
    until("another is under way", || upstream.deletes() == 2);
    tell.send(()).unwrap();
    tell.send(()).unwrap();
    let first = first.join().unwrap();
    assert_eq!(other.join().unwrap().status, 200);
    for repeat in repeats {
        let repeat = repeat.join().unwrap();
        assert_eq!((repeat.status, &repeat.body, repeat.field(REPEAT_OF)), (200, &first.body, Some(id(&first))));
    }
    assert_eq!(upstream.deletes(), 2);
}

#[test]
fn one_of_simultaneous_copies_is_sent_and_all_get_its_answer() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = gate(&upstream, ANSWER);
    let address = gate.address();
    for _ in 0..30 {
        let header = signed("OWNER");
        let copies: Vec<_> = (0..8)
            .map(|n| {
                let header = header.clone();
                std::thread::spawn(move || BOTH[n % 2].delete(address, &header))
            })
            .collect();
        let answers: Vec<Answer> = copies.into_iter().map(|copy| copy.join().unwrap()).collect();
        let (repeats, firsts): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.field(REPEAT_OF).is_some());
        assert_eq!(firsts.len(), 1, "{answers:?}");
        assert!(repeats.iter().all(|it| it.status == 200 && it.field(REPEAT_OF) == Some(id(firsts[0]))), "{answers:?}");
    }
    assert_eq!(upstream.deletes(), 30);
}

#[test]
fn a_client_that_returns_gets_the_answer_it_lost() {
    BOTH.into_iter().for_each(leaves_and_comes_again);
}

fn leaves_and_comes_again(spoken: Spoken) {
    let (play, tell) = when_told();
    let upstream = Upstream::start(play);
    let gate = gate(&upstream, ANSWER);
    let header = signed("OWNER");
    let mut leaves = spoken.connect(gate.address());
    leaves.send(&Request::delete(&header));
    until("it is sent", || upstream.deletes() == 1);
    leaves.give_up();
    tell.send(()).unwrap();
    let again = spoken.delete(gate.address(), &header);
    assert_eq!((again.status, again.body.as_str()), (200, "{\"deletion\":1}"));
    assert!(again.field(REPEAT_OF).is_some());
    assert_eq!(upstream.deletes(), 1);
}

#[test]
fn more_copies_than_any_client_sends_do_not_all_wait() {
    let (play, tell) = when_told();
    let upstream = Upstream::start(play);
    let gate = gate(&upstream, ANSWER);
    let (address, header) = (gate.address(), signed("OWNER"));
    let send = |n: usize| {
        let header = header.clone();
        std::thread::spawn(move || BOTH[n % 2].delete(address, &header).status)
    };
    let first = send(0);
    until("the first is under way", || upstream.deletes() == 1);
    let copies: Vec<_> = (0..20).map(send).collect();
    until("four have an answer", || copies.iter().filter(|copy| copy.is_finished()).count() == 4);
    tell.send(()).unwrap();
    let mut statuses: Vec<u16> = copies.into_iter().chain([first]).map(|copy| copy.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 17].as_slice(), &[429; 4]].concat());
}

#[test]
fn a_repeat_of_a_forgotten_request_is_a_replay() {
    BOTH.into_iter().for_each(forgotten);
}

fn forgotten(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (clock, time) = Clock::manual(Clock::system().now());
    let lines = "[replay]\nrepeats = \"answer\"\nrepeat_window = \"10s\"\nmax_repeats = 2\n[replay.memory]\nwhen_new = \"accept\"\n";
    let gate = Gate::with(upstream.address, lines, clock.clone());
    let headers: Vec<String> = (0..3).map(|_| signed_at("OWNER", clock.now(), &salt())).collect();
    for header in &headers {
        assert_eq!(spoken.delete(gate.address(), header).status, 200);
    }
    let again = |header: &String| {
        let answer = spoken.delete(gate.address(), header);
        (answer.status, answer.field(REPEAT_OF).is_some())
    };
    assert_eq!(headers.iter().map(again).collect::<Vec<_>>(), [(401, false), (200, true), (200, true)], "the oldest");
    time.advance(Duration::from_secs(9));
    assert_eq!(again(&headers[2]), (200, true));
    time.advance(Duration::from_secs(2));
    assert_eq!(again(&headers[2]), (401, false));
    assert_eq!(upstream.deletes(), 3);
}

#[test]
fn a_repeat_is_first_checked_like_every_request() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate(&upstream, ANSWER);
    let header = signed("MEMBER");
    assert_eq!(gate.delete(&header).status, 200);
    let keys = gate.files.dir.path().join("keys.toml");
    let without = std::fs::read_to_string(&keys).unwrap().replace("NCSMEMBER", "NCSNOBODY");
    std::fs::write(&keys, without).unwrap();
    gate.reload().unwrap();
    for spoken in BOTH {
        let again = spoken.delete(gate.address(), &header);
        assert_eq!((again.status, again.field(REPEAT_OF)), (401, None), "{spoken:?}: its key is gone");
    }
}

#[test]
fn a_spent_header_waits_only_for_a_body_as_long_as_the_first() {
    BOTH.into_iter().for_each(waits_for_the_body_of_the_first);
}

fn waits_for_the_body_of_the_first(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = gate(&upstream, ANSWER);
    let (address, header) = (gate.address(), signed("OWNER"));
    assert_eq!(gate.delete(&header).status, 200);
    // The first request had no body.
    assert_eq!(Late::delete(spoken, address, &header).answer().status, 401);
    let header = signed("OWNER");
    let first = Late::delete(spoken, address, &header).end();
    assert_eq!(first.status, 200);
    let again = Late::delete(spoken, address, &header).end();
    assert_eq!((again.status, again.field(REPEAT_OF)), (200, Some(id(&first))));
    assert_eq!(upstream.deletes(), 2);
    assert_eq!(crate::late_bodies::in_flight(&mut gate), 0);
}

#[test]
fn observe_mode_forwards_a_repeat_and_reports_it() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, ANSWER);
    let config = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), format!("mode = \"observe\"\n{config}")).unwrap();
    let gate = Gate::by(files);
    let header = signed("OWNER");
    for spoken in BOTH {
        let answer = spoken.delete(gate.address(), &header);
        assert_eq!((answer.status, answer.field(REPEAT_OF)), (200, None));
    }
    assert_eq!(upstream.deletes(), 2, "nothing is refused");
    assert!(gate.metrics().contains("reason=\"salt_reused\"} 1\n"));
}

/// The settings of a fleet in which each gateway answers repeats of the others' requests.
fn fleet(redis: &Redis, more: &str) -> String {
    let recorded = redis.settings(ACCEPT).replace("[audit]\ndanger_no_record = true\n", "");
    // On a busy machine more than that may pass between reading the clock and Redis.
    let recorded = recorded.replace("clock_margin = \"200ms\"", "timeout = \"5s\"\nclock_margin = \"10s\"");
    format!("[replay]\n{more}{recorded}")
}

#[test]
fn another_gateway_of_the_fleet_answers_a_repeat_as_the_first_would() {
    let redis = Redis::start(&[]);
    let (play, tell) = when_told();
    let upstream = Upstream::start(play);
    let settings = fleet(&redis, "repeats = \"answer\"\n");
    let [one, mut other] = [(); 2].map(|()| gate(&upstream, &settings));
    until("both are ready", || {
        [&one, &other].iter().all(|gate| crate::http::get(gate.admin(), "/ready").status == 200)
    });
    let header = signed("OWNER");
    let send = |spoken: Spoken, to: &Gate| {
        let (to, header) = (to.address(), header.clone());
        std::thread::spawn(move || spoken.delete(to, &header))
    };
    let first = send(Spoken::Http1, &one);
    until("the first is under way", || upstream.deletes() == 1);
    let repeat = send(Spoken::Http2, &other);
    let process = other.gateway().process().clone();
    until("it waits", || process.repeats.waiting() == 1);
    tell.send(()).unwrap();
    let (first, repeat) = (first.join().unwrap(), repeat.join().unwrap());
    assert_eq!((repeat.status, &repeat.body, repeat.field(REPEAT_OF)), (200, &first.body, Some(id(&first))));
    assert_eq!(repeat.field("Content-Type"), first.field("Content-Type"));

    // After a restart the process remembers nothing, but Redis does.
    drop((one, other));
    let anew = gate(&upstream, &settings);
    until("it is ready", || crate::http::get(anew.admin(), "/ready").status == 200);
    let repeat = anew.delete(&header);
    assert_eq!((repeat.status, &repeat.body, repeat.field(REPEAT_OF)), (200, &first.body, Some(id(&first))));
    let replay = Spoken::Http2.ask(anew.address(), &request("DELETE", &path("another"), &header, ""));
    assert_eq!((replay.status, replay.field(REPEAT_OF)), (401, None));
    assert_eq!(upstream.deletes(), 1);
    assert!(anew.metrics().contains("saltgate_repeats_total{first=\"deleted\"} 1\n"));
}

#[test]
fn another_gateway_that_refuses_repeats_names_the_first_request() {
    let redis = Redis::start(&[]);
    let upstream = Upstream::start(service("account-1", "member-1"));
    let [one, mut other] = [(); 2].map(|()| gate(&upstream, &fleet(&redis, "")));
    until("both are ready", || {
        [&one, &other].iter().all(|gate| crate::http::get(gate.admin(), "/ready").status == 200)
    });
    let header = signed("OWNER");
    let first = one.delete(&header);
    let repeat = other.delete(&header);
    assert_eq!((first.status, repeat.status, repeat.field(REPEAT_OF)), (200, 401, None));
    other.drain();
    assert_eq!(counted(&other.files)["repeat_of"][id(&first)]["first"], "elsewhere");
}

#[test]
fn a_repeat_of_a_request_of_a_killed_gateway_is_unknown_and_never_a_401() {
    let redis = Redis::start(&[]);
    let (play, _never_told) = when_told();
    let upstream = Upstream::start(play);
    let files = [(); 2].map(|()| {
        let files = Files::new(upstream.address, &fleet(&redis, "repeats = \"answer\"\n"));
        let config = std::fs::read_to_string(files.path()).unwrap();
        std::fs::write(files.path(), config.replace("[upstream]\n", "[upstream]\nanswer_timeout = \"2s\"\n")).unwrap();
        files
    });
    let [mut one, other] = files.each_ref().map(Process::serve);
    until("both are ready", || {
        [&one, &other].iter().all(|gate| crate::http::get(gate.admin(), "/ready").status == 200)
    });
    let header = signed("OWNER");
    let mut lost = Spoken::Http2.connect(one.address());
    lost.send(&Request::delete(&header));
    until("it is sent", || upstream.deletes() == 1);
    one.kill();
    let repeat = crate::http::delete(other.address(), &header);
    assert_eq!((repeat.status, repeat.error_code().as_str()), (504, "OutcomeUnknown"));
    assert!(repeat.field(REPEAT_OF).is_some());
    assert_eq!(upstream.deletes(), 1);
}

#[test]
fn with_a_journal_a_repeat_after_a_restart_is_answered_from_the_record() {
    let upstream = Upstream::start(Arc::new(|seen, stream| match (seen.method.as_str(), &*seen.target) {
        ("GET", _) => answer(stream, "200 OK", "", r#"{"accountId":"account-1","ownerId":"member-2"}"#),
        (_, target) if target.ends_with("conflict") => answer(stream, "409 Conflict", "", "{}"),
        (_, target) if target.ends_with("lost") => drop(stream.shutdown(Shutdown::Both)),
        (_, target) if target.ends_with("hangs") => never_answer(stream),
        _ => answer(stream, "200 OK", "", r#"{"deleted":true}"#),
    }));
    let lines = "[replay]\nrepeats = \"answer\"\n[replay.journal]\npath = \"salts\"\nwhen_new = \"accept\"\n";
    let files = Files::new(upstream.address, lines);
    let mut gate = Process::serve(&files);
    let send = |spoken: Spoken, gate: &Process, segment: &str, header: &str| {
        spoken.ask(gate.address(), &request("DELETE", &path(segment), header, ""))
    };
    let rows = [("OWNER", "mine", 200), ("OWNER", "conflict", 409), ("OWNER", "lost", 502), ("MEMBER", "theirs", 401)];
    let sent: Vec<_> = rows
        .iter()
        .map(|(role, segment, status)| {
            let header = signed(role);
            let first = send(Spoken::Http1, &gate, segment, &header);
            assert_eq!(first.status, *status, "{segment}");
            (segment, header, first)
        })
        .collect();
    let under_way = signed("OWNER");
    let mut lost = Spoken::Http2.connect(gate.address());
    lost.send(&request("DELETE", &path("hangs"), &under_way, ""));
    until("it is sent", || upstream.deletes() == 4);
    gate.kill();

    let gate = Process::serve(&files);
    for (segment, header, first) in &sent {
        let repeat = send(Spoken::Http2, &gate, segment, header);
        assert_eq!((repeat.status, repeat.field(REPEAT_OF)), (first.status, Some(id(first))), "{segment}");
        let replay = send(Spoken::Http2, &gate, "another", header);
        assert_eq!((replay.status, replay.field(REPEAT_OF)), (401, None), "{segment}");
    }
    let repeat = send(Spoken::Http1, &gate, "hangs", &under_way);
    assert_eq!((repeat.status, repeat.error_code().as_str()), (502, "OutcomeUnknown"));
    assert!(repeat.field(REPEAT_OF).is_some());
    assert_eq!(upstream.deletes(), 4, "nothing is sent twice");
}

#[test]
fn contradictory_settings_are_faults() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    for (lines, named) in [
        ("[replay]\nrepeats = \"ignore\"\n[replay.memory]\n", "replay.repeats: is \"ignore\""),
        ("[replay]\nrepeat_window = \"16m\"\n[replay.memory]\n", "replay.repeat_window: "),
        ("[replay]\nmax_repeats = 0\n[replay.memory]\n", "replay.max_repeats: is 0"),
    ] {
        let files = Files::new(nobody, lines);
        let output = told(&["check", "--config", &files.path().display().to_string()], "");
        assert_eq!(output.status.code(), Some(78));
        assert!(text(&output.stderr).contains(named), "{}", text(&output.stderr));
    }
}
