//! The sections of the status page, most of them a table.

use std::fmt::{self, Write};

use super::text::{Text, bytes, percent, span};
use super::{CERTIFICATE_SOON, Status};
use crate::clock::rfc3339;
use crate::explain::words;
use crate::telemetry::Ended;

type Page = String;

/// How full something may be before its bar changes colour, in percent.
const FULL: u64 = 80;

pub(super) fn sections(status: &Status, page: &mut Page) -> fmt::Result {
    requests(status, page)?;
    upstreams(status, page)?;
    rooms(status, page)?;
    record(status, page)?;
    freeze_and_keys(status, page)?;
    certificates(status, page)?;
    refusals(status, page)?;
    configuration(status, page)
}

fn begin(page: &mut Page, id: &str, title: &str, class: &str) -> fmt::Result {
    let class = Class(class);
    writeln!(page, "<section{class} aria-labelledby=\"{id}\"><h2 id=\"{id}\">{title}</h2>")
}

/// A class attribute, if there is a class.
struct Class<'c>(&'c str);

impl fmt::Display for Class<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " class=\"{}\"", self.0) }
    }
}

fn end(page: &mut Page) -> fmt::Result {
    page.write_str("</section>\n")
}

/// Begins a table with these columns; those that begin with `#` hold numbers.
fn table(page: &mut Page, columns: &[&str]) -> fmt::Result {
    page.write_str("<table><thead><tr>")?;
    for column in columns {
        match column.strip_prefix('#') {
            Some(name) => write!(page, "<th scope=\"col\" class=\"number\">{name}</th>")?,
            None => write!(page, "<th scope=\"col\">{column}</th>")?,
        }
    }
    page.write_str("</tr></thead><tbody>\n")
}

fn end_table(page: &mut Page) -> fmt::Result {
    page.write_str("</tbody></table>\n")
}

/// A row of a name and what is so. `class` colours it.
fn row(page: &mut Page, name: &str, class: &str, value: impl fmt::Display) -> fmt::Result {
    let class = Class(class);
    writeln!(page, "<tr><th scope=\"row\">{name}</th><td{class}>{value}</td></tr>")
}

/// A row with a bar of how much is taken.
fn bar(page: &mut Page, name: &str, taken: u64, room: u64) -> fmt::Result {
    let share = percent(taken, room);
    let class = if share >= FULL { "bad" } else { "well" };
    let drawn = format!(
        "{taken} of {room} ({share} %)<svg viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\" focusable=\"false\">\
         <rect class=\"track\" width=\"100\" height=\"6\"/><rect class=\"fill\" width=\"{share}\" height=\"6\"/></svg>"
    );
    row(page, name, class, drawn)
}

fn requests(status: &Status, page: &mut Page) -> fmt::Result {
    begin(page, "requests", "Requests", "all")?;
    if status.requests.is_empty() {
        page.write_str("<p class=\"none\">None since the start.</p>\n")?;
        return end(page);
    }
    table(page, &["outcome", "reason", "#minute", "#10 min", "#hour", "#all"])?;
    for counted in &status.requests {
        let class = match counted.outcome {
            Ended::Forwarded => "well",
            Ended::Failed => "bad",
            Ended::Refused | Ended::Passed => "",
        };
        let class = Class(class);
        let [minute, ten, hour, all] = counted.counts;
        writeln!(
            page,
            "<tr><td{class}>{}</td><th scope=\"row\">{}</th><td class=\"number\">{minute}</td>\
             <td class=\"number\">{ten}</td><td class=\"number\">{hour}</td><td class=\"number\">{all}</td></tr>",
            counted.outcome.as_str(),
            counted.reason.as_str().replace('_', " "),
        )?;
    }
    end_table(page)?;
    end(page)
}

fn upstreams(status: &Status, page: &mut Page) -> fmt::Result {
    begin(page, "upstreams", "Service", "")?;
    table(page, &["server", "state"])?;
    for (server, healthy) in &status.upstreams {
        let (class, state) = if *healthy { ("well", "reachable") } else { ("bad", "not used, or not reachable") };
        row(page, &Text(server).to_string(), class, state)?;
    }
    end_table(page)?;
    end(page)
}

