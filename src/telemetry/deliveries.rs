//! How much of what leaves the process for others to read arrives: lines of the log and of the record, and spans.

use std::time::Duration;

use prometheus::{GaugeVec, IntCounter, IntCounterVec, Opts, Registry};

/// Counters of lines and spans.
pub(crate) struct DeliveryCounters {
    log_dropped: IntCounter,
    spans_sent: IntCounter,
    spans_dropped: IntCounter,
    record_shipped: IntCounterVec,
    record_unshipped: GaugeVec,
}

impl DeliveryCounters {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        // Vectors, which show nothing until they are set: without a copy there is no such metric.
        let record_unshipped = GaugeVec::new(
            Opts::new(
                "saltgate_record_unshipped_seconds",
                "For how long something on record has not been copied to where audit.ship says.",
            ),
            &[],
        )?;
        registry.register(Box::new(record_unshipped.clone()))?;
        let record_shipped = IntCounterVec::new(
            Opts::new(
                "saltgate_record_shipped_lines_total",
                "Lines of the record that were copied to where audit.ship says.",
            ),
            &[],
        )?;
        registry.register(Box::new(record_shipped.clone()))?;
        Ok(Self {
            record_unshipped,
            record_shipped,
            log_dropped: counter(
                "saltgate_log_dropped_total",
                "Log lines that were dropped because nobody read them fast enough.",
            )?,
            spans_sent: counter("saltgate_trace_spans_sent_total", "Spans that the collector took.")?,
            spans_dropped: counter(
                "saltgate_trace_spans_dropped_total",
                "Spans that were dropped because the queue was full or the collector did not take them.",
            )?,
        })
    }

    /// Sets how many log lines were dropped so far.
    pub(crate) fn log_dropped(&self, lines: usize) {
        self.log_dropped.inc_by((lines as u64).saturating_sub(self.log_dropped.get()));
    }

    /// Counts lines of the record that were copied.
    pub(crate) fn record_shipped(&self, lines: usize) {
        self.record_shipped.with_label_values::<&str>(&[]).inc_by(lines as u64);
    }

    /// Sets for how long something on record has not been copied.
    pub(crate) fn record_unshipped(&self, since: Duration) {
        self.record_unshipped.with_label_values::<&str>(&[]).set(since.as_secs_f64());
    }

    /// Counts spans that the collector took.
    pub(crate) fn spans_sent(&self, spans: u64) {
        self.spans_sent.inc_by(spans);
    }

    /// Counts spans that were dropped.
    pub(crate) fn spans_dropped(&self, spans: u64) {
        self.spans_dropped.inc_by(spans);
    }

    /// How many spans were dropped so far.
    pub(crate) fn spans_dropped_so_far(&self) -> u64 {
        self.spans_dropped.get()
    }
}
