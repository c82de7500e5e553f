//! The paths of the CRM.

const SEGMENTS: &str = "/crm-core/v1/segments";

/// What a path names; it may not exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    All,
    Segment(String),
    Automations(String),
}

impl Target {
    /// Compares the path byte for byte; `None` if it is not a route of the CRM.
    pub(super) fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(SEGMENTS)?;
        if rest.is_empty() {
            return Some(Self::All);
        }
        let id = rest.strip_prefix('/')?;
        let (id, target): (_, fn(String) -> Self) = match id.strip_suffix("/automations") {
            Some(id) => (id, Self::Automations),
            None => (id, Self::Segment),
        };
        let of_an_id = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (!id.is_empty() && id.bytes().all(of_an_id)).then(|| target(id.to_owned()))
    }

    /// The methods that it supports, as `Allow` lists them.
    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Self::Segment(_) => "GET, DELETE",
            Self::All | Self::Automations(_) => "GET",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_byte_for_byte() {
        assert_eq!(Target::of(SEGMENTS), Some(Target::All));
        assert_eq!(Target::of("/crm-core/v1/segments/a-1_B"), Some(Target::Segment("a-1_B".into())));
        assert_eq!(Target::of("/crm-core/v1/segments/a/automations"), Some(Target::Automations("a".into())));
        for path in ["/", "/%61", "/a/", "/a/b", "/a;b", "//a", "/..", "x"] {
            let path = format!("{SEGMENTS}{path}");
            assert!(Target::of(&path).is_none(), "{path}");
        }
    }
}
