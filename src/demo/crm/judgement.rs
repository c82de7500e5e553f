//! The CRM's own authorization: reads the identity fields and decides whether the caller may delete.

use http::HeaderMap;
use http::header::IF_MATCH;

use super::record::Segment;

/// The value of an identity field; `None` if it is missing, repeated, empty or unreadable.
pub(super) fn identity<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok().filter(|text| !text.is_empty())
}

/// A caller who may delete some segments, and the conditions of the request.
#[derive(Debug)]
pub(super) struct Deleter {
    member: String,
    anybodys: bool,
    judged_creators: Vec<Vec<u8>>,
    if_match: Vec<Vec<u8>>,
}

/// Why an existing segment is not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotCreator,
    Changed,
}

impl Deleter {
    /// `None` for a caller without role or member id; nothing is looked up for them.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let anybodys = match identity(headers, "x-saltgate-role")? {
            "OWNER" => true,
            "DEVELOPER" | "MEMBER" => false,
            _ => return None,
        };
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.as_bytes().to_vec()).collect();
        Some(Self {
            member: identity(headers, "x-saltgate-member")?.to_owned(),
            anybodys,
            judged_creators: all("x-saltgate-creator"),
            if_match: all(IF_MATCH.as_str()),
        })
    }

    /// Called inside the transaction that deletes, so that the segment cannot change in between.
    pub(super) fn judge(&self, segment: &Segment) -> Result<(), Refused> {
        if !self.anybodys && self.member != segment.owner {
            return Err(Refused::NotCreator);
        }
        if self.judged_creators.iter().any(|creator| creator != segment.owner.as_bytes()) {
            return Err(Refused::Changed);
        }
        let etag = segment.etag();
        // The CRM's tags contain no comma, so splitting at commas is safe. A weak tag never matches, because `If-Match`
        // uses the strong comparison.
        let mut tags = self.if_match.iter().flat_map(|line| line.split(|b| *b == b',')).map(<[u8]>::trim_ascii);
        if !self.if_match.is_empty() && !tags.any(|tag| tag == b"*" || tag == etag.as_bytes()) {
            return Err(Refused::Changed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn segment() -> Segment {
        Segment {
            id: "s".into(),
            account: "account-1".into(),
            owner: "member-maker".into(),
            name: "n".into(),
            created_at: "t".into(),
            version: 3,
            cached_members: 0,
        }
    }

    #[test]
    fn the_role_and_the_creator_decide() {
        use Refused::NotCreator;
        for (role, member, verdict) in [
            ("OWNER", "member-owner", Some(Ok(()))),
            ("OWNER", "member-maker", Some(Ok(()))),
            ("DEVELOPER", "member-developer", Some(Err(NotCreator))),
            ("DEVELOPER", "member-maker", Some(Ok(()))),
            ("MEMBER", "member-owner", Some(Err(NotCreator))),
            ("MEMBER", "member-maker", Some(Ok(()))),
            ("member", "member-maker", None),
            ("ADMIN", "member-maker", None),
            ("", "member-maker", None),
            ("OWNER", "", None),
        ] {
            let deleter = Deleter::of(&headers(&[("x-saltgate-role", role), ("x-saltgate-member", member)]));
            assert_eq!(deleter.map(|d| d.judge(&segment())), verdict, "{role:?} {member:?}");
        }
    }

    #[test]
    fn a_duplicate_identity_field_is_rejected() {
        let twice = headers(&[("x-saltgate-role", "OWNER"), ("x-saltgate-role", "OWNER"), ("x-saltgate-member", "m")]);
        assert!(Deleter::of(&twice).is_none());
    }

    #[test]
    fn every_condition_must_hold() {
        let etag = segment().etag();
        for (name, values, verdict) in [
            ("if-match", vec![etag.as_str()], Ok(())),
            ("if-match", vec!["*"], Ok(())),
            ("if-match", vec!["\"other\" , \"3\""], Ok(())),
            ("if-match", vec!["\"other\"", "\"3\""], Ok(())),
            ("if-match", vec!["\"2\""], Err(Refused::Changed)),
            ("if-match", vec!["W/\"3\""], Err(Refused::Changed)),
            ("if-match", vec!["3"], Err(Refused::Changed)),
            ("if-match", vec![""], Err(Refused::Changed)),
            ("x-saltgate-creator", vec!["member-maker"], Ok(())),
            ("x-saltgate-creator", vec!["member-owner"], Err(Refused::Changed)),
            ("x-saltgate-creator", vec!["member-maker", "member-owner"], Err(Refused::Changed)),
            ("x-saltgate-creator", vec![""], Err(Refused::Changed)),
        ] {
            let mut fields = vec![("x-saltgate-role", "OWNER"), ("x-saltgate-member", "member-owner")];
            fields.extend(values.iter().map(|value| (name, *value)));
            assert_eq!(Deleter::of(&headers(&fields)).unwrap().judge(&segment()), verdict, "{name}: {values:?}");
        }
    }
}
