//! A claim: one script on the server that holds the salt's key, and what its verdict means.
//!
//! A claim is sent again, until its timeout, only if the server's own error says that it did not run: then nothing of it
//! was executed. A claim without an answer is never sent again.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{RedisError, Value};
use tokio::time::{sleep, timeout};

use super::script::{self, Verdict};
use super::server::{Server, Trouble};
use super::shared::{Shared, millis};
use super::slot_map::SlotMap;
use crate::credential::SaltId;
use crate::replay::ledger::KeyTag;
use crate::replay::{ClaimRefused, Mark, OutOfWindow, Reservation, Window};

/// How long a claim waits for another server before it is sent again.
const PAUSE: Duration = Duration::from_millis(10);

/// The errors by which Redis says that a command was not executed, and whether the server is of no use to others either.
const NOT_EXECUTED: [(&str, bool); 9] = [
    // A replica: the master is another one now.
    ("READONLY", true),
    ("MASTERDOWN", true),
    ("LOADING", true),
    ("NOREPLICAS", true),
    ("MISCONF", true),
    ("CLUSTERDOWN", true),
    // The slot is, or will be, on another server. A server that imports a slot answers TRYAGAIN to two keys of which one
    // is missing, as the key of an unspent salt is: so the watcher follows, once the slot has moved.
    ("MOVED", false),
    ("ASK", false),
    ("TRYAGAIN", false),
];

/// One salt to spend.
struct Asked<'a> {
    key: &'a str,
    slot: usize,
    date: SystemTime,
    mark: Mark,
}

/// The answer to one attempt.
enum Attempt {
    Verdict(Verdict),
    /// The server did not run it.
    NotExecuted(Trouble, bool),
    Failed(Trouble),
}

impl Shared {
    pub(super) async fn spend(
        &self,
        reservation: Reservation,
        salt: SaltId,
        date: SystemTime,
        window: Window,
        mark: Mark,
    ) -> Result<(), ClaimRefused> {
        let key = self.keys.salt(salt);
        let asked = Asked { slot: self.keys.slot(&key), key: &key, date, mark };
        let deadline = self.clock.elapsed() + self.settings.timeout;
        let mut map = self.map.load_full();
        loop {
            let server = map.owner(asked.slot).ok_or(ClaimRefused::Unknown)?;
            let now = self.clock.now();
            // The script knows the floor better; this check saves a round trip.
            window.judge(date, now, self.floor(asked.slot)).map_err(ClaimRefused::OutOfWindow)?;
            // After `now` is read: the date was in the window while the server was the master.
            if !map.is_in_force(self.clock.elapsed()) {
                return Err(ClaimRefused::Unknown);
            }
            let left = deadline.saturating_sub(self.clock.elapsed());
            let attempt = match timeout(left, self.ask(server, &map, &asked, now, reservation.key())).await {
                Ok(attempt) => attempt,
                Err(_) => Attempt::Failed(Trouble::OutOfReach(format!(
                    "no answer within {} ms",
                    self.settings.timeout.as_millis()
                ))),
            };
            match attempt {
                Attempt::Verdict(verdict) => return self.judge(server, verdict, reservation, &asked, now),
                Attempt::Failed(trouble) => {
                    self.count(reservation, date, now);
                    self.failed(server, trouble);
                    return Err(ClaimRefused::Unknown);
                }
                Attempt::NotExecuted(trouble, for_all) => {
                    if for_all {
                        // A name may belong to another server by now.
                        server.disconnect_all();
                        self.failed(server, trouble);
                    } else {
                        self.wake.notify_one();
                    }
                }
            }
            map = self.another(asked.slot, deadline).await.ok_or(ClaimRefused::Unknown)?;
        }
    }

    /// Waits until the slot has a server in use. `None` if there is none before the deadline.
    async fn another(&self, slot: usize, deadline: Duration) -> Option<std::sync::Arc<SlotMap>> {
        loop {
            if self.clock.elapsed() + PAUSE >= deadline {
                return None;
            }
            sleep(PAUSE).await;
            let map = self.map.load_full();
            let is_usable = map.owner(slot).is_some_and(|server| server.is_usable());
            if is_usable && map.is_in_force(self.clock.elapsed()) {
                return Some(map);
            }
        }
    }

