//! `saltgate audit show`: prints the lines of the record that match a filter.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{Source, report_unread};
use crate::audit::{self, Filter, Unread};
use crate::cli::fail;
use crate::clock::{self, Clock};
use crate::console;
use crate::plain;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Only lines from this time on: 2026-11-24T09:00:00Z, 2026-11-24, or a duration ago (90m)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Only lines before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
    /// Only lines of this apiKey
    #[arg(long, value_name = "API_KEY")]
    key: Option<String>,
    /// Only lines of this account
    #[arg(long)]
    account: Option<String>,
    /// Only lines about this segment
    #[arg(long)]
    segment: Option<String>,
    /// Only lines with this decision (forward, refuse) or outcome (deleted, refused_by_upstream, unknown, not_sent)
    #[arg(long)]
    decision: Option<String>,
    /// Only intents whose outcome is unknown
    #[arg(long)]
    unknown: bool,
}

fn time(text: &str) -> Result<String, NotATime> {
    clock::parse(text, Clock::system().now()).map(clock::rfc3339).ok_or(NotATime)
}

#[derive(Debug, thiserror::Error)]
#[error("expected 2026-11-24T09:00:00Z, 2026-11-24 or a duration such as 90m")]
struct NotATime;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let super::Opened { record, shipped, .. } = match arguments.source.open() {
        Ok(opened) => opened,
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
    let terminal = console::is_terminal();
    let mut print = |line: &Value| {
        if filter.takes(line) {
            let shown = if terminal { in_words(line) } else { plain::json_line(line) };
            console::later(format_args!("{shown}"));
        }
        console::is_heard()
    };
    let mut unread = Unread::default();
    let read = if arguments.unknown {
        audit::unknown(record, &mut unread).map(|intents| {
            let _all = intents.iter().all(&mut print);
        })
    } else {
        audit::read(record, &mut unread, &mut print)
    };
    drop(shipped);
    match read {
        Err(error) => fail(error),
        Ok(()) => report_unread(&unread),
    }
}

/// A line for people. Control characters in text that others chose are escaped.
fn in_words(line: &Value) -> String {
    let text = |field: &str| match &line[field] {
        Value::Null => String::new(),
        Value::String(text) => plain::within_quotes(text).to_string(),
        other => other.to_string(),
    };
    let mut words = vec![text("time"), text("kind")];
    match line["kind"].as_str() {
        Some("counted") => words.push(text("counts")),
        Some("header") => {
            words.push(format!("process {} file {}", text("instance"), text("file")));
            if !line["begun_anew"].is_null() {
                words.push(format!("begun anew: {}", text("begun_anew")));
            }
        }
        Some("keys") => words.push(keys(line)),
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
    if line["kind"] == "intent" && !line["key_set"].is_null() {
        words.push(format!("judged by key set {}", text("key_set")));
    }
    words.push(text("request_id"));
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// A set of keys that came into force.
fn keys(line: &Value) -> String {
    let number = |field: &str| line[field].as_u64().unwrap_or_default();
    let name = |name: &Value| plain::within_quotes(name.as_str().unwrap_or_default()).to_string();
    let list = |field: &str| -> Vec<String> { line[field].as_array().into_iter().flatten().map(name).collect() };
    let changed = line["changed"].as_object().into_iter().flatten().map(|(key, fields)| {
        let fields: Vec<String> = fields.as_array().into_iter().flatten().map(name).collect();
        format!("{} ({})", plain::within_quotes(key), fields.join(", "))
    });
    let mut words = format!("set {} by {}: {} keys", number("key_set"), name(&line["by"]), number("keys"));
    for (what, names) in [("added", list("added")), ("removed", list("removed")), ("changed", changed.collect())] {
        if !names.is_empty() {
            words += &format!("; {what} {}", names.join(", "));
        }
    }
    if number("parts") > 1 {
        words += &format!("; part {} of {}", number("part"), number("parts"));
    }
    words + &format!("; digest {}", name(&line["digest"]))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_change_of_keys_says_who_and_which_fields() {
        let line = serde_json::json!({
            "time": "t", "kind": "keys", "key_set": 2, "by": "watch", "keys": 3, "digest": "abc",
            "added": ["A", "B"], "removed": [], "changed": { "C": ["role", "secrets"] }, "part": 1, "parts": 1,
        });
        let words = "t keys set 2 by watch: 3 keys; added A, B; changed C (role, secrets); digest abc";
        assert_eq!(in_words(&line), words);
    }

    use super::*;

    #[test]
    fn a_name_cannot_start_a_line() {
        let line = serde_json::json!({ "time": "t", "kind": "intent", "segment": "S", "name": "a\n\u{1b}[2Jb" });
        assert_eq!(in_words(&line), "t intent segment S \"a\\n\\u{1b}[2Jb\"");
    }
}
