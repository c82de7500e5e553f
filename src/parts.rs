//! Re-exports for the tests, benches and compile-time examples of this repository. They change without notice.

pub use crate::audit::{Directories, OpenIntent, Retention, Unread, heads, unknown, verify};
pub use crate::authentication::{Rules, judge};
pub use crate::clock::{Clock, parse, rfc3339};
pub use crate::config::Config;
pub use crate::control::{Question, ask};
pub use crate::credential::{Credentials, PhpDates, SaltId, Secret, SigningKey, header_value};
#[cfg(feature = "demo")]
pub use crate::demo::crm::Crm;
pub use crate::directory::{Directory, KeyEntry};
pub use crate::gate::{
    Admit, Arrival, Authenticate, Authorize, Body, Cleared, Concluded, Directed, DryRun, Gate, Inspect, Observation,
    Observed, Read, Received, RecordIntent, Recorded, Rejection, Release, Released, RouteGate, Routed, Safeguard, Send,
    Spend,
};
pub use crate::http::h1::{RequestReader, Sizes};
pub use crate::listen::ListenAddress;
pub use crate::net::{Authority, Client};
pub use crate::ownership::Pointers;
pub use crate::pipeline::{Dispatch, Observe, gates};
pub use crate::plain::is_hidden;
pub use crate::policy::{Owner, SegmentId};
pub use crate::process::Process;
pub use crate::refusal::{Reason, RefusedAfterSpend};
pub use crate::replay::{
    Claim, ClaimRefused, Floor, Journal, JournalSettings, JournalSync, Mark, Memory, MemorySettings, Room, SpentSalts,
    WhenNew, Window, boot_id,
};
pub use crate::safeguard::{Note, Target};
pub use crate::serve::{Drained, Gateway};
pub use crate::stack::stack;
pub use crate::state::folder;
pub use crate::upstream::{
    Judged, Outgoing, RequestHead, Resolve, Resolving, ServerAddress, Servers, Unjudged, Upstream, UpstreamSettings,
};
