//! Limits on what one caller can take from others.

use saltgate::parts::Clock;

use crate::harness::{Gate, Upstream, answer, api_key, but_delete, service, signed, until};
use crate::http::Request;
use crate::spoken::{BOTH, Spoken};

/// A header that was not signed with this key's secret.
fn wrongly_signed() -> String {
    let good = signed("OWNER");
    let (head, signature) = good.split_at(good.len() - 64);
    format!("{head}{}", if signature.starts_with('0') { signature.replace('0', "1") } else { "0".repeat(64) })
}

#[test]
fn failed_signatures_are_limited_per_address_and_valid_ones_never_throttled() {
    BOTH.into_iter().for_each(an_address_fails);
}

fn an_address_fails(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let more = "[limits]\nfailed_signatures_per_client = \"3/hour\"\n";
    let gate = Gate::with(upstream.address, more, Clock::system());
    for _ in 0..3 {
        assert_eq!(spoken.delete(gate.address(), &wrongly_signed()).status, 401);
    }
    let throttled = spoken.delete(gate.address(), &wrongly_signed());
    assert_eq!((throttled.status, throttled.error_code().as_str()), (429, "TooManyRequests"));
    let wait: u64 = throttled.field("Retry-After").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&wait), "one of three an hour is free after 20 minutes: {wait}");

    // Whether the key exists makes no difference for a stranger.
    let unknown = wrongly_signed().replace(&api_key("OWNER"), "NCSNOBODY");
    assert_eq!(spoken.delete(gate.address(), &unknown).body, throttled.body);
    // A request that failed for another reason than its signature is not counted.
    assert_eq!(spoken.delete(gate.address(), "Bearer x").status, 401);

    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 200, "a valid signature from the same address");
    assert_eq!(upstream.deletes(), 1);
    assert!(gate.metrics().contains(r#"saltgate_requests_total{outcome="refused",reason="throttled"} 2"#));
}

#[test]
fn one_key_in_flight_leaves_room_for_the_others() {
    BOTH.into_iter().for_each(one_key_in_flight);
}

fn one_key_in_flight(spoken: Spoken) {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(but_delete(move |stream| {
        let _ = held.lock().unwrap().recv();
        answer(stream, "200 OK", "", "{}");
    }));
    let more = "[limits]\nmax_in_flight = 3\nmax_in_flight_per_key = 1\n[ownership.delegate]\n";
    let mut gate = Gate::with(upstream.address, more, Clock::system());
    let mut first = spoken.connect(gate.address());
    first.send(&Request::delete(&signed("OWNER")));
    until("the first is in flight", || upstream.deletes() == 1);

    let refused = spoken.delete(gate.address(), &signed("OWNER"));
    assert_eq!((refused.status, refused.field("Retry-After")), (429, Some("1")));

    // A reload reads the keys again, and keeps the count of their requests in flight.
    let config = saltgate::parts::Config::load(&gate.files.path());
    gate.gateway().reload(config).unwrap();
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 429);

    let mut other = spoken.connect(gate.address());
    other.send(&Request::delete(&signed("MEMBER")));
    until("another key is in flight", || {
        upstream.deletes() == 2 || upstream.connections.load(std::sync::atomic::Ordering::SeqCst) == 2
    });
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!([&mut first, &mut other].map(|caller| caller.answer().unwrap().status), [200; 2]);
    release.send(()).unwrap();
    assert_eq!(spoken.delete(gate.address(), &signed("OWNER")).status, 200, "the slot came back");
}
