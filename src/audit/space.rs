//! Removes old files, and measures the free space for new ones.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::files::{self, Instance, Segment};
use crate::clock::{self, Clock, JumpWatch};

/// How long a process runs before it removes anything, and again after the wall clock was set. A wrong clock makes
/// files look old; this leaves time to correct it.
const RUN_FIRST: Duration = Duration::from_secs(3 * 3600);

/// The free bytes on the file system of a directory that this process may use.
pub(super) fn free(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Removes files that are older than `audit.retain`.
///
/// It does not rely on the wall clock alone:
/// 1. Nothing is removed before the process has run for [`RUN_FIRST`] without the clock being set.
/// 2. Nothing is removed beyond a gap. If, going back in time from the start of that run, nothing was written for
///    longer than `retain`, all older files stay. So a clock that is far ahead removes nothing, because files written
///    with the right clock lie beyond such a gap. Files from before a downtime that long stay until somebody removes
///    them.
///
/// Files written while the clock was behind look older than they are, and cannot be distinguished from old ones.
pub(super) struct Cleanup {
    retain: Duration,
    clock: Clock,
    watch: JumpWatch,
    /// When the wall clock was last set, or the process began, on the elapsed clock.
    steady_since: Duration,
    /// Whether the warning about files beyond a gap has been logged.
    warned: bool,
}

impl Cleanup {
    pub(super) fn new(retain: Duration, clock: &Clock) -> Self {
        let (watch, steady_since) = (JumpWatch::new(clock.clone()), clock.elapsed());
        Self { retain, clock: clock.clone(), watch, steady_since, warned: false }
    }

    /// Removes old files of each instance, oldest first and without a gap, so that the rest is one chain. Never removes
    /// the file at `current`, the last file of another running process, or one of which `may_go` says no. Returns how
    /// many were removed.
    pub(super) fn forget(
        &mut self,
        directory: &Path,
        current: (&str, u64),
        may_go: impl Fn(&str, &Segment) -> bool,
    ) -> usize {
        let (_, jumped) = self.watch.look();
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        if jumped {
            self.steady_since = elapsed;
        }
        let ran = elapsed.saturating_sub(self.steady_since);
        if ran < RUN_FIRST {
            return 0;
        }
        let instances = match files::list(directory) {
            Ok(instances) => instances,
            Err(error) => {
                tracing::warn!(%error, "audit.retain: nothing is removed");
                return 0;
            }
        };
        let (Some(due), Some(since)) = (now.checked_sub(self.retain), now.checked_sub(ran)) else { return 0 };
        let oldest = reach(&instances, since, self.retain);
        let (mut removed, mut beyond) = (0, 0);
        for instance in &instances {
            for (segment, ended) in removable(instance, current) {
                if !may_go(&instance.id, segment) {
                    break;
                }
                match ended {
                    Some(ended) if ended <= due && ended >= oldest => {}
                    Some(ended) if ended < oldest => {
                        beyond += 1;
                        break;
                    }
                    _ => break,
                }
                if let Err(error) = std::fs::remove_file(&segment.path) {
                    tracing::warn!(%error, file = segment.name(), "audit.retain: a file cannot be removed");
                    break;
                }
                tracing::info!(file = segment.name(), "audit.retain: a file of the record is removed");
                removed += 1;
            }
        }
        if beyond > 0 && !self.warned {
            self.warned = true;
            tracing::warn!(
                before = clock::rfc3339(oldest),
                "audit.retain: nothing was written for longer than that before this time, or the clock was set; older files \
                 stay until somebody removes them"
            );
        }
        removed
    }
}

/// The files that may be removed if they are old, oldest first, and when each was last written.
fn removable<'i>(
    instance: &'i Instance,
    current: (&str, u64),
) -> impl Iterator<Item = (&'i Segment, Option<SystemTime>)> {
    let keep = if instance.id == current.0 {
        current.1
    } else if instance.live {
        instance.segments.last().map_or(0, |last| last.number)
    } else {
        u64::MAX
    };
    let all = instance.segments.iter().enumerate().take_while(move |(_, segment)| segment.number < keep);
    all.map(|(index, segment)| (segment, ended(segment, instance.segments.get(index + 1))))
}

/// When a file was last written: before the next one was started, whose header has the time and is part of the chain.
/// For an instance's last file only the file system knows.
fn ended(segment: &Segment, next: Option<&Segment>) -> Option<SystemTime> {
    match next {
        Some(next) => began(next),
        None => segment.path.metadata().and_then(|about| about.modified()).ok(),
    }
}

fn began(segment: &Segment) -> Option<SystemTime> {
    clock::parse(&segment.started()?, SystemTime::UNIX_EPOCH)
}

