//! The only source of time.
//!
//! There are two clocks, because neither suffices alone:
//!
//! - **wall** ([`Clock::now`]): a client's `date` is compared with it. It can be set.
//! - **elapsed** ([`Clock::elapsed`]): time since boot, including suspend (`CLOCK_BOOTTIME`). It cannot be set, so it
//!   measures durations and decides when salts are forgotten.
//!
//! Both also exist as they were some time during this turn of a worker ([`Clock::turn_now`], [`Clock::turn_elapsed`]), which is
//! never ahead of the time and mostly less than a millisecond behind it. Nothing that decides about a request may depend on
//! the difference: a pause of the process within a turn makes it longer.
//!
//! `SystemTime::now` and `Instant::now` are banned everywhere else (`clippy.toml`), so that a test with a
//! [`ManualTime`] controls all time.

mod duration;
mod lease;
mod turn;

pub(crate) use duration::{DurationError, parse_duration};
pub(crate) use lease::Lease;
pub(crate) use turn::{KeptReading, begin as begin_turn};

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Both clocks. Cheap to clone; clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(ManualTime),
    #[cfg(test)]
    Simulated(SimulatedTime),
}

/// What both clocks show in a simulation.
#[cfg(test)]
#[derive(Clone)]
struct SimulatedTime(Arc<dyn Fn() -> (SystemTime, Duration) + Send + Sync>);

#[cfg(test)]
impl fmt::Debug for SimulatedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)().fmt(f)
    }
}

impl Clock {
    /// The clocks of the machine.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `wall` until the returned handle moves it.
    pub fn manual(wall: SystemTime) -> (Self, ManualTime) {
        let time = ManualTime(Arc::new(Mutex::new(Reading { wall, elapsed: Duration::ZERO, boot: 1 })));
        (Self(Source::Manual(time.clone())), time)
    }

    /// A clock that shows what this says.
    #[cfg(test)]
    pub(crate) fn simulated(shows: impl Fn() -> (SystemTime, Duration) + Send + Sync + 'static) -> Self {
        Self(Source::Simulated(SimulatedTime(Arc::new(shows))))
    }

    /// The wall clock.
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
            Source::System => SystemTime::now(),
            Source::Manual(time) => time.reading().wall,
            #[cfg(test)]
            Source::Simulated(time) => (time.0)().0,
        }
    }

    /// The wall clock some time during this turn of the worker. See the module.
    pub fn turn_now(&self) -> SystemTime {
        if let Source::System = self.0 { turn::wall(|| self.now()) } else { self.now() }
    }

    /// [`Clock::elapsed`] some time during this turn of the worker. See the module.
    pub fn turn_elapsed(&self) -> Duration {
        if let Source::System = self.0 { turn::elapsed(|| self.elapsed()) } else { self.elapsed() }
    }

    /// Names the boot since which [`Clock::elapsed`] counts; `None` if the system does not say. Two elapsed times of one boot
    /// can be compared, also by different processes.
    pub fn boot(&self) -> Option<String> {
        match &self.0 {
            Source::System => {
                std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
            }
            Source::Manual(time) => Some(time.reading().boot.to_string()),
            #[cfg(test)]
            Source::Simulated(_) => None,
        }
    }

    /// Time since boot, including suspend. It never goes back, even if the wall clock is set.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::System => since_boot(rustix::time::ClockId::Boottime),
            Source::Manual(time) => time.reading().elapsed,
            #[cfg(test)]
            Source::Simulated(time) => (time.0)().1,
        }
    }
}

/// `CLOCK_MONOTONIC`, by which systemd tells one reload from another. Nothing else here is measured by it.
pub(crate) fn monotonic() -> Duration {
    since_boot(rustix::time::ClockId::Monotonic)
}

