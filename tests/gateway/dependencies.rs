//! The dependency tree follows `deny.toml`: licences, bans, duplicates and sources. cargo-deny reads the same file;
//! this test needs only cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use toml::Table;

/// The content of `deny.toml`.
fn rules() -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The strings in an array of `deny.toml`.
fn texts(rules: &Table, table: &str, key: &str) -> Vec<String> {
    rules[table][key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The `crate` of each entry. Every entry must have a reason.
fn crates(rules: &Table, key: &str) -> Vec<String> {
    let entries = rules["bans"][key].as_array().unwrap();
    let reason =
        |entry: &toml::Value| entry.get("reason").and_then(|reason| reason.as_str()).is_some_and(|r| !r.is_empty());
    assert!(entries.iter().all(reason), "{key}: an entry without a reason");
    entries.iter().map(|entry| entry["crate"].as_str().unwrap().to_owned()).collect()
}

/// A package in the dependency tree.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    /// Where it comes from, as cargo prints it: empty for a package of crates.io, unless it is a procedural macro.
    origin: String,
    licence: String,
}

impl Package {
    fn spec(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// Every package that is used on the target, except this one.
fn packages(rules: &Table) -> BTreeSet<Package> {
    let target = texts(rules, "graph", "targets").remove(0);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--all-features", "--edges", "normal,build,dev", "--prefix", "none"]);
    cargo.args(["--target", &target, "--format", "{p}|{l}|"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages = tree.lines().filter(|line| !line.is_empty()).map(|line| {
        let mut parts = line.split('|');
        let (package, licence) = (parts.next().unwrap(), parts.next().unwrap().to_owned());
        let mut words = package.splitn(3, ' ');
        let name = words.next().unwrap().to_owned();
        let version = words.next().unwrap().trim_start_matches('v').to_owned();
        Package { name, version, origin: words.next().unwrap_or_default().to_owned(), licence }
    });
    packages.filter(|package| package.name != env!("CARGO_PKG_NAME")).collect()
}

/// Whether the allowed licences satisfy an SPDX expression. `/` is an old spelling of OR.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at, allowed);
    assert_eq!(at, words.len(), "{expression} is no expression of licences");
    met
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut licence = words.get(*at).copied().unwrap_or_default().to_owned();
    *at += 1;
    if licence == "(" {
        let met = either(words, at, allowed);
        *at += 1;
        return met;
    }
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
    }
    allowed.contains(&licence)
}

#[test]
fn every_licence_is_allowed() {
    let allowed = ["MIT".to_owned(), "Zlib".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND Zlib", true),
        ("GPL-3.0 OR MIT AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }

    let rules = rules();
    let allowed = texts(&rules, "licenses", "allow");
    let wrong: Vec<String> = packages(&rules)
        .iter()
        .filter(|package| !is_met(&package.licence, &allowed))
        .map(|package| format!("{}: {}", package.spec(), package.licence))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_crate_is_banned_or_from_another_source() {
    let rules = rules();
    let banned = crates(&rules, "deny");
    let packages = packages(&rules);
    assert!(packages.len() > 100, "packages are being read");
    for package in &packages {
        assert!(!banned.contains(&package.name), "{} is banned", package.spec());
        assert!(["", "(proc-macro)"].contains(&&*package.origin), "{} is from {}", package.spec(), package.origin);
    }
}

#[test]
fn no_crate_is_used_in_two_versions_without_a_reason() {
    let rules = rules();
    let skipped = crates(&rules, "skip");
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages(&rules) {
        let spec = package.spec();
        versions.entry(package.name).or_default().push(spec);
    }
    let twice: Vec<String> = versions.into_values().filter(|of_one| of_one.len() > 1).flatten().collect();
    for skipped in &skipped {
        assert!(twice.contains(skipped), "{skipped} is no longer used twice: take it out of deny.toml");
    }
    let left: Vec<&String> = twice.iter().filter(|one| !skipped.contains(one)).collect();
    let mut names: Vec<&str> = left.iter().map(|one| one.split('@').next().unwrap()).collect();
    names.dedup();
    assert_eq!(names.len(), left.len(), "used in two versions: {left:?}");
}
