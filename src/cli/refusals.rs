//! `saltgate refusals`: lists the requests that the running gateway refused most recently, and why.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{EX_USAGE, Socket};
use crate::clock::{self, Clock};
use crate::console::{complain, say};
use crate::control::Question;
use crate::explain::words;
use crate::plain;
use crate::refusal::Reason;

#[derive(Args)]
pub(super) struct Arguments {
    /// Only the request with this X-Request-Id, and what to tell the customer
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only requests that claim this apiKey
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only requests since a time, a day, or a duration ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Print one line of JSON per request
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let since = match arguments.since.as_deref().map(|since| clock::parse(since, Clock::system().now()).ok_or(since)) {
        None => None,
        Some(Ok(since)) => Some(clock::rfc3339(since)),
        Some(Err(since)) => {
            complain!(
                "saltgate refusals: --since {since:?} is not a time; expected 2026-11-24T00:00:00Z, 2026-11-24 or 10m"
            );
            return ExitCode::from(EX_USAGE);
        }
    };
    let question = Question::Refusals { id: arguments.id.clone(), key: arguments.key.clone(), since };
    let mut found = false;
    let asked = arguments.socket.ask(&question, Duration::ZERO, |refused| {
        found = true;
        if arguments.json {
            say!("{}", plain::json_line(&refused));
        } else {
            print(&refused);
            if arguments.id.is_some() {
                tell(&refused);
            }
        }
    });
    if asked.is_ok() && !found && arguments.id.is_some() {
        complain!(
            "no such refusal is kept (the gateway keeps the last 10 000, and the last 250 of each reason); the log has every decision by its id"
        );
        return ExitCode::FAILURE;
    }
    asked.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

fn print(refused: &Value) {
    let text = |field: &str| plain::line(refused[field].as_str().unwrap_or("-")).to_string();
    let skew = refused["skew_seconds"].as_f64().map_or_else(|| "-".to_owned(), |skew| format!("{skew:+.1}s"));
    say!(
        "{}  {:<22} key={} skew={skew} client={} {} {}  {}",
        text("time"),
        text("reason"),
        text("api_key"),
        text("client"),
        text("method"),
        text("path"),
        text("request_id"),
    );
    if refused["repeat_of"].is_string() {
        let ago = refused["first_seconds_ago"].as_f64().map_or_else(String::new, |ago| format!(", {ago:.1}s before"));
        let client = match refused["same_client"].as_bool() {
            Some(true) => ", from the same address",
            Some(false) => ", from another address",
            None => "",
        };
        say!("    a repeat of {}{ago}{client}: {}", text("repeat_of"), text("first"));
    }
}

fn tell(refused: &Value) {
    let Some(&reason) = Reason::ALL.iter().find(|reason| refused["reason"] == reason.as_str()) else { return };
    let words = words(reason);
    say!("  {}", words.english);
    say!("  {}", words.korean);
    say!("to the customer: {}", words.to_customer_english);
    say!("고객에게 보낼 말: {}", words.to_customer_korean);
}
