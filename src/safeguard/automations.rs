//! The automations that would stop with a segment. The service is asked each time; no answer is cached.
//!
//! 1. An answer counts only if it is one list of all linked automations, each with its own id. A list is complete if
//!    its length equals the total that `automations.total` points to, or if the whole answer is a bare array. Services
//!    have too many ways to say "there is more" to recognize them all.
//! 2. If the list is not known to be complete, nothing is deleted.
//! 3. The digest covers the whole set of ids, for one segment in one account. If one automation changes, the digest
//!    changes, so a caller confirms exactly what they were shown.
//! 4. The set may still change between the question and the deletion: only the service could prevent that.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::whole;
use crate::lookup::{self, Document, LookupAnswer, LookupError, NotItsId, segment_id};
use crate::policy::SegmentId;
use crate::upstream::{RequestHead, Upstream};

/// The JSON pointers by which the service's answer is read (contract §9, `[automations]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Points to the list, from the root. Empty: the answer itself is the list.
    pub list: String,
    /// Points to the number of all linked automations, from the root.
    pub total: Option<String>,
    /// Points to the id, from an element of the list.
    pub id: String,
    /// Points to the name, from an element of the list; shown to people, never used for a decision.
    pub name: String,
}

impl Guard {
    /// Default of [`Guard::list`].
    pub const LIST: &str = "/automations";
    /// Default of [`Guard::id`].
    pub const ID: &str = "/automationId";
    /// Default of [`Guard::name`].
    pub const NAME: &str = "/name";
}

/// The automations that are linked to a segment: names by id; an automation may have no name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkedAutomations(BTreeMap<String, Option<String>>);

/// Why the linked automations are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AutomationsError {
    /// The service answered 404: there is no such segment, or no such path.
    NotFound,
    /// The service did not answer in time.
    Timeout,
    /// The answer is not usable. For the log.
    Unclear(LinksUnclear),
}

