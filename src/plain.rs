//! Escapes text that others chose, so that it is safe to show in the log, in the record and on a terminal.
//!
//! Some characters are invisible or change how other text is shown: control characters (ESC, and U+009B, which means
//! the same), marks that change the direction of text, line and paragraph separators, zero-width and other format
//! characters. They are written as escapes, so that nobody can forge a line, hide part of a name, or move the reader's
//! cursor. All other text is unchanged.
//!
//! All escaping happens here. Escaping text a second time changes nothing.

use std::fmt::{self, Write};

use serde_json::Value;

use crate::bytewise;

/// Whether a character is invisible, or changes how others are shown.
pub fn is_hidden(c: char) -> bool {
    match c {
        ' '..='~' | '가'..='힣' => false,
        '\0'..='\u{9f}' => true,
        // Fillers and variation selectors, which the standard library treats like visible letters and marks.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => true,
        '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}' => true,
        // Tested after another character, because the standard library escapes a combining mark at the start.
        c => {
            let mut text = [b'a', 0, 0, 0, 0];
            let length = c.encode_utf8(&mut text[1..]).len();
            std::str::from_utf8(&text[..=length]).is_ok_and(|text| text.escape_debug().nth(1) != Some(c))
        }
    }
}

/// Escapes `text` for use within one line; line ends are escaped, too.
pub(crate) fn line(text: &str) -> Plain<'_> {
    Plain { text, form: Form::Line }
}

/// Escapes `text` for use within one line, and puts it in quotation marks.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", within_quotes(text))
}

/// Escapes `text` for use between quotation marks.
pub(crate) fn within_quotes(text: &str) -> Plain<'_> {
    Plain { text, form: Form::Quoted }
}

/// Escapes `text` of several lines; line ends stay.
pub(crate) fn lines(text: &str) -> Plain<'_> {
    Plain { text, form: Form::Lines }
}

/// Text that is escaped when it is displayed: see [`line()`], [`within_quotes`] and [`lines`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'t> {
    text: &'t str,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Line,
    Quoted,
    Lines,
}

impl Form {
    fn escapes(self, c: char) -> bool {
        match self {
            Self::Line => is_hidden(c),
            Self::Quoted => is_hidden(c) || c == '"' || c == '\\',
            Self::Lines => is_hidden(c) && c != '\n',
        }
    }
}

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| self.form.escapes(*c)) {
            f.write_str(&rest[..at])?;
            match c {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '"' | '\\' => write!(f, "\\{c}")?,
                hidden => write!(f, "\\u{{{:x}}}", u32::from(hidden))?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        f.write_str(rest)
    }
}

/// Appends `text` as the content of a JSON string. A JSON parser gets back exactly `text`; a person who reads the line
/// sees no hidden characters.
pub(crate) fn json(mut text: &str, line: &mut Vec<u8>) {
    // Most text needs no escapes. This test has no branches, so that it compiles to SIMD instructions.
    let ordinary = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    if bytewise::all(text.as_bytes(), ordinary) {
        return line.extend_from_slice(text.as_bytes());
    }
    while let Some((at, c)) = text.char_indices().find(|(_, c)| Form::Quoted.escapes(*c)) {
        line.extend_from_slice(&text.as_bytes()[..at]);
        match c {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            '\n' => line.extend_from_slice(b"\\n"),
            hidden => line.extend_from_slice(units(hidden).as_bytes()),
        }
        text = &text[at + c.len_utf8()..];
    }
    line.extend_from_slice(text.as_bytes());
}

/// `value` as one line of JSON, with all hidden characters escaped.
pub(crate) fn json_line(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().any(is_hidden) {
        // Outside its strings JSON is ASCII, and control characters below 0x20 are escaped already.
        text.chars().map(|c| if is_hidden(c) { units(c) } else { c.to_string() }).collect()
    } else {
        text
    }
}

/// A character as a JSON escape: one or two UTF-16 code units.
fn units(c: char) -> String {
    let mut text = String::new();
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind.
    const HIDDEN: &[char] = &[
        '\0',
        '\n',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{85}',
        '\u{9b}',
        '\u{ad}',
        '\u{61c}',
        '\u{180e}',
        '\u{200b}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2064}',
        '\u{2066}',
        '\u{2069}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{fff9}',
        '\u{1d173}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e01ef}',
        '\u{e000}',
        '\u{10ffff}',
    ];

    #[test]
    fn invisible_characters_are_escaped_and_visible_text_is_not() {
        for &c in HIDDEN {
            assert!(is_hidden(c), "{c:?}");
            for shown in [line(&format!("a{c}b")).to_string(), quoted(&c.to_string())] {
                assert!(!shown.contains(c), "{shown:?}");
                assert_eq!(line(&shown).to_string(), shown, "twice is once");
            }
        }
        let people = "세그먼트 Élan naïve e\u{301} Müller 漢字 ไทย हिन्दी Ελλάδα עברית عربي 🎉 – “x” \\ \" ~";
        assert_eq!(line(people).to_string(), people);
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\n""#);
        assert_eq!(lines("a\nb\u{202e}\r\n").to_string(), "a\nb\\u{202e}\\r\n");
    }

    #[test]
    fn json_round_trips() {
        let text: String = HIDDEN.iter().flat_map(|&c| ['x', c, '세', '"', '\\']).collect();
        let mut written = b"\"".to_vec();
        json(&text, &mut written);
        written.push(b'"');
        let written = String::from_utf8(written).unwrap();
        let value = Value::String(text.clone());
        for written in [written, json_line(&value)] {
            assert!(!written.contains(is_hidden), "{written:?}");
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
        let mut plain = Vec::new();
        json("segment-1", &mut plain);
        assert_eq!(plain, b"segment-1");
    }
}
