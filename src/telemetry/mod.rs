//! What operators see (contract §10): metrics and logs. No secret, salt or signature in either,
//! and no metric labelled by a key, a member or a segment.

mod counts;
mod decision;
mod json;
mod lines;
mod logs;
mod metrics;
mod per_thread;

pub use decision::Decision;
pub use logs::{Logs, start as start_logs};
pub use metrics::{Ended, Metrics, OpenConnection, Stage};
pub use per_thread::PerThread;
