//! One check of one server: what it says of itself, and whether its history is attested.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use redis::Value;
use tokio::time::timeout;

use super::OnFailover;
use super::about::{self, Counted, Expected};
use super::rights;
use super::script::{self, Verdict};
use super::server::{Server, Trouble};
use super::shared::{SLOW_TIMEOUT, Shared, millis};
use crate::clock::rfc3339;
use crate::replay::{WhenNew, Window};

/// How many slots one pipeline attests, so that claims can run in between.
const AT_ONCE: usize = 256;

/// A server as of the last check.
#[derive(Clone)]
pub(super) struct Seen {
    run: String,
    history: String,
    slots: Vec<u16>,
    /// The epoch of the failover that made it the master.
    epoch: Option<u64>,
    /// Its clock minus elapsed time, in milliseconds.
    clock: i64,
    pub(super) held: usize,
    pub(super) out_of_memory: bool,
}

/// What a check found, and whether the server may be used.
pub(super) type Look = (Seen, Result<(), Trouble>);

/// One check of one server.
pub(super) struct Examination<'a> {
    pub(super) shared: &'a Shared,
    pub(super) server: &'a Server,
    pub(super) known: &'a std::sync::Mutex<Vec<bool>>,
    pub(super) round: usize,
    /// The epoch of the failover that made it the master.
    pub(super) epoch: Option<u64>,
}