/// Why an answer is not usable. Contains no value from the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinksUnclear {
    /// No answer could be read.
    #[error("linked automations: {0}")]
    Unread(#[source] LookupError),
    /// The answer as a whole is not a list.
    #[error("linked automations: the answer is not a list")]
    NotAList,
    /// There is no list at this pointer.
    #[error("linked automations: the answer has no list at {0}")]
    NoList(String),
    /// An id in it is not the segment's.
    #[error("linked automations: the answer may be about another segment ({0})")]
    AnotherSegment(#[source] NotItsId),
    /// The list is not known to be complete.
    #[error("linked automations: the list may be incomplete: {0}")]
    NotWhole(#[source] whole::Partial),
    /// An automation has no valid id at this pointer.
    #[error("linked automations: an automation has no valid id at {0}")]
    NoId(String),
    /// Two automations have the same id.
    #[error("linked automations: two automations have the same id")]
    SameId,
}

/// The longest id and the longest name, in characters.
const LONGEST: usize = 256;

impl Guard {
    /// Asks the service for the automations linked to `segment`.
    ///
    /// # Errors
    /// [`AutomationsError`] for anything but a plain 200 with a complete list.
    pub async fn ask(
        &self,
        upstream: &Upstream,
        question: RequestHead,
        segment: &SegmentId,
    ) -> Result<LinkedAutomations, AutomationsError> {
        match lookup::ask(upstream, question).await {
            Ok(LookupAnswer::Found(document)) => self.read(segment, &document).map_err(AutomationsError::Unclear),
            Ok(LookupAnswer::NotFound) => Err(AutomationsError::NotFound),
            Err(LookupError::Timeout) => Err(AutomationsError::Timeout),
            Err(error) => Err(AutomationsError::Unclear(LinksUnclear::Unread(error))),
        }
    }

    fn read(&self, segment: &SegmentId, answer: &Document) -> Result<LinkedAutomations, LinksUnclear> {
        let list = answer.root().pointer(&self.list).and_then(Value::as_array);
        let list = list.ok_or_else(|| match &*self.list {
            "" => LinksUnclear::NotAList,
            pointer => LinksUnclear::NoList(pointer.to_owned()),
        })?;
        for (at, object) in answer.objects_to(&self.list) {
            segment_id(segment, at, object).map_err(LinksUnclear::AnotherSegment)?;
        }
        whole::judge(answer, &self.list, self.total.as_deref(), list.len()).map_err(LinksUnclear::NotWhole)?;
        let mut linked = BTreeMap::new();
        for automation in list {
            let id = match automation.pointer(&self.id) {
                Some(Value::String(id)) if !id.is_empty() && id.chars().nth(LONGEST).is_none() => id.clone(),
                Some(Value::Number(id)) if id.is_u64() => id.to_string(),
                _ => return Err(LinksUnclear::NoId(self.id.clone())),
            };
            let name = automation.pointer(&self.name).and_then(Value::as_str);
            if linked.insert(id, name.map(|name| name.chars().take(LONGEST).collect())).is_some() {
                return Err(LinksUnclear::SameId);
            }
        }
        Ok(LinkedAutomations(linked))
    }
}

impl LinkedAutomations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ids and names, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(id, name)| (id.as_str(), name.as_deref()))
    }

    /// The digest of the set: 32 hexadecimal digits.
    pub fn digest(&self, account: &str, segment: &SegmentId) -> String {
        let mut hash = Sha256::new();
        for part in ["saltgate-automations", account, segment.as_str()].into_iter().chain(self.0.keys().map(|id| &**id))
        {
            // Each part is prefixed with its length, so that no two sets hash alike.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().take(16).fold(String::with_capacity(32), |mut digest, byte| {
            let _ = write!(digest, "{byte:02x}");
            digest
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn read(guard: &Guard, answer: &str) -> Result<LinkedAutomations, LinksUnclear> {
        let document = Document::read(HeaderMap::new(), answer.as_bytes()).unwrap();
        guard.read(&SegmentId::parse("S1").unwrap(), &document)
    }

    #[test]
    fn only_an_unambiguous_list_is_accepted() {
        let pointers = |list: &str, total: Option<&str>| Guard {
            list: list.into(),
            total: total.map(str::to_owned),
            id: "/automationId".into(),
            name: "/name".into(),
        };
        let (counted, bare) = (pointers("/data/automations", Some("/total")), pointers("", None));
        let rows = [
            ("none", r#"{"total":0,"data":{"automations":[]}}"#, Some(0)),
            (
                "two",
                r#"{"total":2,"data":{"automations":[{"automationId":"A","name":"x"},{"automationId":7}]}}"#,
                Some(2),
            ),
            ("of this segment", r#"{"total":0,"data":{"segmentId":"S1","automations":[]}}"#, Some(0)),
            ("of another segment", r#"{"total":0,"data":{"segmentId":"S2","automations":[]}}"#, None),
            ("of another segment, at the top", r#"{"total":0,"segmentId":"S2","data":{"automations":[]}}"#, None),
            ("no list", r#"{"total":0,"data":{"automations":{}}}"#, None),
            ("nothing", "{}", None),
            ("no total", r#"{"data":{"automations":[]}}"#, None),
            ("a total of more", r#"{"total":1,"data":{"automations":[]}}"#, None),
            ("a total of less", r#"{"total":0,"data":{"automations":[{"automationId":"A"}]}}"#, None),
            ("no id", r#"{"total":1,"data":{"automations":[{"name":"x"}]}}"#, None),
            ("an empty id", r#"{"total":1,"data":{"automations":[{"automationId":""}]}}"#, None),
            ("an invalid id", r#"{"total":1,"data":{"automations":[{"automationId":null}]}}"#, None),
            ("an id that is no whole number", r#"{"total":1,"data":{"automations":[{"automationId":7.5}]}}"#, None),
            ("a negative id", r#"{"total":1,"data":{"automations":[{"automationId":-7}]}}"#, None),
            ("not objects", r#"{"total":1,"data":{"automations":["A"]}}"#, None),
            (
                "the same twice",
                r#"{"total":2,"data":{"automations":[{"automationId":"A"},{"automationId":"A"}]}}"#,
                None,
            ),
            ("by number", r#"{"total":2,"data":{"automations":[{"automationId":"7"},{"automationId":7}]}}"#, None),
        ];
        for (name, answer, count) in rows {
            assert_eq!(read(&counted, answer).ok().map(|linked| linked.0.len()), count, "{name}");
        }
        for (answer, count) in
            [("[]", Some(0)), (r#"[{"automationId":"A"}]"#, Some(1)), (r#"{"automations":[]}"#, None)]
        {
            assert_eq!(read(&bare, answer).ok().map(|linked| linked.0.len()), count, "{answer}");
        }
        let long = |length| format!(r#"[{{"automationId":"{}","name":"{}"}}]"#, "x".repeat(length), "y".repeat(1_000));
        assert_eq!(read(&bare, &long(257)), Err(LinksUnclear::NoId("/automationId".into())));
        let linked = read(&bare, &long(256)).unwrap();
        assert_eq!(linked.iter().next().unwrap().1.unwrap().len(), 256, "a name is cut, an id never");
    }

    #[test]
    fn the_digest_covers_the_set_the_segment_and_the_account() {
        let segment = |id| SegmentId::parse(id).unwrap();
        let of = |ids: &[&str]| LinkedAutomations(ids.iter().map(|id| ((*id).to_owned(), None)).collect());
        let digest = of(&["A", "B"]).digest("a", &segment("S1"));
        assert_eq!(digest.len(), 32);
        assert_eq!(of(&["B", "A"]).digest("a", &segment("S1")), digest, "in whatever order");
        for (other, account, id) in [
            (of(&["A"]), "a", "S1"),
            (of(&["A", "B", "C"]), "a", "S1"),
            (of(&["AB"]), "a", "S1"),
            (of(&["A", "B"]), "b", "S1"),
            (of(&["A", "B"]), "a", "S2"),
        ] {
            assert_ne!(other.digest(account, &segment(id)), digest, "{other:?} {account} {id}");
        }
    }
}
