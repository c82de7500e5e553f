use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{Source, printed};
use crate::audit::{self, Filter};
use crate::cli::fail;
use crate::clock::{self, Clock};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Not before: 2026-11-24T09:00:00Z, 2026-11-24, or how long ago (90m)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
    /// Of this apiKey
    #[arg(long, value_name = "API_KEY")]
    key: Option<String>,
    /// Of this account
    #[arg(long)]
    account: Option<String>,
    /// About this segment
    #[arg(long)]
    segment: Option<String>,
    /// forward, refuse, or an outcome: deleted, refused_by_upstream, unknown, not_sent
    #[arg(long)]
    decision: Option<String>,
    /// The intents of which nobody knows what became
    #[arg(long)]
    unknown: bool,
}

fn time(text: &str) -> Result<String, String> {
    let time = clock::parse(text, Clock::system().now());
    time.map(clock::rfc3339).ok_or_else(|| "expected 2026-11-24T09:00:00Z, 2026-11-24 or a duration such as 90m".into())
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let directory = match arguments.source.open() {
        Ok((directory, _)) => directory,
        Err(code) => return code,
    };
    let filter = Filter {
        since: arguments.since.clone(),
        until: arguments.until.clone(),
        api_key: arguments.key.clone(),
        account: arguments.account.clone(),
        segment: arguments.segment.clone(),
        decision: arguments.decision.clone(),
    };
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut out = io::BufWriter::new(stdout.lock());
    let mut failed = None;
    let mut print = |line: &Value| {
        if !filter.takes(line) {
            return true;
        }
        let done = if terminal { writeln!(out, "{}", in_words(line)) } else { writeln!(out, "{line}") };
        failed = done.err();
        failed.is_none()
    };
    let read = if arguments.unknown {
        audit::unknown(&directory).map(|intents| {
            intents.iter().all(&mut print);
            0
        })
    } else {
        audit::read(&directory, &mut print)
    };
    let flushed = failed.map_or_else(|| out.flush(), Err);
    match read {
        Err(error) => fail(error),
        Ok(unreadable) => {
            if unreadable > 0 {
                eprintln!("saltgate: {unreadable} lines are not lines of a record; `saltgate audit verify` names them");
            }
            printed(flushed.map(|()| ExitCode::SUCCESS))
        }
    }
}

/// A line for people. What others chose the text of is escaped.
fn in_words(line: &Value) -> String {
    let text = |field: &str| match &line[field] {
        Value::Null => String::new(),
        Value::String(text) => text.escape_debug().to_string(),
        other => other.to_string(),
    };
    let mut words = vec![text("time"), text("kind")];
    match line["kind"].as_str() {
        Some("counted") => words.push(text("counts")),
        Some("header") => words.push(format!("process {} file {}", text("instance"), text("file"))),
        _ => {}
    }
    for field in ["outcome", "reason", "upstream_status"] {
        words.push(text(field));
    }
    if !line["segment"].is_null() {
        words.push(format!("segment {}", text("segment")));
    }
    if !line["name"].is_null() {
        words.push(format!("\"{}\"", text("name")));
    }
    if !line["creator"].is_null() {
        words.push(format!("of {}", text("creator")));
    }
    if !line["api_key"].is_null() {
        let role = line["role"].as_str().unwrap_or("no role");
        words.push(format!("by {} ({}/{}, {role})", text("api_key"), text("account"), text("member")));
    }
    if !line["client"].is_null() {
        words.push(format!("from {}", text("client")));
    }
    words.push(text("request_id"));
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_writes_no_line_of_its_own() {
        let line = serde_json::json!({ "time": "t", "kind": "intent", "segment": "S", "name": "a\n\u{1b}[2Jb" });
        assert_eq!(in_words(&line), "t intent segment S \"a\\n\\u{1b}[2Jb\"");
    }
}
