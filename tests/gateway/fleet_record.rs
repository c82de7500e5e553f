//! The record of a fleet: several gateways with directories of their own, and files that were compressed and moved.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::harness::{Gate, Upstream, answer, but_delete, service, signed};
use crate::operations::{text, told};

/// Runs `saltgate audit COMMAND` over these directories.
fn audit(command: &str, directories: &[&Path], more: &[&str]) -> (Option<i32>, String) {
    let mut arguments = vec!["audit", command];
    for directory in directories {
        arguments.extend(["--path", directory.to_str().unwrap()]);
    }
    arguments.extend(more);
    let output = told(&arguments, "");
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn shown(directories: &[&Path], more: &[&str]) -> Vec<Value> {
    let (code, said) = audit("show", directories, more);
    assert_eq!(code, Some(0), "{said}");
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Where a gate writes.
fn directory(gate: &Gate) -> PathBuf {
    gate.files.record_files()[0].parent().unwrap().to_owned()
}

fn gzip(file: &Path) -> PathBuf {
    assert!(Command::new("gzip").args(["--keep", "--force"]).arg(file).status().unwrap().success());
    PathBuf::from(format!("{}.gz", file.display()))
}

#[test]
fn the_directories_of_all_gateways_and_copies_of_their_files_are_one_record() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let [mut one, mut other] = [(); 2].map(|()| Gate::patient(&upstream, ""));
    let delete = |gate: &Gate| assert_eq!(gate.delete(&signed("OWNER")).status, 200);
    [&one, &other, &one].into_iter().for_each(delete);
    let [here, there] = [&one, &other].map(directory);

    // A copy made while the gateway runs, a compressed one, and the rest of the file later.
    let archive = tempfile::tempdir().unwrap();
    let live = one.files.record_files()[0].clone();
    let copy = archive.path().join(live.file_name().unwrap());
    std::fs::copy(&live, &copy).unwrap();
    gzip(&copy);
    delete(&one);
    let all = [&*here, &*there, archive.path()];
    let (code, said) = audit("verify", &all, &[]);
    assert!(code == Some(0) && said.contains("in 2 files of 2 processes"), "{said}");
    assert!(said.contains(&format!("{}: is not read: it is a copy of {}", copy.display(), live.display())), "{said}");
    // The same file with both names of its directory is no copy.
    let (code, said) = audit("verify", &[&here, &here.join(".")], &[]);
    assert!(code == Some(0) && !said.contains("is a copy"), "{said}");

    assert!(one.drain() && other.drain());
    let deletions = |directories: &[&Path]| shown(directories, &["--decision", "deleted"]).len();
    assert_eq!((deletions(&[&here]), deletions(&[&there]), deletions(&all)), (3, 1, 4));

    // The file moves, compressed: what was copied early is a part of it.
    std::fs::rename(gzip(&live), PathBuf::from(format!("{}.gz", copy.display()))).unwrap();
    std::fs::remove_file(&live).unwrap();
    assert_eq!(deletions(&all), 4, "the longer of both copies is read");
    let (code, said) = audit("verify", &all, &[]);
    assert!(code == Some(0) && said.contains("in 2 files of 2 processes"), "{said}");

    let (code, heads) = audit("head", &all, &[]);
    assert_eq!((code, heads.lines().count()), (Some(0), 2), "{heads}");
    let kept = archive.path().join("heads");
    std::fs::write(&kept, heads).unwrap();
    let kept = ["--heads", kept.to_str().unwrap()];
    assert_eq!(audit("verify", &all, &kept).0, Some(0));
    let (code, said) = audit("verify", &[&there], &kept);
    assert!(code == Some(1) && said.contains("all files of its process are missing"), "{said}");

    // A copy that differs is reported by its path, although it is not read.
    let changed = std::fs::read_to_string(&copy).unwrap().replacen("deleted", "unknown", 1);
    std::fs::write(&copy, changed).unwrap();
    let (code, said) = audit("verify", &all, &[]);
    let fault = format!("FAULT: {}:", copy.display());
    assert!(code == Some(1) && said.contains(&fault) && said.contains("differs from"), "{said}");
}

#[test]
fn reconcile_reads_the_directories_of_the_fleet_and_writes_to_its_own() {
    let upstream = Upstream::start(but_delete(|stream| drop(stream.shutdown(std::net::Shutdown::Both))));
    let [mut one, mut other] = [(); 2].map(|()| Gate::hasty(&upstream, ""));
    assert_eq!(one.delete(&signed("OWNER")).status, 502);
    assert_eq!(other.delete(&signed("OWNER")).status, 502);
    let [here, there] = [&one, &other].map(directory);
    assert!(one.drain() && other.drain());
    let gone = Upstream::start(Arc::new(|_, stream| answer(stream, "404 Not Found", "", "{}")));
    let auditor = Gate::hasty(&gone, "");
    let before = std::fs::read(&one.files.record_files()[0]).unwrap();

    let own = auditor.files.path().display().to_string();
    let arguments = ["audit", "reconcile", "--config", &own, "--path", here.to_str().unwrap()];
    let told = told(&[&arguments[..], &["--path", there.to_str().unwrap()]].concat(), "");
    let said = text(&told.stdout) + &text(&told.stderr);
    assert_eq!(told.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("deleted: the upstream no longer has the segment").count(), 2, "{said}");
    assert_eq!(gone.gets(), 2);

    assert_eq!(std::fs::read(&one.files.record_files()[0]).unwrap(), before);
    assert_eq!(shown(&[&here, &there], &["--unknown"]).len(), 2, "not without what was found");
    let found = directory(&auditor);
    assert_eq!(shown(&[&here, &there, &found], &["--unknown"]).len(), 0);
    assert_eq!(audit("verify", &[&here, &there, &found], &[]).0, Some(0));
}
