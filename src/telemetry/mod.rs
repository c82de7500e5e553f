//! Metrics and logs for operators (contract §10). Neither contains a secret, a salt or a signature, and no metric is labelled
//! by a key, a member or a segment.

mod counts;
mod decision;
mod json;
mod lines;
mod logs;
mod metrics;
mod outcome;
mod per_thread;
mod refusals;
mod whole;

pub use decision::Decision;
pub use logs::{Logs, log_panics, start as start_logs};
pub use metrics::{Metrics, MetricsError, OpenConnection};
pub use outcome::{Ended, Stage};
pub use per_thread::PerThread;
pub use refusals::{Refusals, RefusedRequest};
