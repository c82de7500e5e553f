//! Which automations would stop with a segment: asked of the service, and never remembered.
//!
//! 1. What the service says beyond doubt is one list of all of them, each with an id of its own.
//!    Anything else, a page of a longer list above all, is not known, and what is not known
//!    deletes nothing.
//! 2. The digest is of the whole set of ids, of one segment in one account. A set that changed by
//!    one automation has another, so a caller confirms what they were shown and nothing else.
//! 3. Between the question and the deletion the set may change still: only the service could
//!    tell.

use std::collections::BTreeMap;
use std::fmt::Write;

use http::header::LINK;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::policy::SegmentId;
use crate::upstream::{AskError, RequestHead, Upstream};

/// How the service's answer is read: JSON pointers (contract §9, `[automations]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// To the list, from the top.
    pub list: String,
    /// To the id, from an element of the list.
    pub id: String,
    /// To the name, likewise; for people to read, and for no decision.
    pub name: String,
}

impl Default for Guard {
    fn default() -> Self {
        Self { list: "/automations".into(), id: "/automationId".into(), name: "/name".into() }
    }
}

/// The automations that are linked to a segment, by id; the name, where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linked(BTreeMap<String, Option<String>>);

/// Why nothing was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotLearned {
    /// The service knows nothing of it: no such segment, or no such path.
    NotFound,
    /// The service did not answer in time.
    Timeout,
    /// The service did not say, or not beyond doubt. For the log.
    Unclear(String),
}

impl Guard {
    /// Asks the service.
    ///
    /// # Errors
    /// [`NotLearned`] for anything but a plain 200 with a list.
    pub async fn ask(
        &self,
        upstream: &Upstream,
        question: RequestHead,
        segment: &SegmentId,
    ) -> Result<Linked, NotLearned> {
        let answer = upstream.ask(question).await.map_err(|error| match error {
            AskError::Timeout | AskError::ConnectTimeout(_) => NotLearned::Timeout,
            error => NotLearned::Unclear(format!("the linked automations cannot be asked for: {error:?}")),
        })?;
        match answer.status() {
            StatusCode::OK if has_next(answer.headers()) => Err(NotLearned::Unclear(
                "the answer about linked automations is a page of several: its Link field names a next one".into(),
            )),
            StatusCode::OK => self.read(segment, answer.body()).map_err(NotLearned::Unclear),
            StatusCode::NOT_FOUND => Err(NotLearned::NotFound),
            status => Err(NotLearned::Unclear(format!(
                "the upstream answered {} when asked for linked automations",
                status.as_u16()
            ))),
        }
    }

    fn read(&self, segment: &SegmentId, answer: &[u8]) -> Result<Linked, String> {
        let answer: Value =
            serde_json::from_slice(answer).map_err(|_| "the answer about linked automations is not JSON".to_owned())?;
        let list = answer.pointer(&self.list).and_then(Value::as_array);
        let list = list.ok_or_else(|| format!("the answer about linked automations has no list at {}", self.list))?;
        let parent = self.list.rsplit_once('/').map_or("", |(parent, _)| parent);
        if answer.pointer(&format!("{parent}/segmentId")).is_some_and(|id| id.as_str() != Some(segment.as_str())) {
            return Err("the answer about linked automations is about another segment".into());
        }
        let beside = [answer.pointer(parent), Some(&answer)].into_iter().flatten();
        if let Some(why) = beside.filter_map(Value::as_object).find_map(|beside| partial(beside, list.len())) {
            return Err(format!("the answer about linked automations is a part of them: {why}"));
        }
        let one = |automation: &Value| -> Result<(String, Option<String>), String> {
            let id = match automation.pointer(&self.id) {
                Some(Value::String(id)) if !id.is_empty() => id.clone(),
                Some(Value::Number(id)) if id.is_u64() => id.to_string(),
                _ => return Err(format!("a linked automation has no {} that is an id", self.id)),
            };
            Ok((id, automation.pointer(&self.name).and_then(Value::as_str).map(str::to_owned)))
        };
        let mut linked = BTreeMap::new();
        for automation in list {
            let (id, name) = one(automation)?;
            if linked.insert(id, name).is_some() {
                return Err("two linked automations have the same id".into());
            }
        }
        Ok(Linked(linked))
    }
}