impl Examination<'_> {
    pub(super) async fn run(&self, before: Option<Seen>, slots: Vec<u16>) -> Result<Look, Trouble> {
        // Cleared first, so that a doubt raised by a claim during this check causes another check.
        let in_doubt = self.server.in_doubt.swap(false, Ordering::AcqRel);
        let looked = self.look(before, slots, in_doubt).await;
        if looked.is_err() && in_doubt {
            self.server.in_doubt.store(true, Ordering::Release);
        }
        looked
    }

    async fn look(&self, before: Option<Seen>, slots: Vec<u16>, in_doubt: bool) -> Result<Look, Trouble> {
        let fresh = self.server.connected().is_none();
        let limit = self.shared.settings.timeout;
        let mut connection = self.server.connection(SLOW_TIMEOUT.max(limit)).await?;
        if fresh {
            // If the watcher's connection ended, the workers' connections have ended, too.
            self.server.disconnect_others();
        }
        let number = self.shared.numbers.next();
        let expected = Expected::of(&self.shared.settings);
        let about = about::ask(&mut connection, &self.server.address, expected, number, limit).await?;
        let asked = self.shared.clock.now();
        let Counted { time, keys } = about::count(&mut connection, number, limit).await?;
        let times = (asked, self.shared.clock.now());
        let elapsed = i64::try_from(self.shared.clock.elapsed().as_millis()).unwrap_or(i64::MAX);
        let seen = Seen {
            run: about.run,
            history: about.history,
            clock: time.saturating_sub(elapsed),
            held: keys.saturating_sub(slots.len()),
            // Two percent are left for claims that are under way.
            out_of_memory: about.most > 0 && about.used >= about.most - about.most / 50,
            slots,
            epoch: self.epoch,
        };
        if is_new_run(before.as_ref(), &seen.run) && self.shared.settings.sentinel.is_some() && !about.needs_replicas {
            tracing::warn!(server = %self.server, "min-replicas-to-write is 0: a master that is cut off from its replicas goes on taking writes, and only the Sentinels' word ends its use; set it to 1 on every server");
        }
        let margin = i64::try_from(millis(self.shared.settings.clock_margin)).unwrap_or(i64::MAX);
        let same_run = before.as_ref().filter(|before| before.run == seen.run);
        if same_run.is_some_and(|before| seen.clock.saturating_sub(before.clock) > margin) {
            self.server.jumped.store(true, Ordering::Release);
        }
        // Until it was fenced for that, by a clock that agrees with its own.
        let jumped = self.server.jumped.load(Ordering::Acquire);
        let changed = before.as_ref().is_none_or(|old| {
            old.run != seen.run || old.history != seen.history || old.slots != seen.slots || old.epoch != seen.epoch
        });
        if in_doubt || jumped || changed {
            self.attest(&seen.slots, jumped).await?;
            self.server.jumped.store(false, Ordering::Release);
        } else if let Some(sample) = seen.slots.get(self.round % seen.slots.len().max(1)) {
            // One slot stands for all of a server: a server loses all its data or none.
            if self.attest(&[*sample], false).await? {
                self.attest(&seen.slots, false).await?;
            }
        }
        if self.shared.settings.fleet_shares && is_new_run(before.as_ref(), &seen.run) {
            rights::try_counting(&mut connection, &self.shared.keys, SLOW_TIMEOUT).await?;
        }
        // After the attestation, so that nothing is counted by a clock that has jumped before that has fenced.
        self.server.shows(seen.clock);
        // After it as well, so that a jump fences once and not at every check.
        let fares = self.judge_clock(time, times);
        Ok((seen, fares))
    }

    /// Judges the server's time, which it read between two readings of the gateway's clock: waiting is no difference.
    fn judge_clock(&self, time: i64, (asked, answered): (SystemTime, SystemTime)) -> Result<(), Trouble> {
        let (asked, answered) = (unix(asked).cast_signed(), unix(answered).cast_signed());
        let apart = (asked - time).max(time - answered).max(0).unsigned_abs();
        if apart > millis(self.shared.settings.clock_margin) {
            return Err(Trouble::OutOfReach(format!("its clock and the gateway's differ by {apart} ms")));
        }
        Ok(())
    }

    /// Attests these slots, but those that are being moved and whose marker is on another server already: claims in them are
    /// refused until they have moved. Returns whether any was not attested before.
    async fn attest(&self, slots: &[u16], force: bool) -> Result<bool, Trouble> {
        let Shared { settings, keys, attest, .. } = self.shared;
        let mut connection = self.server.connection(SLOW_TIMEOUT).await?;
        let late = |_| Trouble::OutOfReach("its slots were not attested in time".into());
        let (mut raised, mut highest) = (0_usize, SystemTime::UNIX_EPOCH);
        for some in slots.chunks(AT_ONCE) {
            // Anew for each part: what has waited for long is refused.
            let now = self.shared.clock.now();
            let (fenced, accepted) = (script::digits(self.shared.fence(now)), script::digits(SystemTime::UNIX_EPOCH));
            let lost = match settings.on_failover {
                OnFailover::Fence => &fenced,
                OnFailover::DangerAccept => &accepted,
            };
            let new = match settings.when_new {
                WhenNew::Fence => &fenced,
                WhenNew::Accept => &accepted,
            };
            let mut ask = redis::pipe();
            let number = self.shared.numbers.next();
            // What is answered to each slot is looked at.
            ask.ignore_errors().load_script(attest);
            for &slot in some {
                let known = super::server::unpoisoned(self.known).get(usize::from(slot)).is_some_and(|known| *known);
                let missing = if known || force { lost } else { new };
                let mut one = attest.key(keys.epoch_marker(slot.into()));
                one.arg(millis(settings.window.past)).arg(millis(settings.window.future));
                one.arg(missing).arg(lost).arg(u8::from(force)).arg(number.to_string()).arg(script::epoch(self.epoch));
                one.arg(unix(now)).arg(millis(settings.clock_margin));
                ask.invoke_script(&one);
            }
            let answers: Vec<Value> = timeout(SLOW_TIMEOUT, ask.query_async(&mut connection)).await.map_err(late)??;
            let Some((loaded, answers)) = answers.split_first().filter(|(_, answers)| answers.len() == some.len())
            else {
                return Err(Trouble::OutOfSync);
            };
            loaded.clone().extract_error()?;
            for (answer, &slot) in answers.iter().zip(some) {
                // One that is to be fenced in any case must be reached.
                if !force && is_moving(answer) {
                    continue;
                }
                answer.clone().extract_error()?;
                let key = keys.epoch_marker(slot.into());
                let (floor, is_news) = match Verdict::read(answer, &key, number) {
                    Verdict::Attested(floor) => (floor, false),
                    Verdict::Raised(floor) => (floor, true),
                    Verdict::OtherWindow(theirs) => return Err(self.other_window(theirs)),
                    Verdict::Version => {
                        return Err(Trouble::Misconfigured(format!(
                            "holds a {key} of a newer version, of another program, or of gateways that find it by Sentinel"
                        )));
                    }
                    Verdict::Later(later) => return Err(self.later(&key, later)),
                    Verdict::Clock => {
                        let margin = millis(settings.clock_margin);
                        return Err(Trouble::OutOfReach(format!(
                            "is to be fenced, and its clock and the gateway's differ by more than {margin} ms"
                        )));
                    }
                    Verdict::Spent
                    | Verdict::Reused(_)
                    | Verdict::Floor(_)
                    | Verdict::Forgot
                    | Verdict::Full
                    | Verdict::KeyShare
                    | Verdict::OutOfSync => return Err(Trouble::OutOfSync),
                };
                raised += usize::from(is_news);
                self.shared.raise_floor(slot.into(), floor);
                highest = highest.max(floor);
                if let Some(known) = super::server::unpoisoned(self.known).get_mut(usize::from(slot)) {
                    *known = true;
                }
            }
        }
        if raised > 0 {
            let (server, floor) = (self.server, highest);
            if floor > self.shared.clock.now() {
                tracing::warn!(%server, slots = raised, until = rfc3339(floor), "Redis is new, or lost its data: fenced; nothing signed before then is admitted by it");
            } else {
                tracing::warn!(%server, slots = raised, "Redis is new, or lost its data, and the settings accept that: salts spent before can be replayed");
            }
        }
        Ok(raised > 0)
    }

    /// Another gateway knew of a later failover. The Sentinels or the cluster will tell, unless they were set up anew.
    fn later(&self, key: &str, later: u64) -> Trouble {
        let ours = self.epoch.unwrap_or_default();
        let who = if self.shared.settings.cluster { "the cluster says" } else { "the Sentinels say" };
        Trouble::OutOfReach(format!(
            "was the master since failover {later}, and {who} {ours}; if they were set up anew and count from 0 again, delete \
             the key {key}, which fences it"
        ))
    }

    fn other_window(&self, theirs: Window) -> Trouble {
        let ours = self.shared.settings.window;
        Trouble::Misconfigured(format!(
            "is used by gateways with another window: theirs is window_past = {} ms, window_future = {} ms, ours is {} ms, \
             {} ms; all gateways that share a prefix must have the same window",
            millis(theirs.past),
            millis(theirs.future),
            millis(ours.past),
            millis(ours.future)
        ))
    }
}

/// Whether a marker is not there because its slot is being moved.
fn is_moving(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "ASK")
}

/// A wall-clock time in milliseconds since 1970.
fn unix(at: SystemTime) -> u64 {
    millis(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// Whether a server is seen for the first time since it started.
fn is_new_run(before: Option<&Seen>, run: &str) -> bool {
    before.is_none_or(|before| before.run != run)
}
