//! Fuzz target for any bytes as the answer to a look-up, checked against a second reader.

use std::fmt;

use http::header::{AGE, HeaderMap, HeaderName, HeaderValue};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::document::Document;
use super::json::NotStrict;
use super::{LookupError, Unusable, origin, segment_id};
use crate::policy::{Identifier, SegmentId};

/// The input is the fields of an answer, one a line, then an empty line, then the body. An accepted answer must be
/// unambiguous, and must read the same to every JSON parser.
pub(crate) fn answer(bytes: &[u8]) {
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (&[][..], bytes),
    };
    let headers: HeaderMap = head.split(|byte| *byte == b'\n').filter_map(field).collect();
    judged(&headers);
    let everybodys = serde_json::from_slice::<Value>(body);
    let has = |name: &str| headers.get_all(name).iter().count();
    match Document::read(headers.clone(), body) {
        Ok(document) => {
            let Ok(everybodys) = everybodys else { panic!("nobody else reads it") };
            assert_eq!(*document.root(), everybodys);
            assert!(has("content-type") <= 1 && has("content-encoding") <= 1);
            let shape = serde_json::from_slice::<Shape>(body).expect("JSON");
            assert!(!shape.name_twice && shape.depth <= 64);
            assert!(document.version().is_none() || has("etag") == 1);
            let mut places = 32;
            walk(&document, &everybodys, &mut String::new(), &mut places);
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.len() < 1024, "{told}");
            match error {
                LookupError::Repeated(name) => assert!(has(name) > 1),
                LookupError::Compressed(_) => assert_eq!(has("content-encoding"), 1),
                LookupError::NotStrict(NotStrict::Ambiguous(_), _) => {
                    // Text that is no JSON, or is nested too deeply, has no shape.
                    if let Ok(shape) = serde_json::from_slice::<Shape>(body) {
                        assert!(shape.name_twice || shape.depth > 64, "{told}");
                    }
                }
                LookupError::NotStrict(..) => assert!(everybodys.is_err(), "{told}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Whether no object of the document has a member name twice.
pub(crate) fn is_unambiguous(text: &[u8]) -> bool {
    serde_json::from_slice::<Shape>(text).is_ok_and(|shape| !shape.name_twice)
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
}

/// No field of an accepted answer may say that it comes from a cache.
fn judged(headers: &HeaderMap) {
    match origin::judge(headers) {
        Ok(()) => {
            let ages: Vec<_> = headers.get_all(AGE).iter().collect();
            assert!(ages.len() <= 1 && ages.iter().all(|age| age.to_str().is_ok_and(|age| age.parse() == Ok(0_u128))));
            for name in ["cache-status", "x-cache", "x-cache-status", "x-proxy-cache", "cf-cache-status"] {
                let hit = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"hit");
                assert!(!headers.get_all(name).iter().any(hit), "{name}");
            }
        }
        Err(LookupError::FromCache(field)) => {
            let (name, _) = field.split_once(": ").expect("a field");
            assert!(headers.contains_key(name));
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Each value is read by its pointer in the expected form, or refused.
fn walk(document: &Document, value: &Value, pointer: &mut String, places: &mut usize) {
    if *places == 0 {
        return;
    }
    *places -= 1;
    match (document.text(pointer), value) {
        (Ok(text), Value::String(there)) => {
            assert_eq!(text, there);
            let form = text.len() <= 128 && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
            let identifier: Result<Identifier, Unusable> = document.identifier(pointer);
            assert_eq!(identifier.is_ok(), form, "{text:?}");
        }
        (Err(Unusable::Empty(_)), Value::String(there)) => assert_eq!(there, ""),
        (Err(Unusable::NotText(_)), there) => assert!(!there.is_string()),
        (got, there) => panic!("{pointer}: {got:?} of {there:?}"),
    }
    for (at, object) in document.objects_to(pointer) {
        assert!(pointer.starts_with(at));
        assert_eq!(document.root().pointer(at).and_then(Value::as_object), Some(object));
    }
    let length = pointer.len();
    match value {
        Value::Object(members) => {
            let segment = SegmentId::parse("S1").expect("an id");
            let ids = || ["segmentId", "segment_id"].iter().filter_map(|name| members.get(*name));
            let expected = (ids().count() > 0, ids().all(|id| id == "S1"));
            match segment_id(&segment, pointer, members) {
                Ok(named) => assert_eq!((named, true), expected),
                Err(_) => assert!(!expected.1),
            }
            for (name, member) in members {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                walk(document, member, pointer, places);
                pointer.truncate(length);
            }
        }
        Value::Array(elements) => {
            for (at, element) in elements.iter().enumerate() {
                pointer.push_str(&format!("/{at}"));
                walk(document, element, pointer, places);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// The depth of a document, and whether an object in it has a member name twice. It looks at all members, not only at
/// those that a map keeps.
#[derive(Default)]
struct Shape {
    depth: usize,
    name_twice: bool,
}

impl Shape {
    fn holds(&mut self, inner: &Self) {
        self.depth = self.depth.max(inner.depth + 1);
        self.name_twice |= inner.name_twice;
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Shape, A::Error> {
        let mut shape = Shape { depth: 1, name_twice: false };
        while let Some(element) = elements.next_element::<Shape>()? {
            shape.holds(&element);
        }
        Ok(shape)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Shape, A::Error> {
        let mut shape = Shape { depth: 1, name_twice: false };
        let mut names = Vec::new();
        while let Some((name, member)) = members.next_entry::<String, Shape>()? {
            shape.holds(&member);
            shape.name_twice |= names.contains(&name);
            names.push(name);
        }
        Ok(shape)
    }
}
