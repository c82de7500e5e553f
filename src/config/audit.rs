//! Reads `[audit]`.

use std::time::Duration;

use super::postgres;
use super::section::Section;
use crate::audit::{Audit, RecordSettings, Sync};
use crate::ship::ShipSettings;

const SECOND: Duration = Duration::from_secs(1);
/// A hundred years.
const MAX_RETAIN: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The settings of the record, and where it is copied to; `None` if there is no record.
pub(super) fn audit(root: &mut Section<'_>) -> Option<(Audit, Option<ShipSettings>)> {
    let source = root.source;
    let mut section = root.section("audit");
    let none = section.flag("danger_no_record", false);
    let at = section.at("path");
    let at_ship = section.at("ship");
    let ships = section.has("ship");
    let ship = ships.then(|| postgres::ship(section.section("ship"))).flatten();
    section.known("ship");
    let audit = if none {
        if ships {
            source.fault_at(
                at_ship,
                "audit.ship",
                "conflicts with danger_no_record = true: there is no record to copy",
            );
        }
        if section.optional_text("path", "nothing").is_some() {
            source.fault_at(at, "audit.path", "conflicts with danger_no_record = true; expected one of the two");
        }
        Some(Audit::DangerNoRecord)
    } else {
        let path = section.text("path", "a directory for the record, or danger_no_record = true to keep none");
        let words = [("each", Sync::Each), ("os", Sync::Os)];
        let settings = RecordSettings {
            sync: section.word("sync", &words, RecordSettings::SYNC),
            rotate_size: section.size_up_to("rotate_size", RecordSettings::ROTATE_SIZE, (1 << 30, "1 GiB")),
            rotate_age: section.duration("rotate_age", RecordSettings::ROTATE_AGE, SECOND),
            retain: section.optional_duration("retain", SECOND, MAX_RETAIN),
            low_water: section.size_up_to("low_water", RecordSettings::LOW_WATER, (1 << 50, "1 PiB")),
            ships,
            ..RecordSettings::default()
        };
        path.map(|path| Audit::Record { path: source.resolve(&path), settings })
    };
    section.finish();
    Some((audit?, ship))
}
