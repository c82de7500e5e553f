//! The `[[key]]` tables of a text, one at a time. TOML's parser builds a tree of the whole document, which for 100 000 keys is
//! many times as large as the text, and nearly all of these tables are simple.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The parts of a text: from its start to the first line that begins with `[[key]]`, and then from each such line to the next.
///
/// If every part is valid TOML, the parts together are the whole document. A multi-line string or array that spans a
/// `[[key]]` line makes the part in which it begins invalid.
pub(super) fn parts(text: &str) -> impl Iterator<Item = Range<usize>> {
    let next = |from: usize| text[from..].find("\n[[key]]").map_or(text.len(), |at| from + at + 1);
    let mut from = if text.starts_with("[[key]]") { 0 } else { next(0) };
    let rest = std::iter::from_fn(move || {
        let part = from..if from < text.len() { next(from) } else { return None };
        from = part.end;
        Some(part)
    });
    std::iter::once(0..from).chain(rest)
}

/// Parses a part that consists of `[[key]]` and lines such as `name = "text"` without escapes. `None` for anything else, which
/// TOML's parser reads in ten times the time.
pub(super) fn plain(part: &str) -> Option<DeTable<'_>> {
    let mut table = DeTable::new();
    let mut lines = part.split('\n');
    if lines.next() != Some("[[key]]") {
        return None;
    }
    let mut at = "[[key]]\n".len();
    for line in lines {
        if !line.is_empty() {
            let name = &line[..line.bytes().position(|byte| !byte.is_ascii_alphanumeric() && byte != b'_')?];
            let value = line[name.len()..].strip_prefix(" = ").filter(|_| !name.is_empty())?;
            let read = match value {
                "true" => DeValue::Boolean(true),
                "false" => DeValue::Boolean(false),
                _ => DeValue::String(text(value)?.into()),
            };
            let value_at = at + line.len() - value.len();
            let (name, read) =
                (Spanned::new(at..at + name.len(), name.into()), Spanned::new(value_at..value_at + value.len(), read));
            if table.insert(name, read).is_some() {
                return None;
            }
        }
        at += line.len() + 1;
    }
    Some(table)
}

/// The text between the quotes, if it has no escapes.
fn text(value: &str) -> Option<&str> {
    let text = value.strip_prefix('"')?.strip_suffix('"')?;
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\').then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_toml(part: &str) -> Option<DeTable<'_>> {
        let mut root = DeTable::parse(part).ok()?.into_inner();
        let mut tables = match root.remove("key")?.into_inner() {
            DeValue::Array(tables) => tables.into_iter(),
            _ => return None,
        };
        match (tables.next()?.into_inner(), tables.next(), root.is_empty()) {
            (DeValue::Table(table), None, true) => Some(table),
            _ => None,
        }
    }

    #[test]
    fn a_plain_table_is_parsed_as_by_the_toml_parser() {
        let part =
            "[[key]]\napi_key = \"K1\"\nsecret = \"a secret, of # all [sorts] = {}'\"\n\nactive = false\nrole = \"\"\n";
        let (plain, by_toml) = (plain(part).unwrap(), by_toml(part).unwrap());
        assert_eq!(plain.len(), 4);
        for ((name, value), (expected_name, expected)) in plain.iter().zip(&by_toml) {
            assert_eq!((name.get_ref(), name.span()), (expected_name.get_ref(), expected_name.span()));
            assert_eq!(format!("{value:?}"), format!("{expected:?}"));
        }
        assert!(super::plain("[[key]]").is_some_and(|table| table.is_empty()), "a table of nothing");
    }

    #[test]
    fn other_tables_are_left_to_the_toml_parser() {
        let odd = [
            "",
            "[key]",
            "[[key]] # the first",
            "[[key]]\r\na = \"b\"\r\n",
            "[[key]]\n# a = \"b\"",
            "[[key]]\n a = \"b\"",
            "[[key]]\na.b = \"c\"",
            "[[key]]\n\"a\" = \"b\"",
            "[[key]]\n = \"b\"",
            "[[key]]\na = \"b\" # c",
            "[[key]]\na = \"\"\"b\"\"\"",
            "[[key]]\na = \"\"\"",
            "[[key]]\na = \"b\\n\"",
            "[[key]]\na = \"b\tc\"",
            "[[key]]\na = \"é\"",
            "[[key]]\na = 'b'",
            "[[key]]\na = \"",
            "[[key]]\na = 1",
            "[[key]]\na = [\"b\"]",
            "[[key]]\na = { env = \"B\" }",
            "[[key]]\na = \"b\"\na = \"c\"",
            "[[key]]\n[a]",
        ];
        for part in odd {
            assert!(plain(part).is_none(), "{part:?}");
        }
    }

    #[test]
    fn the_parts_make_up_the_text_and_all_but_the_first_begin_a_table() {
        let texts =
            ["", "a = 1", "[[key]]", "[[key]]\n[[key]]\n", "# keys\n[[key]]\na = \"[[key]]\"\n\n[[key]]\n [[key]]\n"];
        for (text, tables) in texts.into_iter().zip([0, 0, 1, 2, 2]) {
            let parts: Vec<&str> = parts(text).map(|part| &text[part]).collect();
            assert_eq!(parts.concat(), text);
            assert_eq!(parts.len(), 1 + tables, "{parts:?}");
            assert!(parts[1..].iter().all(|part| part.starts_with("[[key]]")), "{parts:?}");
        }
    }
}
