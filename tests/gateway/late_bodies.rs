//! Requests that announce a body and do not send it: how much one header can hold.

use std::net::SocketAddr;

use saltgate::parts::Clock;

use crate::harness::{Files, Gate, Upstream, service, signed, until};
use crate::http::{Answer, Request, get};
use crate::redis::{ACCEPT, Redis};
use crate::spoken::{BOTH, Caller, Spoken};

/// A deletion whose head announces two bytes.
pub struct Late(Caller);

impl Late {
    pub fn delete(spoken: Spoken, gate: SocketAddr, authorization: &str) -> Self {
        let mut caller = spoken.connect(gate);
        caller.begin(&Request::delete(authorization), Some(2));
        Self(caller)
    }

    /// The answer, if it arrives before the body is sent.
    pub fn answer(mut self) -> Answer {
        self.0.answer().unwrap()
    }

    /// The answer after the body is sent.
    pub fn end(mut self) -> Answer {
        self.0.end(b"{}");
        self.0.answer().unwrap()
    }
}

pub fn in_flight(gate: &mut Gate) -> usize {
    gate.gateway().process().slots.taken()
}

/// So many that a key, or the process, would have no slot left.
const MANY: usize = 40;
const LIMITS: &str = "[limits]\nmax_in_flight = 12\nmax_in_flight_per_key = 8\nbody_timeout = \"60s\"\n";

/// Checks that this spent header holds nothing, and everybody else is served.
fn holds_nothing(gate: &mut Gate, spent: &str) {
    let address = gate.address();
    for spoken in BOTH {
        let copies: Vec<Late> = (0..MANY).map(|_| Late::delete(spoken, address, spent)).collect();
        for copy in copies {
            let answer = copy.answer();
            let told = (answer.status, answer.field("Retry-After"));
            assert_eq!(told, (401, None), "{spoken:?}, and no 100 Continue: {}", answer.head);
        }
    }
    assert_eq!(in_flight(gate), 0);
    assert_eq!(gate.delete(&signed("OWNER")).status, 200, "its key has all of its slots");
    assert!(gate.metrics().contains(r#"reason="salt_reused"}"#));
}

#[test]
fn a_spent_header_without_its_body_holds_no_slot() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for store in
        ["[replay.memory]\nwhen_new = \"accept\"\n", "[replay.journal]\npath = \"replay\"\nwhen_new = \"accept\"\n"]
    {
        let mut gate = Gate::with(upstream.address, &format!("{LIMITS}{store}"), Clock::system());
        let spent = signed("OWNER");
        assert_eq!(gate.delete(&spent).status, 200);
        holds_nothing(&mut gate, &spent);
    }
}

#[test]
fn a_header_that_another_gateway_of_the_fleet_spent_holds_no_slot() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let settings = format!("{LIMITS}{}", redis.settings(&format!("timeout = \"5s\"\n{ACCEPT}")));
    let [mut here, there] = [(); 2].map(|()| Gate::with(upstream.address, &settings, Clock::system()));
    until("it is ready", || get(here.admin(), "/ready").status == 200);
    let spent = signed("OWNER");
    assert_eq!(there.delete(&spent).status, 200);
    holds_nothing(&mut here, &spent);
}

#[test]
fn a_few_copies_of_an_unspent_header_wait_and_one_passes() {
    for spoken in BOTH {
        a_few_copies_wait(spoken);
    }
}

fn a_few_copies_wait(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::with(upstream.address, LIMITS, Clock::system());
    let header = signed("OWNER");
    let address = gate.address();
    let late = |header: &str| Late::delete(spoken, address, header);
    let mut waiting = vec![late(&header), late(&header)];
    until("two wait", || get(gate.admin(), "/metrics").body.contains("saltgate_connections 2"));
    while in_flight(&mut gate) < 2 {
        std::thread::yield_now();
    }
    for _ in 0..MANY {
        let answer = late(&header).answer();
        assert_eq!((answer.status, answer.field("Retry-After")), (429, Some("1")), "{}", answer.head);
    }
    assert_eq!(in_flight(&mut gate), 2);
    // Another header of the same key is independent.
    assert_eq!(late(&signed("OWNER")).end().status, 200);
    let statuses = [waiting.remove(0).end().status, waiting.remove(0).end().status];
    assert_eq!(statuses, [200, 401]);
    assert_eq!(upstream.deletes(), 2);
    // Nothing remains of it.
    let next = signed("OWNER");
    assert_eq!(late(&next).end().status, 200);
    assert_eq!(late(&next).answer().status, 401);
}

#[test]
fn a_body_that_arrives_with_its_head_is_accepted() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::by(Files::new(upstream.address, ""));
    for spoken in BOTH {
        let header = signed("OWNER");
        let send = |body: &str| spoken.ask(gate.address(), &Request::delete(&header).text(body)).status;
        assert_eq!([send("{}"), send("{}"), send("")], [200, 401, 401], "{spoken:?}");
    }
}
