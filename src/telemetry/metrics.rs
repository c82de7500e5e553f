//! Every metric of the process (contract §10).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::counts::{Requests, Seconds};
use super::deliveries::DeliveryCounters;
use super::history::{History, RequestCounts};
use super::levels::{LevelGauges, Levels};
use super::outcome::{Ended, Stage};
use super::process_metrics::ProcessMetrics;
use crate::plain;
use crate::refusal::Reason;
use crate::repeats::Became;

/// Every metric of the process, with the names and labels of contract §10.
pub struct Metrics {
    registry: Registry,
    requests: Arc<Requests>,
    request_seconds: Arc<Seconds<1>>,
    gate_seconds: Arc<Seconds<4>>,
    replay_store_seconds: Arc<Seconds<1>>,
    client_skew_seconds: Arc<Seconds<1>>,
    audit_sync_seconds: Histogram,
    replay_salts: IntGauge,
    replay_max_salts: IntGauge,
    fence_seconds: Gauge,
    upstream_healthy: IntGaugeVec,
    reload_success: IntGauge,
    config_info: IntGaugeVec,
    io_backend: IntGaugeVec,
    truncated: IntCounterVec,
    repeats: IntCounterVec,
    deliveries: DeliveryCounters,
    clock_jumps: IntCounter,
    connections: IntGauge,
    connections_refused: IntCounterVec,
    connections_max: IntGauge,
    connections_full: IntCounterVec,
    connections_evicted: IntCounterVec,
    certificate_expires: IntGaugeVec,
    certificates_success: IntGauge,
    levels: LevelGauges,
    history: Mutex<History>,
}

/// An open connection; dropping it counts its end.
pub struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Shared by the registry, which collects, and by requests, which count.
struct Shared<C>(Arc<C>);

impl<C: Collector> Collector for Shared<C> {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// The metrics cannot be registered.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct MetricsError(#[from] prometheus::Error);

fn shared<C: Collector + 'static>(registry: &Registry, made: C) -> Result<Arc<C>, prometheus::Error> {
    let made = Arc::new(made);
    registry.register(Box::new(Shared(made.clone())))?;
    Ok(made)
}

