//! JSON pointers into the service's answer about a segment, and what is read by them.

use serde_json::{Map, Value};

use super::segment_info::SegmentInfo;
use super::unclear::{NoCreator, Unclear};
use crate::lookup::{Document, NotItsId, segment_id};
use crate::policy::SegmentId;

/// JSON pointers into the service's answer about a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointers {
    /// To the account.
    pub account: String,
    /// To the creator.
    pub creator: String,
    /// To the segment's own id. If `None`, every `segmentId` and `id` in the objects on the path to account and
    /// creator must be the segment's.
    pub segment: Option<String>,
    /// To the segment's name, for the record only.
    pub name: Option<String>,
}

impl Pointers {
    /// Pointers to account and creator, and perhaps to the segment's own id: see [`Pointers::segment`].
    pub fn new(account: String, creator: String, segment: Option<String>) -> Self {
        Self { account, creator, segment, name: None }
    }

    /// The same with a pointer to the segment's name, for the record only.
    #[must_use]
    pub fn with_name(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }

    /// Reads account, creator and name of `segment` from an answer.
    ///
    /// # Errors
    /// What is missing or wrong, for the log.
    pub fn read(&self, segment: &SegmentId, answer: &Document) -> Result<SegmentInfo, Unclear> {
        self.judge_id(segment, answer)?;
        let name = self.name.as_deref().and_then(|pointer| answer.root().pointer(pointer)?.as_str());
        Ok(SegmentInfo {
            account: answer.identifier(&self.account)?,
            creator: answer.identifier(&self.creator).map_err(NoCreator::Value),
            name: name.map(cut),
            version: answer.version(),
        })
    }

    fn judge_id(&self, segment: &SegmentId, answer: &Document) -> Result<(), Unclear> {
        if let Some(pointer) = &self.segment
            && answer.text(pointer)? != segment.as_str()
        {
            return Err(Unclear::AnotherSegment(NotItsId(pointer.clone())));
        }
        let mut named = false;
        for (at, object) in self.on_the_way(answer) {
            named |= segment_id(segment, at, object).map_err(Unclear::AnotherSegment)?;
        }
        if self.segment.is_some() {
            return Ok(());
        }
        for (at, object) in self.on_the_way(answer) {
            let Some(id) = object.get("id").filter(|_| !self.names(at, "/id")) else { continue };
            // Next to the segment's own id, a numeric `id` is the number of a database row.
            if id.as_str() != Some(segment.as_str()) && !(named && id.is_u64()) {
                return Err(Unclear::AnotherSegment(NotItsId(format!("{at}/id"))));
            }
        }
        Ok(())
    }

    /// Whether account or creator is this member of the object at this pointer.
    fn names(&self, at: &str, member: &str) -> bool {
        [&self.account, &self.creator].iter().any(|pointer| pointer.strip_prefix(at) == Some(member))
    }

    /// Every object on the path to account and creator, with its pointer.
    fn on_the_way<'a>(&'a self, answer: &'a Document) -> impl Iterator<Item = (&'a str, &'a Map<String, Value>)> {
        [&*self.account, &*self.creator].into_iter().flat_map(|pointer| answer.objects_to(pointer))
    }
}

