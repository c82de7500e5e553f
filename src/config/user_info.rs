//! The user and password in an address: how they are decoded, and how they are kept out of what is shown.

/// A `%` that is not followed by two hex digits of UTF-8.
pub(super) struct BadPercent;

/// Decodes escapes such as `%40`; an empty text is `None`.
pub(super) fn decoded(text: &str) -> Result<Option<String>, BadPercent> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or(BadPercent)?;
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| BadPercent)?);
    }
    let text = String::from_utf8(bytes).map_err(|_| BadPercent)?;
    Ok((!text.is_empty()).then_some(text))
}

/// The address without its user and password.
pub(super) fn redacted(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://…@{hosts}"),
        (None, Some(_)) => "…".into(),
        _ => text.into(),
    }
}
