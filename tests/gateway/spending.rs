//! The rate at which one key may spend salts.

use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Gate, SEGMENT, Upstream, salt, service, signed_at};
use crate::http::{Answer, Request};
use crate::spoken::{BOTH, Spoken};

#[test]
fn a_key_over_its_rate_must_wait_and_spends_nothing() {
    for spoken in BOTH {
        waits(spoken);
    }
}

fn waits(spoken: Spoken) {
    let ask = |gate: &Gate, method: &str, path: &str, authorization: &str| -> Answer {
        spoken.ask(gate.address(), &Request::new(method, path).field("authorization", authorization))
    };
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (clock, time) = Clock::manual(Clock::system().now());
    let limit = "[limits]\nspent_per_key = \"5/minute\"\n";
    let mut gate = Gate::with(upstream.address, limit, clock.clone());
    let header = |role| signed_at(role, clock.now(), &salt());
    let deletion = format!("/crm-core/v1/segments/{SEGMENT}");
    let salts = |gate: &Gate| {
        gate.metrics().lines().find(|line| line.starts_with("saltgate_replay_salts ")).unwrap().to_owned()
    };

    // Requests refused after their salts were spent and forwarded ones: each used one.
    let first = header("OWNER");
    assert_eq!(ask(&gate, "DELETE", &deletion, &first).status, 200);
    for path in ["/no/such/route", "/crm-core/v1/segments/", "/crm-core/v1/segments/other"] {
        assert_eq!(ask(&gate, "DELETE", path, &header("OWNER")).status, 404, "{path}");
    }
    assert_eq!(ask(&gate, "PUT", &deletion, &header("OWNER")).status, 405);
    assert_eq!(salts(&gate), "saltgate_replay_salts 5");

    let early = header("OWNER");
    let refused = ask(&gate, "DELETE", "/no/such/route", &early);
    assert_eq!((refused.status, refused.field("Retry-After")), (429, Some("12")), "{}", refused.body);
    assert_eq!(ask(&gate, "DELETE", &deletion, &header("OWNER")).status, 429);
    assert_eq!(salts(&gate), "saltgate_replay_salts 5", "nothing was spent");
    assert!(gate.metrics().contains(r#"reason="throttled"} 2"#));
    assert_eq!(ask(&gate, "DELETE", &deletion, &header("MEMBER")).status, 200, "another key");

    // A reload reads the keys again, and keeps what they have spent.
    gate.reload().unwrap();
    assert_eq!(ask(&gate, "DELETE", &deletion, &header("OWNER")).status, 429);

    // A client that waits as long as announced may send the very same header.
    time.advance(Duration::from_secs(12));
    assert_eq!(ask(&gate, "DELETE", &deletion, &early).status, 200);
    assert_eq!(ask(&gate, "DELETE", &deletion, &header("OWNER")).status, 429);

    // Another limit applies at once.
    let config = std::fs::read_to_string(gate.files.path()).unwrap().replace("5/minute", "1000/minute");
    std::fs::write(gate.files.path(), config).unwrap();
    assert_eq!(gate.reload().unwrap(), Vec::<String>::new(), "taken without a restart");
    time.advance(Duration::from_secs(1));
    assert_eq!(ask(&gate, "DELETE", &deletion, &header("OWNER")).status, 200);
}

#[test]
fn replays_do_not_use_up_the_rate_of_a_key() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (clock, _time) = Clock::manual(Clock::system().now());
    let gate = Gate::with(upstream.address, "[limits]\nspent_per_key = \"5/minute\"\n", clock.clone());
    // A key of its own for each protocol.
    for (spoken, role) in [(Spoken::Http1, "OWNER"), (Spoken::Http2, "MEMBER")] {
        let header = || signed_at(role, clock.now(), &salt());
        let delete = |header: &str| spoken.delete(gate.address(), header).status;
        let first = header();
        assert_eq!(delete(&first), 200, "{spoken:?}");
        for _ in 0..20 {
            assert_eq!(delete(&first), 401, "{spoken:?}");
        }
        let statuses: Vec<u16> = (0..5).map(|_| delete(&header())).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 429], "{spoken:?}");
    }
}
