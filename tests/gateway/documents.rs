//! The documents match the code: what they cite exists, and their lists are complete.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use saltgate::parts::Reason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below these paths with one of these extensions. Corpora and build outputs are left out.
fn files(below: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = below.iter().map(|path| root().join(path)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            if !["target", "corpus"].iter().any(|skipped| path.ends_with(skipped)) {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        } else if path.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every page that people read.
fn pages() -> Vec<PathBuf> {
    let mut pages = files(&["docs", "bench", "fuzz"], &["md"]);
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(top.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    pages
}

/// The numbers of the sections: `1` and `3.2` of `## 1. What …` and `### 3.2 The …`.
fn sections(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with("##"));
    let numbers = headings.filter_map(|line| line.trim_start_matches('#').split_whitespace().next());
    let numbers = numbers.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    numbers.map(|word| word.trim_end_matches('.').to_owned()).collect()
}

/// The section numbers in citations of the contract: `contract §2, §4` has two.
fn cited(text: &str) -> Vec<String> {
    let number = |text: &str| {
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        text[..end].trim_end_matches('.').to_owned()
    };
    let mut cited = Vec::new();
    for (at, mark) in text.match_indices("ontract §") {
        let mut rest = &text[at + mark.len()..];
        loop {
            let one = number(rest);
            // "contract §N" only explains the form.
            if one.is_empty() {
                break;
            }
            rest = rest[one.len()..].trim_start_matches('.');
            cited.push(one);
            let Some(next) = [", §", " and §", " to §"].iter().find_map(|between| rest.strip_prefix(between)) else {
                break;
            };
            rest = next;
        }
    }
    cited
}

#[test]
fn every_section_of_the_contract_that_is_cited_exists() {
    assert_eq!(cited("(contract §2, §4), contract §3.2 and §5."), ["2", "4", "3.2", "5"]);
    let sections = sections(&read("docs/contract.md"));
    let mut wrong = Vec::new();
    let mut seen = 0;
    let code = files(&["src", "tests", "benches", "fuzz", "config", "examples"], &["rs", "toml", "lua", "sh"]);
    for file in code.into_iter().chain(pages()) {
        if file.ends_with("tests/gateway/documents.rs") {
            continue;
        }
        for number in cited(&read(&file)) {
            seen += 1;
            if !sections.contains(&number) {
                wrong.push(format!("{}: contract §{number}", file.display()));
            }
        }
    }
    // The section that `explain` prints before each of its findings.
    for file in files(&["src"], &["rs"]) {
        for part in read(&file).split("\"§").skip(1) {
            seen += 1;
            let number: String = part.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            if !sections.contains(number.trim_end_matches('.')) {
                wrong.push(format!("{}: prints §{number}", file.display()));
            }
        }
    }
    assert!(seen > 80, "citations are being found");
    assert!(wrong.is_empty(), "docs/contract.md has no such section:\n{}", wrong.join("\n"));
}

#[test]
fn the_contract_lists_every_reason() {
    let page = read("docs/contract.md");
    let (_, list) = page.split_once("\nReasons:\n").unwrap();
    let listed: Vec<&str> = list.lines().take_while(|line| line.is_empty() || line.starts_with("    ")).collect();
    let listed = listed.join(" ");
    let listed: Vec<&str> = listed.split_whitespace().collect();
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(listed, reasons);
}

/// The names of metrics in this text.
pub fn metric_names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let found = ["saltgate_", "process_"].iter().flat_map(|mark| text.match_indices(mark));
    let begins = found.filter(|(at, _)| !text[..*at].ends_with(word));
    let names = begins.map(|(at, _)| text[at..].chars().take_while(|&c| word(c)).collect::<String>());
    names.filter(|name| !name.ends_with('_')).collect()
}

/// The metrics that the contract lists.
pub fn listed_metrics() -> BTreeSet<String> {
    let page = read("docs/contract.md");
    let (_, list) = page.split_once("\n## 10.").unwrap();
    let (list, _) = list.split_once("\nReasons:\n").unwrap();
    metric_names(list)
}

#[test]
fn the_contract_lists_every_metric() {
    let quoted = |text: &str| -> BTreeSet<String> {
        text.split('"').filter(|part| metric_names(part).contains(*part)).map(Into::into).collect()
    };
    let code: BTreeSet<String> =
        files(&["src/telemetry"], &["rs"]).iter().flat_map(|file| quoted(&read(file))).collect();
    assert!(code.len() > 30, "metrics are being found");
    assert_eq!(listed_metrics(), code);
}

#[test]
fn links_between_pages_are_valid() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages() {
        // Every second part is code.
        let text: String = read(&page).split('`').step_by(2).collect();
        for (at, mark) in text.match_indices("](") {
            let rest = &text[at + mark.len()..];
            let target = &rest[..rest.find(')').unwrap()];
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let there = file.exists() && (heading.is_empty() || anchors(&read(&file)).contains(heading));
            if !there {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(seen > 5, "links are being found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The pages of the book in the order of its index, each with its title: `1. [Title](file.md): what it has`.
fn book() -> Vec<(String, String)> {
    let index = read("docs/README.md");
    let numbered = index.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let entries = numbered.enumerate().map(|(at, line)| {
        let entry = line.strip_prefix(&format!("{}. [", at + 1)).and_then(|entry| entry.split_once("]("));
        let (title, rest) = entry.unwrap_or_else(|| panic!("docs/README.md: number {}: {line}", at + 1));
        let (file, about) = rest.split_once("): ").unwrap_or_else(|| panic!("docs/README.md: {line}"));
        assert!(!about.is_empty(), "docs/README.md: {line}");
        (file.to_owned(), title.to_owned())
    });
    entries.collect()
}

#[test]
fn every_page_of_the_book_is_in_its_index_once() {
    let mut listed: Vec<String> = book().into_iter().map(|(file, _)| format!("docs/{file}")).collect();
    listed.push("docs/README.md".to_owned());
    listed.sort();
    let there = files(&["docs"], &["md"]);
    let there = there.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
    assert_eq!(listed, there.collect::<Vec<_>>());
}

#[test]
fn every_page_of_the_book_says_what_its_reader_wants_and_leads_to_its_neighbours() {
    let book = book();
    let mut wrong = Vec::new();
    for (at, (file, title)) in book.iter().enumerate() {
        let page = read(format!("docs/{file}"));
        if !page.starts_with(&format!("# {title}\n\nYou want to ")) {
            wrong.push(format!(
                "{file} does not begin with \"# {title}\" and, as its first sentence, \"You want to …\""
            ));
        }
        let link = |(file, title): &(String, String)| format!("[{title}]({file})");
        let before = at.checked_sub(1).map(|at| format!("Before: {} · ", link(&book[at]))).unwrap_or_default();
        let next = book.get(at + 1).map(|page| format!(" · Next: {}", link(page))).unwrap_or_default();
        let end = format!("\n\n---\n\n{before}[Contents](README.md){next}\n");
        if !page.ends_with(&end) {
            wrong.push(format!("{file} does not end with{end}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pictures_exist_are_described_and_are_shown() {
    let mut shown = BTreeSet::new();
    let mut wrong = Vec::new();
    for page in pages() {
        let text: String = read(&page).split('`').step_by(2).collect();
        for part in text.split("![").skip(1) {
            let (description, rest) = part.split_once("](").unwrap();
            let picture = page.parent().unwrap().join(&rest[..rest.find(')').unwrap()]);
            if description.len() < 20 || !picture.exists() {
                wrong.push(format!("{}: {}: {description}", page.display(), picture.display()));
            }
            shown.extend(picture.canonicalize());
        }
    }
    assert!(wrong.is_empty(), "missing, or without a description:\n{}", wrong.join("\n"));
    let there = files(&["docs"], &["svg", "png"]);
    assert_eq!(shown, there.iter().map(|picture| picture.canonicalize().unwrap()).collect());
}

#[test]
fn the_architecture_picture_is_text_for_light_and_dark_and_small() {
    let picture = read("docs/architecture.svg");
    for part in ["<title", "<desc", "prefers-color-scheme: dark", "<text"] {
        assert!(picture.contains(part), "{part}");
    }
    assert!(!picture.contains("<image") && !picture.contains("href="), "it needs nothing else");
    assert!(picture.len() <= 12 * 1024, "{} bytes", picture.len());
}

#[test]
fn the_glossary_is_in_alphabetical_order() {
    let page = read("docs/glossary.md");
    let words: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("**"))
        .map(|(word, _)| word.to_lowercase())
        .collect();
    assert!(words.len() > 30, "words are being found");
    assert!(words.is_sorted(), "{words:?}");
}

/// The anchors that the headings of a page get.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept =
            heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The tests that the last column of a table names, a list for each row.
fn last_column(section: &str) -> Vec<Vec<&str>> {
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    cells.map(|cell| cell.split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')).collect()).collect()
}

/// The names that are not names of tests.
fn missing<'n>(named: &[Vec<&'n str>]) -> Vec<&'n str> {
    let code: String = files(&["src", "tests"], &["rs"]).iter().map(read).collect();
    let named = named.iter().flatten().copied();
    named.filter(|name| !code.contains(&format!("fn {name}()"))).collect()
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let page = read("SECURITY.md");
    let rows = last_column(page.split_once("\n## Threat model\n").unwrap().1);
    assert!(rows.len() > 15 && rows.iter().flatten().count() > 20, "{rows:?}");
    assert_eq!(missing(&rows), [""; 0]);
}

#[test]
fn every_bound_that_the_documentation_names_has_the_test_that_it_names() {
    let page = read("docs/operations.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Bounded for strangers")).unwrap();
    let rows = last_column(section);
    assert!(rows.len() > 15 && rows.iter().all(|row| !row.is_empty()), "{rows:?}");
    assert_eq!(missing(&rows), [""; 0]);
}

#[test]
fn the_architecture_has_a_row_for_every_room() {
    let page = read("docs/architecture.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let named: BTreeSet<&str> = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`')).collect();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let room = name.trim_end_matches(".rs");
        assert!(["lib", "main"].contains(&room) || named.contains(room), "{room} is in no row of docs/architecture.md");
    }
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md", "docs/contract.md"] {
        let text = read(page);
        for named in text.split('`').skip(1).step_by(2) {
            let is_path = named.ends_with(".rs") || named.ends_with(".md") || named.ends_with(".toml");
            if !is_path
                || !named.contains('/')
                || named.contains(|c: char| c.is_whitespace() || c == '*' || c.is_uppercase())
            {
                continue;
            }
            seen += 1;
            // The architecture page names files of the rooms relative to `src`.
            if !root().join(named).exists() && !root().join("src").join(named).exists() {
                wrong.push(format!("{page}: {named}"));
            }
        }
    }
    assert!(seen > 20, "files are being found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
