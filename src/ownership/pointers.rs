use serde_json::Value;

use crate::policy::{Owner, SegmentId};

/// JSON pointers into what the service says of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointers {
    account: String,
    creator: String,
    segment: Option<String>,
    name: Option<String>,
}

impl Pointers {
    /// `account` and `creator` must be there; so must `segment`, the segment's own id, where it
    /// is named. Where it is not, `segmentId` or `id` beside the account is read if it is there.
    pub fn new(account: String, creator: String, segment: Option<String>) -> Self {
        Self { account, creator, segment, name: None }
    }

    /// The same, and what a segment is called: for the record, and for no decision.
    #[must_use]
    pub fn with_name(self, name: Option<String>) -> Self {
        Self { name, ..self }
    }

    /// Account and creator of `segment`, if the answer says so beyond doubt; its name, if the
    /// answer has one.
    ///
    /// # Errors
    /// What is missing or wrong, for the log.
    pub fn read(&self, segment: &SegmentId, answer: &[u8]) -> Result<(Owner, Option<String>), String> {
        let answer: Value =
            serde_json::from_slice(answer).map_err(|_| "the upstream's answer is not JSON".to_owned())?;
        let text = |pointer: &str| match answer.pointer(pointer) {
            None => Err(format!("the upstream's answer has no {pointer}")),
            Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
            Some(Value::String(_)) => Err(format!("the upstream's answer has an empty {pointer}")),
            Some(_) => Err(format!("the upstream's answer has a {pointer} that is not text")),
        };
        if let Some(pointer) = self.id_pointer(&answer) {
            if text(&pointer)? != segment.as_str() {
                return Err(format!("the upstream's answer is about another segment ({pointer})"));
            }
        }
        let name = self.name.as_deref().and_then(|pointer| answer.pointer(pointer)?.as_str());
        let owner = Owner { account: text(&self.account)?.into(), member: text(&self.creator)?.into() };
        Ok((owner, name.map(str::to_owned)))
    }

    fn id_pointer(&self, answer: &Value) -> Option<String> {
        if self.segment.is_some() {
            return self.segment.clone();
        }
        let parent = self.account.rsplit_once('/').map_or("", |(parent, _)| parent);
        ["segmentId", "id"].iter().map(|name| format!("{parent}/{name}")).find(|p| answer.pointer(p).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_beyond_doubt_is_one() {
        let top = Pointers::new("/accountId".into(), "/ownerId".into(), None);
        let nested = Pointers::new("/data/account".into(), "/data/by/id".into(), None);
        let named = Pointers::new("/accountId".into(), "/ownerId".into(), Some("/key".into()));
        let rows: &[(&str, &Pointers, &str, bool)] = &[
            ("plain", &top, r#"{"accountId":"a","ownerId":"m"}"#, true),
            ("with its id", &top, r#"{"segmentId":"S1","accountId":"a","ownerId":"m"}"#, true),
            ("a row number beside the id", &top, r#"{"id":7,"segmentId":"S1","accountId":"a","ownerId":"m"}"#, true),
            ("another segment", &top, r#"{"segmentId":"S2","accountId":"a","ownerId":"m"}"#, false),
            ("another id", &top, r#"{"id":"S2","accountId":"a","ownerId":"m"}"#, false),
            ("an id that is not text", &top, r#"{"id":1,"accountId":"a","ownerId":"m"}"#, false),
            ("no account", &top, r#"{"ownerId":"m"}"#, false),
            ("no creator", &top, r#"{"accountId":"a"}"#, false),
            ("null", &top, r#"{"accountId":"a","ownerId":null}"#, false),
            ("a number", &top, r#"{"accountId":"a","ownerId":1}"#, false),
            ("empty", &top, r#"{"accountId":"","ownerId":"m"}"#, false),
            ("not JSON", &top, "<html>", false),
            ("cut off", &top, r#"{"accountId":"a","ownerId":"m""#, false),
            ("a list", &top, r#"[{"accountId":"a","ownerId":"m"}]"#, false),
            ("nested", &nested, r#"{"data":{"account":"a","by":{"id":"m"},"segmentId":"S1"}}"#, true),
            ("nested, another", &nested, r#"{"data":{"account":"a","by":{"id":"m"},"segmentId":"S2"}}"#, false),
            ("named id missing", &named, r#"{"accountId":"a","ownerId":"m"}"#, false),
            ("named id", &named, r#"{"key":"S1","accountId":"a","ownerId":"m"}"#, true),
        ];
        let segment = SegmentId::parse("S1").unwrap();
        for (name, pointers, answer, learned) in rows {
            assert_eq!(pointers.read(&segment, answer.as_bytes()).is_ok(), *learned, "{name}");
        }
        let called = top.with_name(Some("/name".into()));
        for (answer, name) in [(r#","name":"Spring""#, Some("Spring")), (r#","name":7"#, None), ("", None)] {
            let answer = format!(r#"{{"accountId":"a","ownerId":"m"{answer}}}"#);
            assert_eq!(called.read(&segment, answer.as_bytes()).unwrap().1.as_deref(), name);
        }
    }
}
