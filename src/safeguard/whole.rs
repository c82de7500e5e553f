//! Decides whether a list is complete: only if the service says so, and nothing in the answer contradicts it.

use http::HeaderMap;
use http::header::{CONTENT_RANGE, LINK};
use serde_json::{Map, Value};

use crate::lookup::Document;

/// Why a list may be incomplete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Partial {
    /// The list is inside an object, and no setting points to the total.
    #[error(
        "nothing says that the list is complete; point automations.total to the number of all of them, or have the \
         service answer with a bare array and set automations.list = \"\""
    )]
    NoTotalNamed,
    /// There is no integer at this pointer.
    #[error("there is no integer at {0} (automations.total)")]
    NoTotal(String),
    /// The total at this pointer differs from the length of the list.
    #[error("the list has another length than {0} says")]
    AnotherTotal(String),
    /// This member beside the list says that there is more.
    #[error("{0} says that there is more")]
    Member(String),
    /// This header field says that there is more, or belongs to a paged answer.
    #[error("the header field {0} says that there may be more")]
    Field(String),
}

/// Checks a list of `count` elements at the JSON pointer `list` of an answer.
///
/// # Errors
/// [`Partial`] if the list is not known to be complete.
pub(super) fn judge(answer: &Document, list: &str, total: Option<&str>, count: usize) -> Result<(), Partial> {
    match total {
        Some(pointer) => {
            let total = answer.root().pointer(pointer).and_then(Value::as_u64);
            let total = total.ok_or_else(|| Partial::NoTotal(pointer.to_owned()))?;
            if total != count as u64 {
                return Err(Partial::AnotherTotal(pointer.to_owned()));
            }
        }
        None if list.is_empty() => judge_fields(answer.headers(), count)?,
        None => return Err(Partial::NoTotalNamed),
    }
    if names_next(answer.headers()) {
        return Err(Partial::Field(LINK.to_string()));
    }
    let beside = answer.objects_to(list).find_map(|(_, object)| more_beside(object, count));
    beside.map_or(Ok(()), |name| Err(Partial::Member(name)))
}

/// Whether a `Link` field names a next page.
fn names_next(headers: &HeaderMap) -> bool {
    headers.get_all(LINK).iter().any(|link| {
        let link = String::from_utf8_lossy(link.as_bytes()).to_ascii_lowercase();
        let mut relations = link.split(';').filter_map(|part| part.trim().strip_prefix("rel"));
        relations.any(|relation| relation.contains("next"))
    })
}

/// For a bare array only the header fields can tell: none may belong to a paged answer or give another count.
fn judge_fields(headers: &HeaderMap, count: usize) -> Result<(), Partial> {
    let paging =
        ["page", "pages", "paging", "pagination", "next", "cursor", "continuation", "more", "truncated", "offset"];
    for (name, value) in headers {
        let mut words = name.as_str().split('-');
        let value = value.to_str().map(str::trim).unwrap_or("?");
        let partial = if *name == CONTENT_RANGE || words.clone().any(|word| paging.contains(&word)) {
            !value.is_empty()
        } else {
            words.any(|word| word == "total" || word == "count") && value.parse() != Ok(count)
        };
        if partial {
            return Err(Partial::Field(name.to_string()));
        }
    }
    Ok(())
}

/// Returns the member beside a list of `count` elements, or in a paging object beside it, that says there is more. It
/// knows common names of totals and of next pages, as a second check besides the total.
fn more_beside(beside: &Map<String, Value>, count: usize) -> Option<String> {
    let paging = ["page", "paging", "pagination", "pageable", "meta", "pageInfo", "page_info"];
    let nested = paging.iter().filter_map(|name| beside.get(*name)?.as_object());
    [beside].into_iter().chain(nested).flatten().find_map(|(name, value)| {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let more = match plain.as_str() {
            "total" | "totalcount" | "totalelements" | "totalitems" | "totalresults" => {
                value.as_u64().is_some_and(|total| total != count as u64)
            }
            "next" | "nextpage" | "nextcursor" | "nexttoken" | "nextpagetoken" | "nextpageurl" | "nexturl"
            | "nextlink" | "odatanextlink" => {
                !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
            }
            "hasnext" | "hasmore" | "hasnextpage" | "truncated" | "istruncated" => value == true,
            "last" | "islast" => value == false,
            _ => false,
        };
        more.then(|| name.clone())
    })
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    fn judged(fields: &[(&str, &str)], answer: &str, list: &str, total: Option<&str>) -> Result<(), Partial> {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        let answer = Document::read(fields.iter().map(field).collect(), answer.as_bytes()).unwrap();
        let count = answer.root().pointer(list).unwrap().as_array().unwrap().len();
        judge(&answer, list, total, count)
    }

    #[test]
    fn a_list_in_an_object_is_complete_if_its_total_matches() {
        let at = |answer: &str| judged(&[], answer, "/list", Some("/total"));
        assert_eq!(at(r#"{"list":[1,2],"total":2,"next":null,"last":true}"#), Ok(()));
        for wrong in [
            r#"{"list":[]}"#,
            r#"{"list":[],"total":null}"#,
            r#"{"list":[],"total":"0"}"#,
            r#"{"list":[],"total":-0}"#,
            r#"{"list":[],"total":0.0}"#,
            r#"{"list":[],"totalCount":0}"#,
            r#"{"list":[1],"total":2}"#,
            r#"{"list":[1],"total":0}"#,
            r#"{"list":[],"total":0,"nextCursor":"x"}"#,
            r#"{"list":[],"total":0,"totalCount":3}"#,
            r#"{"list":[],"total":0,"page":{"hasNext":true}}"#,
            r#"{"list":[],"total":0,"@odata.nextLink":"/x"}"#,
            r#"{"list":[],"total":0,"last":false}"#,
        ] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
        let linked = [("link", "</x>; rel=\"next\"")];
        assert!(judged(&linked, r#"{"list":[],"total":0}"#, "/list", Some("/total")).is_err(), "a next page");
        assert_eq!(judged(&[], r#"{"list":[],"total":0}"#, "/list", None), Err(Partial::NoTotalNamed));
    }

    #[test]
    fn a_bare_array_is_complete_unless_a_field_contradicts() {
        let beside = |fields: &[(&str, &str)]| judged(fields, "[1]", "", None);
        assert_eq!(beside(&[]), Ok(()));
        assert_eq!(
            beside(&[("content-type", "application/json"), ("accept-ranges", "none"), ("x-total-count", "1")]),
            Ok(())
        );
        for (name, value) in [
            ("x-total-count", "2"),
            ("x-total-count", "one"),
            ("x-total", "0"),
            ("content-range", "items 0-0/5"),
            ("x-total-pages", "1"),
            ("x-next-page", "2"),
            ("x-pagination", "{}"),
            ("x-continuation-token", "x"),
            ("link", "</x>; rel=next"),
        ] {
            assert_eq!(beside(&[(name, value)]), Err(Partial::Field(name.into())), "{name}: {value}");
        }
    }
}