fn since_boot(clock: rustix::time::ClockId) -> Duration {
    let t = rustix::time::clock_gettime(clock);
    // It is never negative; the kernel keeps nanoseconds below a second.
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// Detects that the wall clock was set, by comparing it with elapsed time.
///
/// Its result is for operators and `/ready`. No salt is forgotten and no date is admitted because of it.
#[derive(Debug)]
pub(crate) struct JumpWatch {
    clock: Clock,
    /// The wall clock when it was last trusted, and the elapsed time then.
    believed: (SystemTime, Duration),
    /// The skew that was last reported, and the elapsed time when it began.
    reported: (Skew, Duration),
}

/// How far the wall clock is from where elapsed time says it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skew {
    /// Within [`JumpWatch::TOLERANCE`].
    None,
    /// It was set forward by this much.
    Ahead(Duration),
    /// It was set back by this much.
    Behind(Duration),
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, way) = match self {
            Self::None => return f.write_str("where elapsed time says it should be"),
            Self::Ahead(by) => (by, "ahead of"),
            Self::Behind(by) => (by, "behind"),
        };
        let by = humantime::format_duration(Duration::from_secs(by.as_secs()));
        write!(f, "{by} {way} where elapsed time says it should be")
    }
}

impl JumpWatch {
    /// The largest step of the wall clock (by NTP, for example) that is not reported as a jump.
    pub(crate) const TOLERANCE: Duration = Duration::from_secs(60);
    /// How long after a jump the new wall time is trusted.
    pub(crate) const BELIEVED_AFTER: Duration = Duration::from_secs(3600);

    /// Trusts the wall clock as it is now.
    pub(crate) fn new(clock: Clock) -> Self {
        let believed = (clock.now(), clock.elapsed());
        Self { reported: (Skew::None, believed.1), clock, believed }
    }

    /// The present skew of the wall clock, and whether it jumped by more than the tolerance since the last call.
    pub(crate) fn look(&mut self) -> (Skew, bool) {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let passed = elapsed.saturating_sub(self.believed.1);
        let expected = self.believed.0.checked_add(passed).unwrap_or(self.believed.0);
        let skew = match now.duration_since(expected) {
            Ok(ahead) if ahead > Self::TOLERANCE => Skew::Ahead(ahead),
            Err(behind) if behind.duration() > Self::TOLERANCE => Skew::Behind(behind.duration()),
            _ => Skew::None,
        };
        let (reported, since) = self.reported;
        let jumped = skew.seconds().abs_diff(reported.seconds()) > Self::TOLERANCE.as_secs();
        if jumped {
            self.reported = (skew, elapsed);
        } else if skew != Skew::None && elapsed.saturating_sub(since) >= Self::BELIEVED_AFTER {
            self.believed = (now, elapsed);
            self.reported = (Skew::None, elapsed);
            return (Skew::None, false);
        }
        if skew == Skew::None {
            // Small steps must not add up to a jump over months.
            self.believed = (now, elapsed);
            self.reported = (skew, elapsed);
        }
        (skew, jumped)
    }
}

impl Skew {
    /// In seconds, positive if ahead.
    pub(crate) fn seconds(self) -> i64 {
        let whole = |by: Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        match self {
            Self::None => 0,
            Self::Ahead(by) => whole(by),
            Self::Behind(by) => -whole(by),
        }
    }
}

/// Sets the time of a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualTime(Arc<Mutex<Reading>>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: SystemTime,
    elapsed: Duration,
    boot: u32,
}

impl ManualTime {
    /// Lets time pass: both clocks advance by `by`.
    pub fn advance(&self, by: Duration) {
        self.change(|r| {
            r.wall += by;
            r.elapsed += by;
        });
    }

    /// Boots the machine again: elapsed time begins anew.
    pub fn reboot(&self) {
        self.change(|r| {
            r.elapsed = Duration::ZERO;
            r.boot += 1;
        });
    }

    /// Sets the wall clock; no time passes.
    pub fn set_wall(&self, wall: SystemTime) {
        self.change(|r| r.wall = wall);
    }

    fn change(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn reading(&self) -> Reading {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wall-clock time as logs and messages show it: `2026-11-24T00:00:00.000Z`.
pub fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at.max(UNIX_EPOCH)).to_string()
}

/// Writes the time of log lines, to the microsecond. The text of the second is cached.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    second: u64,
    /// `2026-11-24T00:00:00`.
    text: String,
}

