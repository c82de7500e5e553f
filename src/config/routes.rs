//! Reads `[[route]]` and `[passthrough]`.

use super::outline::Shape;
use super::section::Section;
use super::texts::quoted;
use crate::policy::{Keep, Passthrough, PassthroughError, Role, Route, Routes};

/// The requests that pass without a gate.
pub(super) fn passthrough(root: &mut Section<'_>, routes: &Routes) -> Passthrough {
    let source = root.source;
    if !root.has("passthrough") {
        root.take("passthrough");
        return Passthrough::default();
    }
    let mut section = root.section("passthrough");
    let (at_methods, at_prefixes) = (section.at("methods"), section.at("prefixes"));
    let methods = section.some_texts("methods", "a list of methods such as [\"GET\", \"POST\"]");
    let prefixes = section.some_texts("prefixes", "a list of path prefixes such as [\"/crm-core/\"]");
    section.finish();
    let (Some(methods), Some(prefixes)) = (methods, prefixes) else { return Passthrough::default() };
    Passthrough::new(methods, prefixes, routes).unwrap_or_else(|error| {
        match error {
            PassthroughError::Method(odd) => {
                source.fault_at(
                    at_methods,
                    "passthrough.methods",
                    format!("{} is not a method that can pass", quoted(&odd)),
                );
            }
            PassthroughError::Prefix(odd) => {
                let message =
                    format!("{} is not a plain absolute path; expected one such as \"/crm-core/\"", quoted(&odd));
                source.fault_at(at_prefixes, "passthrough.prefixes", message);
            }
            PassthroughError::Overlaps(prefix, route) => {
                let message = format!(
                    "{} with the method DELETE reaches the route {route}, which would then pass without a gate; \
                     leave DELETE out or name narrower prefixes",
                    quoted(&prefix)
                );
                source.fault_at(at_prefixes, "passthrough.prefixes", message);
            }
        }
        Passthrough::default()
    })
}

/// The routes.
pub(super) fn routes(root: &mut Section<'_>) -> Routes {
    let source = root.source;
    if !root.has("route") {
        root.take("route");
        return Routes::default();
    }
    let mut routes: Vec<Route> = Vec::new();
    for mut section in root.sections("route") {
        let at = Some(section.at);
        section.note("method", || Shape::word([Route::METHOD]), None);
        let method = section.optional_text("method", "\"DELETE\"");
        if method.is_some_and(|method| method != Route::METHOD) {
            source.fault_at(at, "route.method", "only deletions are routes; expected \"DELETE\"");
        }
        let path = section.text("path", &format!("a path such as {}", quoted(Route::DEFAULT_PATH)));
        let roles = Role::ALL.map(|role| (role.as_str(), role));
        let own = section.word("own", &roles, Route::OWN);
        let others = section.word("others", &roles, Route::OTHERS);
        if others < own {
            source.fault_at(
                at,
                "route.others",
                format!("\"{others}\" is weaker than own = \"{own}\"; expected at least that"),
            );
        }
        let guard = super::safeguard::guarded(&mut section);
        let kept = section.words("keep", &["query", "body"]);
        let keeps = |what: &str| kept.iter().any(|kept| kept == what);
        let keep = Keep { query: keeps("query"), body: keeps("body") };
        section.finish();
        match path.map(|path| Route::new(&path, own, others)) {
            Some(Ok(route)) => match routes.iter().find_map(|other| Some((other, other.shares_path(&route)?))) {
                Some((other, shared)) => {
                    let message = format!(
                        "{} shares the path {shared} with the route {}: which roles and settings apply would depend \
                         on their order; expected routes without a common path (case does not distinguish paths, nor does \
                         the parameter's name; a dry run's {} belongs to its route)",
                        quoted(route.pattern()),
                        other.pattern(),
                        Route::DRY_RUN,
                    );
                    source.fault_at(at, "route.path", message);
                }
                None => routes.extend(guard.applied(route.keeping(keep), source)),
            },
            Some(Err(error)) => source.fault_at(at, "route.path", error.to_string()),
            None => {}
        }
    }
    Routes::new(routes)
}
