//! Every file begins with a module comment, and uses the usual terms in place of names that were given up
//! (`docs/glossary.md`).

use std::path::Path;

use super::{code, sources, words_after};

/// Names that were given up, each with the usual term that replaced it.
const GIVEN_UP: &[(&str, &str)] = &[
    ("Alarm", "DeadlineTimer"),
    ("Bench", "Explainer"),
    ("Catches", "SafeguardChecks"),
    ("ControlDoor", "ControlSocket"),
    ("Desk", "WorkerState"),
    ("Entrance", "BoundAddress"),
    ("Few", "FirstAndCount"),
    ("Foresee", "DryRunSafeguard"),
    ("Foretell", "ReportDryRun"),
    ("Foretold", "DryRunReport"),
    ("Greeted", "Established"),
    ("Learned", "SegmentInfo"),
    ("Letting", "PassNamed"),
    ("Moved", "BytesWritten"),
    ("Rehearsal", "DryRun"),
    ("Seat", "Activity"),
    ("Seats", "EvictionOrder"),
    ("Sheet", "Report"),
    ("Unfit", "InvalidSetting"),
    ("Unsayable", "InvalidRequestHead"),
    ("UnixDoor", "BoundUnix"),
    ("Whence", "a source"),
    ("alarm", "deadline_timer"),
    ("desk", "worker_state"),
    ("door", "socket"),
    ("foretell", "report"),
    ("greet", "handshake"),
    ("learned", "segment_info"),
    ("others_first", "yield_now"),
    ("patience", "timeout"),
    ("rehearsal", "dry_run"),
    ("strays", "out_of_window"),
    ("takings", "usage"),
    ("thaw", "unfreeze"),
];

#[test]
fn every_file_begins_with_a_module_comment() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let without = |path: &&std::path::PathBuf| !std::fs::read_to_string(path).unwrap().starts_with("//! ");
    let name = |path: &std::path::PathBuf| path.strip_prefix(&src).unwrap().display().to_string();
    let without: Vec<String> = files.iter().filter(without).map(name).collect();
    assert!(without.is_empty(), "say in one to three sentences what the file is for: {without:#?}");
}

#[test]
fn no_item_has_a_name_that_was_given_up() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let code = code(&file);
        for kind in ["struct ", "enum ", "trait ", "type ", "fn ", "mod ", "const ", "static "] {
            for name in words_after(&code, kind) {
                if let Some((old, usual)) = GIVEN_UP.iter().find(|(old, _)| *old == name) {
                    wrong.push(format!("{}: {kind}{old}; call it {usual}", file.strip_prefix(&src).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
