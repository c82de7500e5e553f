//! What became of the deletions whose outcome nobody knows? The upstream is asked for each, as the
//! ownership look-up asks, and what it says beyond doubt is put on record.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use http::StatusCode;
use serde_json::Value;

use super::record_of;
use crate::audit::{self, Record, Settings};
use crate::cli::{fail, load};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::ownership::{NotLearned, Ownership};
use crate::policy::{Role, Route, SegmentId};
use crate::serve;
use crate::upstream::{Identity, RequestHead, Upstream, hygiene};

pub(super) fn run(path: &Path) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let directory = match record_of(&config) {
        Ok((directory, _)) => directory,
        Err(code) => return code,
    };
    // Two at once would ask the same questions. Gone with this process, however it ends.
    let lock = File::open(directory);
    let locked = lock.as_ref().map(|lock| lock.try_lock());
    if !matches!(locked, Ok(Ok(()))) {
        return fail(format!("{}: is not there, or is being reconciled by somebody else", directory.display()));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    match runtime.block_on(reconcile(&config, directory)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(left) => fail(format!("{left} outcomes stay unknown")),
        Err(what) => fail(what),
    }
}

/// Asks about each, and returns how many stay unknown.
async fn reconcile(config: &Config, directory: &Path) -> Result<usize, String> {
    let intents = audit::unknown(directory).map_err(|error| error.to_string())?;
    if intents.is_empty() {
        println!("no outcome is unknown");
        return Ok(0);
    }
    let clock = Clock::system();
    let patience = config.upstream.connect_timeout + config.upstream.response_timeout;
    let settled = clock::rfc3339(clock.now().checked_sub(patience).unwrap_or(std::time::UNIX_EPOCH));
    let servers = serve::servers(config, serve::upstream_settings(config), &clock, None);
    let upstream =
        Upstream::new(&servers.map_err(|faults| faults.iter().map(ToString::to_string).collect::<String>())?);
    let ownership = serve::ownership(config);
    let settings = Settings { writer: "reconcile", ..serve::record_settings(&config.audit) };
    // Begun with the first answer: a run that learns nothing leaves no file.
    let mut record = None;
    let mut left = 0;
    for intent in &intents {
        let found = match ask(intent, &upstream, &ownership).await {
            // The service may be at it still, for as long as it would have been waited for.
            Found::There if intent["time"].as_str().is_none_or(|time| time > settled.as_str()) => {
                Found::Unclear("the segment is still there, but the deletion may be on its way: ask again".into())
            }
            found => found,
        };
        let said = match &found {
            Found::Gone => "deleted: the upstream has no such segment any more".to_owned(),
            Found::There => "not deleted: the segment is still there".to_owned(),
            Found::Unclear(why) => format!("stays unknown: {why}"),
        };
        let text = |field: &str| intent[field].as_str().unwrap_or("-").escape_debug().to_string();
        println!("{} {} {}: {said}", text("time"), text("request_id"), text("segment"));
        let outcome = match found {
            Found::Gone => "deleted",
            Found::There => "not_deleted",
            Found::Unclear(_) => {
                left += 1;
                continue;
            }
        };
        if record.is_none() {
            let opened = Record::open_in(directory, settings, clock.clone(), |_| {});
            record = Some(opened.map_err(|error| error.to_string())?);
        }
        let Some(record) = &record else { continue };
        record.reconciled(intent, outcome).await.map_err(|_| "the record cannot be written".to_owned())?;
    }
    Ok(left)
}

enum Found {
    Gone,
    There,
    Unclear(String),
}

async fn ask(intent: &Value, upstream: &Upstream, ownership: &Ownership) -> Found {
    let (segment, question) = match question(intent) {
        Ok(asked) => asked,
        Err(why) => return Found::Unclear(why),
    };
    match ownership {
        Ownership::Upstream(pointers) => match pointers.look_up(upstream, question, &segment).await {
            Ok(_) => Found::There,
            Err(NotLearned::NoSuchSegment) => Found::Gone,
            Err(NotLearned::Timeout) => Found::Unclear("the upstream did not answer in time".into()),
            Err(NotLearned::Unclear(why)) => Found::Unclear(why),
        },
        Ownership::Delegate => match upstream.ask(question).await {
            Ok(answer) if answer.status() == StatusCode::OK => Found::There,
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => Found::Gone,
            Ok(answer) => Found::Unclear(format!("the upstream answered {}", answer.status().as_u16())),
            Err(error) => Found::Unclear(error.to_string()),
        },
    }
}

/// The look-up that the request itself made, in the name of the same caller.
fn question(intent: &Value) -> Result<(SegmentId, RequestHead), String> {
    let text = |field: &str| intent[field].as_str().ok_or_else(|| format!("its intent has no {field}"));
    let segment = SegmentId::parse(text("segment")?).ok_or("its intent names no segment")?;
    let route = Route::new(text("route")?, Role::Owner, Role::Owner).map_err(|_| "its intent names no route")?;
    let id = text("request_id")?.parse().map_err(|_| "its intent has a request_id that is no field value")?;
    let identity = Identity {
        account: text("account")?,
        member: text("member")?,
        role: intent["role"].as_str(),
        api_key: text("api_key")?,
        creator: None,
        request_id: &id,
    };
    let question = hygiene::question(&route.path(&segment), &identity).map_err(|error| error.to_string())?;
    Ok((segment, question))
}
