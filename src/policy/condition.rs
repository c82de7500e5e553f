//! The condition of a deletion: the version that was checked, and nothing else (contract §5).
//!
//! 1. If a look-up's answer has exactly one strong `ETag`, it becomes the deletion's `If-Match`. Nothing that a
//!    client sends ever does.
//! 2. A client's own condition is checked here against that tag. An `If-Match` that names it, or is `*`, is met.
//!    Every other condition, and any condition if no tag is known, is refused: dropping it would ignore the client's
//!    wish, and sending it would make the deletion depend on a version that was not checked.

use http::HeaderValue;

/// One strong entity tag (RFC 9110, section 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrongTag(HeaderValue);

impl StrongTag {
    /// The tag, if the value is exactly one strong tag.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        match value.as_bytes() {
            [b'"', tag @ .., b'"'] if tag.iter().all(|byte| is_of_a_tag(*byte)) => Some(Self(value.clone())),
            _ => None,
        }
    }

    /// The tag as a field value.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

fn is_of_a_tag(byte: u8) -> bool {
    byte == 0x21 || (0x23..=0x7E).contains(&byte) || byte >= 0x80
}

/// A condition in a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCondition<'h> {
    /// An `If-Match` field, or one that a server may take for it.
    IfMatch(&'h [u8]),
    /// Any other condition: a date, a tag that must not match, or a WebDAV condition.
    Other,
}

/// A client's condition is not met, or cannot be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConditionFailed;

/// The condition of the deletion, after the client's own conditions were checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition(
    /// Boxed because most deletions have none.
    Option<Box<StrongTag>>,
);

impl Condition {
    /// Checks a client's conditions against this version, if there is one.
    ///
    /// # Errors
    /// If one of them does not match it.
    pub fn judge<'h>(
        judged: Option<StrongTag>,
        mut own: impl Iterator<Item = ClientCondition<'h>>,
    ) -> Result<Self, ConditionFailed> {
        let judged = judged.map(Box::new);
        let Some(first) = own.next() else { return Ok(Self(judged)) };
        // Several fields form one list, which must not contain `*`.
        let (mut lines, mut any, mut named) = (0, false, false);
        for condition in std::iter::once(first).chain(own) {
            let ClientCondition::IfMatch(line) = condition else { return Err(ConditionFailed) };
            lines += 1;
            any |= line.trim_ascii() == b"*";
            named |= !any && names(line, judged.as_deref())?;
        }
        if named && !any || any && lines == 1 { Ok(Self(judged)) } else { Err(ConditionFailed) }
    }

    /// The tag that becomes `If-Match`.
    pub fn tag(&self) -> Option<&StrongTag> {
        self.0.as_deref()
    }
}

/// Whether an `If-Match` value names this tag.
fn names(line: &[u8], judged: Option<&StrongTag>) -> Result<bool, ConditionFailed> {
    let (mut rest, mut named) = (line.trim_ascii(), false);
    loop {
        // A tag may contain a comma, so only its closing quote ends it.
        let (tag, after) = tag(rest).ok_or(ConditionFailed)?;
        // A weak tag never matches (RFC 9110, section 13.1.1).
        named |= judged.is_some_and(|judged| judged.0.as_bytes() == tag);
        rest = after.trim_ascii_start();
        match rest.split_first() {
            None => return Ok(named),
            Some((b',', after)) => rest = after.trim_ascii_start(),
            Some(_) => return Err(ConditionFailed),
        }
    }
}

/// The first tag of a list, and the rest of the list.
fn tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let weak = if list.starts_with(b"W/") { 2 } else { 0 };
    let inner = list[weak..].strip_prefix(b"\"")?;
    let end = inner.iter().position(|byte| *byte == b'"')?;
    inner[..end].iter().all(|byte| is_of_a_tag(*byte)).then(|| list.split_at(weak + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strong(text: &'static str) -> Option<StrongTag> {
        StrongTag::parse(&HeaderValue::from_static(text))
    }

    #[test]
    fn only_exactly_one_strong_tag_is_accepted() {
        for tag in ["\"v1\"", "\"\"", "\"a,b\"", "\"!#~\""] {
            assert_eq!(strong(tag).unwrap().value(), tag);
        }
        let obsolete = HeaderValue::from_bytes(b"\"\x80\xff\"").unwrap();
        assert!(StrongTag::parse(&obsolete).is_some(), "obs-text is of a tag");
        for none in [
            "W/\"v1\"",
            "w/\"v1\"",
            "v1",
            "\"",
            "\"v1",
            "v1\"",
            "\"a\", \"b\"",
            "\"a\"b\"",
            "\"a b\"",
            "*",
            "",
            "\"a\t\"",
        ] {
            assert_eq!(strong(none), None, "{none:?}");
        }
    }

    #[test]
    fn only_the_checked_tag_meets_a_clients_condition() {
        use ClientCondition::{IfMatch, Other};
        let rows: &[(&str, &[ClientCondition<'_>], bool)] = &[
            ("none", &[], true),
            ("the judged one", &[IfMatch(b"\"v2\"")], true),
            ("any", &[IfMatch(b" * ")], true),
            ("among others", &[IfMatch(b"\"v1\" ,W/\"v2\", \"v2\"")], true),
            ("behind a weak one", &[IfMatch(b"W/\"a\",\"v2\"")], true),
            ("in another line", &[IfMatch(b"\"v1\""), IfMatch(b"\"v2\"")], true),
            ("another", &[IfMatch(b"\"v1\"")], false),
            ("a weak one of the same text", &[IfMatch(b"W/\"v2\"")], false),
            ("a tag that holds the judged one's text", &[IfMatch(b"\"v1,\"v2\",\"")], false),
            ("within a tag", &[IfMatch(b"\"a, *\"")], false),
            ("nothing", &[IfMatch(b"")], false),
            ("without quotes", &[IfMatch(b"v2")], false),
            ("any among others", &[IfMatch(b"*, \"v2\"")], false),
            ("any, and a line with the judged one", &[IfMatch(b"*"), IfMatch(b"\"v2\"")], false),
            ("the judged one, and a line with any", &[IfMatch(b"\"v2\""), IfMatch(b"*")], false),
            ("one named, one in doubt", &[IfMatch(b"\"v2\""), IfMatch(b"\"v2")], false),
            ("with something behind it", &[IfMatch(b"\"v2\" x")], false),
            ("with an empty element", &[IfMatch(b"\"v2\",,")], false),
            ("another condition", &[Other], false),
            ("another condition beside the judged tag", &[IfMatch(b"\"v2\""), Other], false),
        ];
        for (name, own, met) in rows {
            let judged = Condition::judge(strong("\"v2\""), own.iter().copied());
            assert_eq!(judged.is_ok(), *met, "{name}");
            if let Ok(condition) = judged {
                assert_eq!(condition.tag(), strong("\"v2\"").as_ref(), "{name}: nothing but what was judged");
            }
        }
    }

    #[test]
    fn without_a_version_only_a_star_is_met() {
        use ClientCondition::{IfMatch, Other};
        for (own, met) in [(IfMatch(&b"*"[..]), true), (IfMatch(b"\"v1\""), false), (Other, false)] {
            let judged = Condition::judge(None, std::iter::once(own));
            assert_eq!(judged, if met { Ok(Condition(None)) } else { Err(ConditionFailed) }, "{own:?}");
        }
        assert_eq!(Condition::judge(None, std::iter::empty()), Ok(Condition(None)));
    }
}
