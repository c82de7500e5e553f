//! Strict JSON: a document in which no object has a member name twice, to a bounded depth.
//!
//! `serde_json::Value` keeps the last of two members with the same name. Another reader of the same bytes may keep
//! the first, so the gateway would judge something else than the service meant.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value};

/// The deepest nesting of objects and arrays; `serde_json` itself stops at 128.
const MAX_DEPTH: usize = 64;
/// How many characters of a member name a message shows.
const SHOWN: usize = 64;

/// Why a text is not strict JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStrict {
    /// It begins with a byte order mark.
    ByteOrderMark,
    /// It is not UTF-8.
    NotUtf8,
    /// It is not JSON: the position, and what was expected there.
    NotJson(String),
    /// It is JSON, but has a member name twice or is nested too deeply: the position.
    Ambiguous(String),
}

impl fmt::Display for NotStrict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByteOrderMark => f.write_str("begins with a byte order mark, which JSON must not have"),
            Self::NotUtf8 => f.write_str("is not UTF-8, so it is not JSON"),
            Self::NotJson(what) => write!(f, "is not JSON: {what}"),
            Self::Ambiguous(what) => write!(f, "is ambiguous: {what}"),
        }
    }
}

/// Parses a document.
///
/// # Errors
/// [`NotStrict`], without anything of the document but a member name.
pub(super) fn parse(text: &[u8]) -> Result<Value, NotStrict> {
    if text.starts_with(b"\xEF\xBB\xBF") || text.starts_with(b"\xFF\xFE") || text.starts_with(b"\xFE\xFF") {
        return Err(NotStrict::ByteOrderMark);
    }
    let text = std::str::from_utf8(text).map_err(|_| NotStrict::NotUtf8)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let document = Strict { depth: 0 }.deserialize(&mut reader);
    document.and_then(|document| reader.end().map(|()| document)).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => NotStrict::Ambiguous(error.to_string()),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            NotStrict::NotJson(error.to_string())
        }
    })
}

/// Reads a value at this depth.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn within<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("it is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let within = self.within()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(within)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let within = self.within()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key_seed(Name)? {
            match object.entry(name) {
                Entry::Vacant(vacant) => drop(vacant.insert(members.next_value_seed(within)?)),
                Entry::Occupied(twice) => {
                    let name: String = twice.key().chars().take(SHOWN).collect();
                    return Err(A::Error::custom(format_args!("the member name {name:?} occurs twice in one object")));
                }
            }
        }
        Ok(Value::Object(object))
    }
}

/// Reads a member name, with its escapes decoded.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duplicate_member_name_is_refused_at_every_depth() {
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"":1,"":2}"#,
            r#"[[{"x":{"a":[],"a":{}}}]]"#,
        ] {
            assert!(
                matches!(parse(twice.as_bytes()), Err(NotStrict::Ambiguous(why)) if why.contains("twice")),
                "{twice}"
            );
        }
        assert!(parse(br#"{"a":{"a":1},"b":{"a":1},"A":[{"a":1},{"a":1}]}"#).is_ok(), "one name in several objects");
    }

    #[test]
    fn invalid_json_is_not_reported_as_ambiguous() {
        for (text, expected) in [
            (&b"\xEF\xBB\xBF{}"[..], "byte order mark"),
            (b"\xFF\xFE{\0}\0", "byte order mark"),
            (b"{\"a\":\"\xB0\xA1\"}", "is not UTF-8"),
            (b"", "is not JSON"),
            (b"<html>", "is not JSON"),
            (b"{\"a\":1}{}", "is not JSON"),
            (b"{\"a\":1,}", "is not JSON"),
            (b"{\"a\":\"\\ud800\"}", "is not JSON"),
        ] {
            let why = parse(text).unwrap_err().to_string();
            assert!(why.contains(expected), "{:?}: {why}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        for depth in [MAX_DEPTH + 1, 1_000, 500_000] {
            assert!(parse(nested(depth).as_bytes()).is_err(), "{depth}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn documents_without_duplicates_are_read_as_by_serde_json(value in value()) {
            prop_assert_eq!(parse(value.to_string().as_bytes()).unwrap(), value);
        }

        #[test]
        fn any_accepted_bytes_are_read_as_by_serde_json(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = parse(&bytes) {
                prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value);
            }
        }
    }
}
