//! Reads `[control]`, `[budget]`, `[automations]` and the settings of a route about linked automations.

use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::outline::Shape;
use super::section::Section;
use super::socket::{MAX_SOCKET_PATH, socket_path};
use super::source::Source;
use super::texts::quoted;
use crate::audit::Audit;
use crate::policy::{Budget, Route, Routes};
use crate::replay::{OnFailover, ReplaySettings};
use crate::safeguard::{Budgets, Guard, SafeguardSettings};

const SOCKET: &str = "the path of a socket such as \"/run/saltgate/control.sock\"";

pub(super) fn safeguards(root: &mut Section<'_>, audit: Option<&Audit>) -> SafeguardSettings {
    let source = root.source;
    let (socket, state) = control(root);
    if socket.is_some() && state.is_none() && matches!(audit, Some(Audit::DangerNoRecord)) {
        let message = "is missing; expected a directory that survives restarts, to keep what is frozen in (with a \
                       record it is one beside the record's)";
        source.fault_at(None, "control.state", message);
    }
    let mut section = root.section("safeguard");
    let words = [("process", false), ("fleet", true)];
    let fleet = section.word("scope", &words, false);
    let lease = section.duration("lease", SafeguardSettings::LEASE, SafeguardSettings::LEAST_LEASE);
    section.finish();
    let mut section = root.section("budget");
    // A fleet's deletions are counted in Redis.
    let counted_from = audit.filter(|_| !fleet);
    let mut one = |name| budget(&mut section, name, counted_from);
    let (key, account) = (one("per_key"), one("per_account"));
    let accepts_lost_counts = section.word("on_lost_counts", &[("close", false), ("danger_accept", true)], false);
    let budgets = Budgets { key, account, accepts_lost_counts };
    section.finish();
    let mut section = root.section("automations");
    let guard = guard(&mut section);
    section.finish();
    let state = state.or_else(|| Some(beside(audit?.path()?)));
    SafeguardSettings { socket, state, fleet: fleet.then_some(lease), budgets, guard, discard_freeze: false }
}

/// Checks that the gateways of a fleet have something to tell each other by.
pub(super) fn judge_fleet(
    source: &Source<'_>,
    [at, at_budget]: [Option<usize>; 2],
    settings: &SafeguardSettings,
    replay: &ReplaySettings,
) {
    let budgets = &settings.budgets;
    let what = match replay {
        _ if settings.fleet.is_none() => return,
        ReplaySettings::Redis(redis) if !redis.cluster => {
            let is_unnoticed = redis.on_failover == OnFailover::DangerAccept;
            if is_unnoticed && budgets.is_any() && !budgets.accepts_lost_counts {
                let message = "is \"close\", and with replay.redis.on_failover = \"danger_accept\" nobody notices that Redis \
                               lost counts; expected on_lost_counts = \"danger_accept\", or on_failover = \"fence\"";
                source.fault_at(at_budget, "budget.on_lost_counts", message);
            }
            return;
        }
        ReplaySettings::Redis(_) => {
            "needs one Redis or Sentinels, and replay.redis.cluster is true: in a cluster freezes, budgets and \
             max_salts_per_key are each gateway's own (scope = \"process\")"
        }
        ReplaySettings::Journal(_) | ReplaySettings::Memory(_) => {
            "needs [replay.redis], by which the gateways tell each other"
        }
    };
    source.fault_at(at, "safeguard.scope", format!("is \"fleet\", which {what}"));
}

fn guard(section: &mut Section<'_>) -> Guard {
    let source = section.source;
    const LIST: &str = "a JSON pointer such as \"/automations\", or \"\" where the answer is the list";
    const TOTAL: &str = "a JSON pointer to the number of all linked automations, such as \"/total\"";
    let (at_list, at_total) = (section.at("list"), section.at("total"));
    let list = section.text_or("list", Guard::LIST, LIST);
    if !list.is_empty() && !list.starts_with('/') {
        source.fault_at(at_list, "automations.list", format!("is {}; expected {LIST}", quoted(&list)));
    }
    let total = section.optional_text("total", TOTAL);
    match &total {
        Some(total) if !total.starts_with('/') => {
            source.fault_at(at_total, "automations.total", format!("is {}; expected {TOTAL}", quoted(total)));
        }
        Some(_) if list.is_empty() => {
            let message =
                "conflicts with automations.list = \"\": a bare array has no number beside it; expected one of the two";
            source.fault_at(at_total, "automations.total", message);
        }
        Some(_) | None => {}
    }
    let id = pointer(section, "id", Guard::ID);
    let name = pointer(section, "name", Guard::NAME);
    Guard { list, total, id, name }
}

