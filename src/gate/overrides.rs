//! Finds queries that name another method than the request line (contract §5).
//!
//! A framework behind Saltgate may take the method from a parameter (`_method=DELETE`). Frameworks differ in how
//! they split parameters and which spellings they treat as one name: PHP reads `.method`, `%2Emethod` and
//! `_method[]` as `_method`, and stops at a NUL. So names are compared after folding, as field names are: every
//! byte except letters and digits counts as `-`.

/// Parameter names that name a method, with any prefix.
const NAMES: [&str; 6] = [
    "http-method",
    "http-method-override",
    "method-override",
    "x-method-override",
    "x-original-method",
    "x-forwarded-method",
];
/// How many layers of escapes are undone: a hop behind Saltgate may undo more than one.
const LAYERS: usize = 4;

/// Whether some framework would take a parameter for the method: `_method` in any spelling, or the name of a field
/// with that meaning.
pub(super) fn names_method(query: &str) -> bool {
    any_name(query, |name| {
        let bare = trimmed(name);
        bare == b"method" && name.first() == Some(&b'-')
            || bare.starts_with(b"x-http-method")
            || NAMES.iter().any(|known| bare == known.as_bytes())
    })
}

/// Like [`names_method`], and includes `method` itself. A parameter of that name may mean anything, but it does not
/// pass on the path of a deletion.
pub(super) fn may_name_method(query: &str) -> bool {
    names_method(query) || any_name(query, |name| trimmed(name) == b"method")
}

/// Whether a folded parameter name satisfies `is_such`.
fn any_name(query: &str, is_such: impl Fn(&[u8]) -> bool) -> bool {
    let mut layer = query.as_bytes().to_vec();
    for _ in 0..LAYERS {
        // Some frameworks split parameters at `;`, too, and some only after unescaping.
        if layer.split(|byte| *byte == b'&' || *byte == b';').any(|parameter| is_such(&folded(parameter))) {
            return true;
        }
        match unescaped(&layer) {
            Some(plain) => layer = plain,
            None => return false,
        }
    }
    // More layers than that are suspicious.
    true
}

/// The folded name of a parameter. It ends at `=`, at a NUL, or at the bracket that makes it a list.
fn folded(parameter: &[u8]) -> Vec<u8> {
    let ends = |(at, byte): (usize, &u8)| matches!(byte, b'=' | 0) || *byte == b'[' && at > 0;
    let end = parameter.iter().enumerate().position(ends).unwrap_or(parameter.len());
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    parameter[..end].iter().map(fold).collect()
}

fn trimmed(name: &[u8]) -> &[u8] {
    let begins = name.iter().position(|byte| *byte != b'-').unwrap_or(name.len());
    let ends = name.iter().rposition(|byte| *byte != b'-').map_or(begins, |at| at + 1);
    &name[begins..ends]
}

/// Undoes one layer of escapes, `%XX` and `%uXXXX`; `None` if there are none.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let (mut plain, mut rest, mut any) = (Vec::with_capacity(text.len()), text, false);
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [b'u' | b'U', digits @ ..]) => digits.get(..4).and_then(hexadecimal).map(|value| (value, 5)),
            (b'%', digits) => digits.get(..2).and_then(hexadecimal).map(|value| (value, 2)),
            _ => None,
        };
        match escaped {
            Some((value, length)) => {
                // No letter of these names lies beyond ASCII.
                plain.push(u8::try_from(value).unwrap_or(b'-'));
                rest = &after[length..];
                any = true;
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    any.then_some(plain)
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_parameter_is_found_in_every_spelling() {
        for query in [
            "_method=DELETE",
            "_METHOD=delete",
            ".method=DELETE",
            "%2Emethod=DELETE",
            "a=b&%5FMethod%3dGET",
            "_method%00=DELETE",
            "_method%00x=DELETE",
            "_method[]=DELETE",
            "_method%5B%5D=DELETE",
            "_method[x=DELETE",
            "[_method]=DELETE",
            "_method",
            "a;_method=DELETE",
            "a&+_method=DELETE",
            "%20method=DELETE",
            "+method=DELETE",
            "_method+=DELETE",
            "-method=DELETE",
            "$method=DELETE",
            "%uff3fmethod=DELETE",
            "%u005fmethod=DELETE",
            "%ef%bc%bfmethod=DELETE",
            "%255Fmethod=DELETE",
            "%25255Fmethod=DELETE",
            "%2525252525255Fmethod=DELETE",
            "%5Fme%74hod=DELETE",
            "a=1%26_method=DELETE",
            "X-HTTP-Method-Override=DELETE",
            "x_http_method=DELETE",
            "x-method-override=DELETE",
            "http_method=DELETE",
            "_method&a=b",
        ] {
            assert!(names_method(query), "{query}");
            assert!(may_name_method(query), "{query}");
        }
    }

    #[test]
    fn other_parameters_are_accepted() {
        for query in [
            "",
            "a=b",
            "reason=a%20b&x=%2F",
            "payment_method=card",
            "methods=all",
            "sort=_method",
            "a=_methods&b=.method.",
            "_methods=x",
            "x[_method]=DELETE",
            "a=%5&b=%",
            "q=100%25&r=%u12",
            "name=%EC%84%B8%EA%B7%B8",
        ] {
            assert!(!names_method(query), "{query}");
            assert!(!may_name_method(query), "{query}");
        }
        assert!(!names_method("method=sms&a=b") && may_name_method("a=b&method=sms"));
        assert!(may_name_method("%6Dethod[]=DELETE"));
    }
}
