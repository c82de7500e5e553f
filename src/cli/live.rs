//! `check --live`: what can be tried without deleting or spending anything.

use std::process::ExitCode;

use http::HeaderValue;
use serde_json::Value;

use super::{EX_USAGE, report};
use crate::clock::Clock;
use crate::config::{self, Config, Replay};
use crate::directory::{Caller, Directory};
use crate::policy::{Role, SegmentId};
use crate::replay;
use crate::serve;
use crate::upstream::{Identity, RequestHead, Unsayable, Upstream, hygiene};

/// What was tried, a line each.
#[derive(Default)]
struct Tried {
    failed: bool,
}

impl Tried {
    fn tell(&mut self, line: Result<String, String>) {
        // What a service says may hold anything; a line of ours holds no control bytes.
        let plain = |text: String| {
            text.chars()
                .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
                .collect::<String>()
        };
        match line {
            Ok(line) => println!("ok: {}", plain(line)),
            Err(line) => {
                self.failed = true;
                eprintln!("failed: {}", plain(line));
            }
        }
    }
}

pub(super) async fn check(config: &Config, directory: &Directory, segment: Option<&str>) -> ExitCode {
    let segment = match segment.map(|id| SegmentId::parse(id).ok_or(id)).transpose() {
        Ok(segment) => segment,
        Err(id) => {
            eprintln!("saltgate: --segment {id:?} is no id of a segment");
            return ExitCode::from(EX_USAGE);
        }
    };
    let mut tried = Tried::default();
    let clock = Clock::system();
    let settings = serve::upstream_settings(config);
    for server in &settings.servers {
        // Each by itself: none stands in for another.
        let alone = crate::upstream::Settings { servers: vec![server.clone()], ..settings.clone() };
        let servers = match serve::servers(config, alone, &clock, None) {
            Ok(servers) => servers,
            Err(faults) => return report(&faults),
        };
        let lines = servers.probe().await;
        let reached = lines.iter().all(Result::is_ok);
        lines.into_iter().for_each(|line| tried.tell(line));
        if let (Some(segment), true) = (&segment, reached) {
            let name = format!("upstream {server}");
            ownership(config, directory, &Upstream::new(&servers), segment, &name, &mut tried).await;
        }
    }
    if let Replay::Redis(redis) = &config.replay {
        let settings = match serve::redis_settings(config, redis) {
            Ok(settings) => settings,
            Err(faults) => return report(&faults),
        };
        for (server, answer) in replay::ping(&settings).await {
            tried.tell(match answer {
                Ok(()) => Ok(format!("redis {server}: answers")),
                Err(why) => Err(format!("redis {server}: {why}")),
            });
        }
    }
    if tried.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The look-up that a deletion of the segment would make, and what the pointers find.
async fn ownership(
    config: &Config,
    directory: &Directory,
    upstream: &Upstream,
    segment: &SegmentId,
    name: &str,
    tried: &mut Tried,
) {
    let Some(caller) = caller(directory, &Clock::system()) else {
        return tried.tell(Err("the directory has no active key in whose name to ask".into()));
    };
    for route in config.routes.iter() {
        let path = route.path(segment);
        let told = |what: &str| format!("{name}: GET {path} in the name of {}: {what}", caller.api_key);
        let question = match question(&path, caller) {
            Ok(question) => question,
            Err(why) => {
                tried.tell(Err(told(&why.to_string())));
                continue;
            }
        };
        let answer = match upstream.ask(question).await {
            Ok(answer) => answer,
            Err(error) => {
                tried.tell(Err(told(&error.to_string())));
                continue;
            }
        };
        let status = answer.status().as_u16();
        if status != 200 {
            tried.tell(Err(told(&format!("answered {status}, expected 200"))));
            continue;
        }
        tried.tell(Ok(told("answered 200")));
        if let config::Ownership::Upstream { account, creator, segment: id, name: called } = &config.ownership {
            let answer = serde_json::from_slice::<Value>(answer.body());
            let pointers = [("account", Some(account)), ("creator", Some(creator)), ("segment", id.as_ref())];
            for (what, pointer) in pointers {
                let Some(pointer) = pointer else { continue };
                let found = answer.as_ref().map(|answer| answer.pointer(pointer));
                tried.tell(yields(name, what, pointer, found.map_err(|_| ())));
            }
            // Nothing depends on it: without one a segment has no name on record.
            if let (Some(pointer), Ok(answer)) = (called, &answer) {
                let found = answer.pointer(pointer).and_then(Value::as_str).unwrap_or("nothing");
                tried.tell(Ok(format!("{name}: ownership.upstream.name {pointer} yields {found:?}")));
            }
            if let crate::ownership::Ownership::Upstream(pointers) = serve::ownership(config) {
                let body = answer.map(|answer| answer.to_string()).unwrap_or_default();
                if let Err(why) = pointers.read(segment, body.as_bytes()) {
                    tried.tell(Err(format!("{name}: a deletion would be refused: {why}")));
                }
            }
        }
    }
}

fn yields(name: &str, what: &str, pointer: &str, found: Result<Option<&Value>, ()>) -> Result<String, String> {
    let told = |what_is: String| format!("{name}: ownership.upstream.{what} {pointer} yields {what_is}");
    match found {
        Err(()) => Err(told("nothing: the answer is not JSON".into())),
        Ok(None) => Err(told("nothing".into())),
        Ok(Some(Value::String(text))) if !text.is_empty() => Ok(told(format!("{text:?}"))),
        Ok(Some(Value::String(_))) => Err(told("an empty text".into())),
        Ok(Some(_)) => Err(told("what is no text".into())),
    }
}

/// Somebody who may delete whatever there is, if there is such a key.
fn caller<'d>(directory: &'d Directory, clock: &Clock) -> Option<&'d Caller> {
    let active = directory.callers().filter(|caller| caller.is_active(clock.now()));
    let mut callers: Vec<&Caller> = active.map(|caller| &**caller).collect();
    callers.sort_by(|a, b| a.api_key.cmp(&b.api_key));
    let owner = callers.iter().find(|caller| caller.role == Some(Role::Owner));
    owner.or(callers.first()).copied()
}

fn question(path: &str, caller: &Caller) -> Result<RequestHead, Unsayable> {
    let identity = Identity {
        account: &caller.owner.account,
        member: &caller.owner.member,
        role: caller.role.map(Role::as_str),
        api_key: &caller.api_key,
        creator: None,
        request_id: &HeaderValue::from_static("check-live"),
    };
    hygiene::question(path, &identity)
}
