//! A claim: one script on the server that holds the salt's key, and what its verdict means.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::{RedisError, Value};
use tokio::time::timeout;

use super::script::{self, Verdict};
use super::server::{Server, Trouble};
use super::shared::{Shared, millis};
use crate::credential::SaltId;
use crate::replay::{ClaimRefused, Mark, OutOfWindow, Reservation, Window};

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
        let slot = self.keys.slot(&key);
        let map = self.map.load_full();
        let server = map.owner(slot).ok_or(ClaimRefused::Unknown)?;
        let now = self.clock.now();
        // The script knows the floor better; this check saves a round trip.
        window.judge(date, now, self.floor(slot)).map_err(ClaimRefused::OutOfWindow)?;
        let limit = self.settings.timeout;
        let asked = timeout(limit, self.ask(server, slot, &key, date, now, mark)).await;
        let verdict =
            asked.unwrap_or_else(|_| Err(Trouble::OutOfReach(format!("no answer within {} ms", limit.as_millis()))));
        let refused = match verdict {
            Ok(Verdict::Reused(mark)) => return Err(mark.map_or(ClaimRefused::Reused, ClaimRefused::ReusedBy)),
            Ok(Verdict::Floor(floor)) => {
                self.raise_floor(slot, floor);
                self.wake.notify_one();
                return Err(ClaimRefused::OutOfWindow(OutOfWindow::BelowFloor));
            }
            Ok(Verdict::Full) => {
                self.out_of_memory.store(true, Ordering::Relaxed);
                self.wake.notify_one();
                return Err(ClaimRefused::Unknown);
            }
            Ok(Verdict::Spent) => None,
            Ok(Verdict::OutOfSync) => {
                server.disconnect();
                Some(Trouble::OutOfSync)
            }
            Ok(
                other @ (Verdict::Attested(_)
                | Verdict::Raised(_)
                | Verdict::Forgot
                | Verdict::OtherWindow(_)
                | Verdict::Clock
                | Verdict::Version),
            ) => {
                server.in_doubt.store(true, Ordering::Release);
                Some(Trouble::OutOfReach(format!("a claim got the unexpected reply {other:?}")))
            }
            Err(trouble) => Some(trouble),
        };
        // A salt that may have been spent counts, too.
        let (generation, period) = self.generation(self.life(date, now));
        self.periods[generation].fetch_max(period, Ordering::AcqRel);
        reservation.hold(generation);
        match refused {
            None => Ok(()),
            Some(trouble) => {
                self.failed(server, trouble);
                Err(ClaimRefused::Unknown)
            }
        }
    }

    async fn ask(
        &self,
        server: &Server,
        slot: usize,
        key: &str,
        date: SystemTime,
        now: SystemTime,
        mark: Mark,
    ) -> Result<Verdict, Trouble> {
        let mut connection = server.connection(self.settings.timeout).await?;
        let window = self.settings.window;
        let life = self.life(date, now).as_millis() + 1;
        let number = self.numbers.next();
        let mut claim = self.claim.key(key);
        claim.key(self.keys.epoch_marker(slot)).arg(script::digits(date)).arg(u64::try_from(life).unwrap_or(u64::MAX));
        claim.arg(millis(window.past)).arg(millis(window.future));
        claim.arg(millis(now.duration_since(UNIX_EPOCH).unwrap_or_default()));
        claim.arg(millis(self.settings.clock_margin)).arg(number.to_string()).arg(mark.text());
        let answer: Result<Value, RedisError> = claim.invoke_async(&mut connection).await;
        match answer {
            Ok(answer) => {
                server.answered(self.clock.elapsed());
                Ok(Verdict::read(&answer, key, number))
            }
            Err(error) if error.code() == Some("OOM") => Ok(Verdict::Full),
            Err(error) => {
                if error.is_unrecoverable_error() {
                    server.disconnect();
                }
                Err(error.into())
            }
        }
    }
}