fn rooms(status: &Status, page: &mut Page) -> fmt::Result {
    begin(page, "rooms", "Room", "")?;
    table(page, &["for", "taken"])?;
    let of = |number: usize| number as u64;
    bar(page, &format!("salts ({})", status.salts.kind), of(status.salts.held), of(status.salts.room))?;
    bar(page, "requests under way", of(status.in_flight.0), of(status.in_flight.1))?;
    bar(page, "connections", status.connections.0, of(status.connections.1))?;
    row(page, "sockets by", "", status.io.join(", "))?;
    end_table(page)?;
    end(page)
}

fn record(status: &Status, page: &mut Page) -> fmt::Result {
    begin(page, "record", "Record", "")?;
    let Some(record) = &status.record else {
        page.write_str("<p class=\"warn\">None is kept: nothing shows who deleted what.</p>\n")?;
        return end(page);
    };
    table(page, &["of the record", "state"])?;
    let (class, state) = if record.is_writable { ("well", "yes") } else { ("bad", "no: deletions are refused") };
    row(page, "can be written", class, state)?;
    row(page, "free space", "", record.free.map_or_else(|| "unknown".to_owned(), bytes))?;
    row(page, "without an outcome", "", record.open_outcomes)?;
    let head = record.head.as_deref().unwrap_or("unknown");
    row(page, "head", "", format_args!("<code>{}</code>", Text(head)))?;
    end_table(page)?;
    end(page)
}

fn freeze_and_keys(status: &Status, page: &mut Page) -> fmt::Result {
    begin(page, "keys", "Keys and freeze", "")?;
    table(page, &["what", "how many"])?;
    let class = if status.keys.0 == 0 { "bad" } else { "" };
    row(page, "keys in force", class, format_args!("{}, read {} ago", status.keys.0, span(status.keys.1)))?;
    for (scope, count) in status.frozen {
        let name = match scope {
            "all" => "everything frozen",
            "account" => "accounts frozen",
            _ => "keys frozen",
        };
        let class = if count > 0 { "warn" } else { "" };
        match (scope, count) {
            ("all", 0) => row(page, name, class, "no")?,
            ("all", _) => row(page, name, class, "yes")?,
            _ => row(page, name, class, count)?,
        }
    }
    end_table(page)?;
    end(page)
}

fn certificates(status: &Status, page: &mut Page) -> fmt::Result {
    if status.certificates.is_empty() {
        return Ok(());
    }
    begin(page, "certificates", "Certificates", "")?;
    table(page, &["name", "of", "expires"])?;
    for (part, name, expires) in &status.certificates {
        let at = rfc3339(*expires);
        let (class, left) = match expires.duration_since(status.now) {
            Ok(left) if left < CERTIFICATE_SOON => ("warn", format!("in {}", span(left))),
            Ok(left) => ("", format!("in {}", span(left))),
            Err(_) => ("bad", "expired".to_owned()),
        };
        let class = Class(class);
        writeln!(
            page,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td{class}><time datetime=\"{at}\">{left}</time></td></tr>",
            Text(name),
            part.replace('_', " "),
        )?;
    }
    end_table(page)?;
    end(page)
}

fn refusals(status: &Status, page: &mut Page) -> fmt::Result {
    begin(page, "refusals", "Refused last", "all")?;
    if status.refusals.is_empty() {
        page.write_str("<p class=\"none\">Nothing is kept.</p>\n")?;
        return end(page);
    }
    table(page, &["time", "reason", "request id"])?;
    for refused in &status.refusals {
        let at = rfc3339(refused.time);
        writeln!(
            page,
            "<tr><td><time datetime=\"{at}\">{at}</time></td><td>{}</td><td><code>{}</code></td></tr>",
            Text(words(refused.reason).english),
            Text(&refused.id),
        )?;
    }
    end_table(page)?;
    page.write_str("<p class=\"none\">With keys: <code>saltgate refusals</code> on the control socket.</p>\n")?;
    end(page)
}

fn configuration(status: &Status, page: &mut Page) -> fmt::Result {
    begin(page, "configuration", "Configuration", "all")?;
    writeln!(page, "<p>Its name is <code>{}</code>. What differs from the defaults:</p>", Text(&status.config.hash))?;
    table(page, &["setting", "value"])?;
    for line in &status.config.differences {
        let (key, value) = line.split_once(" = ").unwrap_or((line, ""));
        row(page, &Text(key).to_string(), "", format_args!("<code>{}</code>", Text(value)))?;
    }
    end_table(page)?;
    end(page)
}