impl Stamp {
    /// Appends the time to a line.
    #[allow(
        clippy::disallowed_methods,
        reason = "a line of the log tells when it was written, whatever the clock of the gates says"
    )]
    pub(crate) fn write(&mut self, line: &mut Vec<u8>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            let second = UNIX_EPOCH + Duration::from_secs(self.second);
            self.text = humantime::format_rfc3339_seconds(second).to_string();
            // The zone follows the fraction of a second.
            self.text.pop();
        }
        line.extend_from_slice(self.text.as_bytes());
        let mut less = *b".000000Z";
        let mut micros = since.subsec_micros();
        for digit in less[1..7].iter_mut().rev() {
            *digit += (micros % 10) as u8;
            micros /= 10;
        }
        line.extend_from_slice(&less);
    }
}

/// Parses a time in RFC 3339, in UTC.
pub(crate) fn instant(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// Parses a time as people write it: RFC 3339, a day (`2026-11-24`, its beginning in UTC), or how long ago (`90m`,
/// `2d`).
pub fn parse(text: &str, now: SystemTime) -> Option<SystemTime> {
    let day = format!("{text}T00:00:00Z");
    let absolute = humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339_weak(&day)).ok();
    absolute.or_else(|| now.checked_sub(parse_duration(text).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_wall_clock_does_not_change_elapsed_time() {
        let (clock, hands) = Clock::manual(UNIX_EPOCH);
        hands.advance(Duration::from_secs(5));
        hands.set_wall(UNIX_EPOCH + Duration::from_secs(100));
        assert_eq!(clock.elapsed(), Duration::from_secs(5));
        assert_eq!(clock.now(), UNIX_EPOCH + Duration::from_secs(100));
    }

    #[test]
    fn times_are_parsed_as_people_write_them() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for (text, time) in [
            ("2026-11-24T01:02:03Z", "2026-11-24T01:02:03.000Z"),
            ("2026-11-24", "2026-11-24T00:00:00.000Z"),
            ("1h", "2027-01-15T07:00:00.000Z"),
        ] {
            assert_eq!(parse(text, now).map(rfc3339).as_deref(), Some(time), "{text}");
        }
        for wrong in ["yesterday", "1 0s", "18446744073709551615s 1000ms"] {
            assert_eq!(parse(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn setting_the_clock_is_distinguished_from_passing_time() {
        let (clock, hands) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_000_000));
        let mut watch = JumpWatch::new(clock.clone());
        let hour = Duration::from_secs(3600);
        hands.advance(hour);
        assert_eq!(watch.look(), (Skew::None, false), "time passed");
        hands.set_wall(clock.now() + Duration::from_secs(59));
        assert_eq!(watch.look(), (Skew::None, false), "a small step");
        hands.set_wall(clock.now() + hour);
        assert_eq!(watch.look(), (Skew::Ahead(hour), true));
        hands.advance(hour / 2);
        assert_eq!(watch.look(), (Skew::Ahead(hour), false), "still off, and reported before");
        hands.set_wall(clock.now() - 3 * hour);
        assert_eq!(watch.look(), (Skew::Behind(2 * hour), true));
        hands.set_wall(clock.now() + 2 * hour);
        assert_eq!(watch.look(), (Skew::None, true), "set right again");
        hands.set_wall(clock.now() + hour);
        assert_eq!(watch.look(), (Skew::Ahead(hour), true));
        hands.advance(hour);
        assert_eq!(watch.look(), (Skew::None, false), "after an hour it is believed");
        assert_eq!(Skew::Behind(2 * hour).to_string(), "2h behind where elapsed time says it should be");
    }

    #[test]
    fn elapsed_time_of_the_machine_never_goes_back() {
        let clock = Clock::system();
        let first = clock.elapsed();
        assert!(clock.elapsed() >= first);
    }
}
