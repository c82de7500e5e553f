//! Gauges that are set when Prometheus scrapes, from what the process counts anyway. No request sets them.

use std::time::Duration;

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry};

/// What the process is like at one moment.
pub(crate) struct Levels<'l> {
    /// Each part of `/ready`, and whether nothing is wrong with it.
    pub parts: &'l [(&'static str, bool)],
    /// Requests that hold a slot.
    pub in_flight: usize,
    /// Free bytes for the record; `None` without a record.
    pub record_free: Option<u64>,
    /// Intents without an outcome; `None` without a record.
    pub open_outcomes: Option<usize>,
    /// How much is frozen, by scope.
    pub frozen: &'l [(&'static str, usize)],
    /// Keys in force.
    pub keys: usize,
    /// How long ago they were read.
    pub keys_age: Duration,
    /// Keys whose old secret was used within 24 hours, by when it ends.
    pub old_secrets_used: &'l [(&'static str, usize)],
}

/// The gauges for [`Levels`].
pub(super) struct LevelGauges {
    part_ok: IntGaugeVec,
    in_flight: IntGauge,
    record_free_bytes: IntGaugeVec,
    record_open_outcomes: IntGaugeVec,
    frozen: IntGaugeVec,
    directory_keys: IntGauge,
    directory_age_seconds: Gauge,
    old_secrets_used: IntGaugeVec,
}

impl LevelGauges {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labelled = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let directory_age_seconds =
            Gauge::new("saltgate_directory_age_seconds", "How long ago the keys in force were read.")?;
        registry.register(Box::new(directory_age_seconds.clone()))?;
        Ok(Self {
            part_ok: labelled("saltgate_part_ok", "Whether this part of /ready works, with nothing wrong.", &["part"])?,
            in_flight: gauge("saltgate_in_flight", "Requests that hold a slot: of limits.max_in_flight.")?,
            record_free_bytes: labelled("saltgate_record_free_bytes", "Free space for the record.", &[])?,
            record_open_outcomes: labelled(
                "saltgate_record_open_outcomes",
                "Deletions on record without an outcome: under way, not written yet, or left by earlier processes.",
                &[],
            )?,
            frozen: labelled("saltgate_frozen", "How much is frozen, by scope.", &["scope"])?,
            directory_keys: gauge("saltgate_directory_keys", "Keys in force.")?,
            directory_age_seconds,
            old_secrets_used: labelled(
                "saltgate_old_secrets_used",
                "Keys with two secrets whose old one was used within 24 hours, by when it ends.",
                &["ends"],
            )?,
        })
    }

    pub(super) fn set(&self, levels: &Levels<'_>) {
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for (part, is_ok) in levels.parts {
            self.part_ok.with_label_values(&[*part]).set((*is_ok).into());
        }
        for (scope, count) in levels.frozen {
            self.frozen.with_label_values(&[*scope]).set(whole(*count));
        }
        for (ends, count) in levels.old_secrets_used {
            self.old_secrets_used.with_label_values(&[*ends]).set(whole(*count));
        }
        // Without a record there is no such metric, rather than a record without free space.
        if let Some(free) = levels.record_free {
            self.record_free_bytes.with_label_values::<&str>(&[]).set(i64::try_from(free).unwrap_or(i64::MAX));
        }
        if let Some(open) = levels.open_outcomes {
            self.record_open_outcomes.with_label_values::<&str>(&[]).set(whole(open));
        }
        self.in_flight.set(whole(levels.in_flight));
        self.directory_keys.set(whole(levels.keys));
        self.directory_age_seconds.set(levels.keys_age.as_secs_f64());
    }
}
