//! The log as JSON, one object per line.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::sync::Arc;

use serde_json::to_writer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::lines::Lines;
use crate::clock::Stamp;
use crate::plain;

/// Writes each event directly as text, because building a JSON tree took as long as verifying a request.
#[derive(Clone)]
pub(super) struct Json(pub(super) Arc<Lines>);

thread_local! {
    static LINE: RefCell<Line> = RefCell::default();
}

/// A thread's line buffer.
#[derive(Default)]
struct Line {
    text: Vec<u8>,
    stamp: Stamp,
}

/// The members that a span adds to the lines within it, as they were when it began: each begins with a comma.
struct SpanMembers(Vec<u8>);

impl<S> Layer<S> for Json
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut members = Vec::new();
        span.record(&mut Fields(&mut members));
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(SpanMembers(members));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let meta = event.metadata();
        self.write(*meta.level(), meta.target(), |text| {
            for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
                // No member may occur twice.
                let is_in_event = span.fields().iter().any(|field| meta.fields().field(field.name()).is_some());
                if let (false, Some(SpanMembers(members))) = (is_in_event, span.extensions().get()) {
                    text.extend_from_slice(members);
                }
            }
            event.record(&mut Fields(text));
        });
    }
}

impl Json {
    /// Writes one line. `members` appends the members between the level and the target.
    pub(super) fn write(&self, level: Level, target: &str, members: impl FnOnce(&mut Vec<u8>)) {
        LINE.with(|line| {
            let mut another = Line::default();
            let mut line = line.try_borrow_mut();
            // Uses a second buffer if formatting a value logs again.
            let line = line.as_deref_mut().unwrap_or(&mut another);
            line.begin(level);
            members(&mut line.text);
            line.end(target);
            self.0.push(&line.text);
        });
    }
}

impl Line {
    fn begin(&mut self, level: Level) {
        let Self { text, stamp } = self;
        text.clear();
        text.extend_from_slice(b"{\"timestamp\":\"");
        stamp.write(text);
        text.extend_from_slice(b"\",\"level\":\"");
        text.extend_from_slice(level.as_str().as_bytes());
        text.push(b'"');
    }

    fn end(&mut self, target: &str) {
        self.text.extend_from_slice(b",\"target\":\"");
        self.text.extend_from_slice(target.as_bytes());
        self.text.extend_from_slice(b"\"}\n");
    }
}

/// Each field as a member of the object.
struct Fields<'l>(&'l mut Vec<u8>);

impl Fields<'_> {
    fn name(&mut self, field: &Field) -> &mut Vec<u8> {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(field.name().as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let line = self.name(field);
        line.push(b'"');
        plain::json(value, line);
        line.push(b'"');
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let line = self.name(field);
        line.push(b'"');
        // If formatting fails, the value is cut off.
        let _ = write!(Escaped(line), "{value:?}");
        line.push(b'"');
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Writing to a vector cannot fail; NaN becomes `null`.
        let _ = to_writer(self.name(field), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let _ = to_writer(self.name(field), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let _ = to_writer(self.name(field), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        let _ = to_writer(self.name(field), &value);
    }
}

/// Escapes all text that is written to it.
struct Escaped<'l>(&'l mut Vec<u8>);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        plain::json(text, self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};

    use tracing_subscriber::prelude::*;

    use super::super::lines::Writing;
    use super::*;

    #[test]
    fn every_event_is_one_line_of_json() {
        let (mut log, writer) = pipe().unwrap();
        let writing = Writing::to(writer).unwrap();
        let layer = Json(writing.lines.clone());
        let odd = "a \"b\" \\ \n\r\t\u{0} \u{1b}[31m \u{7f} 세그먼트 \u{2028} \u{9b}31m \u{202e} \u{e0041}";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(
                text = odd,
                shown = %odd,
                debugged = ?odd,
                none = None::<u64>,
                some = Some(-3_i64),
                number = 0.004_354_318_f64,
                no_number = f64::NAN,
                large = u64::MAX,
                flag = true,
                "it happened"
            );
            tracing::info!("again");
        });
        drop(writing);
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        assert!(!text.contains(|c: char| c != '\n' && plain::is_hidden(c)), "{text:?}");
        let parsed: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed.len(), 2, "{text}");
        let first = &parsed[0];
        assert_eq!(first["message"], "it happened");
        assert_eq!((&first["level"], &first["target"]), (&"WARN".into(), &module_path!().into()));
        assert_eq!((&first["text"], &first["shown"]), (&odd.into(), &odd.into()));
        assert_eq!(first["debugged"], format!("{odd:?}"));
        assert_eq!((first.get("none"), &first["some"]), (None, &(-3).into()));
        assert_eq!((&first["number"], &first["no_number"]), (&0.004_354_318.into(), &serde_json::Value::Null));
        assert_eq!((&first["large"], &first["flag"]), (&u64::MAX.into(), &true.into()));
        assert!(crate::clock::parse(first["timestamp"].as_str().unwrap(), std::time::SystemTime::UNIX_EPOCH).is_some());
    }

    #[test]
    fn a_line_within_spans_has_their_members_once() {
        let (mut log, writer) = pipe().unwrap();
        let writing = Writing::to(writer).unwrap();
        let layer = Json(writing.lines.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _connection = tracing::debug_span!("connection", peer = "192.0.2.1").entered();
            tracing::debug!("before");
            let _request = tracing::debug_span!("request", request_id = "a\"b").entered();
            tracing::debug!("within");
            tracing::debug!(request_id = "c", "with its own");
        });
        drop(writing);
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        let members = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            (line["peer"].as_str().map(str::to_owned), line["request_id"].as_str().map(str::to_owned))
        };
        let own = |text: &str| Some(text.to_owned());
        let lines: Vec<_> = text.lines().map(members).collect();
        let peer = own("192.0.2.1");
        assert_eq!(lines, [(peer.clone(), None), (peer.clone(), own("a\"b")), (peer, own("c"))]);
        assert_eq!(text.matches("request_id").count(), 2, "{text}");
    }
}
