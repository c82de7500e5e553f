use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{EX_USAGE, Socket};
use crate::clock::{self, Clock};
use crate::control::Question;
use crate::explain::words;
use crate::refusal::Reason;

#[derive(Args)]
pub(super) struct Arguments {
    /// The one that was answered with this X-Request-Id, and what to tell its sender
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Those that claim this apiKey
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Those since then: a time, a day, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// A line of JSON each
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
            eprintln!(
                "saltgate refusals: --since {since:?} is no time; expected 2026-11-24T00:00:00Z, 2026-11-24 or 10m"
            );
            return ExitCode::from(EX_USAGE);
        }
    };
    let question = Question::Refusals { id: arguments.id.clone(), key: arguments.key.clone(), since };
    let mut found = false;
    let asked = arguments.socket.ask(&question, Duration::ZERO, |refused| {
        found = true;
        if arguments.json {
            println!("{refused}");
        } else {
            print(&refused);
            if arguments.id.is_some() {
                tell(&refused);
            }
        }
    });
    if asked.is_ok() && !found && arguments.id.is_some() {
        eprintln!("not among the last 10 000 refusals; the log has every decision under its id");
        return ExitCode::FAILURE;
    }
    asked.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

fn print(refused: &Value) {
    let text = |field: &str| refused[field].as_str().unwrap_or("-").escape_debug().to_string();
    let skew = refused["skew_seconds"].as_f64().map_or_else(|| "-".to_owned(), |skew| format!("{skew:+.1}s"));
    println!(
        "{}  {:<22} key={} skew={skew} client={} {} {}  {}",
        text("time"),
        text("reason"),
        text("api_key"),
        text("client"),
        text("method"),
        text("path"),
        text("request_id"),
    );
}

fn tell(refused: &Value) {
    let Some(&reason) = Reason::ALL.iter().find(|reason| refused["reason"] == reason.as_str()) else { return };
    let words = words(reason);
    println!("  {}", words.english);
    println!("  {}", words.korean);
    println!("to the customer: {}", words.to_customer_english);
    println!("고객에게 보낼 말: {}", words.to_customer_korean);
}
