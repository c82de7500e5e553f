use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

/// An event as one line of JSON, written straight into the line: a decision is logged for every
/// request, and by way of a serializer it cost as much as verifying it.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str("{\"timestamp\":\"")?;
        clock::stamp(&mut line)?;
        line.write_str("\",\"level\":\"")?;
        line.write_str(event.metadata().level().as_str())?;
        line.write_char('"')?;
        let mut fields = Fields { line: &mut line, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        line.write_str(",\"target\":\"")?;
        line.write_str(event.metadata().target())?;
        line.write_str("\"}\n")
    }
}

/// Each field as a member of the object.
struct Fields<'l, W> {
    line: &'l mut W,
    result: fmt::Result,
}

impl<W: Write> Fields<'_, W> {
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut W) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = name(self.line, field.name()).and_then(|()| value(self.line));
        }
    }
}

fn name(line: &mut impl Write, name: &str) -> fmt::Result {
    line.write_str(",\"")?;
    line.write_str(name)?;
    line.write_str("\":")
}

impl<W: Write> Visit for Fields<'_, W> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |line| {
            line.write_char('"')?;
            Escaped(line).write_str(value)?;
            line.write_char('"')
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |line| {
            line.write_char('"')?;
            write!(Escaped(line), "{value:?}")?;
            line.write_char('"')
        });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        self.member(field, |line| if value.is_finite() { write!(line, "{value}") } else { line.write_str("null") });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |line| write!(line, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |line| line.write_str(if value { "true" } else { "false" }));
    }
}

/// Text within a string of JSON. What is written here writes no line of its own.
struct Escaped<'l, W>(&'l mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0x7f;
        while let Some(at) = text.bytes().position(special) {
            self.0.write_str(&text[..at])?;
            match text.as_bytes()[at] {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                control => write!(self.0, "\\u{control:04x}")?,
            }
            text = &text[at + 1..];
        }
        self.0.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whatever_is_in_an_event_it_is_one_line_of_json() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().event_format(Json).with_writer(move || writer.clone());
        let odd = "a \"b\" \\ \n\r\t\u{0} \u{1b}[31m \u{7f} 세그먼트 \u{2028}";
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
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
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
}
