//! `Retry-After` makes clients resend the same header, so it is sent only if that header will be valid then.

use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Gate, Upstream, salt, service, signed_at};
use crate::http::Answer;
use crate::spoken::{BOTH, Spoken};

const SECOND: Duration = Duration::from_secs(1);

fn message(answer: &Answer) -> String {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 2, "exactly errorCode and errorMessage: {body}");
    body["errorMessage"].as_str().unwrap().to_owned()
}

#[test]
fn a_refusal_for_a_spent_budget_says_when_to_sign_again() {
    BOTH.into_iter().for_each(spent_budget);
}

fn spent_budget(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (clock, time) = Clock::manual(Clock::system().now());
    let gate = Gate::with(upstream.address, "[budget]\nper_key = \"1/hour\"\n", clock.clone());
    let delete = || spoken.delete(gate.address(), &signed_at("OWNER", clock.now(), &salt()));
    assert_eq!(delete().status, 200);
    time.advance(4 * SECOND);
    let refused = delete();
    assert_eq!((refused.status, refused.field("Retry-After")), (429, None));
    assert_eq!(
        message(&refused),
        "The deletion budget is spent; nothing was deleted. Sign a new request after 3596 seconds."
    );
    time.advance(3596 * SECOND);
    assert_eq!(delete().status, 200, "as it was told");
}

#[test]
fn a_wait_that_outlasts_the_header_has_no_retry_after() {
    BOTH.into_iter().for_each(outlasting_wait);
}

fn outlasting_wait(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (clock, time) = Clock::manual(Clock::system().now());
    let more = "[authentication]\nwindow_past = \"30s\"\n[limits]\nspent_per_key = \"5/minute\"\n";
    let gate = Gate::with(upstream.address, more, clock.clone());
    let delete = |header: &str| spoken.delete(gate.address(), header);
    let signed = |ago: Duration| signed_at("OWNER", clock.now() - ago, &salt());
    for _ in 0..5 {
        assert_eq!(delete(&signed(Duration::ZERO)).status, 200);
    }
    // At five a minute, one is free after twelve seconds.
    let (good, late) = (signed(17 * SECOND), signed(18 * SECOND));
    let refused = delete(&good);
    assert_eq!((refused.status, refused.field("Retry-After")), (429, Some("12")), "{}", refused.body);
    assert_eq!(message(&refused), "This key sends requests faster than it may.");
    let refused = delete(&late);
    assert_eq!((refused.status, refused.field("Retry-After")), (429, None));
    assert_eq!(message(&refused), "This key sends requests faster than it may. Sign a new request after 12 seconds.");
    time.advance(12 * SECOND);
    assert_eq!(delete(&late).status, 401, "too old by now");
    assert_eq!(delete(&good).status, 200, "the same header");
}

#[test]
fn a_full_store_and_a_fence_say_when_a_header_can_pass() {
    BOTH.into_iter().for_each(full_memory_and_fence);
}

fn full_memory_and_fence(spoken: Spoken) {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (clock, time) = Clock::manual(Clock::system().now());
    let more = "[replay.memory]\nwhen_new = \"fence\"\nmax_salts = 1\nmax_salts_per_key = 1\n";
    let gate = Gate::with(upstream.address, more, clock.clone());
    let delete = |header: &str| spoken.delete(gate.address(), header);
    let signed = |role, ago: Duration| signed_at(role, clock.now() - ago, &salt());
    let early = signed("OWNER", Duration::ZERO);
    time.advance(SECOND);
    let fenced = delete(&early);
    assert_eq!((fenced.status, fenced.field("Retry-After")), (503, None));
    assert!(message(&fenced).ends_with(" Sign a new request after 899 seconds."), "{}", fenced.body);
    time.advance(899 * SECOND);
    assert_eq!(delete(&early).status, 401, "waiting does not help it");
    assert_eq!(delete(&signed("OWNER", Duration::ZERO)).status, 401, "at the floor itself");
    time.advance(SECOND);
    assert_eq!(delete(&signed("OWNER", Duration::ZERO)).status, 200, "a new one passes");

    // The store is full now. Waiting a second is no problem for most headers, but it is for one that is about to
    // expire.
    let full = delete(&signed("MEMBER", Duration::ZERO));
    assert_eq!((full.status, full.field("Retry-After")), (503, Some("1")), "{}", full.body);
}
