//! Reads `[replay]`: the store of spent salts, and how repeated requests are answered.

use std::path::Path;
use std::time::Duration;

use super::fault::Fault;
use super::numbers::MILLISECOND;
use super::section::Section;
use crate::listen::ListenerSettings;
use crate::repeats;
use crate::replay::{JournalSettings, JournalSync, MemorySettings, ReplaySettings, Room, WhenNew, Window};

/// The most salts. At 37 bytes each, they fill the memory of the largest machines.
const MAX_SALTS: usize = 100_000_000_000;
/// The most repeats, at a few hundred bytes each, and 4 KiB more if an answer is kept.
const MAX_REPEATS: usize = 10_000_000;

/// The store of spent salts, and how repeated requests are answered.
pub(super) fn replay(root: &mut Section<'_>, window: Window) -> Option<(ReplaySettings, repeats::RepeatSettings)> {
    let source = root.source;
    let faults = source.fault_count();
    let choices = "[replay.journal], [replay.redis] or [replay.memory]";
    let mut section = root.one_of("replay", &["journal", "redis", "memory"]);
    let repeats = repeats(&mut section, window.past);
    let replay = match (section.has("journal"), section.has("redis"), section.has("memory")) {
        (true, false, false) => {
            let mut journal = section.section("journal");
            let path = journal.text("path", "a directory for the journal");
            let sync = journal_sync(&mut journal);
            let (room, when_new) = room(&mut journal);
            journal.finish();
            let settings = |path: String| JournalSettings::new(source.resolve(&path), room, sync, when_new, window);
            path.map(|path| ReplaySettings::Journal(settings(path)))
        }
        (false, true, false) => {
            let mut redis = section.section("redis");
            let (room, when_new) = room(&mut redis);
            super::redis::redis(redis, room, when_new, window).map(|redis| ReplaySettings::Redis(Box::new(redis)))
        }
        (false, false, true) => {
            let mut memory = section.section("memory");
            let (room, when_new) = room(&mut memory);
            memory.finish();
            Some(ReplaySettings::Memory(MemorySettings { room, when_new, window }))
        }
        (journal, redis, memory) => {
            if source.fault_count() == faults {
                let what = if journal || redis || memory { "two stores are named" } else { "no store is named" };
                source.fault_at(None, "replay", format!("{what}; expected one of {choices}"));
            }
            return None;
        }
    };
    section.finish();
    replay.zip(Some(repeats))
}

/// How repeated requests are answered.
fn repeats(section: &mut Section<'_>, window_past: Duration) -> repeats::RepeatSettings {
    let source = section.source;
    let words = [("refuse", false), ("answer", true)];
    let answer = section.word("repeats", &words, repeats::RepeatSettings::ANSWER);
    let window = section.duration("repeat_window", repeats::RepeatSettings::WINDOW.min(window_past), MILLISECOND);
    if window > window_past {
        source.fault_at(None, "replay.repeat_window", "must be no longer than authentication.window_past");
    }
    let max = section.count_up_to("max_repeats", repeats::RepeatSettings::MAX, MAX_REPEATS);
    // After a restart the journal knows the spent salts, and the record knows the outcomes.
    let by_record = answer && section.has("journal");
    repeats::RepeatSettings { answer, window, max, by_record }
}

/// The settings of every store: its size, and what it does when it is new.
fn room(store: &mut Section<'_>) -> (Room, WhenNew) {
    let max_salts = store.count_up_to("max_salts", Room::MAX_SALTS, MAX_SALTS);
    let max_salts_per_key = store.count_up_to("max_salts_per_key", Room::share_of_one_key(max_salts), MAX_SALTS);
    let words = [("fence", WhenNew::Fence), ("accept", WhenNew::Accept)];
    (Room { max_salts, max_salts_per_key }, store.word("when_new", &words, WhenNew::DEFAULT))
}

fn journal_sync(journal: &mut Section<'_>) -> JournalSync {
    let words = [("os", JournalSync::Os), ("each", JournalSync::Each)];
    let every = journal.duration_or_word("sync", JournalSettings::SYNC, MILLISECOND, &words);
    every.map_or_else(|word| word, JournalSync::Every)
}

/// Warns of a store for one process if there may be several processes.
pub(super) fn warn_of_one_process(
    file: &Path,
    replay: &ReplaySettings,
    listeners: &[ListenerSettings],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Fault> {
    let key = match replay {
        ReplaySettings::Memory(_) => "replay.memory",
        ReplaySettings::Journal(_) => "replay.journal",
        ReplaySettings::Redis(_) => return None,
    };
    let why = if environment("KUBERNETES_SERVICE_HOST").is_some() {
        "this is a Kubernetes pod, of which there may be several"
    } else if listeners.iter().any(|listener| !listener.address.is_local()) {
        "a listener is not loopback, and there may be several gateways"
    } else {
        return None;
    };
    let message = format!(
        "protects one process, and {why}: gateways that share keys must share one store, or each admits a header once"
    );
    Some(Fault::new(file, None, key, message))
}
