//! Rules between files: those that use each other form no circle, and no public name stands for two things.
//!
//! A file may use what the `mod.rs` above it defines, so an arrow from a file to a folder around it does not count.
//! A name that a `mod.rs` re-exports (`pub use`) counts as a use of the file that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{code, sources};

/// A module's path in the crate, such as `["replay", "journal", "state"]`.
type Module = Vec<String>;

struct Files(BTreeMap<Module, String>);

impl Files {
    fn of_the_crate() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        sources(&src, &mut paths);
        let files = paths.iter().map(|path| {
            let place = path.strip_prefix(&src).unwrap().with_extension("");
            let mut module: Module = place.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
                module.pop();
            }
            (module, code(path))
        });
        Self(files.collect())
    }

    /// The file that defines what `path` names when written in `module`; `None` for other crates and local names.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<Module> {
        let mut path = path;
        let mut at = module.to_vec();
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                path = &path[1..];
            }
            "super" | "self" => {
                while let Some(step @ ("super" | "self")) = path.first().map(String::as_str) {
                    if step == "super" {
                        at.pop();
                    }
                    path = &path[1..];
                }
            }
            child => {
                at.push(child.to_owned());
                self.0.get(&at)?;
                path = &path[1..];
            }
        }
        while let Some(next) = path.first() {
            at.push(next.clone());
            if !self.0.contains_key(&at) {
                at.pop();
                break;
            }
            path = &path[1..];
        }
        let passed_on = path.first().and_then(|name| {
            let exports = self.0.get(&at).map(|code| imports(code, "pub"))?;
            let export = exports.into_iter().find(|export| export.last() == Some(name))?;
            (export.len() > 1).then(|| self.resolve(&at, &export)).flatten()
        });
        passed_on.or(Some(at))
    }

    /// The files that each file uses, except the folders around it.
    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let used = |(module, code): (&'_ Module, &String)| {
            let paths = imports(code, "").into_iter().chain(inline_paths(code));
            let files = paths.filter_map(|path| self.resolve(module, &path));
            files.filter(|used| !module.starts_with(used)).collect()
        };
        let is_of_tests = |module: &Module| {
            if module.iter().any(|part| ["simulated", "simulation"].contains(&part.as_str())) {
                return true;
            }
            let name = module.last().map_or("", String::as_str);
            ["adversary", "fuzz", "properties", "tests", "theorem", "vectors"].contains(&name)
                || name.ends_with("agreement")
        };
        let files = self.0.iter().filter(|(module, _)| !module.is_empty() && !is_of_tests(module));
        files.map(|file| (file.0, used(file))).collect()
    }
}

/// The paths of all `use` items that begin with `mark`, one for each name.
fn imports(code: &str, mark: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some((line, after)) = rest.split_once('\n') {
        let item = line.trim_start();
        let is_public = item.starts_with("pub");
        let item = item.split_once("use ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
        match item {
            Some((_, first)) if mark.is_empty() || is_public => {
                let from = rest.len() - after.len() - first.len() - 1;
                let tree = &rest[from..];
                let tree = &tree[..tree.find(';').unwrap_or(tree.len())];
                expand(tree, &[], &mut paths);
                rest = &rest[from + tree.len()..];
            }
            _ => rest = after,
        }
    }
    paths
}

/// Expands `a::{b, c::d}` to `a::b` and `a::c::d`.
fn expand(tree: &str, above: &[String], into: &mut Vec<Vec<String>>) {
    let steps = |text: &str| -> Vec<String> {
        text.split("::").map(str::trim).filter(|step| !step.is_empty()).map(str::to_owned).collect()
    };
    let Some((head, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return into.push([above, &steps(path)].concat());
    };
    let above = [above, &steps(head)].concat();
    let inner = &inner[..inner.rfind('}').unwrap_or(inner.len())];
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inner[from..at], &above, into);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !inner[from..].trim().is_empty() {
        expand(&inner[from..], &above, into);
    }
}

/// Paths such as `crate::a::B` and `super::a::b` within the code.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for mark in ["crate::", "super::"] {
        for (at, _) in code.match_indices(mark) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_ascii_alphanumeric() || before == '_' || before == ':' {
                continue;
            }
            let rest = &code[at..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            paths.push(rest[..end].split("::").filter(|step| !step.is_empty()).map(str::to_owned).collect());
        }
    }
    paths
}

/// A path from `from` back to itself.
fn circle<'a>(arrows: &'a BTreeMap<&Module, BTreeSet<Module>>, from: &'a Module) -> Option<Vec<&'a Module>> {
    let mut came_from: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut next = vec![from];
    while let Some(at) = next.pop() {
        for used in arrows.get(at).into_iter().flatten() {
            if used == from {
                let mut way = vec![from, at];
                while *way.last().unwrap() != from {
                    way.push(came_from[*way.last().unwrap()]);
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(used) {
                came_from.insert(used, at);
                next.push(used);
            }
        }
    }
    None
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let files = Files::of_the_crate();
    let arrows = files.arrows();
    assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > 500, "the use lines are being read");
    let circles = arrows.keys().copied().filter_map(|module| circle(&arrows, module));
    let circles: BTreeSet<String> =
        circles.map(|way| way.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" → ")).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_use_tree_is_read_as_its_paths() {
    let code =
        "use a::b;\npub use c::{d, e::{f, g}};\n    use super::h as i;\nfn x() { crate::j::k::L::new(); super::m }\n";
    let joined = |paths: Vec<Vec<String>>| paths.iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(joined(imports(code, "")), ["a::b", "c::d", "c::e::f", "c::e::g", "super::h"]);
    assert_eq!(joined(imports(code, "pub")), ["c::d", "c::e::f", "c::e::g"]);
    assert_eq!(joined(inline_paths(code)), ["crate::j::k::L::new", "super::h", "super::m"]);
}

/// The types and traits that a file exposes outside its folder.
fn public_types(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) "))?;
        let (kind, name) = line.split_once(' ')?;
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len());
        ["struct", "enum", "trait", "type"].contains(&kind).then_some(&name[..end])
    })
}

#[test]
fn no_public_name_stands_for_two_things() {
    let files = Files::of_the_crate();
    let mut places: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, code) in &files.0 {
        for name in public_types(code) {
            places.entry(name).or_default().insert(module.join("::"));
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "put a noun in front of one of them: {places:#?}");
}

/// Files of tests, which may be longer.
const OF_TESTS: &[&str] = &["adversary.rs", "fuzz.rs", "properties.rs", "tests.rs", "theorem.rs", "vectors.rs"];

/// The lines of each file of the program, without the tests at its end.
fn lines_of_files() -> Vec<(usize, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    let programs = paths.iter().filter_map(|path| {
        let place = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        let name = place.rsplit('/').next().unwrap();
        if OF_TESTS.contains(&name) || name.ends_with("_agreement.rs") {
            return None;
        }
        let text = std::fs::read_to_string(path).unwrap();
        // `mod tests;` names another file and ends nothing.
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        Some((program.lines().count(), place))
    });
    let mut files: Vec<_> = programs.collect();
    files.sort();
    files
}

#[test]
fn files_are_small() {
    let files = lines_of_files();
    assert!(files.len() > 200, "the files are being read");
    let long: Vec<_> = files.iter().filter(|(lines, _)| *lines > 400).collect();
    assert!(long.is_empty(), "split these along what they are responsible for: {long:#?}");
    let (median, _) = files[files.len() / 2];
    assert!(median <= 130, "half of the files have more than {median} lines");
}
