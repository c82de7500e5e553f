//! What the log says about a collector that does not take spans.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use super::settings::TraceEndpoint;
use crate::clock::Clock;
use crate::telemetry::Metrics;

/// How often the log has a warning.
const PAUSE: Duration = Duration::from_secs(60);

/// Warns at most once a minute.
pub(super) struct Complaints {
    endpoint: TraceEndpoint,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// When the log last had a warning.
    told: Option<Duration>,
    /// How many spans had been dropped then.
    dropped: u64,
    /// Whether the log says that batches are not taken.
    has_failed: bool,
}

impl Complaints {
    pub(super) fn new(endpoint: &TraceEndpoint, clock: &Clock, metrics: &Arc<Metrics>) -> Self {
        let (endpoint, clock, metrics) = (endpoint.clone(), clock.clone(), metrics.clone());
        Self { endpoint, clock, metrics, told: None, dropped: 0, has_failed: false }
    }

    /// The collector did not take a batch.
    pub(super) fn fails(&mut self, why: &impl Display) {
        if self.is_due() {
            self.has_failed = true;
            let dropped = self.newly_dropped();
            tracing::warn!(
                endpoint = %self.endpoint,
                %why,
                dropped,
                "spans do not reach the collector; they wait while there is room, and no request waits for them"
            );
        }
    }

    /// The collector took a batch. If it is slow, spans may have been dropped all the same.
    pub(super) fn works(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            let dropped = self.newly_dropped();
            tracing::info!(endpoint = %self.endpoint, dropped, "spans reach the collector again");
        } else if self.metrics.deliveries().spans_dropped_so_far() > self.dropped && self.is_due() {
            let dropped = self.newly_dropped();
            tracing::warn!(
                endpoint = %self.endpoint,
                dropped,
                "spans were dropped: the collector takes them too slowly; a smaller trace.ratio makes fewer"
            );
        }
    }

    fn is_due(&mut self) -> bool {
        let now = self.clock.elapsed();
        let due = self.told.is_none_or(|told| now.saturating_sub(told) >= PAUSE);
        if due {
            self.told = Some(now);
        }
        due
    }

    /// How many spans were dropped since the log last said so.
    fn newly_dropped(&mut self) -> u64 {
        let before = self.dropped;
        self.dropped = self.metrics.deliveries().spans_dropped_so_far();
        self.dropped - before
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};
    use std::time::SystemTime;

    use super::*;
    use crate::net::Authority;
    use crate::upstream::ServerAddress;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_has_a_warning_a_minute_and_the_recovery() {
        let (clock, time) = Clock::manual(SystemTime::UNIX_EPOCH);
        let metrics = Arc::new(Metrics::new().unwrap());
        let server = ServerAddress::Network { at: Authority::parse("otel:4318", None).unwrap(), tls: false };
        let endpoint = TraceEndpoint { server, path: "/v1/traces".into() };
        let mut complaints = Complaints::new(&endpoint, &clock, &metrics);
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let mut lines = |act: &mut dyn FnMut(&mut Complaints)| -> Vec<String> {
            log.0.lock().unwrap().clear();
            act(&mut complaints);
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            text.lines().map(|line| line.split_once("complaints: ").unwrap().1.to_owned()).collect()
        };
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(lines(&mut |all| all.works()), [""; 0], "all is well");
            metrics.deliveries().spans_dropped(3);
            let told = lines(&mut |all| (0..9).for_each(|_| all.fails(&"answered 429")));
            assert_eq!(told.len(), 1, "{told:?}");
            for part in ["do not reach", "http://otel:4318/v1/traces", "answered 429", "dropped=3"] {
                assert!(told[0].contains(part), "{part}: {told:?}");
            }
            metrics.deliveries().spans_dropped(4);
            time.advance(Duration::from_secs(59));
            assert_eq!(lines(&mut |all| all.fails(&"answered 429")), [""; 0]);
            time.advance(Duration::from_secs(1));
            let told = lines(&mut |all| all.fails(&"answered 429"));
            assert!(told.len() == 1 && told[0].contains("dropped=4"), "{told:?}");
            let told = lines(&mut |all| (0..9).for_each(|_| all.works()));
            assert!(told.len() == 1 && told[0].contains("again"), "{told:?}");
            metrics.deliveries().spans_dropped(5);
            assert_eq!(lines(&mut |all| all.works()), [""; 0], "a minute is not over");
            time.advance(Duration::from_secs(60));
            let told = lines(&mut |all| (0..9).for_each(|_| all.works()));
            assert!(told.len() == 1 && told[0].contains("too slowly") && told[0].contains("dropped=5"), "{told:?}");
        });
    }
}