/// Shortens a name for the record: a service allows any length.
fn cut(name: &str) -> String {
    const LONGEST: usize = 256;
    match name.char_indices().nth(LONGEST) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn document(answer: &str) -> Document {
        Document::read(HeaderMap::new(), answer.as_bytes()).unwrap()
    }

    #[test]
    fn only_an_unambiguous_answer_is_accepted() {
        let top = Pointers::new("/accountId".into(), "/ownerId".into(), None);
        let nested = Pointers::new("/data/account".into(), "/data/by/id".into(), None);
        let apart = Pointers::new("/account/id".into(), "/owner/id".into(), None);
        let named = Pointers::new("/accountId".into(), "/ownerId".into(), Some("/key".into()));
        let rows: &[(&str, &Pointers, &str, bool)] = &[
            ("plain", &top, r#"{"accountId":"a","ownerId":"m"}"#, true),
            ("with its id", &top, r#"{"segmentId":"S1","accountId":"a","ownerId":"m"}"#, true),
            ("a row number beside the id", &top, r#"{"id":7,"segmentId":"S1","accountId":"a","ownerId":"m"}"#, true),
            ("another id beside the id", &top, r#"{"id":"S2","segmentId":"S1","accountId":"a","ownerId":"m"}"#, false),
            ("another segment", &top, r#"{"segmentId":"S2","accountId":"a","ownerId":"m"}"#, false),
            ("another segment, otherwise spelt", &top, r#"{"segment_id":"S2","accountId":"a","ownerId":"m"}"#, false),
            ("another id", &top, r#"{"id":"S2","accountId":"a","ownerId":"m"}"#, false),
            ("an id that is not text", &top, r#"{"id":1,"accountId":"a","ownerId":"m"}"#, false),
            ("no account", &top, r#"{"ownerId":"m"}"#, false),
            ("no creator", &top, r#"{"accountId":"a"}"#, false),
            ("null", &top, r#"{"accountId":"a","ownerId":null}"#, false),
            ("a number", &top, r#"{"accountId":"a","ownerId":1}"#, false),
            ("empty", &top, r#"{"accountId":"","ownerId":"m"}"#, false),
            ("a list", &top, r#"[{"accountId":"a","ownerId":"m"}]"#, false),
            ("nested", &nested, r#"{"data":{"account":"a","by":{"id":"m"},"segmentId":"S1"}}"#, true),
            ("nested, another", &nested, r#"{"data":{"account":"a","by":{"id":"m"},"segmentId":"S2"}}"#, false),
            ("nested, another at the top", &nested, r#"{"id":"S2","data":{"account":"a","by":{"id":"m"}}}"#, false),
            (
                "nested, another at the end",
                &nested,
                r#"{"data":{"account":"a","by":{"id":"m","segmentId":"S2"}}}"#,
                false,
            ),
            ("apart", &apart, r#"{"id":"S1","account":{"id":"a"},"owner":{"id":"m"}}"#, true),
            ("apart, another", &apart, r#"{"id":"S2","account":{"id":"a"},"owner":{"id":"m"}}"#, false),
            ("named id missing", &named, r#"{"accountId":"a","ownerId":"m"}"#, false),
            ("named id", &named, r#"{"key":"S1","accountId":"a","ownerId":"m"}"#, true),
            ("named id, and the id of a row", &named, r#"{"key":"S1","id":"r","accountId":"a","ownerId":"m"}"#, true),
            (
                "named id, another segment",
                &named,
                r#"{"key":"S1","segmentId":"S2","accountId":"a","ownerId":"m"}"#,
                false,
            ),
        ];
        let segment = SegmentId::parse("S1").unwrap();
        for (name, pointers, answer, learned) in rows {
            let read = pointers.read(&segment, &document(answer));
            assert_eq!(read.is_ok_and(|read| read.creator().is_ok()), *learned, "{name}");
        }
    }

    #[test]
    fn a_name_is_text_and_is_shortened() {
        let pointers = Pointers::new("/a".into(), "/m".into(), None).with_name(Some("/name".into()));
        let segment = SegmentId::parse("S1").unwrap();
        let called = |name: &str| {
            let answer = document(&format!(r#"{{"a":"a","m":"m"{name}}}"#));
            pointers.read(&segment, &answer).unwrap().name().map(str::to_owned)
        };
        assert_eq!(called(r#","name":"Spring""#).as_deref(), Some("Spring"));
        assert_eq!((called(r#","name":7"#), called("")), (None, None));
        let long = called(&format!(r#","name":"{}""#, "봄".repeat(10_000))).unwrap();
        assert_eq!(long, format!("{}…", "봄".repeat(256)));
    }
}
