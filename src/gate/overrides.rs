//! Does a query name another method than the request line (contract §5)?
//!
//! A framework behind us may take the method from a parameter (`_method=DELETE`). How parameters are split and which
//! spellings are one name differs: PHP reads `.method`, `%2Emethod` and `_method[]` as `_method`, and stops at a NUL.
//! So names are compared folded, as names of fields are: every byte but letters and digits is a `-`.

/// Parameters that name a method whatever stands before them.
const NAMES: [&str; 6] = [
    "http-method",
    "http-method-override",
    "method-override",
    "x-method-override",
    "x-original-method",
    "x-forwarded-method",
];
/// Escapes within escapes that are undone: some hop behind us may undo more than one layer.
const LAYERS: usize = 4;

/// Whether a parameter names a method to some framework: `_method`, however it is spelt, or one of the names of fields
/// that do.
pub(super) fn names_method(query: &str) -> bool {
    any_name(query, |name| {
        let bare = trimmed(name);
        bare == b"method" && name.first() == Some(&b'-')
            || bare.starts_with(b"x-http-method")
            || NAMES.iter().any(|known| bare == known.as_bytes())
    })
}

/// The same, and `method` itself: a parameter of this name may mean anything, but on the path of a deletion it is not let
/// pass.
pub(super) fn may_name_method(query: &str) -> bool {
    names_method(query) || any_name(query, |name| trimmed(name) == b"method")
}

/// Whether one of the names of a query, folded, is such.
fn any_name(query: &str, is_such: impl Fn(&[u8]) -> bool) -> bool {
    let mut layer = query.as_bytes().to_vec();
    for _ in 0..LAYERS {
        // `;` separates parameters, too, for some; what was escaped may do so after it was unescaped.
        if layer.split(|byte| *byte == b'&' || *byte == b';').any(|parameter| is_such(&folded(parameter))) {
            return true;
        }
        match unescaped(&layer) {
            Some(plain) => layer = plain,
            None => return false,
        }
    }
    // Who escapes so often hides something.
    true
}

/// The name of a parameter, folded: up to `=`, a NUL, or what makes a list of it.
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

/// One layer of escapes undone, `%XX` and `%uXXXX`; `None` if there is none.
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
                // Beyond ASCII it is no letter of these names.
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
    fn a_method_is_found_however_it_is_spelt() {
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
    fn what_names_no_method_is_left_alone() {
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