/// Whether a `Link` field names a next page.
fn has_next(headers: &HeaderMap) -> bool {
    headers.get_all(LINK).iter().any(|link| {
        let link = String::from_utf8_lossy(link.as_bytes()).to_ascii_lowercase();
        let mut relations = link.split(';').filter_map(|part| part.trim().strip_prefix("rel"));
        relations.any(|relation| relation.contains("next"))
    })
}

/// Why a list of so many is not all there is, going by what stands beside it: the names services
/// give to totals and to next pages, at the list's own level or in an object of paging.
fn partial(beside: &Map<String, Value>, count: usize) -> Option<String> {
    let paging = ["page", "paging", "pagination", "pageable", "meta", "pageInfo", "page_info"];
    let nested = paging.iter().filter_map(|name| beside.get(*name)?.as_object());
    [beside].into_iter().chain(nested).flatten().find_map(|(name, value)| {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let more = match plain.as_str() {
            "total" | "totalcount" | "totalelements" | "totalitems" | "totalresults" => {
                value.as_u64().is_some_and(|total| total != count as u64)
            }
            "next" | "nextpage" | "nextcursor" | "nexttoken" | "nextpagetoken" | "nexturl" | "nextlink" => {
                !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
            }
            "hasnext" | "hasmore" | "hasnextpage" | "truncated" | "istruncated" => value == true,
            "last" | "islast" => value == false,
            _ => false,
        };
        more.then(|| format!("{name} is {value}"))
    })
}

impl Linked {
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
            // With its length, so that no two lists read alike.
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
    use super::*;

    fn read(answer: &str) -> Result<Linked, String> {
        Guard::default().read(&SegmentId::parse("S1").unwrap(), answer.as_bytes())
    }

    #[test]
    fn only_a_list_beyond_doubt_is_one() {
        let rows = [
            ("none", r#"{"automations":[]}"#, Some(0)),
            ("two", r#"{"automations":[{"automationId":"A","name":"x"},{"automationId":7}]}"#, Some(2)),
            ("of this segment", r#"{"segmentId":"S1","automations":[{"automationId":"A"}]}"#, Some(1)),
            ("of another segment", r#"{"segmentId":"S2","automations":[]}"#, None),
            ("no list", r#"{"automations":{}}"#, None),
            ("nothing", "{}", None),
            ("no id", r#"{"automations":[{"name":"x"}]}"#, None),
            ("an empty id", r#"{"automations":[{"automationId":""}]}"#, None),
            ("an id that is none", r#"{"automations":[{"automationId":null}]}"#, None),
            ("not objects", r#"{"automations":["A"]}"#, None),
            ("not JSON", "<html>", None),
            ("the same twice", r#"{"automations":[{"automationId":"A"},{"automationId":"A"}]}"#, None),
            ("the same by number", r#"{"automations":[{"automationId":"7"},{"automationId":7}]}"#, None),
            ("a page of them", r#"{"automations":[{"automationId":"A"}],"totalCount":2}"#, None),
            ("all of them", r#"{"automations":[{"automationId":"A"}],"totalCount":1,"next":null}"#, Some(1)),
            ("none on this page", r#"{"automations":[],"nextCursor":"x"}"#, None),
            ("more elsewhere", r#"{"automations":[],"page":{"hasNext":true}}"#, None),
            ("the last page", r#"{"automations":[],"hasMore":false,"nextPageToken":"","last":true}"#, Some(0)),
            ("not the last page", r#"{"automations":[],"last":false}"#, None),
        ];
        for (name, answer, count) in rows {
            assert_eq!(read(answer).ok().map(|linked| linked.0.len()), count, "{name}");
        }
    }

    #[test]
    fn the_digest_is_of_the_set_and_of_whose_it_is() {
        let segment = |id| SegmentId::parse(id).unwrap();
        let of = |ids: &[&str]| Linked(ids.iter().map(|id| ((*id).to_owned(), None)).collect());
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
