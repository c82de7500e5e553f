//! A journal that is not as the gateway left it: damaged, or restored from a copy.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Files, Upstream, service, signed, until};
use crate::http::{delete, get};
use crate::operations::Process;

const JOURNAL: &str = "[replay.journal]\npath = \"replay\"\nwhen_new = \"accept\"\n";
const NO_RECORD: &str = "[audit]\ndanger_no_record = true\n";
const RECORD: usize = 32;

fn journal(files: &Files) -> PathBuf {
    files.dir.path().join("replay")
}

fn segment(files: &Files) -> PathBuf {
    journal(files).join("000000000001.salts")
}

/// Waits until the witness has seen this many records, which is once they are on disk.
fn seen(files: &Files, records: u32) {
    let beside = [files.dir.path().join("record"), journal(files)];
    until("the witness has seen them", || {
        let there = beside.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().map(|entry| entry.unwrap().path());
        let bytes =
            there.filter(|path| path.extension().is_some_and(|it| it == "witness")).map(|path| fs::read(path).unwrap());
        bytes.map(|bytes| u32::from_le_bytes(bytes[40..44].try_into().unwrap())).max() == Some(records)
    });
}

/// A gateway that spends these headers, and is ended by a signal.
fn spend(files: &Files, headers: &[&str], signal: &str) {
    let mut process = Process::serve(files);
    headers.iter().for_each(|header| assert_eq!(delete(process.address(), header).status, 200));
    process.signal(signal);
    process.wait();
}

/// The message of a start that refuses, or `None` if the start is fenced. In either case no spent header passes.
fn refused_or_fenced(name: &str, files: &Files, spent: &[&str]) -> Option<String> {
    match Process::attempt(files) {
        Err(log) => Some(log),
        Ok(process) => {
            for header in spent {
                assert_eq!(delete(process.address(), header).status, 503, "{name}: {}", process.log());
            }
            let ready = get(process.admin(), "/ready");
            assert_eq!(ready.status, 503, "{name}: {}", ready.body);
            assert!(ready.body.contains("fenced until"), "{name}: {}", ready.body);
            None
        }
    }
}

/// Damages the last of three records in one way.
fn hurt(file: &Path, how: &str) {
    let bytes = fs::read(file).unwrap();
    let place = |n: usize| &bytes[RECORD * n..RECORD * (n + 1)];
    let mut last = place(3).to_vec();
    match how {
        "a bit" => last[5] ^= 4,
        "zeros" => last.fill(0),
        "half" => last[16..].fill(0),
        "a copy of another" => last.copy_from_slice(place(1)),
        "what was there before it" => last.copy_from_slice(place(4)),
        other => panic!("{other}"),
    }
    fs::File::options().write(true).open(file).unwrap().write_all_at(&last, RECORD as u64 * 3).unwrap();
}

const WAYS: [&str; 5] = ["a bit", "zeros", "half", "a copy of another", "what was there before it"];

#[test]
fn after_a_clean_close_a_damaged_last_record_stops_the_start() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for how in WAYS {
        let files = Files::new(upstream.address, JOURNAL);
        let headers = [signed("OWNER"), signed("OWNER"), signed("OWNER")];
        spend(&files, &headers.each_ref().map(String::as_str), "-TERM");
        hurt(&segment(&files), how);
        let told = refused_or_fenced(how, &files, &[&headers[2]]).unwrap_or_else(|| panic!("{how}: it started"));
        assert!(told.contains("000000000001.salts") && told.contains("--discard-replay-journal"), "{how}: {told}");
    }
}

#[test]
fn after_a_kill_a_damaged_last_record_counts_as_a_spent_salt() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for (how, record) in WAYS.into_iter().zip(["", NO_RECORD].into_iter().cycle()) {
        let files = Files::new(upstream.address, &format!("{JOURNAL}{record}"));
        let headers = [signed("OWNER"), signed("OWNER"), signed("OWNER")];
        let mut process = Process::serve(&files);
        headers.iter().for_each(|header| assert_eq!(delete(process.address(), header).status, 200));
        seen(&files, 3);
        process.kill();
        hurt(&segment(&files), how);
        refused_or_fenced(how, &files, &[&headers[2]]);
    }
}