    /// What a verdict means.
    fn judge(
        &self,
        server: &Server,
        verdict: Verdict,
        reservation: Reservation,
        asked: &Asked<'_>,
        now: SystemTime,
    ) -> Result<(), ClaimRefused> {
        let trouble = match verdict {
            // Spent by this very claim, of which an error said that it was not executed: the error was another's.
            Verdict::Reused(Some(mark)) if mark == asked.mark => {
                server.disconnect();
                Some(Trouble::OutOfSync)
            }
            Verdict::KeyShare => return Err(ClaimRefused::KeyShare),
            Verdict::Reused(mark) => return Err(mark.map_or(ClaimRefused::Reused, ClaimRefused::ReusedBy)),
            Verdict::Floor(floor) => {
                self.raise_floor(asked.slot, floor);
                self.wake.notify_one();
                return Err(ClaimRefused::OutOfWindow(OutOfWindow::BelowFloor));
            }
            Verdict::Full => {
                self.out_of_memory.store(true, Ordering::Relaxed);
                self.wake.notify_one();
                return Err(ClaimRefused::Unknown);
            }
            Verdict::Spent => None,
            Verdict::OutOfSync => {
                server.disconnect();
                Some(Trouble::OutOfSync)
            }
            other @ (Verdict::Attested(_)
            | Verdict::Raised(_)
            | Verdict::Forgot
            | Verdict::Later(_)
            | Verdict::OtherWindow(_)
            | Verdict::Clock
            | Verdict::Version) => {
                server.in_doubt.store(true, Ordering::Release);
                Some(Trouble::OutOfReach(format!("a claim got the unexpected reply {other:?}")))
            }
        };
        self.count(reservation, asked.date, now);
        match trouble {
            None => Ok(()),
            Some(trouble) => {
                self.failed(server, trouble);
                Err(ClaimRefused::Unknown)
            }
        }
    }

    /// Counts the salt in its key's share. One that may have been spent counts, too.
    fn count(&self, reservation: Reservation, date: SystemTime, now: SystemTime) {
        let (generation, period) = self.generation(self.life(date, now));
        self.periods[generation].fetch_max(period, Ordering::AcqRel);
        reservation.hold(generation);
    }

    async fn ask(&self, server: &Server, map: &SlotMap, asked: &Asked<'_>, now: SystemTime, of: KeyTag) -> Attempt {
        let mut connection = match server.connection(self.settings.timeout).await {
            Ok(connection) => connection,
            Err(trouble) => return Attempt::Failed(trouble),
        };
        let window = self.settings.window;
        let life = self.life(asked.date, now).as_millis() + 1;
        let number = self.numbers.next();
        let mut claim = self.claim.key(asked.key);
        claim.key(self.keys.epoch_marker(asked.slot)).arg(script::digits(asked.date));
        if self.settings.fleet_shares {
            claim.key(self.keys.share(of));
        }
        claim.arg(u64::try_from(life).unwrap_or(u64::MAX)).arg(millis(window.past)).arg(millis(window.future));
        claim.arg(millis(now.duration_since(UNIX_EPOCH).unwrap_or_default()));
        claim.arg(millis(self.settings.clock_margin)).arg(number.to_string()).arg(asked.mark.text());
        claim.arg(script::epoch(map.epoch(asked.slot)));
        if self.settings.fleet_shares {
            claim.arg(self.settings.room.max_salts_per_key);
        }
        // A missing script was not executed: it is loaded, and the claim sent again.
        let answer: Result<Value, RedisError> = claim.invoke_async(&mut connection).await;
        let error = match answer {
            Ok(answer) => {
                server.answered(self.clock.elapsed());
                return Attempt::Verdict(Verdict::read(&answer, asked.key, number));
            }
            Err(error) => error,
        };
        if error.code() == Some("OOM") {
            return Attempt::Verdict(Verdict::Full);
        }
        if error.is_unrecoverable_error() {
            server.disconnect();
        }
        match NOT_EXECUTED.iter().find(|(code, _)| error.code() == Some(code)) {
            Some((_, for_all)) => Attempt::NotExecuted(error.into(), *for_all),
            None => Attempt::Failed(error.into()),
        }
    }
}
