use std::ops::Deref;
use std::sync::Arc;

use super::{Cleared, Gate, Observation, Process};
use crate::audit::OpenIntent;
use crate::refusal::RefusedAfterSpend;
use crate::telemetry::Stage;

/// The intent, on record before anything irreversible.
pub struct Record(Arc<Process>);

/// A request that may be sent: a proven signer, a spent salt, a permit, and a line on the
/// record. The sender takes nothing else.
pub struct Recorded {
    cleared: Cleared,
    intent: OpenIntent,
}

impl Record {
    /// Writes to the process's record.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl Gate<Cleared> for Record {
    type Out = Recorded;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, cleared: Cleared, seen: &mut Observation) -> Result<Recorded, RefusedAfterSpend> {
        let entry = seen.entry().ok_or(RefusedAfterSpend::Internal)?;
        let intent = self.0.record.open(entry).await.map_err(|_| RefusedAfterSpend::RecordUnavailable)?;
        seen.on_record();
        seen.passed(Stage::Record);
        Ok(Recorded { cleared, intent })
    }
}

impl Recorded {
    pub(super) fn into_parts(self) -> (Cleared, OpenIntent) {
        (self.cleared, self.intent)
    }
}

impl Deref for Recorded {
    type Target = Cleared;

    fn deref(&self) -> &Cleared {
        &self.cleared
    }
}
