//! Reads from the record which requests ended before this process began, because they may be repeated.

use std::time::{Duration, UNIX_EPOCH};

use super::StartError;
use crate::audit;
use crate::clock::Clock;
use crate::config::Config;
use crate::refusal::Answer;
use crate::repeats::{Became, Earlier, KeptAnswer};

/// For each request: what it asked for, how long ago it ended, and how.
pub(super) fn requests(config: &Config, clock: &Clock) -> Result<Vec<(String, Duration, Earlier)>, StartError> {
    let (true, Some(path)) = (config.repeats.by_record, config.audit.path()) else {
        return Ok(Vec::new());
    };
    let now = clock.now();
    let since = now.checked_sub(config.repeats.window).unwrap_or(UNIX_EPOCH);
    let ended = audit::ended_since(path, since).map_err(StartError::Repeats)?;
    let known = |ended: audit::EndedRequest| {
        let became = Became::named(&ended.outcome)?;
        let kept = match (became, ended.status) {
            (Became::Unknown, _) => KeptAnswer::own(Answer::OUTCOME_LOST.status, Answer::OUTCOME_LOST.body()),
            (Became::NotSent, _) => KeptAnswer::own(Answer::BAD_GATEWAY.status, Answer::BAD_GATEWAY.body()),
            (_, status) => KeptAnswer { status: status?, content_type: None, body: None },
        };
        let ago = now.duration_since(ended.at).unwrap_or_default();
        Some((ended.print, ago, Earlier { id: ended.request_id, became, kept }))
    };
    Ok(ended.into_iter().filter_map(known).collect())
}
