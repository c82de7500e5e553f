//! When each secret last verified a signature, by the minute.
//!
//! Every authenticated request notes it, so it costs a load; a store only once a minute for each secret.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Caller, Directory};
use crate::credential::{SecretSlot, SigningKey};

/// The minute in which a secret was last used. Snapshots that have the same secret share it.
#[derive(Debug, Default)]
pub(super) struct LastUse(OnceLock<Arc<Minutes>>);

/// Minutes since 1970; 0: never.
#[derive(Debug, Default)]
struct Minutes {
    used: AtomicU32,
    /// The use that was collected last.
    collected: AtomicU32,
}

/// The last use of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretUse {
    /// The apiKey.
    pub api_key: Box<str>,
    /// The secret, by its short tag.
    pub secret: Box<str>,
    /// The begin of the minute.
    pub at: SystemTime,
}

fn minute(at: SystemTime) -> u32 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / 60).unwrap_or(u32::MAX)
}

fn time(minute: u32) -> Option<SystemTime> {
    (minute > 0).then(|| UNIX_EPOCH + Duration::from_secs(u64::from(minute) * 60))
}

impl LastUse {
    fn minutes(&self) -> &Arc<Minutes> {
        self.0.get_or_init(Arc::default)
    }

    /// Equal minutes are not stored again, so that workers do not take the cache line from each other.
    fn note(&self, minute: u32) {
        let used = &self.minutes().used;
        if used.load(Ordering::Relaxed) != minute {
            used.store(minute, Ordering::Relaxed);
        }
    }

    fn used(&self) -> u32 {
        self.0.get().map_or(0, |minutes| minutes.used.load(Ordering::Relaxed))
    }
}

impl Caller {
    /// Notes that this secret verified the signature of a request that was not too old.
    pub(crate) fn note_use(&self, secret: SecretSlot, at: SystemTime) {
        self.used[secret as usize].note(minute(at));
    }

    /// The minute in which this secret was last used, as far as this process knows.
    pub(crate) fn last_use(&self, secret: SecretSlot) -> Option<SystemTime> {
        time(self.used[secret as usize].used())
    }

    /// The short tag of this secret, if the key has it.
    pub(crate) fn short_tag(&self, secret: SecretSlot) -> Option<String> {
        self.secret(secret).map(SigningKey::short_tag)
    }

    fn secret(&self, slot: SecretSlot) -> Option<&SigningKey> {
        match slot {
            SecretSlot::First => Some(&self.signing),
            SecretSlot::Second => self.second.as_deref(),
        }
    }

    /// Shares the last use of each secret with the same secret of `before`, whichever of the two it was there.
    pub(super) fn inherit_use(&self, before: &Self) {
        for slot in SecretSlot::BOTH {
            let Some(secret) = self.secret(slot) else { continue };
            let same = |slot: &SecretSlot| before.secret(*slot).is_some_and(|other| other.same_block(secret));
            if let Some(same) = SecretSlot::BOTH.into_iter().find(same) {
                // The value cannot be set already: nobody uses this snapshot yet.
                let _ = self.used[slot as usize].0.set(before.used[same as usize].minutes().clone());
            }
        }
    }
}

/// How long a use counts as recent.
const RECENTLY: Duration = Duration::from_secs(24 * 3600);

