//! Builds the tests of a copy of this tree with all changes in it.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::judged::Judged;
use crate::mutant::Mutant;
use crate::trial::Verdict;
use crate::weave::weave;

/// What the woven code asks: whether this change is to be made now. It notes which changes it was asked for.
const ASKED: &str = r#"
#[doc(hidden)]
pub mod mutating {
    use std::io::Write as _;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    static NOW: LazyLock<u32> =
        LazyLock::new(|| std::env::var("MUTATING_NOW").ok().and_then(|now| now.parse().ok()).unwrap_or(0));
    static NOTES: LazyLock<Option<std::fs::File>> = LazyLock::new(|| {
        std::fs::OpenOptions::new().append(true).create(true).open(std::env::var_os("MUTATING_NOTES")?).ok()
    });
    static NOTED: [AtomicBool; 65536] = [const { AtomicBool::new(false) }; 65536];

    pub fn on(change: u32) -> bool {
        if let Some(mut notes) = NOTES.as_ref() {
            if !NOTED[change as usize].swap(true, Ordering::Relaxed) {
                let _ = notes.write_all(format!("{change}\n").as_bytes());
            }
        }
        *NOW == change
    }
}
"#;

/// The built tests.
pub struct Built {
    pub unit: PathBuf,
    pub gateway: PathBuf,
    /// The changes that cannot be tried in this way.
    pub left_out: BTreeSet<u32>,
    /// The changes with which the code does not compile.
    pub not_compilable: BTreeSet<u32>,
}

/// Weaves all changes into the copy and builds it; again without those that do not compile, until it does.
pub fn build(tree: &Path, mutants: &[Mutant], judged: &Judged) -> Result<Built, String> {
    copy(tree)?;
    let (mut not_compilable, mut left_out) = (judged.built(Verdict::NotCompilable), judged.built(Verdict::LeftOut));
    let mut places: HashMap<String, Vec<(u32, Range<usize>)>> = HashMap::new();
    let files: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.file.as_str()).collect();
    let mut changed = files;
    loop {
        for file in &changed {
            let of_file = (1..).zip(mutants).filter(|(number, mutant)| {
                mutant.file == **file && !not_compilable.contains(number) && !left_out.contains(number)
            });
            let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            let woven = weave(&text, &of_file.collect::<Vec<_>>()).map_err(|error| format!("{file}: {error}"))?;
            fs::write(tree.join(file), woven.text).map_err(|error| format!("{file}: {error}"))?;
            left_out.extend(woven.left_out);
            not_compilable.extend(woven.not_compilable);
            places.insert((*file).to_owned(), woven.places);
        }
        let messages = cargo(tree, &["check", "--lib"])?;
        let found = faulty(&messages, &places)?;
        if found.is_empty() {
            break;
        }
        changed = found.iter().map(|(number, _)| mutants[*number as usize - 1].file.as_str()).collect();
        for (number, of_guard) in found {
            let (all, verdict) = if of_guard {
                (&mut left_out, Verdict::LeftOut)
            } else {
                (&mut not_compilable, Verdict::NotCompilable)
            };
            all.insert(number);
            judged.keep_built(number, verdict);
        }
        eprintln!("{} changes do not compile", not_compilable.len());
    }
    let messages = cargo(tree, &["test", "--no-run", "--lib", "--test", "gateway", "--bins"])?;
    let program = |kind: &str| {
        let of = messages.iter().find(|m| {
            m["reason"] == "compiler-artifact" && m["target"]["kind"][0] == kind && m["profile"]["test"] == true
        });
        let path = of.and_then(|message| message["executable"].as_str());
        path.map(PathBuf::from).ok_or_else(|| format!("cargo built no test program of the kind {kind}"))
    };
    Ok(Built { unit: program("lib")?, gateway: program("test")?, left_out, not_compilable })
}

/// Copies what git knows or would add. What is the same already keeps its time, so that it is not built again.
fn copy(tree: &Path) -> Result<(), String> {
    let listed = Command::new("git").args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).output();
    let listed = listed.map_err(|error| format!("git: {error}"))?;
    for file in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|file| Path::new(file).is_file()) {
        let (mut content, to) = (fs::read(file).map_err(|error| format!("{file}: {error}"))?, tree.join(file));
        if file == "src/lib.rs" {
            content.extend_from_slice(ASKED.as_bytes());
        }
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(tree)).map_err(|error| format!("{}: {error}", to.display()))?;
        fs::write(&to, content).map_err(|error| format!("{}: {error}", to.display()))?;
        let permissions = fs::metadata(file).map_err(|error| format!("{file}: {error}"))?.permissions();
        fs::set_permissions(&to, permissions).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

fn cargo(tree: &Path, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let mut command = Command::new("cargo");
    command.args(arguments).args(["--locked", "--message-format=json"]).current_dir(tree).stderr(Stdio::null());
    // Changed code has warnings.
    command.env("RUSTFLAGS", format!("{} --cap-lints allow", std::env::var("RUSTFLAGS").unwrap_or_default()));
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    Ok(messages.collect())
}

/// The changes that the compiler's errors are about, and whether only the guard in place of a deleted arm does not compile.
fn faulty(
    messages: &[Value],
    places: &HashMap<String, Vec<(u32, Range<usize>)>>,
) -> Result<BTreeSet<(u32, bool)>, String> {
    let mut found = BTreeSet::new();
    for message in messages.iter().map(|message| &message["message"]).filter(|message| message["level"] == "error") {
        let mut known = false;
        let of_guard = message["code"]["code"] == "E0004";
        // What the error is about, before what it mentions.
        let mut spans: Vec<&Value> = message["spans"].as_array().into_iter().flatten().collect();
        spans.sort_by_key(|span| span["is_primary"] != true);
        for span in spans {
            if known {
                break;
            }
            let (Some(file), Some(at)) = (span["file_name"].as_str(), span["byte_start"].as_u64()) else { continue };
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let around = places.get(file).into_iter().flatten().filter(|(_, range)| range.contains(&at));
            let around: Vec<_> = around.collect();
            if let Some(least) = around.iter().map(|(_, range)| range.len()).min() {
                found.extend(
                    around.iter().filter(|(_, range)| range.len() == least).map(|(number, _)| (*number, of_guard)),
                );
                known = true;
            }
        }
        let text = message["rendered"].as_str().unwrap_or_default();
        let anywhere = message["spans"].as_array().is_some_and(|spans| !spans.is_empty());
        if !known && anywhere {
            return Err(format!("the copy does not compile, and not because of a change:\n{text}"));
        }
    }
    Ok(found)
}
