//! Which answers must not differ, and which may ask for the same header again.

use std::time::Duration;

use super::*;

#[test]
fn nothing_refused_after_the_salt_was_spent_is_503() {
    use RefusedAfterSpend as R;
    for refused in [
        R::SaltReused,
        R::DateSkewed,
        R::BelowFloor,
        R::ClaimUnknown,
        R::Revoked(Revoked::InactiveKey),
        R::RouteNotFound,
        R::MethodNotAllowed("DELETE"),
        R::Frozen,
        R::BudgetSpent(Duration::from_secs(1)),
        R::BudgetUnknown,
        R::AutomationsLinked(Box::new(Linked { automations: Vec::new(), confirm: String::new() })),
        R::AutomationsUnavailable,
        R::AutomationsTimeout,
        R::RoleInsufficient,
        R::NotCreator,
        R::SegmentNotFound,
        R::PreconditionFailed,
        R::OwnershipUnavailable,
        R::OwnershipTimeout,
        R::RecordUnavailable,
        R::Internal,
    ] {
        for header in [Remaining::Unknown, Remaining::For(Duration::MAX), Remaining::Never] {
            let answer = refused.answer(header);
            assert_ne!(answer.status, 503, "{refused:?}");
            assert_eq!(answer.retry_after(), None, "{refused:?}: its header is spent");
            // A spent budget says when a new request may come; everything else asks for none.
            let is_spent = matches!(refused, R::BudgetSpent(_));
            assert_eq!(answer.wait_seconds().is_some(), is_spent, "{refused:?}");
        }
    }
}

#[test]
fn every_failed_authentication_and_missing_permission_gets_the_same_bytes() {
    let before = [
        Refused::MissingCredentials,
        Refused::RepeatedCredentials,
        Refused::MalformedCredentials,
        Refused::UnsupportedScheme,
        Refused::UnknownKey,
        Refused::InactiveKey,
        Refused::SignatureMismatch,
        Refused::DateSkewed,
        Refused::BelowFloor,
        Refused::SaltReused,
    ];
    assert!(before.iter().all(|r| r.answer(Remaining::Unknown) == Answer::UNAUTHORIZED));
    let after = [
        RefusedAfterSpend::SaltReused,
        RefusedAfterSpend::Revoked(Revoked::UnknownKey),
        RefusedAfterSpend::RoleInsufficient,
        RefusedAfterSpend::NotCreator,
    ];
    assert!(after.iter().all(|r| r.answer(Remaining::Unknown) == Answer::UNAUTHORIZED));
}

#[test]
fn retry_after_is_sent_only_if_the_same_header_will_be_valid() {
    let wait = Duration::from_millis(59_001);
    let long = Duration::from_secs(61);
    let refused: [(&str, &dyn Fn(Remaining) -> Answer); 3] = [
        ("key", &|header| Refused::KeySpendsTooFast(wait).answer(header)),
        ("share", &|header| Refused::KeyShareSpent.answer(header)),
        ("share of the fleet", &|header| RefusedAfterSpend::KeyShareSpent.answer(header)),
    ];
    for (name, answer) in refused {
        let good = answer(Remaining::For(long));
        assert_eq!((good.retry_after(), good.message().contains("Sign")), (Some(60), false), "{name}");
        let dated_by_then = answer(Remaining::For(Duration::from_secs(60)));
        assert_eq!(dated_by_then.retry_after(), None, "{name}");
        assert!(dated_by_then.message().ends_with(" Sign a new request after 60 seconds."), "{name}");
    }
    for refused in [
        Refused::KeyBusy,
        Refused::HeaderBusy,
        Refused::Overloaded,
        Refused::ReplayFull,
        Refused::ReplayUnavailable,
        Refused::RecordUnavailable,
    ] {
        assert_eq!(refused.answer(Remaining::For(long)).retry_after(), Some(1), "{refused:?}");
        let late = refused.answer(Remaining::For(Duration::from_millis(900)));
        assert_eq!(late.retry_after(), None, "{refused:?}");
        assert!(late.message().ends_with(" Sign a new request after 1 second."), "{refused:?}");
    }
    let fenced = Refused::Fenced(wait).answer(Remaining::For(Duration::MAX));
    assert_eq!(fenced.retry_after(), None, "what is below the floor stays there");
    assert!(fenced.message().ends_with(" Sign a new request after 60 seconds."));
}