impl Metrics {
    /// Creates a registry of its own, with all metrics at zero.
    ///
    /// # Errors
    /// If two metrics have the same name, which a test would have found.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let made = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let labelled = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        const TIMES: &[f64] = &[
            0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            10.0,
        ];
        // Whole hours have bounds of their own: a client with the wrong time zone is off by exactly that.
        const SKEWS: &[f64] =
            &[-32400.0, -3600.0, -900.0, -300.0, -60.0, -5.0, -1.0, 0.0, 1.0, 5.0, 60.0, 300.0, 900.0, 3600.0, 32400.0];

        const NANOSECONDS: u32 = 1_000_000_000;
        // In this unit, dates that are off by hours do not overflow within years.
        const MICROSECONDS: u32 = 1_000_000;
        let requests = Requests::new("saltgate_requests_total", "Requests, by outcome and reason.")?;
        let timed =
            |name: &str, help: &str| shared(&registry, Seconds::<1>::new(name, help, None, TIMES, NANOSECONDS)?);
        let gates = Seconds::<4>::new(
            "saltgate_gate_seconds",
            "Time spent in each group of gates.",
            Some(("gate", Stage::GATES)),
            TIMES,
            NANOSECONDS,
        )?;
        let skew = Seconds::<1>::new(
            "saltgate_client_skew_seconds",
            "How far the dates of validly signed requests are ahead of the gateway's clock.",
            None,
            SKEWS,
            MICROSECONDS,
        )?;
        let fence_seconds = Gauge::new("saltgate_fence_seconds", "Time until the fence ends; 0 without a fence.")?;
        registry.register(Box::new(fence_seconds.clone()))?;
        let clock_jumps =
            IntCounter::new("saltgate_clock_jumps_total", "How often the wall clock was set by more than a minute.")?;
        registry.register(Box::new(clock_jumps.clone()))?;
        let connections_refused = IntCounterVec::new(
            Opts::new(
                "saltgate_connections_refused_total",
                "Connections that were closed before or instead of a request, by reason.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(connections_refused.clone()))?;
        let counted = |name: &str, help: &str, label: &str| {
            let made = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let truncated = IntCounterVec::new(
            Opts::new("saltgate_truncated_total", "Answers of the upstream that broke off after their head was sent."),
            &["outcome"],
        )?;
        registry.register(Box::new(truncated.clone()))?;
        let repeats = IntCounterVec::new(
            Opts::new("saltgate_repeats_total", "Repeats, by the state of the first request."),
            &["first"],
        )?;
        Became::ALL.iter().for_each(|became| drop(repeats.with_label_values(&[became.as_str()])));
        registry.register(Box::new(repeats.clone()))?;
        let certificates_success = gauge(
            "saltgate_certificates_last_reload_success",
            "Whether every certificate in force is the one in its file.",
        )?;
        certificates_success.set(1);
        let build = labelled("saltgate_build_info", "The version of this build.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(ProcessMetrics::new()?))?;
        Ok(Self {
            requests: shared(&registry, requests)?,
            request_seconds: timed("saltgate_request_seconds", "Time from the head to the answer.")?,
            gate_seconds: shared(&registry, gates)?,
            replay_store_seconds: timed("saltgate_replay_store_seconds", "Time to spend a salt.")?,
            client_skew_seconds: shared(&registry, skew)?,
            audit_sync_seconds: histogram("saltgate_audit_sync_seconds", "Time of each sync of the record.", TIMES)?,
            replay_salts: gauge("saltgate_replay_salts", "Spent salts that are remembered.")?,
            replay_max_salts: gauge("saltgate_replay_max_salts", "How many spent salts there is room for.")?,
            fence_seconds,
            upstream_healthy: labelled(
                "saltgate_upstream_healthy",
                "Whether the server is used and the last connection to it succeeded.",
                &["server"],
            )?,
            reload_success: gauge("saltgate_config_last_reload_success", "Whether the last reload was applied.")?,
            config_info: labelled("saltgate_config_info", "The configuration in force.", &["hash"])?,
            io_backend: labelled(
                "saltgate_io_backend",
                "How the workers read and write their sockets; 1 for each kind in use.",
                &["kind"],
            )?,
            truncated,
            repeats,
            deliveries: DeliveryCounters::new(&registry)?,
            clock_jumps,
            connections: gauge("saltgate_connections", "Open client connections.")?,
            connections_refused,
            connections_max: gauge(
                "saltgate_connections_max",
                "The limit of client connections (limits.max_connections).",
            )?,
            connections_full: counted(
                "saltgate_connections_full_total",
                "Connections that found a limit reached, by limit.",
                "limit",
            )?,
            connections_evicted: counted(
                "saltgate_connections_evicted_total",
                "Connections without a recognised caller that were closed to make room for new ones, by limit.",
                "limit",
            )?,
            certificate_expires: labelled(
                "saltgate_certificate_expires_timestamp_seconds",
                "When a certificate expires, in seconds since 1970.",
                &["part", "name"],
            )?,
            certificates_success,
            levels: LevelGauges::new(&registry)?,
            history: Mutex::default(),
            registry,
        })
    }

    /// Counts a request that has ended.
    pub fn request(&self, ended: Ended, reason: Reason, took: Duration) {
        self.requests.add(ended, reason);
        self.request_seconds.took(0, took);
    }

    /// Counts an answer that broke off, of a request that had ended like this.
    pub fn truncated(&self, ended: Ended) {
        self.truncated.with_label_values(&[ended.as_str()]).inc();
    }

    /// Counts a repeat, by how the first request had ended.
    pub fn repeat(&self, first: Became) {
        self.repeats.with_label_values(&[first.as_str()]).inc();
    }

    /// Counts the duration of one stage of a request.
    pub fn stage(&self, stage: Stage, took: Duration) {
        match stage {
            Stage::Spend => self.replay_store_seconds.took(0, took),
            gate => self.gate_seconds.took(gate as usize, took),
        }
    }

    /// Counts how many seconds ahead a verified date was.
    pub fn client_skew(&self, seconds: f64) {
        self.client_skew_seconds.saw(0, seconds);
    }

    /// Counts the duration of one sync of the record.
    pub fn audit_sync(&self, took: Duration) {
        self.audit_sync_seconds.observe(took.as_secs_f64());
    }

    /// Sets the state of the store of spent salts.
    pub fn replay(&self, held: usize, capacity: usize, fence: Duration) {
        self.replay_salts.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.replay_max_salts.set(i64::try_from(capacity).unwrap_or(i64::MAX));
        self.fence_seconds.set(fence.as_secs_f64());
    }

    /// Sets whether an upstream server is used and the last connection to it succeeded.
    pub fn upstream(&self, server: &str, healthy: bool) {
        self.upstream_healthy.with_label_values(&[server]).set(healthy.into());
    }

    /// Removes an upstream server.
    pub fn upstream_gone(&self, server: &str) {
        // The result does not matter: the server has no value any more.
        let _ = self.upstream_healthy.remove_label_values(&[server]);
    }

    /// Counts a configuration that was applied, or, without a hash, one that was refused.
    pub fn reloaded(&self, hash: Option<&str>) {
        self.reload_success.set(hash.is_some().into());
        if let Some(hash) = hash {
            self.config_info.reset();
            self.config_info.with_label_values(&[hash]).set(1);
        }
    }

    /// Sets how the workers read and write their sockets.
    pub fn io_backends(&self, kinds: &[&str]) {
        kinds.iter().for_each(|kind| self.io_backend.with_label_values(&[kind]).set(1));
    }

    /// Counts an accepted connection.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        usize::try_from(self.connections.get()).unwrap_or_default()
    }

    /// Counts a connection that was closed because of what arrived, or did not arrive, on it.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.with_label_values(&[reason]).inc();
    }

    /// Sets how many connections are allowed.
    pub fn connections_max(&self, max: usize) {
        self.connections_max.set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    /// Counts a connection that found this limit reached.
    pub fn connections_full(&self, limit: &'static str) {
        self.connections_full.with_label_values(&[limit]).inc();
    }

    /// Counts a connection that was closed because this limit was reached.
    pub fn connection_evicted(&self, limit: &'static str) {
        self.connections_evicted.with_label_values(&[limit]).inc();
    }

    /// Sets when each certificate in force expires, by use and name.
    pub fn certificates<'n>(&self, expiries: impl Iterator<Item = (&'static str, &'n str, SystemTime)>) {
        self.certificate_expires.reset();
        for (part, name, expires) in expiries {
            let seconds = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let name = plain::line(name).to_string();
            self.certificate_expires.with_label_values(&[part, &name]).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    }

    /// Sets whether every certificate in force is the one in its file.
    pub fn certificates_taken(&self, taken: bool) {
        self.certificates_success.set(taken.into());
    }

    /// Counts that the wall clock was set by more than a minute.
    pub fn clock_jumped(&self) {
        self.clock_jumps.inc();
    }

    /// The counters of log lines and spans.
    pub(crate) fn deliveries(&self) -> &DeliveryCounters {
        &self.deliveries
    }

    /// What a scrape is told of besides what was counted.
    pub(crate) fn levels(&self, levels: &Levels<'_>) {
        self.levels.set(levels);
    }

    /// Called each second, so that [`Self::lately`] knows what was counted when.
    pub(crate) fn sample(&self, now: Duration) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.sample(now, || self.requests.totals());
    }

    /// How many requests ended lately, by outcome and reason.
    pub(crate) fn lately(&self, now: Duration) -> Vec<RequestCounts> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).lately(now, self.requests.totals())
    }

    /// Whether the last reload was taken.
    pub(crate) fn is_reload_taken(&self) -> bool {
        self.reload_success.get() == 1
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// If a metric cannot be encoded.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_outcome_and_reason() {
        let metrics = Metrics::new().unwrap();
        metrics.request(Ended::Refused, Reason::SaltReused, Duration::from_millis(1));
        metrics.request(Ended::Refused, Reason::SaltReused, Duration::from_millis(1));
        metrics.request(Ended::Forwarded, Reason::Ok, Duration::from_millis(1));
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(text.contains(r#"saltgate_requests_total{outcome="refused",reason="salt_reused"} 2"#), "{text}");
        assert!(text.contains(r#"saltgate_requests_total{outcome="forwarded",reason="ok"} 1"#), "{text}");
    }

    #[test]
    fn one_configuration_is_in_force_at_a_time() {
        let metrics = Metrics::new().unwrap();
        metrics.reloaded(Some("old"));
        metrics.reloaded(Some("new"));
        metrics.reloaded(None);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(!text.contains(r#"hash="old""#) && text.contains(r#"saltgate_config_info{hash="new"} 1"#));
        assert!(text.contains("saltgate_config_last_reload_success 0"));
    }
}
