//! Tests what programming languages write for one instant (the rows of `tests/dates/idioms.tsv`) against what
//! `explain` says about it.

use std::time::{Duration, SystemTime};

use super::*;
use crate::explain::{Language, skew};

const TABLE: &str = include_str!("../../../tests/dates/idioms.tsv");
const DOCS: &str = include_str!("../../../docs/dates.md");

struct Row<'t> {
    language: &'t str,
    library: &'t str,
    idiom: &'t str,
    sample: &'t str,
    expected: &'t str,
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    TABLE.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [language, library, idiom, sample, expected, _runs] = cells[..] else { panic!("six cells: {line}") };
        Row { language, library, idiom, sample, expected }
    })
}

/// The instant of all samples: 2026-11-24T07:38:08.560570510+09:00.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_795_473_488, 560_570_510)
}

/// `accepted`, or what is wrong, without the advice, such as `UTC labelled as +09:00`.
fn verdict(sample: &str) -> String {
    let short = |sentence: &str| {
        sentence.split(": ").next().unwrap_or_default().split(" (").next().unwrap_or_default().to_owned()
    };
    let Some(Diagnosis { cause, corrected, .. }) = diagnose(sample, PhpDates::Accept) else {
        return label(sample).unwrap_or_else(|| "accepted".into());
    };
    let cause = short(cause.sentence().0);
    match corrected.and_then(|corrected| label(&corrected)) {
        // The correction keeps the sample's wrong zone, which is reported when the corrected date is used.
        Some(label) => format!("{cause}; then {label}"),
        None => cause,
    }
}

/// What is wrong with the zone of a readable date.
fn label(date: &str) -> Option<String> {
    let date = Date::parse(date, PhpDates::Accept).unwrap();
    let told = skew::in_words(&date, now(), Language::English);
    let Some((_, label)) = told.split_once(" (") else {
        let off = date.instant().duration_since(now()).unwrap_or_else(|behind| behind.duration());
        assert!(off < Duration::from_secs(9), "{date:?} is another instant");
        return None;
    };
    Some(
        label
            .split(": ")
            .next()
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim_end_matches(')')
            .to_owned(),
    )
}

#[test]
fn every_idiom_is_accepted_or_its_cause_is_named() {
    let mut wrong = String::new();
    for Row { language, library, idiom, sample, expected } in rows() {
        let verdict = verdict(sample);
        let expected = if expected == "recommended" { "accepted" } else { expected };
        if verdict != expected {
            wrong += &format!(
                "{language}, {library}: {idiom} writes {sample}\n  expected: {expected}\n  found:    {verdict}\n"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_language_has_one_idiom_to_use_and_the_documentation_names_it() {
    let languages: std::collections::BTreeSet<&str> = rows().map(|row| row.language).collect();
    for language in &languages {
        let recommended = rows().find(|row| row.language == *language && row.expected == "recommended");
        assert!(recommended.is_some(), "{language} has no idiom to use");
    }
    assert!(languages.len() >= 30 && rows().count() >= 300);
    for Row { language, idiom, .. } in rows().filter(|row| row.expected == "recommended") {
        let line = DOCS.lines().find(|line| line.starts_with(&format!("- {language}: ")));
        let line = line.unwrap_or_else(|| panic!("docs/dates.md has no line for {language}"));
        assert!(line.contains(&format!("`{idiom}`")), "docs/dates.md names another idiom for {language} than {idiom}");
    }
}

#[test]
fn what_the_documentation_recommends_is_in_the_table() {
    let recommended = |idiom: &str| rows().any(|row| row.idiom == idiom && row.expected == "recommended");
    let (_, listed) = DOCS.split_once("## What to write").unwrap();
    let (listed, _) = listed.split_once("\n## ").unwrap();
    for idiom in listed.split('`').skip(1).step_by(2) {
        assert!(recommended(idiom), "docs/dates.md recommends {idiom}, which the table does not");
    }
}
