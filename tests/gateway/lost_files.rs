//! The owner of the disk removes or replaces the file to which a running gateway writes its record. Later deletions
//! are still on disk where a reader finds them, and the problem is reported.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Files, Gate, Upstream, service, signed, until};
use crate::http::{delete, get};
use crate::operations::{Process, text, told};

const SYNCS: [&str; 2] = ["each", "os"];

fn gate(upstream: &Upstream, sync: &str) -> Gate {
    let more = format!("[audit]\npath = \"record\"\nsync = \"{sync}\"\n");
    Gate::patient(upstream, &more)
}

fn directory(files: &Files) -> PathBuf {
    files.dir.path().join("record")
}

/// The only file of the record.
fn page(files: &Files) -> PathBuf {
    let all: Vec<PathBuf> = std::fs::read_dir(directory(files)).unwrap().map(|file| file.unwrap().path()).collect();
    let [one] = &all[..] else { panic!("{all:?}") };
    one.clone()
}

fn is_degraded(gate: &Gate) -> bool {
    let ready = get(gate.admin(), "/ready");
    ready.status == 200 && ready.body.contains("taken away")
}

fn deletes(gate: &Gate) {
    let answer = gate.delete(&signed("OWNER"));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn verify(directory: &Path) -> (Option<i32>, String) {
    let output = told(&["audit", "verify", "--path", directory.to_str().unwrap()], "");
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn of_kind<'l>(lines: &'l [Value], kind: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

/// Checks what a reader finds: a file that says why it was begun, and this many intents with their outcomes.
fn assert_goes_on(gate: &Gate, why: &str, deletions: usize) {
    let lines = gate.files.record();
    let headers = of_kind(&lines, "header");
    let anew = headers.iter().find_map(|header| header["begun_anew"].as_str()).unwrap_or_else(|| panic!("{lines:?}"));
    assert!(anew.contains(why) && anew.contains("record-"), "{anew}");
    assert_eq!(of_kind(&lines, "intent").len(), deletions, "{lines:?}");
    assert_eq!(of_kind(&lines, "outcome").len(), deletions, "{lines:?}");
}

#[test]
fn a_removed_file_is_noticed_and_later_deletions_are_on_disk() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for sync in SYNCS {
        let gate = gate(&upstream, sync);
        deletes(&gate);
        std::fs::remove_file(page(&gate.files)).unwrap();
        until("it is noticed", || is_degraded(&gate));
        deletes(&gate);
        let at = directory(&gate.files);
        let shown = told(&["audit", "show", "--path", at.to_str().unwrap()], "");
        assert!(text(&shown.stdout).contains("removed or renamed"), "{}", text(&shown.stdout));
        let (code, said) = verify(&at);
        assert!(code == Some(1) && said.contains("files before it are gone, and not by retention"), "{said}");
        // Without syncs, the lines of the last second are written again.
        let again = of_kind(&gate.files.record(), "intent").len() - 1;
        assert!(again <= usize::from(sync == "os"), "{again}");
        assert_goes_on(&gate, "removed or renamed", 1 + again);
    }
}

#[test]
fn a_removed_file_is_noticed_without_a_delay() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = gate(&upstream, "each");
    std::fs::remove_file(page(&gate.files)).unwrap();
    deletes(&gate);
    assert!(is_degraded(&gate));
    assert_goes_on(&gate, "removed or renamed", 1);
}

#[test]
fn without_syncs_lines_lost_unnoticed_are_written_again() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = gate(&upstream, "os");
    std::fs::remove_file(page(&gate.files)).unwrap();
    deletes(&gate);
    until("it is noticed", || is_degraded(&gate));
    assert_goes_on(&gate, "removed or renamed", 1);
}

#[test]
fn another_file_at_its_path_is_left_alone() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for sync in SYNCS {
        let gate = gate(&upstream, sync);
        deletes(&gate);
        let path = page(&gate.files);
        let copy = std::fs::read(&path).unwrap();
        std::fs::write(path.with_extension("new"), &copy).unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        until("it is noticed", || is_degraded(&gate));
        deletes(&gate);
        assert_eq!(std::fs::read(&path).unwrap(), copy);
        let lines = gate.files.record();
        let anew = of_kind(&lines, "header")[1..]
            .iter()
            .chain(&of_kind(&lines, "header")[..1])
            .any(|header| header["begun_anew"].as_str().is_some_and(|why| why.contains("replaced by another file")));
        assert!(anew && of_kind(&lines, "outcome").len() >= 2, "{lines:?}");
    }
}

