//! The `process_*` metrics that every Prometheus client has, read from `/proc` when Prometheus scrapes.
//!
//! The feature `process` of the crate `prometheus` has them too, but brings a second rustix and a reader of all of `/proc`.

use std::fs;
use std::path::Path;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, Metric, MetricFamily, MetricType};

use super::counts::{described, family};

/// Name and help, in the order of [`values`].
const METRICS: [(&str, &str, MetricType); 7] = [
    ("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", MetricType::COUNTER),
    ("process_open_fds", "Number of open file descriptors.", MetricType::GAUGE),
    ("process_max_fds", "Maximum number of open file descriptors.", MetricType::GAUGE),
    ("process_virtual_memory_bytes", "Virtual memory size in bytes.", MetricType::GAUGE),
    ("process_resident_memory_bytes", "Resident memory size in bytes.", MetricType::GAUGE),
    ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", MetricType::GAUGE),
    ("process_threads", "Number of OS threads in the process.", MetricType::GAUGE),
];

/// Collects [`METRICS`] of this process.
pub(super) struct ProcessMetrics {
    descs: Vec<Desc>,
    /// When the machine booted, in seconds since 1970; read once, so that the start time does not waver.
    booted: Option<f64>,
}

impl ProcessMetrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let descs = METRICS.iter().map(|(name, help, _)| described(name, help, &[])).collect::<Result<_, _>>()?;
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        Ok(Self { descs, booted })
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let values = values(Path::new("/proc/self"), self.booted);
        let families = self.descs.iter().zip(METRICS).zip(values);
        // What cannot be read is left out.
        families
            .filter_map(|((desc, (_, _, kind)), value)| Some(family(desc, kind, vec![metric(kind, value?)])))
            .collect()
    }
}

fn metric(kind: MetricType, value: f64) -> Metric {
    let mut metric = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// The values of [`METRICS`], from a folder of `/proc`.
fn values(process: &Path, booted: Option<f64>) -> [Option<f64>; METRICS.len()] {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // The name of the program may contain anything, so fields are counted from its closing parenthesis.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    // proc(5) counts from 1, and the first field behind the name is its third.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    let open = fs::read_dir(process.join("fd")).ok().map(|files| files.count().saturating_sub(1) as f64);
    let max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map(|max| max as f64);
    [
        field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks),
        open,
        max,
        field(23),
        field(24).map(|pages| pages * page),
        field(22).zip(booted).map(|(started, booted)| booted + started / ticks),
        field(20),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_parentheses_and_what_is_missing_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        assert!(values(dir.path(), Some(0.0)).iter().enumerate().all(|(at, value)| at == 2 || value.is_none()));
        let numbers: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        fs::write(dir.path().join("stat"), format!("7 (a) b) ) S {}\n", numbers.join(" "))).unwrap();
        let (ticks, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as f64);
        let values = values(dir.path(), Some(1000.0));
        assert_eq!(values[0], Some(29.0 / ticks));
        assert_eq!((values[1], values[3], values[4]), (None, Some(23.0), Some(24.0 * page)));
        assert_eq!((values[5], values[6]), (Some(1000.0 + 22.0 / ticks), Some(20.0)));
    }
}