/// Warns of a guard that can never be satisfied.
pub(super) fn warn_of_no_total(file: &Path, guard: &Guard, routes: &Routes) -> Option<Fault> {
    let is_whole = guard.total.is_some() || guard.list.is_empty();
    let guarded = routes.iter().any(Route::is_guarded);
    (guarded && !is_whole).then(|| {
        let message = "is missing beside linked_automations = \"refuse\": nothing would say that a list of linked \
                       automations is whole, and every deletion would be 502; name the number of all of them, such as \
                       total = \"/total\", or set list = \"\" where the answer is a bare array";
        Fault::new(file, None, "automations.total", message)
    })
}

/// The `control.socket` of a configuration. Nothing else is read, so that a command that asks a running gateway does not need
/// its secrets.
///
/// # Errors
/// If there is none, or it cannot be read.
pub(crate) fn control_socket(file: &Path) -> Result<PathBuf, Vec<Fault>> {
    let text = super::file(file, "a configuration, in TOML").map_err(|fault| vec![fault])?;
    let environment = |name: &str| std::env::var(name).ok();
    let source = Source::new(file, &text, &environment);
    let socket = Section::document(&source).and_then(|mut root| control(&mut root).0);
    if socket.is_none() && source.fault_count() == 0 {
        let message = "is missing: this gateway has no control socket; expected [control] with socket = \"…\"";
        source.fault_at(None, "control.socket", message);
    }
    let faults = source.findings().faults;
    socket.filter(|_| faults.is_empty()).ok_or(faults)
}

fn control(root: &mut Section<'_>) -> (Option<PathBuf>, Option<PathBuf>) {
    let source = root.source;
    if !root.has("control") {
        root.take("control");
        return (None, None);
    }
    let mut section = root.section("control");
    let at = section.at("socket");
    let socket = section.text("socket", SOCKET);
    let state = section.optional_text("state", "a directory that survives restarts").map(|path| source.resolve(&path));
    section.finish();
    let read = socket.map(|path| socket_path(path.strip_prefix("unix:").unwrap_or(&path), source, MAX_SOCKET_PATH));
    match read.transpose() {
        Ok(socket) => (socket, state),
        Err(problem) => {
            source.fault_at(at, "control.socket", format!("{problem}; expected {SOCKET}"));
            (None, state)
        }
    }
}

/// Next to the record and not within its directory, because readers of a record read everything in it.
fn beside(record: &Path) -> PathBuf {
    let mut name = record.file_name().unwrap_or_default().to_owned();
    name.push(".control");
    record.with_file_name(name)
}

fn budget(section: &mut Section<'_>, name: &'static str, audit: Option<&Audit>) -> Option<Budget> {
    let source = section.source;
    let at = section.at(name);
    section.note(name, || Shape::Budget, None);
    let key = format!("budget.{name}");
    let expected = "a number and a span such as \"100/hour\" (second, minute, hour, day or week), at most 100000";
    let text = section.optional_text(name, expected)?;
    let Some(budget) = Budget::parse(&text) else {
        source.fault_at(at, &key, format!("is {}; expected {expected}", quoted(&text)));
        return None;
    };
    if matches!(audit, Some(Audit::DangerNoRecord)) {
        let message = "is counted from the record after a restart, and audit.danger_no_record = true keeps none; \
                       expected audit.path";
        source.fault_at(at, &key, message);
    }
    if audit.and_then(Audit::retain).is_some_and(|retain| retain < budget.span) {
        source.fault_at(at, &key, "is counted from the record, which audit.retain keeps for less than that span");
    }
    Some(budget)
}

fn pointer(section: &mut Section<'_>, name: &'static str, default: &str) -> String {
    let source = section.source;
    let at = section.at(name);
    let expected = format!("a JSON pointer such as {}", quoted(default));
    let text = section.text_or(name, default, &expected);
    if !text.starts_with('/') {
        source.fault_at(at, &format!("automations.{name}"), format!("is {}; expected {expected}", quoted(&text)));
    }
    text
}

/// The settings of a route about linked automations.
pub(super) fn guarded(section: &mut Section<'_>) -> Guarded {
    let source = section.source;
    let words = [("ignore", false), ("refuse", true)];
    let refuse = section.word("linked_automations", &words, false);
    let at = section.at("automations_path");
    let path = section.optional_text("automations_path", "a path such as \"/v1/automations?segment={segmentId}\"");
    if path.is_some() && !refuse {
        source.fault_at(at, "route.automations_path", "is used only with linked_automations = \"refuse\"");
    }
    if let Some(value) = section.take("budget") {
        let message =
            "is not a setting of a route; write [budget] with per_key = \"100/hour\" or per_account = \"1000/day\"";
        source.fault_at(Some(value.span().start), "route.budget", message);
    }
    Guarded { refuse, path, at }
}

/// See [`guarded`].
pub(super) struct Guarded {
    refuse: bool,
    path: Option<String>,
    at: Option<usize>,
}

impl Guarded {
    pub(super) fn applied(self, route: Route, source: &Source<'_>) -> Option<Route> {
        if !self.refuse {
            return Some(route);
        }
        let guarded = route.with_guard(self.path.as_deref());
        guarded.map_err(|error| source.fault_at(self.at, "route.automations_path", error.to_string())).ok()
    }
}
