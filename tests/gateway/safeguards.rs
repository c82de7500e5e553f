//! The deletion budget, the automation guard, and dry runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use saltgate::parts::Clock;
use saltgate::parts::Config;
use serde_json::{Value, json};

use crate::harness::{
    Behaviour, Files, Gate, ROLES, SEGMENT, Upstream, answer, but_delete, never_answer, salt, service, signed,
    signed_at,
};
use crate::http::{Answer, Request, exchange};
use crate::operations::{Process, text, told};
use crate::spoken::{BOTH, Spoken};

pub const GUARDED: &str = "[automations]\ntotal = \"/total\"\n[[route]]\npath = \"/crm-core/v1/segments/{segmentId}\"\nlinked_automations = \"refuse\"\n";

/// The status, and after how many seconds a new request may be signed.
fn budget(answer: &Answer) -> (u16, Option<u64>) {
    assert_eq!(answer.field("retry-after"), None, "the header is spent");
    let message = body(answer)["errorMessage"].as_str().unwrap_or_default().to_owned();
    let seconds = message.split_once("Sign a new request after ").map(|(_, rest)| rest);
    (answer.status, seconds.map(|rest| rest.strip_suffix(" seconds.").unwrap().parse().unwrap()))
}

#[test]
fn a_budget_bounds_every_span_of_a_key_and_of_an_account() {
    BOTH.into_iter().for_each(bounds_every_span);
}

fn bounds_every_span(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let start = Clock::system().now();
    let (clock, hands) = Clock::manual(start);
    let more = "[budget]\nper_key = \"2/hour\"\nper_account = \"3/day\"\n";
    let gate = Gate::with(upstream.address, more, clock.clone());
    let attempt = |role: &str| budget(&spoken.delete(gate.address(), &signed_at(role, clock.now(), &salt())));
    assert_eq!(attempt("OWNER"), (200, None));
    hands.advance(Duration::from_secs(600));
    assert_eq!(attempt("OWNER"), (200, None));
    let spent = spoken.delete(gate.address(), &signed_at("OWNER", clock.now(), &salt()));
    assert_eq!((budget(&spent), spent.error_code().as_str()), ((429, Some(3000)), "TooManyRequests"));
    assert_eq!(attempt("DEVELOPER"), (200, None), "another key of the account");
    assert_eq!(attempt("MEMBER"), (429, Some(85_800)), "the account's");
    hands.advance(Duration::from_secs(3000));
    assert_eq!(attempt("OWNER"), (429, Some(82_800)), "the key has one again, the account has none");
    hands.set_wall(start + Duration::from_secs(90_000));
    assert_eq!(attempt("OWNER"), (429, Some(82_800)), "a clock that was set gives nothing back");
    hands.advance(Duration::from_secs(82_800));
    assert_eq!(attempt("OWNER"), (200, None), "a day after the first");
    assert_eq!(attempt("OWNER"), (429, Some(600)), "and no more than left the span");
    assert_eq!(upstream.deletes(), 4);
}

