//! Reads `[ownership]`.

use super::postgres;
use super::section::Section;
use super::texts::quoted;
use crate::ownership::{Ownership, Pointers};
use crate::postgres::OwnerQuery;

/// How the owner of a segment is found.
pub(super) fn ownership(root: &mut Section<'_>) -> Option<Ownership<OwnerQuery>> {
    let source = root.source;
    let choices = "[ownership.upstream], [ownership.postgres] or [ownership.delegate]";
    let mut section = root.one_of("ownership", &["upstream", "postgres", "delegate"]);
    let ownership = match ["upstream", "postgres", "delegate"].map(|name| section.has(name)) {
        [true, false, false] => {
            let mut upstream = section.section("upstream");
            let account = pointer(&mut upstream, "account");
            let creator = pointer(&mut upstream, "creator");
            let segment = upstream.has("segment").then(|| pointer(&mut upstream, "segment")).flatten();
            let name = upstream.has("name").then(|| pointer(&mut upstream, "name")).flatten();
            upstream.finish();
            let pointers = |(account, creator)| Pointers { account, creator, segment, name };
            account.zip(creator).map(pointers).map(Ownership::Upstream)
        }
        [false, true, false] => postgres::owner_query(section.section("postgres")).map(Ownership::Postgres),
        [false, false, true] => {
            section.section("delegate").finish();
            Some(Ownership::Delegate)
        }
        named => {
            let what = if named.contains(&true) { "more than one source is named" } else { "no source is named" };
            source.fault_at(None, "ownership", format!("{what}; expected one of {choices}"));
            return None;
        }
    };
    section.finish();
    ownership
}

fn pointer(section: &mut Section<'_>, name: &'static str) -> Option<String> {
    let source = section.source;
    let at = section.at(name);
    let expected = "a JSON pointer such as \"/accountId\"";
    let text = section.text(name, expected)?;
    if !text.starts_with('/') {
        source.fault_at(
            at,
            &format!("ownership.upstream.{name}"),
            format!("is {}; expected {expected}", quoted(&text)),
        );
        return None;
    }
    Some(text)
}