impl Directory {
    /// How many keys have two secrets of which the old one was used within 24 hours, by when it ends.
    pub(crate) fn old_secrets_used(&self, now: SystemTime) -> [(&'static str, usize); 3] {
        let mut counts = [("within_24h", 0), ("later", 0), ("never", 0)];
        for caller in self.callers().filter(|caller| caller.second.is_some() && caller.is_active(now)) {
            let used = caller.last_use(SecretSlot::First).is_some_and(|at| at + RECENTLY > now);
            if used && caller.is_accepted(SecretSlot::First, now) {
                let ends = caller.secret_expires(SecretSlot::First);
                counts[ends.map_or(2, |at| usize::from(at > now + RECENTLY))].1 += 1;
            }
        }
        counts
    }

    /// The last uses that were not collected before.
    pub(crate) fn collect_uses(&self) -> Vec<SecretUse> {
        let mut uses = Vec::new();
        for caller in self.callers() {
            for slot in SecretSlot::BOTH {
                let Some(minutes) = caller.used[slot as usize].0.get() else { continue };
                let used = minutes.used.load(Ordering::Relaxed);
                if minutes.collected.swap(used, Ordering::Relaxed) == used {
                    continue;
                }
                if let (Some(at), Some(secret)) = (time(used), caller.short_tag(slot)) {
                    uses.push(SecretUse { api_key: caller.api_key.clone(), secret: secret.into(), at });
                }
            }
        }
        uses
    }

    /// Takes up last uses that were kept, where nothing later is known.
    pub(crate) fn remember_uses<'u>(&self, uses: impl IntoIterator<Item = &'u SecretUse>) {
        for kept in uses {
            let Some(caller) = self.caller(&kept.api_key) else { continue };
            for slot in SecretSlot::BOTH {
                if caller.short_tag(slot).as_deref() == Some(&*kept.secret) {
                    caller.used[slot as usize].minutes().used.fetch_max(minute(kept.at), Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Secret;
    use crate::directory::KeyEntry;
    use crate::policy::Owner;

    const OLD: &str = "the old secret, long enough";
    const NEW: &str = "the new secret, long enough";

    fn directory(keys: &[(&str, &[&str])]) -> Directory {
        let entry = |(api_key, secrets): &(&str, &[&str])| KeyEntry {
            api_key: (*api_key).into(),
            secrets: secrets.iter().map(|secret| Secret::new(secret.as_bytes()).unwrap()).collect(),
            owner: Owner { account: "a".into(), member: "m".into() },
            role: None,
            active: true,
            expires: None,
            secret_1_expires: None,
            line: 1,
        };
        Directory::new(keys.iter().map(entry)).unwrap()
    }

    fn at(minute: u64, second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(minute * 60 + second)
    }

    fn used(directory: &Directory, api_key: &str) -> [Option<SystemTime>; 2] {
        SecretSlot::BOTH.map(|slot| directory.caller(api_key).unwrap().last_use(slot))
    }

    #[test]
    fn the_last_use_is_that_of_the_secret_wherever_it_stands() {
        let before = directory(&[("K", &[OLD, NEW]), ("L", &["another secret, long enough"])]);
        let caller = before.caller("K").unwrap();
        assert_eq!(used(&before, "K"), [None, None]);
        caller.note_use(SecretSlot::First, at(7, 59));
        caller.note_use(SecretSlot::Second, at(9, 1));
        assert_eq!(used(&before, "K"), [Some(at(7, 0)), Some(at(9, 0))]);
        assert_eq!(used(&before, "L"), [None, None]);
        // Promoted: the second is the first now, and a request that is still judged by the snapshot of before counts, too.
        let after = directory(&[("K", &[NEW])]);
        after.inherit(&before);
        caller.note_use(SecretSlot::Second, at(10, 0));
        assert_eq!(used(&after, "K"), [Some(at(10, 0)), None]);
        let other = directory(&[("K", &["a third secret, long enough"])]);
        other.inherit(&before);
        assert_eq!(used(&other, "K"), [None, None], "another secret was never used");
        // A clock that was set ahead for a while has no effect that stays.
        after.caller("K").unwrap().note_use(SecretSlot::First, at(4_000_000, 0));
        after.caller("K").unwrap().note_use(SecretSlot::First, at(11, 0));
        assert_eq!(used(&after, "K")[0], Some(at(11, 0)));
    }

    #[test]
    fn old_secrets_that_were_used_within_a_day_are_counted_by_their_end() {
        const DAY: u64 = 24 * 60;
        let now = at(10 * DAY, 0);
        let counted = |secrets: &[&str], ends: Option<u64>, used: Option<u64>| {
            let entry = |number: usize, secret: &&str| Secret::new(format!("{secret} {number}").as_bytes()).unwrap();
            let directory = Directory::new([KeyEntry {
                api_key: "K".into(),
                secrets: secrets.iter().enumerate().map(|(number, secret)| entry(number, secret)).collect(),
                owner: Owner { account: "a".into(), member: "m".into() },
                role: None,
                active: true,
                expires: None,
                secret_1_expires: ends.map(|minute| at(minute, 0)),
                line: 1,
            }])
            .unwrap();
            let caller = directory.caller("K").unwrap();
            caller.note_use(SecretSlot::Second, now);
            used.into_iter().for_each(|minute| caller.note_use(SecretSlot::First, at(minute, 0)));
            directory.old_secrets_used(now).map(|(_, count)| count)
        };
        let (both, recent) = ([OLD, NEW], Some(9 * DAY + 1));
        assert_eq!(counted(&both, None, recent), [0, 0, 1]);
        assert_eq!(counted(&both, Some(11 * DAY + 1), recent), [0, 1, 0]);
        assert_eq!(counted(&both, Some(11 * DAY), recent), [1, 0, 0]);
        assert_eq!(counted(&both, Some(10 * DAY), recent), [0; 3], "it has ended");
        assert_eq!(counted(&both, None, Some(9 * DAY)), [0; 3], "a day ago");
        assert_eq!(counted(&both, None, None), [0; 3]);
        assert_eq!(counted(&both[..1], None, recent), [0; 3], "it is the only one");
    }

    #[test]
    fn uses_are_collected_once_and_remembered_by_the_tag_of_their_secret() {
        let one = directory(&[("K", &[OLD, NEW])]);
        assert_eq!(one.collect_uses(), []);
        one.caller("K").unwrap().note_use(SecretSlot::Second, at(5, 0));
        let uses = one.collect_uses();
        let tag = one.caller("K").unwrap().short_tag(SecretSlot::Second).unwrap();
        assert_eq!(tag.len(), 8);
        assert_eq!(uses, [SecretUse { api_key: "K".into(), secret: tag.into(), at: at(5, 0) }]);
        assert_eq!(one.collect_uses(), [], "nothing is new");
        let other = directory(&[("K", &[NEW]), ("L", &[OLD])]);
        other.remember_uses(&uses);
        assert_eq!((used(&other, "K"), used(&other, "L")), ([Some(at(5, 0)), None], [None, None]));
        other.caller("K").unwrap().note_use(SecretSlot::First, at(6, 0));
        other.remember_uses(&uses);
        assert_eq!(used(&other, "K")[0], Some(at(6, 0)), "what is later stays");
    }
}
