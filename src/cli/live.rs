//! `saltgate check --live`: tries the upstream servers, Redis and PostgreSQL without deleting anything or spending a salt.

use std::process::ExitCode;
use std::sync::Arc;

use http::HeaderValue;
use serde_json::Value;

use super::live_report::Report;
use super::{EX_USAGE, fail, key_table, owner_query, report};
use crate::clock::Clock;
use crate::config::{Config, Fault};
use crate::console::complain;
use crate::directory::{Caller, Directory};
use crate::lookup::{self, LookupAnswer};
use crate::ownership::{Ownership, Pointers};
use crate::policy::{Identifier, Role, SegmentId};
use crate::replay::{self, RedisStartError};
use crate::safeguard::{AutomationsError, LinkedAutomations, LinksUnclear};
use crate::upstream::{self, Identity, InvalidRequestHead, RequestHead, Servers, Upstream, headers};

pub(super) async fn check(config: &Config, directory: Directory, segment: Option<&str>) -> ExitCode {
    let segment = match segment.map(|id| SegmentId::parse(id).ok_or(id)).transpose() {
        Ok(segment) => segment,
        Err(id) => {
            complain!("saltgate: --segment {id:?} is not the id of a segment");
            return ExitCode::from(EX_USAGE);
        }
    };
    let mut results = Report::default();
    let directory = match &config.key_table {
        None => directory,
        Some(table) => match key_table::read(table).await {
            Ok((directory, faults)) => {
                results.found(&format!("{}: {} keys", config.keys_file.path.display(), directory.len()));
                faults
                    .iter()
                    .for_each(|fault| results.failed(&format!("{}: {fault}", config.keys_file.path.display())));
                directory
            }
            Err(error) => {
                results.failed(&format!("{}: {error}", config.keys_file.path.display()));
                directory
            }
        },
    };
    if let Some(query) = owner_query::of(&config.ownership) {
        owner_query::check(query, segment.as_ref(), &mut results).await;
    }
    let clock = Clock::system();
    for server in &config.upstream.servers {
        // One at a time, so that no server answers for another.
        let alone = upstream::UpstreamSettings { servers: vec![server.clone()], ..config.upstream.clone() };
        let servers = match Servers::new(alone, clock.clone(), None) {
            Ok(servers) => Arc::new(servers),
            Err(unfit) => return report(&[config.fault(unfit.key, unfit.why)]),
        };
        let attempts = servers.probe().await;
        let reached = attempts.iter().all(Result::is_ok);
        for attempt in attempts {
            match attempt {
                Ok(line) => results.found(&line),
                Err(error) => results.failed(&error.to_string()),
            }
        }
        if let (Some(segment), true) = (&segment, reached) {
            let name = format!("upstream {server}");
            look_ups(config, &directory, &Upstream::new(&servers), segment, &name, &mut results).await;
        }
    }
    if let replay::ReplaySettings::Redis(redis) = &config.replay {
        let answers = match replay::examine(redis).await {
            Ok(answers) => answers,
            Err(RedisStartError::File { setting, file, error }) => {
                return report(&[Fault::of_redis_file(setting, &file, &error)]);
            }
            Err(error) => return fail(error),
        };
        for (server, answer) in answers {
            match answer {
                Ok(what) => results.found(&format!("redis {server}: answers: {what}")),
                Err(trouble) => results.failed(&format!("redis {server}: {trouble}")),
            }
        }
    }
    if results.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Makes the look-ups that a deletion of the segment would make at the service, and reports what they find.
async fn look_ups(
    config: &Config,
    directory: &Directory,
    upstream: &Upstream,
    segment: &SegmentId,
    name: &str,
    report: &mut Report,
) {
    let Some(caller) = caller(directory, &Clock::system()) else {
        return report.failed("no key is active, so there is nobody to ask for");
    };
    for route in config.routes.iter() {
        if owner_query::of(&config.ownership).is_none() {
            owner(config, upstream, (&route.path(segment).concat(), segment), caller, name, report).await;
        }
        if let Some(path) = route.automations_path(segment) {
            let asked = automations(config, upstream, &path, caller, segment).await;
            let answered = |what: &str| format!("{name}: GET {path} for {}: {what}", caller.api_key);
            match asked {
                Ok(linked) => report.found(&answered(&format!("{} linked automations", linked.iter().count()))),
                Err(why) => report.failed(&answered(&why.to_string())),
            }
        }
    }
}

/// Asks the service about the segment, and reports what the pointers find.
async fn owner(
    config: &Config,
    upstream: &Upstream,
    (path, segment): (&str, &SegmentId),
    caller: &Caller,
    name: &str,
    report: &mut Report,
) {
    let answered = |what: &str| format!("{name}: GET {path} for {}: {what}", caller.api_key);
    let question = match question(path, caller) {
        Ok(question) => question,
        Err(why) => {
            report.failed(&answered(&why.to_string()));
            return;
        }
    };
    let answer = match lookup::ask(upstream, question).await {
        Ok(LookupAnswer::Found(answer)) => answer,
        Ok(LookupAnswer::NotFound) => {
            report.failed(&answered("answered 404, expected 200"));
            return;
        }
        Err(error) => {
            report.failed(&answered(&error.to_string()));
            return;
        }
    };
    report.found(&answered("answered 200"));
    if let Ownership::Upstream(pointers) = &config.ownership {
        let Pointers { account, creator, segment: id, name: called } = pointers;
        let all = [("account", Some(account)), ("creator", Some(creator)), ("segment", id.as_ref())];
        for (what, pointer) in all {
            let Some(pointer) = pointer else { continue };
            let line = |found: &str| format!("{name}: ownership.upstream.{what} {pointer} yields {found}");
            match identifier(answer.root().pointer(pointer)) {
                Ok(text) => report.found(&line(&format!("{text:?}"))),
                Err(why) => report.failed(&line(&why.to_string())),
            }
        }
        // Not a failure: the name is only for the record.
        if let Some(pointer) = called {
            let found = answer.root().pointer(pointer).and_then(Value::as_str).unwrap_or("nothing");
            report.found(&format!("{name}: ownership.upstream.name {pointer} yields {found:?}"));
        }
        report.found(&match answer.version() {
            Some(tag) => format!("{name}: the deletion would carry If-Match: {}", shown(tag.value())),
            None => format!("{name}: the answer has no strong ETag, so the deletion would carry no If-Match"),
        });
        let refused = match pointers.read(segment, &answer) {
            Ok(learned) => learned.creator().err().map(ToString::to_string),
            Err(why) => Some(why.to_string()),
        };
        if let Some(why) = refused {
            report.failed(&format!("{name}: a deletion would be refused: {why}"));
        }
    }
}

/// Asks for the linked automations, as the automation guard does.
async fn automations(
    config: &Config,
    upstream: &Upstream,
    path: &str,
    caller: &Caller,
    segment: &SegmentId,
) -> Result<LinkedAutomations, NoAutomations> {
    match config.safeguards.guard.ask(upstream, question(path, caller)?, segment).await {
        Ok(linked) => Ok(linked),
        Err(AutomationsError::NotFound) => Err(NoAutomations::NotFound),
        Err(AutomationsError::Timeout) => Err(NoAutomations::Timeout),
        Err(AutomationsError::Unclear(why)) => Err(NoAutomations::Unclear(why)),
    }
}

/// Why the linked automations are not known.
#[derive(Debug, thiserror::Error)]
enum NoAutomations {
    #[error(transparent)]
    NoQuestion(#[from] InvalidRequestHead),
    #[error("answered 404, expected 200")]
    NotFound,
    #[error("the upstream did not answer in time")]
    Timeout,
    #[error("a deletion would be refused: {0}")]
    Unclear(#[source] LinksUnclear),
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn identifier(found: Option<&Value>) -> Result<&str, NoIdentifier> {
    match found {
        None => Err(NoIdentifier::Missing),
        Some(Value::String(text)) if Identifier::is_one(text) => Ok(text),
        Some(Value::String(text)) if text.is_empty() => Err(NoIdentifier::Empty),
        Some(Value::String(_)) => Err(NoIdentifier::OtherForm),
        Some(_) => Err(NoIdentifier::NotText),
    }
}

/// What a pointer yields instead of an account, a creator or an id.
#[derive(Debug, thiserror::Error)]
enum NoIdentifier {
    #[error("nothing")]
    Missing,
    #[error("an empty string")]
    Empty,
    #[error("a value that is not {}", Identifier::FORM)]
    OtherForm,
    #[error("a value that is not a string")]
    NotText,
}

/// An active caller to ask for: preferably an OWNER, who may delete any segment.
fn caller<'d>(directory: &'d Directory, clock: &Clock) -> Option<&'d Caller> {
    let active = directory.callers().filter(|caller| caller.is_active(clock.now()));
    let mut callers: Vec<&Caller> = active.map(|caller| &**caller).collect();
    callers.sort_by(|a, b| a.api_key.cmp(&b.api_key));
    let owner = callers.iter().find(|caller| caller.role == Some(Role::Owner));
    owner.or(callers.first()).copied()
}

fn question(path: &str, caller: &Caller) -> Result<RequestHead, InvalidRequestHead> {
    let identity = Identity {
        account: &caller.owner.account,
        member: &caller.owner.member,
        role: caller.role.map(Role::as_str),
        api_key: &caller.api_key,
        creator: None,
        request_id: &HeaderValue::from_static("check-live"),
    };
    headers::question(path, &identity)
}
