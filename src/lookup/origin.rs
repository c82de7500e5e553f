//! Checks that the service itself gave an answer, and not a cache. Look-ups have `Cache-Control: no-store`; a cache
//! that answers all the same says so in its fields.

use http::header::{AGE, HeaderMap, HeaderName, HeaderValue};

use super::{LookupError, shown};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Fields of common caches that do not use `Cache-Status`.
const X_CACHE: [&str; 4] = ["x-cache", "x-cache-status", "x-proxy-cache", "cf-cache-status"];

/// Refuses an answer from a cache.
///
/// # Errors
/// [`LookupError::FromCache`] with the field that says so.
pub(super) fn judge(headers: &HeaderMap) -> Result<(), LookupError> {
    let mut ages = 0;
    for (name, value) in headers {
        let kept = if *name == AGE {
            ages += 1;
            ages > 1 || !is_zero(value)
        } else if *name == CACHE_STATUS {
            says(value, b"hit")
        } else if X_CACHE.contains(&name.as_str()) {
            [&b"hit"[..], b"stale", b"updating", b"revalidated"].iter().any(|word| says(value, word))
        } else {
            false
        };
        if kept {
            return Err(LookupError::FromCache(format!("{name}: {}", shown(value.as_bytes()))));
        }
    }
    Ok(())
}

/// Whether an `Age` is 0. One that is not understood may mean any age.
fn is_zero(age: &HeaderValue) -> bool {
    let age = age.as_bytes();
    !age.is_empty() && age.iter().all(|digit| *digit == b'0')
}

/// Whether a word of the value begins with this one.
fn says(value: &HeaderValue, word: &[u8]) -> bool {
    let words = value.as_bytes().split(|byte| !byte.is_ascii_alphanumeric());
    words.into_iter().any(|said| said.len() >= word.len() && said[..word.len()].eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_from_a_cache_are_refused() {
        let rows: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("age", "0")], true),
            (&[("age", "00")], true),
            (&[("age", "1")], false),
            (&[("age", "")], false),
            (&[("age", "+0")], false),
            (&[("age", "0.5")], false),
            (&[("age", "0"), ("age", "0")], false),
            (&[("cache-status", "a; fwd=uri-miss; stored, b; fwd=bypass")], true),
            (&[("cache-status", "a; fwd=uri-miss, b; hit")], false),
            (&[("x-cache", "MISS"), ("x-cache", "Hit from cloudfront")], false),
            (&[("x-cache", "TCP_MEM_HIT from a")], false),
            (&[("x-cache-status", "BYPASS")], true),
            (&[("x-cache-status", "REVALIDATED")], false),
            (&[("cf-cache-status", "DYNAMIC")], true),
        ];
        for (fields, believed) in rows {
            let field = |(name, value): &(&str, &str)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
            };
            assert_eq!(judge(&fields.iter().map(field).collect()).is_ok(), *believed, "{fields:?}");
        }
    }
}
