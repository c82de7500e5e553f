//! Everything on disk is private to its owner, whatever the umask was.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use saltgate::parts;

use crate::harness::{Files, Upstream, but_delete, service, signed, until};
use crate::http::delete;
use crate::operations::{Process, text, told};

/// Every kind of state, and files that are rotated.
const ALL: &str = "[replay.journal]\npath = \"state/replay\"\nwhen_new = \"accept\"\n\
                   [audit]\npath = \"state/record\"\nrotate_size = \"4KiB\"\n\
                   [control]\nsocket = \"state/c.sock\"\nstate = \"state/control\"\n";

/// A gateway that is started with this umask.
fn serve(files: &Files, umask: &str) -> Process {
    let run = format!(
        "umask {umask}; exec {} serve --config {} 2>&1 >/dev/null",
        env!("CARGO_BIN_EXE_saltgate"),
        files.path().display()
    );
    Process::reading(Command::new("sh").args(["-c", &run]).stdout(Stdio::piped()).spawn().unwrap(), files)
}

/// A folder and everything in it.
fn all_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(all_in(&entry)) } else { found.push(entry) }
    }
    found
}

/// Everything that users other than the owner have access to.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    let open = all_in(folder).into_iter().filter(|path| mode(path) & 0o077 != 0);
    open.map(|path| format!("{:04o} {}", mode(&path), path.display())).collect()
}

#[test]
fn state_is_private_even_without_a_umask() {
    let upstream = Upstream::start(but_delete(|stream| drop(stream.shutdown(std::net::Shutdown::Both))));
    let files = Files::new(upstream.address, ALL);
    let folder = files.dir.path().join("state");
    let config = files.path();
    let config = config.to_str().unwrap();
    parts::folder(&folder).unwrap();
    let gate = serve(&files, "000");
    for _ in 0..6 {
        assert_eq!(delete(gate.address(), &signed("OWNER")).status, 502);
    }
    assert!(told(&["freeze", "key", "NCSOWNER", "--config", config], "").status.success());
    until("a file of the record is finished", || std::fs::read_dir(folder.join("record")).unwrap().count() > 1);
    assert_eq!(open_to_others(&folder), Vec::<String>::new());
    let seen = all_in(&folder).len();
    assert!(seen > 9, "there is enough to judge: {seen}");
    // A command that writes to the same folder.
    let reconciled = Command::new("sh")
        .args(["-c", &format!("umask 000; exec {} audit reconcile --config {config}", env!("CARGO_BIN_EXE_saltgate"))])
        .output()
        .unwrap();
    assert!(text(&reconciled.stdout).contains(crate::harness::SEGMENT), "{reconciled:?}");
    assert_eq!(open_to_others(&folder), Vec::<String>::new());
}

#[test]
fn the_demos_state_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let run = format!("umask 000; exec {} demo --once --data {}", env!("CARGO_BIN_EXE_saltgate"), data.display());
    let output = Command::new("sh").args(["-c", &run]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(open_to_others(&data), Vec::<String>::new());
    assert!(data.join("crm.sqlite").exists() && data.join("keys.toml").exists());
}

#[test]
fn a_folder_open_to_others_causes_a_warning() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, ALL);
    let state = files.dir.path().join("state");
    for folder in ["record", "replay", "control"] {
        std::fs::create_dir_all(state.join(folder)).unwrap();
        std::fs::set_permissions(state.join(folder), Permissions::from_mode(0o755)).unwrap();
    }
    let gate = serve(&files, "022");
    let log = gate.log();
    for folder in ["record", "replay", "control"] {
        let named = log.lines().any(|line| line.contains(&format!("state/{folder}\"")) && line.contains("0755"));
        assert!(named, "{folder}: {log}");
    }
    let checked = told(&["check", "--config", files.path().to_str().unwrap()], "");
    let said = text(&checked.stderr);
    assert!(checked.status.success() && said.matches("is accessible to other users").count() == 3, "{said}");
    // The files in it are private all the same.
    let open: Vec<String> = open_to_others(&state).into_iter().filter(|open| !open.starts_with("0755")).collect();
    assert_eq!(open, Vec::<String>::new());
}