/// Copies a directory without its lock, into new or existing files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "lock" {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Restores a copy of the journal.
fn restore(files: &Files, how: &str) {
    let (copied, journal) = (files.dir.path().join("copy"), journal(files));
    match how {
        // New files often get the inodes that were just freed.
        "into an empty directory" => {
            fs::remove_dir_all(&journal).unwrap();
            copy(&copied, &journal);
        }
        "cp -a" => {
            fs::remove_dir_all(&journal).unwrap();
            assert!(Command::new("cp").arg("-a").args([&copied, &journal]).status().unwrap().success());
        }
        // As `rsync --inplace` or a snapshot of the volume does.
        "in place" => copy(&copied, &journal),
        "by moving it" => {
            fs::remove_dir_all(&journal).unwrap();
            fs::rename(&copied, &journal).unwrap();
        }
        "the segment alone, in place" => {
            fs::copy(copied.join("000000000001.salts"), segment(files)).map(drop).unwrap();
        }
        other => panic!("{other}"),
    }
}

const RESTORES: [&str; 5] =
    ["into an empty directory", "cp -a", "in place", "by moving it", "the segment alone, in place"];

#[test]
fn a_restored_copy_is_fenced_however_it_was_made() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let ends = ["-TERM", "-KILL", "-TERM", "-KILL", "-KILL"];
    for (how, end) in RESTORES.into_iter().zip(ends).chain([("in place", "-KILL")]) {
        let files = Files::new(upstream.address, JOURNAL);
        let (early, late) = (signed("OWNER"), signed("OWNER"));
        let mut process = Process::serve(&files);
        assert_eq!(delete(process.address(), &early).status, 200);
        copy(&journal(&files), &files.dir.path().join("copy"));
        assert_eq!(delete(process.address(), &late).status, 200);
        seen(&files, 2);
        process.signal(end);
        process.wait();
        restore(&files, how);
        if let Some(told) = refused_or_fenced(&format!("{how}, {end}"), &files, &[&late, &early]) {
            assert!(how.contains("alone") && told.contains("000000000001.salts"), "{how}, {end}: {told}");
        }
    }
}

#[test]
fn a_copy_of_an_earlier_run_is_fenced_with_and_without_a_record() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for (how, more) in RESTORES[..4].iter().zip(["", NO_RECORD].into_iter().cycle()) {
        let files = Files::new(upstream.address, &format!("{JOURNAL}{more}"));
        let (early, late) = (signed("OWNER"), signed("OWNER"));
        spend(&files, &[&early], "-TERM");
        copy(&journal(&files), &files.dir.path().join("copy"));
        spend(&files, &[&late], "-TERM");
        restore(&files, how);
        assert_eq!(refused_or_fenced(how, &files, &[&late, &early]), None);
        let log = fs::read_to_string(files.dir.path().join("log")).unwrap();
        assert!(log.contains("starts behind the fence"), "{log}");
    }
}

#[test]
fn a_journal_without_its_witness_is_fenced_but_the_record_may_be_moved() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, JOURNAL);
    let header = signed("OWNER");
    spend(&files, &[&header], "-TERM");
    let (here, there) = (files.dir.path().join("record"), files.dir.path().join("elsewhere"));
    fs::rename(&here, &there).unwrap();
    let text = fs::read_to_string(files.path()).unwrap();
    fs::write(files.path(), text.replace("path = \"record\"", "path = \"elsewhere\"")).unwrap();
    let mut process = Process::serve(&files);
    assert_eq!(delete(process.address(), &header).status, 401, "{}", process.log());
    process.signal("-TERM");
    process.wait();
    let witness = fs::read_dir(&there).unwrap().map(|entry| entry.unwrap().path());
    let witness: Vec<PathBuf> = witness.filter(|path| path.extension().is_some_and(|it| it == "witness")).collect();
    assert_eq!(witness.len(), 1);
    fs::remove_file(&witness[0]).unwrap();
    assert_eq!(refused_or_fenced("no witness", &files, &[&header]), None);
    let log = fs::read_to_string(files.dir.path().join("log")).unwrap();
    assert!(log.contains("witness") && log.contains("is missing"), "{log}");
}
