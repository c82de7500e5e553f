//! What Prometheus reads: every metric that the contract lists, with the values that alerts need.

use std::collections::BTreeSet;
use std::time::Duration;

use saltgate::parts::Clock;

use crate::documents::listed_metrics;
use crate::harness::{Files, Gate, Latch, Upstream, deleting_after, service, signed, until};
use crate::http::{delete, get};
use crate::operations::{Process, told};

/// These have a series only once something has happened, or where there are certificates or a copy of the record.
const ONLY_ONCE_IT_HAPPENED: &[&str] = &[
    "saltgate_certificate_expires_timestamp_seconds",
    "saltgate_connections_evicted_total",
    "saltgate_connections_full_total",
    "saltgate_connections_refused_total",
    "saltgate_record_shipped_lines_total",
    "saltgate_record_unshipped_seconds",
    "saltgate_truncated_total",
];

/// The value of a series, as it stands in `/metrics`.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next().unwrap().parse().ok()
}

#[test]
fn a_running_gateway_has_every_metric_that_the_contract_lists_and_no_other() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    gate.delete(&signed("OWNER"));
    let metrics = gate.metrics();
    let has: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    let mut expected = listed_metrics();
    expected.retain(|name| !ONLY_ONCE_IT_HAPPENED.contains(&name.as_str()) || has.contains(name));
    assert_eq!(has, expected);
    assert!(has.len() > 25, "metrics are being found");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        for secret in ["NCS", "member-1", "account-1", "CRMSG"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[test]
fn what_is_under_way_and_frozen_and_wrong_is_told_at_each_scrape() {
    let latch = Latch::default();
    let upstream = Upstream::start(deleting_after(&latch));
    let files = Files::new(upstream.address, "[control]\nsocket = \"c.sock\"\n");
    let gate = Gate::from_files(files, Clock::system());
    let of = |series: &str| value(&gate.metrics(), series);
    assert_eq!(of("saltgate_directory_keys"), Some(5.0));
    assert!(of("saltgate_directory_age_seconds").unwrap() < 60.0);
    assert!(of("saltgate_record_free_bytes").unwrap() > 0.0);
    assert_eq!(of("saltgate_record_open_outcomes"), Some(0.0));
    for part in ["draining", "record", "replay", "directory", "clock", "upstream"] {
        assert_eq!(of(&format!("saltgate_part_ok{{part=\"{part}\"}}")), Some(1.0), "{part}");
    }
    let address = gate.address();
    std::thread::scope(|threads| {
        threads.spawn(move || assert_eq!(delete(address, &signed("OWNER")).status, 200));
        until("the deletion is under way", || of("saltgate_record_open_outcomes") == Some(1.0));
        assert_eq!(of("saltgate_in_flight"), Some(1.0));
        latch.open();
    });
    until("it has ended", || of("saltgate_in_flight") == Some(0.0));
    until("its outcome is on record", || of("saltgate_record_open_outcomes") == Some(0.0));

    let config = gate.files.path();
    for what in [&["key", "NCSOWNER"][..], &["key", "NCSMEMBER"], &["account", "account-1"], &["all"]] {
        let arguments = [&["freeze"], what, &["--config", config.to_str().unwrap()]].concat();
        assert!(told(&arguments, "").status.success());
    }
    let frozen = ["key", "account", "all"].map(|scope| of(&format!("saltgate_frozen{{scope=\"{scope}\"}}")));
    assert_eq!(frozen, [Some(2.0), Some(1.0), Some(1.0)]);
}

#[test]
fn a_part_that_does_not_work_is_told_with_its_name() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let (clock, hands) = Clock::manual(Clock::system().now());
    let gate = Gate::with(upstream.address, "[replay.memory]\nwhen_new = \"fence\"\n", clock);
    let of = |part: &str| value(&gate.metrics(), &format!("saltgate_part_ok{{part=\"{part}\"}}"));
    assert_eq!((of("replay"), of("record")), (Some(0.0), Some(1.0)), "it is fenced");
    hands.advance(Duration::from_secs(3600));
    assert_eq!(of("replay"), Some(1.0));
}

#[test]
fn an_intent_that_a_killed_process_left_is_open() {
    let latch = Latch::default();
    let upstream = Upstream::start(deleting_after(&latch));
    let files = Files::new(upstream.address, "");
    let mut killed = Process::serve(&files);
    let address = killed.address();
    let open = |process: &Process| value(&get(process.admin(), "/metrics").body, "saltgate_record_open_outcomes");
    std::thread::scope(|threads| {
        threads.spawn(move || drop(std::panic::catch_unwind(|| delete(address, &signed("OWNER")))));
        until("the deletion was sent", || upstream.deletes() == 1);
        killed.kill();
    });
    latch.open();
    let process = Process::serve(&files);
    until("it is found", || open(&process) == Some(1.0));
}

#[test]
fn a_gateway_without_a_record_tells_of_no_free_space() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::with(upstream.address, "[audit]\ndanger_no_record = true\n", Clock::system());
    assert!(!gate.metrics().contains("saltgate_record_"), "{}", gate.metrics());
}

#[test]
fn the_figures_of_the_process_are_those_of_the_system() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    let metrics = get(process.admin(), "/metrics").body;
    let of = |name: &str| value(&metrics, name).unwrap_or_else(|| panic!("{name} is not in {metrics}"));
    let now = Clock::system().now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - of("process_start_time_seconds");
    assert!((-2.0..120.0).contains(&age), "it started {age} s ago");
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0;
    let told = of("process_resident_memory_bytes");
    assert!((resident / 2.0..resident * 2.0).contains(&told), "{told} of {resident}");
    assert!(of("process_virtual_memory_bytes") >= told);
    assert!(of("process_open_fds") > 5.0 && of("process_open_fds") < of("process_max_fds"));
    assert!(of("process_threads") >= 2.0 && of("process_cpu_seconds_total") < 120.0);
}
