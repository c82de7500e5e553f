//! `[control]`, `[budget]`, `[automations]` and what a route says of linked automations.

use std::path::{Path, PathBuf};

use super::Audit;
use super::document::{Fault, Section, Source, quoted};
use crate::policy::{Budget, Route};

/// The safety catches (contract §1, step 6) and the socket that works them.
#[derive(Clone, Debug)]
pub struct Safeguards {
    /// `control.socket`.
    pub socket: Option<PathBuf>,
    /// The directory that keeps what is frozen: `control.state`, or one beside the record's, of its
    /// name and `.control`.
    pub state: Option<PathBuf>,
    /// `budget.per_key`.
    pub budget_per_key: Option<Budget>,
    /// `budget.per_account`.
    pub budget_per_account: Option<Budget>,
    /// `[automations]`.
    pub automations: Automations,
}

/// `[automations]`: JSON pointers into what the service says.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the settings'")]
pub struct Automations {
    pub list: String,
    pub id: String,
    pub name: String,
}

pub(super) fn safeguards<'s>(root: &mut Section<'s>, s: &mut Source<'s>, audit: Option<&Audit>) -> Safeguards {
    let record = match audit {
        Some(Audit::Record { path, retain, .. }) => Some((path.clone(), *retain)),
        _ => None,
    };
    let (socket, state) = control(root, s);
    if socket.is_some() && state.is_none() && matches!(audit, Some(Audit::DangerNoRecord)) {
        let message = "is missing; expected a directory that survives restarts, to keep what is frozen in (with a \
                       record it is one beside the record's)";
        s.fault_at(None, "control.state", message);
    }
    let mut section = root.section(s, "budget");
    let mut budget = |name| budget(&mut section, s, name, audit, record.as_ref().and_then(|(_, retain)| *retain));
    let (budget_per_key, budget_per_account) = (budget("per_key"), budget("per_account"));
    section.finish(s);
    let mut section = root.section(s, "automations");
    let list = pointer(&mut section, s, "list", "/automations");
    let id = pointer(&mut section, s, "id", "/automationId");
    let name = pointer(&mut section, s, "name", "/name");
    section.finish(s);
    Safeguards {
        socket,
        state: state.or(record.map(|(path, _)| beside(path))),
        budget_per_key,
        budget_per_account,
        automations: Automations { list, id, name },
    }
}

/// The `control.socket` of a configuration, whatever else stands in it: whoever asks a running
/// gateway need not have its secrets at hand.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn control_socket(file: &Path) -> Result<PathBuf, Vec<Fault>> {
    let text = super::file(file, "a configuration, in TOML").map_err(|fault| vec![fault])?;
    let environment = |name: &str| std::env::var(name).ok();
    let mut source = Source::new(file, &text, &environment);
    let Some(mut root) = source.parse() else { return Err(source.faults) };
    let (socket, _) = control(&mut root, &mut source);
    if socket.is_none() && source.faults.is_empty() {
        let message = "is missing: this gateway has no control socket; expected [control] with socket = \"…\"";
        source.fault_at(None, "control.socket", message);
    }
    socket.filter(|_| source.faults.is_empty()).ok_or(source.faults)
}

fn control<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> (Option<PathBuf>, Option<PathBuf>) {
    if !root.has("control") {
        root.take("control");
        return (None, None);
    }
    let mut section = root.section(s, "control");
    let at = section.at("socket");
    let socket = section.text(s, "socket", "the path of a socket such as \"/run/saltgate/control.sock\"");
    let state = section.optional_text(s, "state", "a directory that survives restarts").map(|path| s.resolve(&path));
    section.finish(s);
    let socket = socket.map(|path| s.resolve(path.strip_prefix("unix:").unwrap_or(&path)));
    // What the kernel allows.
    if socket.as_ref().is_some_and(|path| path.as_os_str().len() > 100) {
        s.fault_at(at, "control.socket", "is longer than 100 bytes, which is more than the path of a socket may have");
    }
    (socket, state)
}

/// Not within: whoever reads a record reads all that is in its directory.
fn beside(record: PathBuf) -> PathBuf {
    let mut name = record.file_name().unwrap_or_default().to_owned();
    name.push(".control");
    record.with_file_name(name)
}

fn budget<'s>(
    section: &mut Section<'s>,
    s: &mut Source<'s>,
    name: &'static str,
    audit: Option<&Audit>,
    retain: Option<std::time::Duration>,
) -> Option<Budget> {
    let at = section.at(name);
    let key = format!("budget.{name}");
    let expected = "a number and a span such as \"100/hour\" (second, minute, hour, day or week), at most 100000";
    let text = section.optional_text(s, name, expected)?;
    let Some(budget) = Budget::parse(&text) else {
        s.fault_at(at, &key, format!("is {}; expected {expected}", quoted(&text)));
        return None;
    };
    if matches!(audit, Some(Audit::DangerNoRecord)) {
        let message = "is counted from the record after a restart, and audit.danger_no_record = true keeps none; \
                       expected audit.path beside it";
        s.fault_at(at, &key, message);
    }
    if retain.is_some_and(|retain| retain < budget.span) {
        s.fault_at(at, &key, "is counted from the record, which audit.retain keeps for less than that span");
    }
    Some(budget)
}

fn pointer<'s>(section: &mut Section<'s>, s: &mut Source<'s>, name: &'static str, default: &str) -> String {
    let at = section.at(name);
    let expected = format!("a JSON pointer such as {}", quoted(default));
    let text = section.text_or(s, name, default, &expected);
    if !text.starts_with('/') {
        s.fault_at(at, &format!("automations.{name}"), format!("is {}; expected {expected}", quoted(&text)));
    }
    text
}

/// What a route says of linked automations.
pub(super) fn guard<'s>(section: &mut Section<'s>, s: &mut Source<'s>) -> Guarded {
    let words = [("ignore", false), ("refuse", true)];
    let refuse = section.word(s, "linked_automations", &words, words[0]);
    let at = section.at("automations_path");
    let path = section.optional_text(s, "automations_path", "a path such as \"/v1/automations?segment={segmentId}\"");
    if path.is_some() && !refuse {
        s.fault_at(
            at,
            "route.automations_path",
            "is asked only where linked_automations = \"refuse\" stands beside it",
        );
    }
    if let Some(value) = section.take("budget") {
        let message = "is not a route's; write [budget] with per_key = \"100/hour\" or per_account = \"1000/day\"";
        s.fault_at(Some(value.span().start), "route.budget", message);
    }
    Guarded { refuse, path, at }
}

/// See [`guard`].
pub(super) struct Guarded {
    refuse: bool,
    path: Option<String>,
    at: Option<usize>,
}

impl Guarded {
    pub(super) fn applied(self, route: Route, s: &mut Source<'_>) -> Option<Route> {
        if !self.refuse {
            return Some(route);
        }
        let guarded = route.with_guard(self.path.as_deref());
        guarded.map_err(|error| s.fault_at(self.at, "route.automations_path", error.to_string())).ok()
    }
}
