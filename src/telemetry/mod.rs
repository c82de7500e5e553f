//! Metrics and logs for operators (contract §10). Neither contains a secret, a salt or a signature, and no metric is labelled
//! by a key, a member or a segment.

mod counts;
mod decision;
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only PostgreSQL gets copies of the record"))]
mod deliveries;
mod history;
mod json;
mod levels;
mod lines;
mod logs;
mod metrics;
mod outcome;
mod per_thread;
mod process_metrics;
mod refusals;
mod whole;

pub(crate) use decision::Decision;
pub(crate) use history::RequestCounts;
pub(crate) use levels::Levels;
pub(crate) use logs::{LogLevel, Logs, log_panics, start as start_logs};
pub(crate) use metrics::{Metrics, MetricsError};
pub(crate) use outcome::{Ended, Stage};
pub(crate) use per_thread::PerThread;
pub(crate) use refusals::{Refusals, RefusedRequest};
