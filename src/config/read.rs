use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::document::{Fault, Section, Setting, Source, integer, quoted};
use super::{
    Audit, Config, JournalSync, Limits, Listener, Mode, Ownership, Places, Replay, Sync, WhenNew, Workers, keys,
};
use crate::policy::{Budget, Passthrough, PassthroughError, Role, Route, Routes};
use crate::replay::Window;

const MILLISECOND: Duration = Duration::from_millis(1);
/// Far above what a client that is merely wrong sends, and nothing to guess a secret by.
const FAILED_SIGNATURES: Budget = Budget { limit: NonZeroU32::MIN.saturating_add(999), span: Duration::from_secs(60) };
const DAY: Duration = Duration::from_secs(86_400);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Fault>> {
    let text = super::file(path, "a configuration, in TOML").map_err(|fault| vec![fault])?;
    let mut source = Source::new(path, &text, environment);
    let Some(mut root) = source.parse() else { return Err(source.faults) };
    let s = &mut source;

    let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
    let mode = root.word(s, "mode", &modes, modes[0]);
    let listeners = super::listener::listeners(&mut root, s);
    let mut ready_needs = Vec::new();
    let admin = root.has("admin").then(|| {
        let mut admin = root.section(s, "admin");
        let address = admin.address(s, "address");
        ready_needs = admin.words(s, "ready_needs", &["replay"]);
        admin.finish(s);
        address
    });
    let workers = workers(&mut root, s);
    let (window, php_dates) = authentication(&mut root, s);
    let replay = replay(&mut root, s);
    let directory = directory(&mut root, s);
    let ownership = ownership(&mut root, s);
    let upstream = super::upstream::upstream(&mut root, s);
    let audit = audit(&mut root, s);
    let safeguards = super::safeguard::safeguards(&mut root, s, audit.as_ref());
    let limits = limits(&mut root, s);
    let routes = routes(&mut root, s);
    let passthrough = passthrough(&mut root, s, &routes);
    let mut log = root.section(s, "log");
    let log_successes = log.flag(s, "successes", true);
    log.finish(s);
    root.finish(s);

    let Source { mut faults, settings, .. } = source;
    let (mut all_keys, mut warnings) = (Vec::new(), Vec::new());
    if let Some(file) = &directory {
        let (keys, key_faults, key_warnings) = keys::load(file, environment);
        (all_keys, warnings) = (keys, key_warnings);
        faults.extend(key_faults);
    }
    match (listeners, replay, directory, ownership, upstream, audit) {
        (Some(listeners), Some(replay), Some(keys_file), Some(ownership), Some(upstream), Some(audit))
            if faults.is_empty() =>
        {
            warnings.extend(warn_of_one_process(path, &replay, &listeners, environment));
            if !log_successes && matches!(audit, Audit::DangerNoRecord) {
                let message = "is false beside audit.danger_no_record = true: nothing tells who deleted what";
                warnings.push(Fault::new(path, None, "log.successes", message));
            }
            Ok(Config {
                file: path.into(),
                listeners,
                admin: admin.flatten(),
                ready_needs,
                workers,
                window,
                php_dates,
                replay,
                discard_replay_journal: false,
                keys: all_keys,
                keys_file,
                ownership,
                upstream,
                audit,
                safeguards,
                limits,
                mode,
                routes,
                passthrough,
                log_successes,
                settings,
                warnings,
            })
        }
        _ => Err(faults),
    }
}

fn workers<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Workers {
    let mut runtime = root.section(s, "runtime");
    let default =
        Setting { key: "runtime.workers".into(), value: "\"per-core\"".into(), default: Some("\"per-core\"".into()) };
    let workers = match runtime.take("workers") {
        None => {
            s.settings.push(default);
            Workers::PerCore
        }
        Some(value) => {
            let number = integer(value.get_ref()).and_then(|n| usize::try_from(n).ok()).and_then(NonZeroUsize::new);
            match (value.get_ref(), number) {
                (DeValue::String(word), _) if word == "per-core" => {
                    s.settings.push(default);
                    Workers::PerCore
                }
                (DeValue::String(word), _) if word == "shared" => {
                    s.settings.push(Setting { value: "\"shared\"".into(), ..default });
                    Workers::Shared
                }
                (_, Some(count)) if count.get() <= 1024 => {
                    s.settings.push(Setting { value: count.to_string(), ..default });
                    Workers::Count(count)
                }
                _ => {
                    let at = Some(value.span().start);
                    s.fault_at(at, "runtime.workers", "expected \"per-core\", \"shared\" or a number from 1 to 1024");
                    Workers::PerCore
                }
            }
        }
    };
    runtime.finish(s);
    workers
}

