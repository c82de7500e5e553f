//! Whether a secret has been idle: a verdict on what gateways know.

use std::time::{Duration, SystemTime};

use super::{GatewayUses, KEEP_EVERY, SILENT_AFTER};
use crate::clock::rfc3339;

/// A use is known by its minute.
const MINUTE: Duration = Duration::from_secs(60);

/// Why it is not certain that a secret was idle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotIdle {
    /// It was used.
    #[error("it was last used at {}, on {gateway}", minute(.at))]
    Used {
        /// On which gateway.
        gateway: String,
        /// The begin of the minute.
        at: SystemTime,
    },
    /// No gateway has kept when it was used.
    #[error("no gateway has kept when it was used")]
    NoGateway,
    /// Nothing is known of an earlier time.
    #[error("when secrets are used is known since {} only", rfc3339(*.0))]
    NotBefore(SystemTime),
    /// The uses of some time are lost.
    #[error("what was used on {gateway} from {} to {} is not known: it ended without being told to", rfc3339(*.from), rfc3339(*.to))]
    Lost {
        /// Of which gateway.
        gateway: String,
        /// From when.
        from: SystemTime,
        /// To when.
        to: SystemTime,
    },
    /// A gateway has kept nothing for a while.
    #[error("what was used on {gateway} since {} is not known: it has kept nothing since, and was not told to end", rfc3339(*.since))]
    Silent {
        /// Which gateway.
        gateway: String,
        /// Since when.
        since: SystemTime,
    },
}

impl NotIdle {
    /// What to do about it.
    pub(crate) fn advice(&self, span: Duration) -> String {
        let again = |from: SystemTime| format!("try again after {}", rfc3339(from + span));
        match self {
            Self::Used { at, .. } => format!(
                "have its callers sign with the second secret; if nobody uses it any more, {}",
                again(*at + MINUTE)
            ),
            Self::NoGateway => "give the configuration of a gateway that runs, or its directory.file.last_use".into(),
            Self::NotBefore(since) => again(*since),
            Self::Lost { to, .. } => again(*to),
            Self::Silent { since, .. } => {
                format!("its log says why if it runs; if it is gone, {}", again(*since + KEEP_EVERY + MINUTE))
            }
        }
    }
}

fn minute(at: &SystemTime) -> String {
    rfc3339(*at).replace(":00.000Z", "Z")
}

/// Whether none of these gateways, which are all that could be used, has verified a signature by this secret within `span`
/// before `now`.
///
/// # Errors
/// Why that is not certain.
pub(crate) fn idle(
    gateways: &[GatewayUses],
    (api_key, secret): (&str, &str),
    span: Duration,
    now: SystemTime,
) -> Result<(), NotIdle> {
    let begin = now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH);
    let used = gateways.iter().filter_map(|one| Some((one.last(api_key, secret)?, one))).max_by_key(|(at, _)| *at);
    if let Some((at, one)) = used.filter(|(at, _)| *at + MINUTE > begin) {
        return Err(NotIdle::Used { gateway: one.gateway.clone(), at });
    }
    let since = gateways.iter().map(|one| one.since).min().ok_or(NotIdle::NoGateway)?;
    if since > begin {
        return Err(NotIdle::NotBefore(since));
    }
    for GatewayUses { gateway, until, ended, lost, .. } in gateways {
        let gateway = gateway.clone();
        if let Some((from, to)) = lost.filter(|(_, to)| *to > begin) {
            return Err(NotIdle::Lost { gateway, from, to });
        }
        // What ended before the span, with what it may not have kept, cannot have been used within.
        if !ended && *until + SILENT_AFTER < now && *until + KEEP_EVERY + MINUTE > begin {
            return Err(NotIdle::Silent { gateway, since: *until });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(minutes * 60)
    }

    fn gateway(since: u64, until: u64, ended: bool, used: &[u64]) -> GatewayUses {
        let uses = used.iter().map(|minute| (("K".into(), "t".into()), at(*minute))).collect();
        GatewayUses { gateway: "g".into(), since: at(since), until: at(until), ended, lost: None, uses }
    }

    /// Asked in minute 1000 whether the secret was idle for 100 minutes.
    fn asked(gateways: &[GatewayUses]) -> Result<(), NotIdle> {
        idle(gateways, ("K", "t"), Duration::from_secs(100 * 60), at(1000))
    }

    #[test]
    fn a_secret_is_idle_only_if_nobody_can_have_used_it() {
        let g = || "g".to_owned();
        let lost = |to| GatewayUses { lost: Some((at(10), at(to))), ..gateway(0, 1000, false, &[]) };
        let cases = [
            ("never used", vec![gateway(0, 1000, false, &[])], Ok(())),
            ("used before", vec![gateway(0, 1000, false, &[899])], Ok(())),
            (
                "used in the minute",
                vec![gateway(0, 1000, false, &[900])],
                Err(NotIdle::Used { gateway: g(), at: at(900) }),
            ),
            (
                "used on one of two",
                vec![gateway(0, 1000, false, &[]), gateway(0, 1000, false, &[950])],
                Err(NotIdle::Used { gateway: g(), at: at(950) }),
            ),
            ("nobody knows", vec![], Err(NotIdle::NoGateway)),
            ("known for too short a time", vec![gateway(901, 1000, false, &[])], Err(NotIdle::NotBefore(at(901)))),
            ("a gateway is new", vec![gateway(0, 1000, false, &[]), gateway(990, 1000, false, &[])], Ok(())),
            ("one after the other", vec![gateway(0, 950, true, &[]), gateway(951, 1000, false, &[])], Ok(())),
            ("it was told to end", vec![gateway(0, 950, true, &[])], Ok(())),
            (
                "it keeps nothing",
                vec![gateway(0, 950, false, &[])],
                Err(NotIdle::Silent { gateway: g(), since: at(950) }),
            ),
            ("it ended long before", vec![gateway(0, 800, false, &[]), gateway(0, 1000, false, &[])], Ok(())),
            ("uses are lost", vec![lost(901)], Err(NotIdle::Lost { gateway: g(), from: at(10), to: at(901) })),
            ("uses were lost before", vec![lost(900)], Ok(())),
        ];
        for (name, gateways, expected) in cases {
            assert_eq!(asked(&gateways), expected, "{name}");
        }
        let other = gateway(0, 1000, false, &[999]);
        assert_eq!(idle(std::slice::from_ref(&other), ("K", "other"), Duration::from_secs(60), at(1000)), Ok(()));
        assert_eq!(idle(&[other], ("L", "t"), Duration::from_secs(60), at(1000)), Ok(()));
    }
}
