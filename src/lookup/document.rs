//! A JSON document that answers a look-up, and reading values from it.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{LookupError, json, shown};
use crate::policy::{Identifier, SegmentId, StrongTag};

/// An answer that passed the strict reader.
#[derive(Debug)]
pub struct Document {
    headers: HeaderMap,
    root: Value,
}

/// Why a value cannot be read from a document, with its JSON pointer. It holds no value of the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nothing.
    #[error("the upstream's answer has no {0}")]
    Missing(String),
    /// A value of another type.
    #[error("the upstream's answer has a {0} that is not text")]
    NotText(String),
    /// An empty text.
    #[error("the upstream's answer has an empty {0}")]
    Empty(String),
    /// Text that is no valid [`Identifier`].
    #[error("the upstream's answer has a {0} that is not {form}", form = Identifier::FORM)]
    NotIdentifier(String),
}

/// The value at this JSON pointer is not the id of the segment that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not this segment's id")]
pub struct NotItsId(pub String);

impl Document {
    /// Reads an answer with these fields and this body.
    ///
    /// # Errors
    /// If the body is compressed or is not strict JSON, or if `Content-Encoding` or `Content-Type` occurs twice.
    pub fn read(headers: HeaderMap, body: &[u8]) -> Result<Self, LookupError> {
        if let Some(coding) = only(&headers, &CONTENT_ENCODING, "Content-Encoding")?
            && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(LookupError::Compressed(shown(coding.as_bytes())));
        }
        let content_type = only(&headers, &CONTENT_TYPE, "Content-Type")?;
        match json::parse(body) {
            Ok(root) => Ok(Self { headers, root }),
            Err(why) => {
                let odd = content_type.filter(|content_type| !is_utf8_json(content_type));
                Err(LookupError::NotStrict(why, odd.map(|it| shown(it.as_bytes()))))
            }
        }
    }

    /// The root value.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// The fields of the answer.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Every object on the path that a JSON pointer describes, with the pointer to it.
    pub fn objects_to<'a>(&'a self, pointer: &'a str) -> impl Iterator<Item = (&'a str, &'a Map<String, Value>)> {
        pointer.match_indices('/').filter_map(move |(end, _)| {
            let at = &pointer[..end];
            Some((at, self.root.pointer(at)?.as_object()?))
        })
    }

    /// Text that is not empty.
    ///
    /// # Errors
    /// [`Unusable`] if there is none.
    pub fn text(&self, pointer: &str) -> Result<&str, Unusable> {
        match self.root.pointer(pointer) {
            None => Err(Unusable::Missing(pointer.to_owned())),
            Some(Value::String(text)) if text.is_empty() => Err(Unusable::Empty(pointer.to_owned())),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Unusable::NotText(pointer.to_owned())),
        }
    }

    /// The account or member at a JSON pointer.
    ///
    /// # Errors
    /// [`Unusable`] if there is none.
    pub fn identifier(&self, pointer: &str) -> Result<Identifier, Unusable> {
        Identifier::parse(self.text(pointer)?).ok_or_else(|| Unusable::NotIdentifier(pointer.to_owned()))
    }

    /// The version that the answer describes: its `ETag`, if there is exactly one and it is strong.
    pub fn version(&self) -> Option<StrongTag> {
        let mut tags = self.headers.get_all(ETAG).iter();
        let (tag, None) = (tags.next()?, tags.next()) else { return None };
        StrongTag::parse(tag)
    }
}

/// Whether the object at this pointer has an id that is this segment's.
///
/// # Errors
/// If one of them is not this segment's.
pub(crate) fn segment_id(segment: &SegmentId, at: &str, object: &Map<String, Value>) -> Result<bool, NotItsId> {
    let mut named = false;
    for name in ["segmentId", "segment_id"] {
        match object.get(name) {
            None => {}
            Some(id) if id.as_str() == Some(segment.as_str()) => named = true,
            Some(_) => return Err(NotItsId(format!("{at}/{name}"))),
        }
    }
    Ok(named)
}

/// A field of which there may be one.
fn only<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    shown_as: &'static str,
) -> Result<Option<&'h HeaderValue>, LookupError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(LookupError::Repeated(shown_as)) } else { Ok(first) }
}

/// Whether a `Content-Type` says what the body must be anyway.
fn is_utf8_json(content_type: &HeaderValue) -> bool {
    let plain = String::from_utf8_lossy(content_type.as_bytes()).to_ascii_lowercase();
    let charset = plain.split(';').find_map(|part| part.trim().strip_prefix("charset="));
    plain.contains("json") && charset.is_none_or(|charset| charset.trim_matches('"') == "utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)], body: &str) -> Result<Document, LookupError> {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        Document::read(fields.iter().map(field).collect(), body.as_bytes())
    }

    #[test]
    fn a_duplicate_member_is_refused() {
        for (fields, read_at_all) in [
            (&[("content-type", "application/json")][..], true),
            (&[], true),
            (&[("content-encoding", "identity")], true),
            (&[("content-encoding", "gzip")], false),
            (&[("content-encoding", "")], false),
            (&[("content-encoding", "identity"), ("content-encoding", "identity")], false),
            (&[("content-type", "application/json"), ("content-type", "application/json")], false),
        ] {
            assert_eq!(read(fields, "{}").is_ok(), read_at_all, "{fields:?}");
        }
        for (tags, version) in [(&[("etag", "\"1\"")][..], true), (&[("etag", "\"1\""), ("etag", "\"1\"")], false)] {
            assert_eq!(read(tags, "{}").unwrap().version().is_some(), version, "{tags:?}");
        }
    }

    #[test]
    fn an_unreadable_document_is_reported_with_its_content_type() {
        let named = |content_type| read(&[("content-type", content_type)], "<").unwrap_err().to_string();
        assert!(named("application/json; charset=EUC-KR").contains("charset=EUC-KR"));
        assert!(named("text/html").contains("text/html"));
        assert!(!named("application/json;charset=\"UTF-8\"").contains("Content-Type"));
    }

    #[test]
    fn only_text_of_a_valid_form_is_accepted() {
        let document = read(&[], r#"{"a":"x","b":"","c":7,"d":"two words","e":null}"#).unwrap();
        assert_eq!(document.text("/d"), Ok("two words"));
        assert_eq!(&*document.identifier("/a").unwrap(), "x");
        assert_eq!(document.identifier("/b"), Err(Unusable::Empty("/b".into())));
        assert_eq!(document.identifier("/c"), Err(Unusable::NotText("/c".into())));
        assert_eq!(document.identifier("/d"), Err(Unusable::NotIdentifier("/d".into())));
        assert_eq!(document.identifier("/e"), Err(Unusable::NotText("/e".into())));
        assert_eq!(document.identifier("/f"), Err(Unusable::Missing("/f".into())));
    }
}
