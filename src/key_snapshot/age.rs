//! When the database confirmed keys, and how long ago that is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::SnapshotError;
use crate::clock::Clock;

/// A moment by both clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfirmedAt {
    /// By the wall clock.
    pub wall: SystemTime,
    /// By the elapsed clock.
    pub elapsed: Duration,
    /// The boot since which that counts, if it is known.
    boot: Option<String>,
}

impl ConfirmedAt {
    /// Now.
    pub(crate) fn now(clock: &Clock) -> Self {
        Self { wall: clock.now(), elapsed: clock.elapsed(), boot: clock.boot() }
    }

    /// How long ago it was: by the clock that says more.
    ///
    /// # Errors
    /// If it lies in the future of one of the clocks.
    pub(super) fn age(&self, clock: &Clock) -> Result<Duration, SnapshotError> {
        let now = Self::now(clock);
        let by_wall = now.wall.duration_since(self.wall).map_err(|_| SnapshotError::Future(self.wall))?;
        if self.boot.is_none() || self.boot != now.boot {
            return Ok(by_wall);
        }
        let by_elapsed = now.elapsed.checked_sub(self.elapsed).ok_or(SnapshotError::Future(self.wall))?;
        Ok(by_wall.max(by_elapsed))
    }

    pub(super) fn json(&self) -> Value {
        let wall = self.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({ "wall": pair(wall), "elapsed": pair(self.elapsed), "boot": self.boot })
    }

    pub(super) fn parse(value: &Value) -> Option<Self> {
        let time = |name: &str| {
            let [seconds, nanos] = &value.get(name)?.as_array()?[..] else { return None };
            let nanos = u32::try_from(nanos.as_u64()?).ok().filter(|nanos| *nanos < 1_000_000_000)?;
            Some(Duration::new(seconds.as_u64()?, nanos))
        };
        let boot = match value.get("boot")? {
            Value::Null => None,
            boot => Some(boot.as_str()?.to_owned()),
        };
        Some(Self { wall: UNIX_EPOCH.checked_add(time("wall")?)?, elapsed: time("elapsed")?, boot })
    }
}

fn pair(time: Duration) -> [u64; 2] {
    [time.as_secs(), u64::from(time.subsec_nanos())]
}
