//! Tries the query of a segment's owner once, for `check --live`.

use super::live_report::Report;
use crate::clock::Clock;
use crate::ownership::{self, Ownership, OwnershipError, SegmentInfo};
use crate::policy::SegmentId;
use crate::postgres::{OwnerQuery, OwnerTable};

/// Asks about this segment, or about one that is not there.
pub(super) async fn check(query: &OwnerQuery, segment: Option<&SegmentId>, report: &mut Report) {
    let name = format!("ownership.postgres at {}", query.address);
    let table = OwnerTable::new(query, 1, &Clock::system(), None);
    match segment {
        None => match table.ask(0, OwnerTable::NOBODYS).await {
            Ok(_) => report.found(&format!("{name}: answers")),
            Err(error) if error.is_of_a_value() => {
                report.found(&format!(
                    "{name}: answers; its segments have ids of a type of their own: name one with --segment"
                ));
            }
            Err(error) => report.failed(&format!("{name}: {error}")),
        },
        Some(segment) => match ownership::look_up(&table, 0, segment).await {
            Ok(found) => told(&name, segment.as_str(), &found, report),
            Err(OwnershipError::NoSuchSegment) => {
                report.failed(&format!("{name}: no row for {}, expected one", segment.as_str()));
            }
            Err(OwnershipError::Timeout) => report.failed(&format!("{name}: did not answer in time")),
            Err(OwnershipError::Unclear(why)) => {
                report.failed(&format!("{name}: a deletion of {} would be refused: {why}", segment.as_str()));
            }
        },
    }
}

fn told(name: &str, segment: &str, found: &SegmentInfo, report: &mut Report) {
    match found.creator() {
        Ok(creator) => report.found(&format!(
            "{name}: {segment} has the account {:?} and the creator {:?}",
            &**found.account(),
            &**creator
        )),
        Err(why) => report.failed(&format!("{name}: a deletion of {segment} would be refused: {why}")),
    }
}

/// The query, if owners are in PostgreSQL.
pub(super) fn of(ownership: &Ownership<OwnerQuery>) -> Option<&OwnerQuery> {
    match ownership {
        Ownership::Postgres(query) => Some(query),
        Ownership::Upstream(_) | Ownership::Delegate => None,
    }
}
