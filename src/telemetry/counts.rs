//! The metrics that every request updates. Each worker counts on its own; the counts are merged when Prometheus scrapes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

use super::outcome::Ended;
use super::per_thread::PerThread;
use crate::refusal::Reason;

/// Name, help and labels of a metric.
pub(super) fn described(name: &str, help: &str, labels: &[&str]) -> Result<Desc, prometheus::Error> {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())
}

/// A metric with its values.
pub(super) fn family(desc: &Desc, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// Requests by how they ended, and why.
pub(super) struct Requests {
    desc: Desc,
    ended: PerThread<Box<[AtomicU64]>>,
}

impl Requests {
    pub(super) fn new(name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let counters = |_| (0..Ended::ALL.len() * Reason::ALL.len()).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { desc: described(name, help, &["outcome", "reason"])?, ended: PerThread::new(counters) })
    }

    pub(super) fn add(&self, ended: Ended, reason: Reason) {
        let which = ended as usize * Reason::ALL.len() + reason as usize;
        self.ended.mine()[which].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far. A combination that never happened is left out.
    pub(super) fn totals(&self) -> Vec<(Ended, Reason, u64)> {
        let kinds = Ended::ALL.iter().flat_map(|&ended| Reason::ALL.iter().map(move |&reason| (ended, reason)));
        let counted = kinds.enumerate().map(|(which, (ended, reason))| {
            let sum = self.ended.all().map(|counters| counters[which].load(Ordering::Relaxed)).sum();
            (ended, reason, sum)
        });
        counted.filter(|(_, _, sum)| *sum > 0).collect()
    }
}

impl Collector for Requests {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.totals().into_iter().map(|(ended, reason, sum)| {
            let mut counter = proto::Counter::default();
            counter.set_value(sum as f64);
            let labels = vec![label("outcome", ended.as_str()), label("reason", reason.as_str())];
            let mut metric = Metric::from_label(labels);
            metric.set_counter(counter);
            metric
        });
        vec![family(&self.desc, MetricType::COUNTER, metrics.collect())]
    }
}

/// Histograms of seconds: one for each value of a label, or a single one without a label.
pub(super) struct Seconds<const N: usize> {
    desc: Desc,
    /// The label's name and its values, in order.
    labels: Option<(&'static str, [&'static str; N])>,
    /// Ticks per second.
    resolution: f64,
    /// Upper bounds, seconds.
    bounds: &'static [f64],
    /// The same in ticks.
    ticks: Box<[i64]>,
    observed: PerThread<[Histogram; N]>,
}

struct Histogram {
    /// One more than there are bounds, for larger values.
    buckets: Box<[AtomicU64]>,
    sum: AtomicI64,
}

impl<const N: usize> Seconds<N> {
    /// `resolution` is in ticks per second. A sum may not exceed 2^63 ticks in the life of a process.
    pub(super) fn new(
        name: &str,
        help: &str,
        labels: Option<(&'static str, [&'static str; N])>,
        bounds: &'static [f64],
        resolution: u32,
    ) -> Result<Self, prometheus::Error> {
        let label = labels.map(|(label, _)| label);
        let resolution = f64::from(resolution);
        Ok(Self {
            desc: described(name, help, label.as_slice())?,
            labels,
            resolution,
            bounds,
            ticks: bounds.iter().map(|bound| (bound * resolution).round() as i64).collect(),
            observed: PerThread::new(|_| {
                std::array::from_fn(|_| Histogram {
                    buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
                    sum: AtomicI64::new(0),
                })
            }),
        })
    }

    fn observe(&self, which: usize, ticks: i64) {
        let histogram = &self.observed.mine()[which];
        let bucket = self.ticks.iter().take_while(|&&bound| bound < ticks).count();
        histogram.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        histogram.sum.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Adds `seconds` to one of the histograms.
    pub(super) fn saw(&self, which: usize, seconds: f64) {
        self.observe(which, (seconds * self.resolution) as i64);
    }

    /// Adds `took` to one of the histograms, whose ticks must be nanoseconds.
    pub(super) fn took(&self, which: usize, took: Duration) {
        self.observe(which, i64::try_from(took.as_nanos()).unwrap_or(i64::MAX));
    }

    fn merged(&self, which: usize) -> proto::Histogram {
        let of = |number: usize| {
            let count = |all: &[Histogram; N]| all[which].buckets[number].load(Ordering::Relaxed);
            self.observed.all().map(count).sum::<u64>()
        };
        let mut merged = proto::Histogram::default();
        let mut count = 0;
        let buckets = self.bounds.iter().enumerate().map(|(number, &bound)| {
            count += of(number);
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        merged.set_bucket(buckets.collect());
        merged.set_sample_count(count + of(self.bounds.len()));
        let sum = |all: &[Histogram; N]| all[which].sum.load(Ordering::Relaxed);
        merged.set_sample_sum(self.observed.all().map(sum).sum::<i64>() as f64 / self.resolution);
        merged
    }
}

impl<const N: usize> Collector for Seconds<N> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = (0..N).map(|which| {
            let labels = self.labels.map(|(name, values)| label(name, values[which]));
            let mut metric = Metric::from_label(labels.into_iter().collect());
            metric.set_histogram(self.merged(which));
            metric
        });
        vec![family(&self.desc, MetricType::HISTOGRAM, metrics.collect())]
    }
}