/// How far back from `from` the record goes without a gap of more than `retain`.
fn reach(instances: &[Instance], from: SystemTime, retain: Duration) -> SystemTime {
    let mut written: Vec<SystemTime> = Vec::new();
    for Instance { segments, .. } in instances {
        written.extend(segments.iter().filter_map(began));
        written.extend(segments.last().and_then(|last| ended(last, None)));
    }
    // Later times are from this process, or from a wrong clock.
    written.retain(|time| *time <= from);
    written.sort_unstable();
    let mut oldest = from;
    while let Some(time) = written.pop() {
        if oldest.duration_since(time).unwrap_or_default() > retain {
            break;
        }
        oldest = time;
    }
    oldest
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::ManualTime;

    const DAY: Duration = Duration::from_secs(86_400);
    const RETAIN: Duration = Duration::from_secs(90 * 86_400);
    const RUNS: &str = "ffffffffffffffff";

    /// A record of this many days, a file each day but for those `without`; the last day is today.
    struct Kept {
        dir: tempfile::TempDir,
        today: SystemTime,
    }

    impl Kept {
        fn for_days(days: u32, without: std::ops::Range<u32>) -> Self {
            let kept = Self { dir: tempfile::tempdir().unwrap(), today: UNIX_EPOCH + 20_000 * DAY };
            for ago in (0..days).filter(|ago| !without.contains(ago)) {
                kept.file(&format!("{ago:016x}"), 1, kept.today - ago * DAY);
            }
            kept
        }

        fn file(&self, instance: &str, number: u64, written: SystemTime) -> PathBuf {
            let path = files::path(self.dir.path(), instance, number);
            let time = clock::rfc3339(written);
            std::fs::write(&path, format!("{{\"n\":1,\"kind\":\"header\",\"time\":\"{time}\"}}\n")).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
            path
        }

        /// A process that starts now by this clock.
        fn start(&self, wall: SystemTime) -> (Cleanup, ManualTime) {
            let (clock, hands) = Clock::manual(wall);
            self.file(RUNS, 1, wall);
            (Cleanup::new(RETAIN, &clock), hands)
        }

        fn forgets(&self, cleanup: &mut Cleanup) -> usize {
            cleanup.forget(self.dir.path(), (RUNS, 1), |_, _| true)
        }
    }

    #[test]
    fn old_files_are_removed_once_the_process_has_run_for_hours() {
        let kept = Kept::for_days(100, 0..0);
        let (mut cleanup, hands) = kept.start(kept.today);
        assert_eq!(kept.forgets(&mut cleanup), 0);
        hands.advance(RUN_FIRST - Duration::from_secs(1));
        assert_eq!(kept.forgets(&mut cleanup), 0, "it could be a wrong clock");
        hands.advance(Duration::from_secs(1));
        assert_eq!(kept.forgets(&mut cleanup), 10);
        hands.advance(DAY);
        assert_eq!(kept.forgets(&mut cleanup), 1);
    }

    #[test]
    fn a_clock_400_days_ahead_removes_nothing_however_long_it_runs() {
        let kept = Kept::for_days(100, 0..0);
        let (mut cleanup, hands) = kept.start(kept.today + 400 * DAY);
        for day in 0..120 {
            // It writes by that clock, too.
            kept.file(RUNS, day + 2, kept.today + (400 + day as u32) * DAY);
            let gone = cleanup.forget(kept.dir.path(), (RUNS, day + 2), |_, _| true);
            assert!(gone == 0 || day >= 90, "day {day}: {gone} are gone");
            hands.advance(DAY);
        }
        let left = files::list(kept.dir.path()).unwrap().len();
        assert_eq!(left, 101, "what it wrote itself goes after ninety days, and nothing of before");
        // The clock is right again: only old files are removed.
        let (mut cleanup, hands) = kept.start(kept.today);
        hands.advance(RUN_FIRST);
        assert_eq!(kept.forgets(&mut cleanup), 10);
    }

    #[test]
    fn setting_the_clock_ahead_removes_nothing_for_hours_and_nothing_beyond_the_gap() {
        for (ahead, goes) in [(400, 0), (30, 40)] {
            let kept = Kept::for_days(100, 0..0);
            let (mut cleanup, hands) = kept.start(kept.today - 5 * DAY);
            hands.advance(5 * DAY);
            hands.set_wall(kept.today + ahead * DAY);
            assert_eq!(kept.forgets(&mut cleanup), 0, "{ahead}");
            hands.advance(RUN_FIRST / 2);
            assert_eq!(kept.forgets(&mut cleanup), 0, "{ahead}");
            hands.advance(RUN_FIRST / 2);
            // A month ahead is not a gap; there were hours to notice.
            assert_eq!(kept.forgets(&mut cleanup), goes, "{ahead}");
        }
    }

    #[test]
    fn a_file_that_must_be_copied_first_stays_and_so_do_later_ones_of_its_process() {
        let kept = Kept::for_days(100, 0..0);
        let old = format!("{:016x}", 99);
        kept.file(&old, 2, kept.today - 98 * DAY);
        let (mut cleanup, hands) = kept.start(kept.today);
        hands.advance(RUN_FIRST);
        let copied = |instance: &str, segment: &Segment| instance != old || segment.number != 1;
        assert_eq!(cleanup.forget(kept.dir.path(), (RUNS, 1), copied), 9);
        assert_eq!(cleanup.forget(kept.dir.path(), (RUNS, 1), |_, _| true), 2);
    }

    #[test]
    fn files_written_before_a_gap_stay() {
        let kept = Kept::for_days(300, 100..200);
        let (mut cleanup, hands) = kept.start(kept.today);
        hands.advance(RUN_FIRST);
        assert_eq!(kept.forgets(&mut cleanup), 10);
        assert_eq!(files::list(kept.dir.path()).unwrap().len(), 191);
    }
}