fn authentication<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> (Window, bool) {
    let mut section = root.section(s, "authentication");
    let Window { past, future } = Window::default();
    let past = section.duration(s, "window_past", past, MILLISECOND);
    let future = section.duration(s, "window_future", future, MILLISECOND);
    let php = section.flag(s, "accept_php_sdk_dates", true);
    section.finish(s);
    (Window { past, future }, php)
}

/// A table of which exactly one part must be there.
fn one_of<'s>(
    root: &mut Section<'s>,
    s: &mut Source<'s>,
    name: &'static str,
    not_yet: &[&'static str],
    choices: &str,
) -> Section<'s> {
    let mut section = root.section(s, name);
    for &part in not_yet {
        section.not_yet(s, part, &format!("use {choices}"));
    }
    section
}

fn replay<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Option<Replay> {
    let faults = s.faults.len();
    let choices = "[replay.journal], [replay.redis] or [replay.memory]";
    let mut section = one_of(root, s, "replay", &[], choices);
    let replay = match (section.has("journal"), section.has("redis"), section.has("memory")) {
        (true, false, false) => {
            let mut journal = section.section(s, "journal");
            let path = journal.text(s, "path", "a directory for the journal");
            let sync = journal_sync(&mut journal, s);
            let places = places(&mut journal, s);
            journal.finish(s);
            path.map(|path| Replay::Journal { path: s.resolve(&path), sync, places })
        }
        (false, true, false) => {
            let mut redis = section.section(s, "redis");
            let places = places(&mut redis, s);
            super::redis::redis(redis, s, places).map(|redis| Replay::Redis(Box::new(redis)))
        }
        (false, false, true) => {
            let mut memory = section.section(s, "memory");
            let places = places(&mut memory, s);
            memory.finish(s);
            Some(Replay::Memory(places))
        }
        (journal, redis, memory) => {
            if s.faults.len() == faults {
                let what = if journal || redis || memory { "two stores are named" } else { "no store is named" };
                s.fault_at(None, "replay", format!("{what}; expected one of {choices}"));
            }
            return None;
        }
    };
    section.finish(s);
    replay
}

fn places<'s>(store: &mut Section<'s>, s: &mut Source<'s>) -> Places {
    let max_salts = store.count(s, "max_salts", 1_000_000);
    let max_salts_per_key = store.count(s, "max_salts_per_key", (max_salts / 4).max(1));
    let words = [("fence", WhenNew::Fence), ("accept", WhenNew::Accept)];
    let when_new = store.word(s, "when_new", &words, words[0]);
    Places { max_salts, max_salts_per_key, when_new }
}

fn journal_sync<'s>(journal: &mut Section<'s>, s: &mut Source<'s>) -> JournalSync {
    let words = [("os", JournalSync::Os), ("each", JournalSync::Each)];
    let default = Duration::from_millis(10);
    journal.duration_or_word(s, "sync", default, MILLISECOND, &words).map_or_else(|word| word, JournalSync::Every)
}

