//! How much of what leaves the process for others to read arrives: lines of the log, and spans.

use prometheus::{IntCounter, Registry};

/// Counters of lines and spans.
pub(crate) struct DeliveryCounters {
    log_dropped: IntCounter,
    spans_sent: IntCounter,
    spans_dropped: IntCounter,
}

impl DeliveryCounters {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        Ok(Self {
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
