//! The status as lines for a terminal. The text of others in it is escaped by the console.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use crate::status::{bytes, span};

/// The status that a gateway answered with, as lines.
pub(super) fn of(status: &Value) -> String {
    let mut lines = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut lines, status);
    lines
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or("-")
}

fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value[field].as_array().map_or(&[][..], Vec::as_slice).iter()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_default()
}

fn seconds(value: &Value, field: &str) -> String {
    span(Duration::from_secs(number(value, field)))
}

fn write(to: &mut String, status: &Value) -> std::fmt::Result {
    writeln!(
        to,
        "Saltgate {}, up {}, {}",
        text(status, "version"),
        seconds(status, "up_seconds"),
        text(status, "time")
    )?;
    let until = status["fenced_until"].as_str().map(|until| format!(" until {until}")).unwrap_or_default();
    writeln!(to, "{}{until}", text(status, "verdict").replace('_', " ").to_uppercase())?;
    for trouble in list(status, "troubles") {
        writeln!(to, "  {}: {}", text(trouble, "part"), text(trouble, "why"))?;
    }
    for remark in list(status, "remarks").filter_map(Value::as_str) {
        writeln!(to, "  {remark}")?;
    }
    writeln!(to, "\n{:<36}{:>9}{:>9}{:>9}{:>12}", "requests", "minute", "10 min", "hour", "all")?;
    for counted in list(status, "requests") {
        let [minute, ten, hour, all] =
            ["last_minute", "last_10_minutes", "last_hour", "since_start"].map(|span| number(counted, span));
        let (outcome, reason) = (text(counted, "outcome"), text(counted, "reason"));
        writeln!(to, "  {outcome:<10}{reason:<24}{minute:>9}{ten:>9}{hour:>9}{all:>12}")?;
    }
    to.write_str("\n")?;
    for server in list(status, "upstreams") {
        let state = if server["healthy"] == true { "reachable" } else { "NOT used, or not reachable" };
        writeln!(to, "service    {}: {state}", text(server, "server"))?;
    }
    let taken = |of: &str| format!("{} of {}", number(&status[of], "now"), number(&status[of], "max"));
    let salts = &status["salts"];
    writeln!(to, "salts      {} of {} ({})", number(salts, "held"), number(salts, "room"), text(salts, "store"))?;
    let io: Vec<_> = list(status, "io").filter_map(Value::as_str).collect();
    let io = if io.is_empty() { String::new() } else { format!(" ({})", io.join(", ")) };
    writeln!(to, "under way  {} requests, {} connections{io}", taken("in_flight"), taken("connections"))?;
    writeln!(to, "record     {}", record(&status["record"]))?;
    writeln!(
        to,
        "keys       {}, read {} ago",
        number(&status["keys"], "count"),
        seconds(&status["keys"], "read_seconds_ago")
    )?;
    for frozen in list(status, "frozen_targets") {
        writeln!(to, "frozen     {} since {}", text(frozen, "target"), text(frozen, "since"))?;
    }
    for certificate in list(status, "certificates") {
        let [name, part, expires] = ["name", "part", "expires"].map(|field| text(certificate, field));
        writeln!(to, "expires    {expires} {name} ({})", part.replace('_', " "))?;
    }
    let config = &status["config"];
    let differing = list(config, "differences").count();
    writeln!(to, "config     {}, {differing} settings differ from the defaults", text(config, "hash"))?;
    if list(status, "refusals").next().is_some() {
        writeln!(to, "\nrefused last")?;
    }
    for refused in list(status, "refusals") {
        let [time, id, key, words] = ["time", "request_id", "api_key", "words"].map(|field| text(refused, field));
        writeln!(to, "  {time} {id} key={key}: {words}")?;
    }
    Ok(())
}

fn record(record: &Value) -> String {
    if record.is_null() {
        return "none is kept".to_owned();
    }
    let state = if record["writable"] == true { "can be written" } else { "CANNOT be written" };
    let free = record["free_bytes"].as_u64().map_or_else(|| "unknown".to_owned(), bytes);
    let open = number(record, "open_outcomes");
    format!("{state}, {free} free, {open} without an outcome\nhead       {}", text(record, "head"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_without_anything_in_it_is_shown_all_the_same() {
        let lines = of(&json!({}));
        assert!(lines.starts_with("Saltgate -, up 0 s, -\n-\n"), "{lines}");
        assert!(lines.contains("record     none is kept"), "{lines}");
    }
}
