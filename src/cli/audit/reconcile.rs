//! `saltgate audit reconcile`: asks the upstream about each deletion whose outcome is unknown, with the ownership
//! look-up.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::{copy_of, record_of, report_unread};
use crate::audit::{self, Directories, RecordSettings, SegmentState, Unread};
use crate::cli::shipping::Rest;
use crate::cli::{fail, load, report};
use crate::clock::Clock;
use crate::config::Config;
use crate::console::say;
use crate::ownership::{Ownership, Unclear};
use crate::plain;
use crate::policy::{Role, Route, SegmentId};
use crate::upstream::{Identity, InvalidRequestHead, RequestHead, Servers, Upstream, headers};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The configuration, in TOML. What is found goes into the directory of its record
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Another directory of the record, which is only read; repeat it for the directories of a fleet
    #[arg(long = "path", value_name = "DIR")]
    paths: Vec<PathBuf>,
    /// Read the copy of all records in PostgreSQL, too (audit.ship of the configuration); what is found is copied there
    #[arg(long)]
    shipped: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let config = match load(&arguments.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let directory = match record_of(&config) {
        Ok((directory, _)) => directory,
        Err(code) => return code,
    };
    // Two concurrent runs would ask the same questions. The lock is released when this process ends.
    let lock = File::open(directory);
    let locked = lock.as_ref().map(|lock| lock.try_lock());
    if !matches!(locked, Ok(Ok(()))) {
        return fail(format!("{}: does not exist, or another process is reconciling it", directory.display()));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let copied = match arguments.shipped.then(|| copy_of(&config)).transpose() {
        Ok(copied) => copied,
        Err(code) => return code,
    };
    let others = copied.iter().map(|copied| copied.path().to_owned()).chain(arguments.paths.iter().cloned());
    let code = runtime.block_on(reconcile(&config, directory, others.collect()));
    if arguments.shipped {
        Rest::of(&config).ship(&runtime);
    }
    code
}

async fn reconcile(config: &Config, directory: &Path, others: Vec<PathBuf>) -> ExitCode {
    let mut unread = Unread::default();
    let all: Directories = [directory.to_owned()].into_iter().chain(others).collect();
    let intents = match audit::unknown(all, &mut unread) {
        Ok(intents) => intents,
        Err(error) => return fail(error),
    };
    report_unread(&unread);
    if intents.is_empty() {
        say!("no outcome is unknown");
        return ExitCode::SUCCESS;
    }
    let clock = Clock::system();
    let servers = match Servers::new(config.upstream.clone(), clock.clone(), None) {
        Ok(servers) => Arc::new(servers),
        Err(unfit) => return report(&[config.fault(unfit.key, unfit.why)]),
    };
    let upstream = Upstream::new(&servers);
    let settings = RecordSettings { writer: "reconcile", ..config.audit.settings() };
    // The service may work on a deletion for as long as the gateway waits for its answer.
    let timeout = config.upstream.connect_timeout + config.upstream.response_timeout;
    let ownership = config.ownership.open(1, &clock, None);
    let ask = async |intent: &Value| ask(intent, &upstream, &ownership).await;
    match audit::reconcile(&intents, directory, settings, &clock, timeout, ask, print).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(left) => fail(format!("{left} outcomes stay unknown")),
        Err(error) => fail(error),
    }
}

fn print(intent: &Value, became: &audit::Reconciled<NoAnswer>) {
    let text = |field: &str| plain::line(intent[field].as_str().unwrap_or("-")).to_string();
    say!("{} {} {}: {became}", text("time"), text("request_id"), text("segment"));
}

/// Why the upstream gave no usable answer about an intent.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("its intent has no {0}")]
    Missing(&'static str),
    #[error("its intent names no segment")]
    Segment,
    #[error("its intent names no route")]
    Route,
    #[error("its intent has a request_id that is not a field value")]
    RequestId,
    #[error("{0}")]
    Head(InvalidRequestHead),
    #[error("{0}")]
    Unclear(Unclear),
}

async fn ask(intent: &Value, upstream: &Upstream, ownership: &Ownership) -> SegmentState<NoAnswer> {
    let (segment, question) = match question(intent) {
        Ok(asked) => asked,
        Err(why) => return SegmentState::Unclear(why),
    };
    match ownership.is_there(upstream, question, &segment).await {
        Ok(true) => SegmentState::There,
        Ok(false) => SegmentState::Gone,
        Err(why) => SegmentState::Unclear(NoAnswer::Unclear(why)),
    }
}

/// The look-up that the request itself made, for the same caller.
fn question(intent: &Value) -> Result<(SegmentId, RequestHead), NoAnswer> {
    let text = |field: &'static str| intent[field].as_str().ok_or(NoAnswer::Missing(field));
    let segment = SegmentId::parse(text("segment")?).ok_or(NoAnswer::Segment)?;
    let route = Route::new(text("route")?, Role::Owner, Role::Owner).map_err(|_| NoAnswer::Route)?;
    let id = text("request_id")?.parse().map_err(|_| NoAnswer::RequestId)?;
    let identity = Identity {
        account: text("account")?,
        member: text("member")?,
        role: intent["role"].as_str(),
        api_key: text("api_key")?,
        creator: None,
        request_id: &id,
    };
    let question = headers::question(&route.path(&segment).concat(), &identity).map_err(NoAnswer::Head)?;
    Ok((segment, question))
}