#[test]
fn of_200_concurrent_deletions_only_the_budget_reaches_the_upstream() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    // Without look-ups, which would need descriptors of this process.
    let more = "[budget]\nper_account = \"10/hour\"\n[runtime]\nworkers = 4\n[ownership.delegate]\n";
    let gate = Gate::with(upstream.address, more, Clock::system());
    // Over HTTP/1 on connections of their own; over HTTP/2 on four connections with 25 requests each.
    let callers = [vec![(Spoken::Http1, 1); 100], vec![(Spoken::Http2, 25); 4]].concat();
    let (address, barrier) = (gate.address(), Barrier::new(callers.len()));
    let statuses: Vec<u16> = std::thread::scope(|threads| {
        let clients: Vec<_> = callers
            .iter()
            .map(|&(spoken, each)| {
                let barrier = &barrier;
                threads.spawn(move || {
                    let mut caller = spoken.connect(address);
                    let headers = (0..each).map(|n| signed(["OWNER", "DEVELOPER", "MEMBER"][n % 3]));
                    let asked: Vec<Request> = headers.map(|header| Request::delete(&header)).collect();
                    barrier.wait();
                    asked.iter().for_each(|ask| caller.send(ask));
                    asked.iter().map(|_| caller.answer().unwrap().status).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(upstream.deletes(), 10);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 190);
}

#[test]
fn a_budget_survives_kill_restart_and_reload() {
    BOTH.into_iter().for_each(is_kept);
}

fn is_kept(spoken: Spoken) {
    // Two that are sent and lost count like those that were answered.
    let seen = AtomicUsize::new(0);
    let upstream = Upstream::start(but_delete(move |stream| {
        if seen.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        } else {
            answer(stream, "200 OK", "", "{}");
        }
    }));
    let files = Files::new(upstream.address, "[budget]\nper_key = \"4/week\"\n");
    let mut gate = Process::serve(&files);
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 502, "its answer is lost");
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 200);
    gate.kill();
    let mut gate = Process::serve(&files);
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 200);
    files.configure(upstream.address, "[budget]\nper_key = \"3/week\"\n");
    gate.signal("-HUP");
    crate::harness::until("it is reloaded", || gate.log().contains("\"reloaded\""));
    let (status, again) = budget(&spoken.delete(gate.address(), &signed("OWNER")));
    assert_eq!(status, 429, "what was counted stays counted");
    assert!((604_700..=604_800).contains(&again.unwrap()), "{again:?}");
    assert_eq!(spoken.delete(gate.address(), &signed("DEVELOPER")).status, 200, "another key");
    gate.signal("-TERM");
    gate.wait();
    let gate = Process::serve(&files);
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 429);
    assert_eq!(upstream.deletes(), 4);
    drop(gate);
    // A record that cannot be read stops the start: the usage is not guessed.
    let record = files.record_files().remove(0);
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir(&record).unwrap();
    let refused = told(&["serve", "--config", files.path().to_str().unwrap()], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("budget: the deletions within the last span cannot be counted"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn a_budget_added_by_a_reload_counts_earlier_deletions() {
    BOTH.into_iter().for_each(counts_what_was_before);
}

fn counts_what_was_before(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::before(&upstream);
    let attempt = |gate: &Gate, role: &str| spoken.delete(gate.address(), &signed(role)).status;
    let budget = |gate: &mut Gate, text: &str| {
        gate.files.configure(upstream.address, text);
        gate.reload().unwrap();
    };
    assert_eq!([attempt(&gate, "OWNER"), attempt(&gate, "OWNER"), attempt(&gate, "MEMBER")], [200; 3]);
    budget(&mut gate, "[budget]\nper_key = \"3/hour\"\n");
    assert_eq!([attempt(&gate, "OWNER"), attempt(&gate, "OWNER")], [200, 429], "two before it and one after");
    budget(&mut gate, "");
    assert_eq!(attempt(&gate, "OWNER"), 200, "there is none");
    budget(&mut gate, "[budget]\nper_key = \"5/day\"\nper_account = \"6/hour\"\n");
    assert_eq!([attempt(&gate, "OWNER"), attempt(&gate, "OWNER")], [200, 429], "four, and the fifth");
    assert_eq!(attempt(&gate, "MEMBER"), 429, "six of the account");
    assert_eq!(upstream.deletes(), 6);
}

/// The usual service; the test sets the linked automations.
pub fn with_automations(linked: &Arc<Mutex<String>>) -> Behaviour {
    let (linked, ordinary) = (linked.clone(), service("account-1", "member-1"));
    Arc::new(move |seen, stream| {
        if !seen.target.ends_with("/automations") {
            return ordinary(seen, stream);
        }
        match linked.lock().unwrap().as_str() {
            "500" => answer(stream, "500 Oh", "", "{}"),
            "404" => answer(stream, "404 Not Found", "", "{}"),
            "302" => answer(stream, "302 Found", "Location: /x\r\n", r#"{"automations":[]}"#),
            "reset" => drop(stream.shutdown(std::net::Shutdown::Both)),
            "never" => never_answer(stream),
            body => answer(stream, "200 OK", "", body),
        }
    })
}

fn linked(ids: &[&str]) -> String {
    let automations: Vec<Value> = ids
        .iter()
        .map(|id| json!({ "automationId": id, "name": format!("name of {id}"), "triggering": true }))
        .collect();
    json!({ "segmentId": SEGMENT, "total": ids.len(), "automations": automations }).to_string()
}

/// A request with additional fields.
fn ask(spoken: Spoken, gate: &Gate, method: &str, suffix: &str, authorization: &str, more: &str) -> Answer {
    let ask = Request::new(method, &format!("/crm-core/v1/segments/{SEGMENT}{suffix}"));
    spoken.ask(gate.address(), &ask.field("authorization", authorization).fields(more))
}

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn linked_automations_are_listed_and_only_the_listed_set_can_be_confirmed() {
    BOTH.into_iter().for_each(are_named_and_confirmed);
}

fn are_named_and_confirmed(spoken: Spoken) {
    let set = Arc::new(Mutex::new(linked(&["AUTO2", "AUTO1"])));
    let upstream = Upstream::start(with_automations(&set));
    let gate = Gate::with(upstream.address, GUARDED, Clock::system());
    let confirmed = |more: &str| ask(spoken, &gate, "DELETE", "", &signed("MEMBER"), more);
    let refused = confirmed("");
    let told = body(&refused);
    assert_eq!((refused.status, &told["errorCode"]), (409, &json!("AutomationsLinked")), "{refused:?}");
    let named = json!([{ "id": "AUTO1", "name": "name of AUTO1" }, { "id": "AUTO2", "name": "name of AUTO2" }]);
    assert_eq!(told["automations"], named);
    assert_eq!(told.as_object().unwrap().len(), 4, "errorCode, errorMessage, automations, confirm");
    let digest = told["confirm"].as_str().unwrap().to_owned();
    let question = upstream.last.lock().unwrap().last().cloned().unwrap();
    assert_eq!((question.method.as_str(), question.body.as_str()), ("GET", ""));
    let head = question.head.to_lowercase();
    assert!(head.contains("x-saltgate-account: account-1") && !head.contains("authorization"), "{head}");

    let header = format!("X-Saltgate-Confirm: {digest}\r\n");
    for (name, more) in [
        ("another digest", format!("X-Saltgate-Confirm: {}\r\n", digest.replace(&digest[..1], "g"))),
        ("a part of it", format!("X-Saltgate-Confirm: {}\r\n", &digest[..31])),
        ("nothing", "X-Saltgate-Confirm:\r\n".into()),
        ("said twice", format!("{header}{header}")),
        ("another spelling", header.replace("X-Saltgate-Confirm", "X_Saltgate_Confirm")),
    ] {
        assert_eq!(confirmed(&more).status, 409, "{name}");
    }
    *set.lock().unwrap() = linked(&["AUTO1", "AUTO2", "AUTO3"]);
    let changed = confirmed(&header);
    assert_eq!(changed.status, 409, "one more is linked by now");
    assert_ne!(body(&changed)["confirm"], digest.as_str());
    *set.lock().unwrap() = linked(&["AUTO1"]);
    assert_eq!(confirmed(&header).status, 409, "and one less");
    assert_eq!(upstream.deletes(), 0);
    *set.lock().unwrap() = linked(&["AUTO1", "AUTO2"]);
    assert_eq!(confirmed(&header).status, 200);
    *set.lock().unwrap() = linked(&[]);
    assert_eq!(confirmed("").status, 200, "nothing is linked");
    assert_eq!(upstream.deletes(), 2);
    let sent = upstream.last.lock().unwrap().iter().rfind(|seen| seen.method == "DELETE").cloned().unwrap();
    assert!(!sent.head.to_lowercase().contains("confirm"));
}

#[cfg(feature = "demo")]
#[test]
fn the_embedded_crm_lists_its_automations_and_stops_them_once_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let crm = Arc::new(saltgate::parts::Crm::open(&dir.path().join("crm.sqlite")).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(crm.clone().serve(listener));
    let gate = Gate::with(address, GUARDED, Clock::system());
    let segment = "CRMSG1260428165459799SGM77893287";
    let ask = |method: &str, suffix: &str, more: &str| {
        let line = format!("{method} /crm-core/v1/segments/{segment}{suffix} HTTP/1.1");
        let fields = format!("Host: g\r\nAuthorization: {}\r\nConnection: close\r\n{more}", signed("OWNER"));
        exchange(gate.address(), &format!("{line}\r\n{fields}\r\n"))
    };
    let rehearsed = body(&ask("POST", "/deletion-check", ""));
    let refused = ask("DELETE", "", "");
    assert_eq!((refused.status, &rehearsed["status"]), (409, &json!(409)), "{refused:?}");
    let told = body(&refused);
    assert_eq!(told["automations"][0]["name"], "Greet: Everybody");
    assert_eq!(told["automations"], rehearsed["automations"]);
    assert_eq!(crm.deletes_seen(), 0);
    let confirmed = ask("DELETE", "", &format!("X-Saltgate-Confirm: {}\r\n", told["confirm"].as_str().unwrap()));
    assert_eq!((confirmed.status, &body(&confirmed)["stoppedAutomations"]), (200, &json!(1)));
}

#[test]
fn nothing_is_deleted_if_linked_automations_are_unknown() {
    let set = Arc::new(Mutex::new(String::new()));
    let upstream = Upstream::start(with_automations(&set));
    let gate = Gate::hasty(&upstream, GUARDED);
    for (says, status, code) in [
        ("500", 502, "BadGateway"),
        ("404", 502, "BadGateway"),
        ("302", 502, "BadGateway"),
        ("reset", 502, "BadGateway"),
        ("never", 504, "GatewayTimeout"),
        ("<html>", 502, "BadGateway"),
        ("{}", 502, "BadGateway"),
        (r#"{"total":1,"automations":[{"name":"no id"}]}"#, 502, "BadGateway"),
        (r#"{"total":0,"segmentId":"another","automations":[]}"#, 502, "BadGateway"),
    ] {
        *set.lock().unwrap() = says.into();
        let refused = gate.delete(&signed("OWNER"));
        assert_eq!((refused.status, refused.error_code().as_str()), (status, code), "{says}");
    }
    // A service that checks the owner itself says by a 404 that there is no such segment for this caller.
    *set.lock().unwrap() = "404".into();
    let delegating = Gate::hasty(&upstream, &format!("[ownership.delegate]\n{GUARDED}"));
    assert_eq!(delegating.delete(&signed("OWNER")).status, 404);
    assert_eq!(upstream.deletes(), 0);
    // Without the guard, no automations are looked up.
    let ignoring = Gate::before(&upstream);
    assert_eq!(ignoring.delete(&signed("OWNER")).status, 200);
}

#[test]
fn automations_are_listed_only_to_callers_who_may_delete() {
    BOTH.into_iter().for_each(are_named_to_nobody);
}

fn are_named_to_nobody(spoken: Spoken) {
    let set = Arc::new(Mutex::new(linked(&["AUTO1"])));
    let by_others: Behaviour = {
        let (automations, others) = (with_automations(&set), service("account-1", "member-2"));
        Arc::new(move |seen, stream| match seen.target.ends_with("/automations") {
            true => automations(seen, stream),
            false => others(seen, stream),
        })
    };
    let upstream = Upstream::start(by_others);
    let gate = Gate::with(upstream.address, GUARDED, Clock::system());
    for role in ["MEMBER", "DEVELOPER", "", "ADMIN"] {
        for (method, suffix) in [("DELETE", ""), ("POST", "/deletion-check")] {
            let refused = ask(spoken, &gate, method, suffix, &signed(role), "");
            assert_eq!(refused.body, r#"{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}"#, "{role}");
        }
    }
    let asked = |what: &str| upstream.last.lock().unwrap().iter().any(|seen| seen.target.ends_with(what));
    assert!(!asked("/automations"), "it is not even asked");
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 409);
}

#[test]
fn a_dry_run_reports_what_the_deletion_would_get_and_deletes_nothing() {
    BOTH.into_iter().for_each(says_what_a_deletion_would_meet);
}

fn says_what_a_deletion_would_meet(spoken: Spoken) {
    for (account, creator) in
        [("account-1", "member-1"), ("account-1", "member-2"), ("account-2", "member-1"), ("", "")]
    {
        let upstream = Upstream::start(service(account, creator));
        let rehearsed = Upstream::start(service(account, creator));
        let (real, gate) = (Gate::before(&upstream), Gate::before(&rehearsed));
        for role in ROLES {
            let deletion = spoken.delete(real.address(), &signed(role));
            let rehearsal = ask(spoken, &gate, "POST", "/deletion-check", &signed(role), "");
            if deletion.status == 200 {
                let told = body(&rehearsal);
                assert_eq!((rehearsal.status, &told["wouldDelete"], &told["status"]), (200, &json!(true), &json!(200)));
                assert_eq!(rehearsal.field("cache-control"), Some("no-store"));
            } else {
                assert_eq!((rehearsal.status, &rehearsal.body), (deletion.status, &deletion.body), "{role} {creator}");
            }
        }
        assert_eq!(rehearsed.deletes(), 0);
        assert!(rehearsed.last.lock().unwrap().iter().all(|seen| seen.method == "GET"));
    }
}

#[test]
fn a_dry_run_says_that_the_budget_is_spent() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, "[budget]\nper_key = \"1/day\"\n", Clock::system());
    let rehearse = || body(&ask(Spoken::Http1, &gate, "POST", "/deletion-check", &signed("OWNER"), ""));
    assert_eq!(rehearse()["wouldDelete"], true);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    let told = rehearse();
    assert_eq!((&told["wouldDelete"], &told["status"]), (&json!(false), &json!(429)), "{told}");
}

#[test]
fn a_dry_run_is_signed_like_a_deletion_and_spends_only_its_salt() {
    BOTH.into_iter().for_each(takes_nothing_but_its_salt);
}

fn takes_nothing_but_its_salt(spoken: Spoken) {
    let set = Arc::new(Mutex::new(linked(&[])));
    let upstream = Upstream::start(with_automations(&set));
    let more = format!("[budget]\nper_key = \"1/day\"\n[control]\nsocket = \"c.sock\"\n{GUARDED}");
    let mut gate = Gate::with(upstream.address, &more, Clock::system());
    let rehearse = |header: &str| ask(spoken, &gate, "POST", "/deletion-check", header, "");
    let header = signed("OWNER");
    for _ in 0..3 {
        assert_eq!(body(&rehearse(&signed("OWNER")))["wouldDelete"], true, "nothing is taken of the budget");
    }
    assert_eq!(rehearse(&header).status, 200);
    assert_eq!(rehearse(&header).status, 401, "its salt is spent");
    assert_eq!(spoken.delete(gate.address(), &header).status, 401, "for a deletion as well");
    assert_eq!(rehearse("nonsense").status, 401);
    for method in ["GET", "DELETE", "PUT"] {
        let refused = ask(spoken, &gate, method, "/deletion-check", &signed("OWNER"), "");
        assert_eq!((refused.status, refused.field("allow")), (405, Some("POST")), "{method}");
    }
    let refused = ask(spoken, &gate, "POST", "", &signed("OWNER"), "");
    assert_eq!((refused.status, refused.field("allow")), (405, Some("DELETE")), "the deletion's own path");
    assert_eq!(ask(spoken, &gate, "POST", "/deletion-check/", &signed("OWNER"), "").status, 404);

    *set.lock().unwrap() = linked(&["AUTO1"]);
    let told = body(&rehearse(&signed("OWNER")));
    assert_eq!(
        (&told["wouldDelete"], &told["status"], &told["reason"]),
        (&json!(false), &json!(409), &json!("automations_linked"))
    );
    assert_eq!(told["automations"][0]["name"], "name of AUTO1");
    let confirm = format!("X-Saltgate-Confirm: {}\r\n", told["confirm"].as_str().unwrap());
    let confirmed = ask(spoken, &gate, "POST", "/deletion-check", &signed("OWNER"), &confirm);
    assert_eq!(body(&confirmed)["wouldDelete"], true);
    assert_eq!(upstream.deletes(), 0);
    assert_eq!(
        ask(spoken, &gate, "DELETE", "", &signed("OWNER"), &confirm).status,
        200,
        "the confirmation of the dry run"
    );

    let told = body(&rehearse(&signed("OWNER")));
    assert_eq!(
        (&told["wouldDelete"], &told["status"], &told["reason"]),
        (&json!(false), &json!(429), &json!("budget_spent"))
    );
    assert!(told["retryAfter"].as_u64().unwrap() > 86_000);
    let socket = gate.files.dir.path().join("c.sock");
    let target = saltgate::parts::Target::All;
    let freeze = saltgate::parts::Question::Freeze { target, reason: None, wait: Duration::from_secs(5) };
    saltgate::parts::ask(&socket, &freeze, Duration::from_secs(20), drop).unwrap();
    let told = body(&rehearse(&signed("OWNER")));
    assert_eq!(
        (&told["wouldDelete"], &told["status"], &told["reason"]),
        (&json!(false), &json!(423), &json!("frozen"))
    );
    assert_eq!(upstream.deletes(), 1);
    *set.lock().unwrap() = "500".into();
    let config = Config::load(&gate.files.path());
    gate.gateway().reload(config).unwrap();
    gate.drain();
    let record = gate.files.record();
    let rehearsed: Vec<&str> =
        record.iter().filter(|l| l["kind"] == "rehearsed").map(|l| l["reason"].as_str().unwrap()).collect();
    assert_eq!(rehearsed, ["ok", "ok", "ok", "ok", "automations_linked", "ok", "budget_spent", "frozen"]);
    assert_eq!(record.iter().filter(|line| line["kind"] == "intent").count(), 1);
}