/// A store of one process where there may be several: worth a look, and no fault.
fn warn_of_one_process(
    file: &Path,
    replay: &Replay,
    listeners: &[Listener],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Fault> {
    let key = match replay {
        Replay::Memory(_) => "replay.memory",
        Replay::Journal { .. } => "replay.journal",
        Replay::Redis(_) => return None,
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

fn directory<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Option<std::path::PathBuf> {
    let faults = s.faults.len();
    let mut section = one_of(root, s, "directory", &["postgres"], "[directory.file]");
    if !section.has("file") {
        if s.faults.len() == faults {
            s.fault_at(
                None,
                "directory",
                "no source of keys is named; expected [directory.file] with path = \"keys.toml\"",
            );
        }
        section.finish(s);
        return None;
    }
    let mut file = section.section(s, "file");
    let path = file.text(s, "path", "the path of the keys");
    file.finish(s);
    section.finish(s);
    path.map(|path| s.resolve(&path))
}

fn ownership<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Option<Ownership> {
    let faults = s.faults.len();
    let choices = "[ownership.upstream] or [ownership.delegate]";
    let mut section = one_of(root, s, "ownership", &["postgres"], choices);
    let ownership = match (section.has("upstream"), section.has("delegate")) {
        (true, false) => {
            let mut upstream = section.section(s, "upstream");
            let account = pointer(&mut upstream, s, "account");
            let creator = pointer(&mut upstream, s, "creator");
            let segment = upstream.has("segment").then(|| pointer(&mut upstream, s, "segment")).flatten();
            let name = upstream.has("name").then(|| pointer(&mut upstream, s, "name")).flatten();
            upstream.finish(s);
            account.zip(creator).map(|(account, creator)| Ownership::Upstream { account, creator, segment, name })
        }
        (false, true) => {
            section.section(s, "delegate").finish(s);
            Some(Ownership::Delegate)
        }
        (both, _) => {
            if s.faults.len() == faults {
                let what = if both { "two sources are named" } else { "no source is named" };
                s.fault_at(None, "ownership", format!("{what}; expected one of {choices}"));
            }
            return None;
        }
    };
    section.finish(s);
    ownership
}

fn pointer<'s>(section: &mut Section<'s>, s: &mut Source<'s>, name: &'static str) -> Option<String> {
    let at = section.at(name);
    let expected = "a JSON pointer such as \"/accountId\"";
    let text = section.text(s, name, expected)?;
    if !text.starts_with('/') {
        s.fault_at(at, &format!("ownership.upstream.{name}"), format!("is {}; expected {expected}", quoted(&text)));
        return None;
    }
    Some(text)
}

fn audit<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Option<Audit> {
    let mut section = root.section(s, "audit");
    let none = section.flag(s, "danger_no_record", false);
    let at = section.at("path");
    let audit = if none {
        if section.optional_text(s, "path", "nothing").is_some() {
            s.fault_at(at, "audit.path", "stands beside danger_no_record = true; expected one of the two");
        }
        Some(Audit::DangerNoRecord)
    } else {
        let path = section.text(s, "path", "a directory for the record, or danger_no_record = true to keep none");
        let words = [("each", Sync::Each), ("os", Sync::Os)];
        let sync = section.word(s, "sync", &words, words[0]);
        let rotate_size = section.size(s, "rotate_size", 64 << 20);
        let rotate_age = section.duration(s, "rotate_age", DAY, seconds(1));
        let retain = section.optional_duration(s, "retain", seconds(1), 100 * 365 * DAY);
        let low_water = section.size_up_to(s, "low_water", 256 << 20, (1 << 50, "1 PiB"));
        path.map(|path| Audit::Record { path: s.resolve(&path), sync, rotate_size, rotate_age, retain, low_water })
    };
    section.finish(s);
    audit
}

/// A quarter, and all where a quarter would be too few to work with.
fn share_of_one_key(max_in_flight: usize) -> usize {
    (max_in_flight / 4).max(64).min(max_in_flight)
}

fn limits<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Limits {
    let mut section = root.section(s, "limits");
    let max_connections = section.count(s, "max_connections", 10_000);
    let max_in_flight = section.count(s, "max_in_flight", 1_024);
    let limits = Limits {
        max_connections,
        // Three quarters: a proxy that nobody named has room, and no single address has them all.
        max_connections_per_client: section.count(
            s,
            "max_connections_per_client",
            (max_connections - max_connections / 4).max(1),
        ),
        max_in_flight,
        max_in_flight_per_key: section.count(s, "max_in_flight_per_key", share_of_one_key(max_in_flight)),
        failed_signatures_per_client: section.budget(s, "failed_signatures_per_client", FAILED_SIGNATURES),
        max_header_bytes: section.size(s, "max_header_bytes", 16 << 10),
        max_target_bytes: section.size(s, "max_target_bytes", 4 << 10),
        max_body_bytes: section.size(s, "max_body_bytes", 64 << 10),
        header_timeout: section.duration(s, "header_timeout", seconds(10), MILLISECOND),
        body_timeout: section.duration(s, "body_timeout", seconds(10), MILLISECOND),
        write_timeout: section.duration(s, "write_timeout", seconds(10), MILLISECOND),
        idle_timeout: section.duration(s, "idle_timeout", seconds(60), MILLISECOND),
        drain_delay: section.duration(s, "drain_delay", seconds(0), Duration::ZERO),
        drain_timeout: section.duration(s, "drain_timeout", seconds(20), Duration::ZERO),
    };
    section.finish(s);
    limits
}

fn passthrough<'s>(root: &mut Section<'s>, s: &mut Source<'s>, routes: &Routes) -> Passthrough {
    if !root.has("passthrough") {
        root.take("passthrough");
        return Passthrough::default();
    }
    let mut section = root.section(s, "passthrough");
    let (at_methods, at_prefixes) = (section.at("methods"), section.at("prefixes"));
    let methods = section.some_texts(s, "methods", "a list of methods such as [\"GET\", \"POST\"]");
    let prefixes = section.some_texts(s, "prefixes", "a list of path prefixes such as [\"/crm-core/\"]");
    section.finish(s);
    let (Some(methods), Some(prefixes)) = (methods, prefixes) else { return Passthrough::default() };
    Passthrough::new(methods, prefixes, routes).unwrap_or_else(|error| {
        match error {
            PassthroughError::Method(odd) => {
                s.fault_at(at_methods, "passthrough.methods", format!("{} is no method that can pass", quoted(&odd)));
            }
            PassthroughError::Prefix(odd) => {
                let message =
                    format!("{} is no plain absolute path; expected one such as \"/crm-core/\"", quoted(&odd));
                s.fault_at(at_prefixes, "passthrough.prefixes", message);
            }
            PassthroughError::Overlaps(prefix, route) => {
                let message = format!(
                    "{} with the method DELETE reaches the route {route}, which would then pass without a gate; \
                     leave DELETE out or name narrower prefixes",
                    quoted(&prefix)
                );
                s.fault_at(at_prefixes, "passthrough.prefixes", message);
            }
        }
        Passthrough::default()
    })
}

fn routes<'s>(root: &mut Section<'s>, s: &mut Source<'s>) -> Routes {
    if !root.has("route") {
        root.take("route");
        return Routes::default();
    }
    let mut routes: Vec<Route> = Vec::new();
    for mut section in root.sections(s, "route") {
        let at = Some(section.at);
        let method = section.optional_text(s, "method", "\"DELETE\"");
        if method.is_some_and(|method| method != Route::METHOD) {
            s.fault_at(at, "route.method", "only deletions are routes; expected \"DELETE\"");
        }
        let path = section.text(s, "path", &format!("a path such as {}", quoted(Route::DEFAULT_PATH)));
        let roles = Role::ALL.map(|role| (role.as_str(), role));
        let own = section.word(s, "own", &roles, roles[0]);
        let others = section.word(s, "others", &roles, roles[2]);
        if others < own {
            s.fault_at(
                at,
                "route.others",
                format!("\"{others}\" is weaker than own = \"{own}\"; expected at least that"),
            );
        }
        let guard = super::safeguard::guard(&mut section, s);
        section.finish(s);
        match path.map(|path| Route::new(&path, own, others)) {
            Some(Ok(route)) if routes.iter().any(|r| r.pattern() == route.pattern()) => {
                s.fault_at(at, "route.path", format!("{} is there twice", quoted(route.pattern())));
            }
            Some(Ok(route)) => routes.extend(guard.applied(route, s)),
            Some(Err(error)) => s.fault_at(at, "route.path", error.to_string()),
            None => {}
        }
    }
    Routes::new(routes)
}
