//! Fuzzing of the file of counts.

use serde_json::Value;

use super::{checksum, parse, render};

/// Any bytes as the file of counts: a file that parses is written again as the same bytes. If the first byte is a
/// space, the rest is JSON and gets a valid checksum.
pub(crate) fn fuzz(bytes: &[u8]) {
    let checked = match bytes.split_first() {
        Some((b' ', rest)) => with_check(rest),
        _ => None,
    };
    let bytes = checked.as_deref().unwrap_or(bytes);
    if let Some(counts) = parse(bytes) {
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        assert_eq!(text, format!("{}\n", render(&counts)));
    }
}

fn with_check(json: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(json).ok()?;
    let check = checksum(value.get("counts")?.as_object()?);
    value.as_object_mut()?.insert("check".into(), check.into());
    Some(format!("{value}\n").into_bytes())
}
