//! Reads a whole configuration: every section, contradictions between them, and warnings.

use std::path::Path;

use super::fault::Fault;
use super::listener::collides_with;
use super::outline::Outline;
use super::section::Section;
use super::source::{Findings, Source};
use super::{
    Config, admin, audit, directory, keys, limits, listener, loops, ownership, process, replay, routes, safeguard,
    seal, trace, upstream,
};
use crate::audit::Audit;
use crate::directory::KeysFile;
use crate::file_watch::FileWatch;
use crate::listen::ListenAddress;
use crate::policy::Mode;
use crate::postgres::KeySource;
use crate::telemetry::LogLevel;

/// The configuration of a file, or every fault that was found.
pub(super) fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Fault>> {
    let text = super::file(path, "a configuration, in TOML").map_err(|fault| vec![fault])?;
    read(path, &text, environment, None)
}

/// The configuration of this text, which a file has; notes what it may hold.
pub(super) fn read(
    path: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    outline: Option<&Outline>,
) -> Result<Config, Vec<Fault>> {
    let source = Source::new(path, text, environment).noting(outline);
    let Some(mut root) = Section::document(&source) else { return Err(source.findings().faults) };

    let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
    let mode = root.word("mode", &modes, Mode::Enforce);
    let (listeners, tls_files) = listener::listeners(&mut root).unzip();
    let (admin, ready_needs) = admin::admin(&mut root, listeners.as_ref());
    let (workers, io) = process::runtime(&mut root);
    let (window, php_dates) = process::authentication(&mut root);
    let replay = replay::replay(&mut root, window);
    let seal = seal::seal(&mut root);
    let directory = directory::directory(&mut root, seal);
    let ownership = ownership::ownership(&mut root);
    let (upstream, at_servers) = upstream::upstream(&mut root);
    if let (Some(listeners), Some(upstream)) = (&listeners, &upstream)
        && let Some((number, own)) = loops::own_listener(&upstream.servers, listeners)
    {
        let message = format!(
            "names this gateway's own listener {own} (number {} of the list): every message would come back to it; expected \
             the service",
            number + 1
        );
        source.fault_at(at_servers, "upstream.servers", message);
    }
    let (audit, ship) = audit::audit(&mut root).unzip();
    let ship = ship.flatten();
    let at_control = root.at("control");
    let places = [root.at("safeguard"), root.at("budget")];
    let safeguards = safeguard::safeguards(&mut root, audit.as_ref());
    if let Some((replay, _)) = &replay {
        safeguard::judge_fleet(root.source, places, &safeguards, replay);
    }
    if let Some(socket) = &safeguards.socket
        && let Some(listener) = collides_with(listeners.as_ref(), &ListenAddress::Unix(socket.clone()))
    {
        source.fault_at(
            at_control,
            "control.socket",
            format!("is the listener on {listener}; expected a socket of its own"),
        );
    }
    let (limits, capacity) = limits::limits(&mut root);
    let routes = routes::routes(&mut root);
    let passthrough = routes::passthrough(&mut root, &routes);
    let trace = trace::trace(&mut root);
    let mut log = root.section("log");
    let log_successes = log.flag("successes", true);
    let levels =
        [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
    let log_level = log.word("level", &levels, LogLevel::default());
    log.finish();
    root.finish();

    let Findings { mut faults, mut warnings, settings } = source.findings();
    let mut all_keys = Vec::new();
    let keys_watch = FileWatch::default();
    if let Some(KeySource::File(file)) = &directory {
        let (keys, key_faults, key_warnings) = keys::load(file, environment, &keys_watch);
        all_keys = keys;
        warnings.extend(key_warnings);
        faults.extend(key_faults);
    }
    match (listeners, replay, directory, ownership, upstream, audit) {
        (
            Some(listeners),
            Some((mut replay, repeats)),
            Some(directory),
            Some(ownership),
            Some(upstream),
            Some(audit),
        ) if faults.is_empty() => {
            replay.set_record(audit.path().map(Into::into));
            if safeguards.fleet.is_some() {
                replay.share_for_fleet();
            }
            let (keys_file, key_table) = match directory {
                KeySource::File(mut file) => {
                    file.last_use = file.last_use.or_else(|| audit.path().map(directory::beside_the_record));
                    (file, None)
                }
                KeySource::Table(table) => {
                    let path = format!("PostgreSQL at {}", table.address).into();
                    (KeysFile { path, allow_empty: true, last_use: None, seal: table.seal.clone() }, Some(table))
                }
            };
            warnings.extend(replay::warn_of_one_process(path, &replay, &listeners, environment));
            warnings.extend(listener::warn_of_believing_anybody(path, &listeners));
            warnings.extend(safeguard::warn_of_no_total(path, &safeguards.guard, &routes));
            if !log_successes && matches!(audit, Audit::DangerNoRecord) {
                let message = "is false together with audit.danger_no_record = true: nothing records who deleted what";
                warnings.push(Fault::new(path, None, "log.successes", message));
            }
            if upstream.answer_timeout < upstream.response_timeout {
                let message = "is shorter than upstream.response_timeout: the head of the answer to a deletion cannot \
                               take longer than the whole answer";
                warnings.push(Fault::new(path, None, "upstream.answer_timeout", message));
            }
            Ok(Config {
                file: path.into(),
                listeners,
                tls_files: tls_files.unwrap_or_default(),
                admin,
                ready_needs,
                workers,
                io,
                window,
                php_dates,
                replay,
                repeats,
                keys: all_keys,
                keys_file,
                keys_watch,
                key_table,
                ownership,
                upstream,
                audit,
                ship,
                safeguards,
                limits,
                capacity,
                mode,
                routes,
                passthrough,
                log_successes,
                log_level,
                trace,
                settings,
                warnings,
            })
        }
        _ => Err(faults),
    }
}