#[test]
fn a_truncated_or_foreign_file_gets_no_more_lines() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for sync in SYNCS {
        for (length, why) in [(0_i64, "truncated"), (100, "truncated"), (-1, "written to by another program")] {
            let gate = gate(&upstream, sync);
            deletes(&gate);
            let path = page(&gate.files);
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            match u64::try_from(length) {
                Ok(length) => file.set_len(length).unwrap(),
                Err(_) => std::io::Write::write_all(&mut &file, b"more").unwrap(),
            }
            until("it is noticed", || is_degraded(&gate));
            deletes(&gate);
            let at = directory(&gate.files);
            let newest = std::fs::read_dir(&at).unwrap().map(|file| file.unwrap().path()).max().unwrap();
            let text = std::fs::read_to_string(newest).unwrap();
            assert!(text.lines().next().unwrap().contains(why), "{text}");
            assert!(text.contains("\"intent\"") && text.contains("\"deleted\""), "{text}");
            let (code, said) = verify(&at);
            assert!(code == Some(1), "{length} {said}");
        }
    }
}

#[test]
fn a_renamed_or_removed_directory_is_created_again() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for sync in SYNCS {
        for away in [true, false] {
            let gate = gate(&upstream, sync);
            let at = directory(&gate.files);
            if away {
                std::fs::rename(&at, at.with_extension("old")).unwrap();
            } else {
                std::fs::remove_dir_all(&at).unwrap();
            }
            until("it is noticed", || is_degraded(&gate));
            deletes(&gate);
            assert_goes_on(&gate, "removed or renamed", 1);
        }
    }
}

#[test]
fn nothing_is_spent_until_a_new_file_can_be_created() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for sync in SYNCS {
        let gate = gate(&upstream, sync);
        let at = directory(&gate.files);
        std::fs::remove_dir_all(&at).unwrap();
        // A file in its place: nobody can create a directory there.
        let in_the_way = loop {
            match std::fs::write(&at, "") {
                Ok(()) => break at.clone(),
                // The gateway was faster.
                Err(_) => drop(std::fs::remove_dir_all(&at)),
            }
        };
        until("it is noticed", || get(gate.admin(), "/ready").status == 503);
        let (header, before) = (signed("OWNER"), upstream.deletes());
        assert_eq!(gate.delete(&header).status, 503);
        std::fs::remove_file(in_the_way).unwrap();
        until("it can be written again", || is_degraded(&gate));
        assert_eq!(gate.delete(&header).status, 200, "nothing was spent");
        assert_eq!(upstream.deletes(), before + 1);
        assert_goes_on(&gate, "removed or renamed", 1);
    }
}

#[test]
fn a_restored_file_verifies_together_with_the_next() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for sync in SYNCS {
        let mut gate = gate(&upstream, sync);
        deletes(&gate);
        let path = page(&gate.files);
        let aside = gate.files.dir.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        until("it is noticed", || is_degraded(&gate));
        deletes(&gate);
        std::fs::rename(&aside, &path).unwrap();
        deletes(&gate);
        assert!(gate.drain());
        let (code, said) = verify(&directory(&gate.files));
        assert!(code == Some(0) && said.contains("note: ") && said.contains("had to continue in this file"), "{said}");
        // Three lines, and one more if it was unknown whether a reader had found it.
        let lines = gate.files.record();
        let mut ids: Vec<&str> =
            of_kind(&lines, "outcome").iter().map(|line| line["request_id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3, "{lines:?}");
    }
}

#[test]
fn a_read_only_file_is_still_written_and_a_removed_one_is_logged() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let process = Process::serve(&files);
    let path = page(&files);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    assert_eq!(of_kind(&files.record(), "outcome").len(), 1);
    assert!(!process.log().contains("continues in a new file"), "{}", process.log());
    std::fs::remove_file(&path).unwrap();
    until("it is logged", || process.log().contains("continues in a new file"));
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(process.log().contains(&format!("{name} was removed or renamed")), "{}", process.log());
}
