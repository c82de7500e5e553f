//! What one caller may take from the others.

use saltgate::clock::Clock;

use super::harness::*;

/// Not this key's secret.
fn wrongly_signed() -> String {
    let good = signed("OWNER");
    let (head, signature) = good.split_at(good.len() - 64);
    format!("{head}{}", if signature.starts_with('0') { signature.replace('0', "1") } else { "0".repeat(64) })
}

#[test]
fn an_address_fails_so_often_and_its_valid_signatures_are_never_throttled() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let more = "[limits]\nfailed_signatures_per_client = \"3/hour\"\n";
    let gate = Gate::with(upstream.address, more, Clock::system());
    for _ in 0..3 {
        assert_eq!(gate.delete(&wrongly_signed()).status, 401);
    }
    let throttled = gate.delete(&wrongly_signed());
    assert_eq!((throttled.status, throttled.error_code().as_str()), (429, "TooManyRequests"));
    let wait: u64 = throttled.field("Retry-After").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&wait), "one of three an hour is free after 20 minutes: {wait}");

    // What is known of the key makes no difference to a stranger.
    let unknown = wrongly_signed().replace(&api_key("OWNER"), "NCSNOBODY");
    assert_eq!(gate.delete(&unknown).body, throttled.body);
    // What failed for another reason than its signature was never asked about.
    assert_eq!(gate.delete("Bearer x").status, 401);

    assert_eq!(gate.delete(&signed("OWNER")).status, 200, "a valid signature from the same address");
    assert_eq!(upstream.deletes(), 1);
    assert!(gate.metrics().contains(r#"saltgate_requests_total{outcome="refused",reason="throttled"} 2"#));
}

#[test]
fn one_key_in_flight_leaves_room_for_the_others() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(but_delete(move |stream| {
        let _ = held.lock().unwrap().recv();
        answer(stream, "200 OK", "", "{}");
    }));
    let more = "[limits]\nmax_in_flight = 3\nmax_in_flight_per_key = 1\n[ownership.delegate]\n";
    let mut gate = Gate::with(upstream.address, more, Clock::system());
    let mut first = Kept::to(gate.address());
    first.send(&signed("OWNER"));
    until("the first is in flight", || upstream.deletes() == 1);

    let refused = gate.delete(&signed("OWNER"));
    assert_eq!((refused.status, refused.field("Retry-After")), (429, Some("1")));

    // A reload reads the keys anew, and forgets nothing of what they have in flight.
    let config = saltgate::config::Config::load(&gate.files.path());
    gate.gateway().reload(config).unwrap();
    assert_eq!(gate.delete(&signed("OWNER")).status, 429);

    let mut other = Kept::to(gate.address());
    other.send(&signed("MEMBER"));
    until("another key is in flight", || {
        upstream.deletes() == 2 || upstream.connections.load(std::sync::atomic::Ordering::SeqCst) == 2
    });
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!((first.status(), other.status()), (200, 200));
    release.send(()).unwrap();
    assert_eq!(gate.delete(&signed("OWNER")).status, 200, "the slot came back");
}
