//! A change of the file of keys, or of a file of a secret, is taken without a reload.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Files, Gate, Upstream, api_key, secret, service, signed, until};
use crate::http::{delete, get};
use crate::operations::Process;

/// A revocation by a changed file holds after this time (contract §9).
const IN_FORCE: Duration = Duration::from_secs(2);
const CANNOT: &str = "the keys were changed and cannot be used";
const TAKEN: &str = "the keys were changed; the new ones are in force";

struct Watched {
    files: Files,
    process: Process,
    _upstream: Upstream,
}

impl Watched {
    fn start(prepare: impl FnOnce(&Files)) -> Self {
        let upstream = Upstream::start(service("account-1", "member-1"));
        let files = Files::new(upstream.address, "");
        prepare(&files);
        let process = Process::serve(&files);
        Self { files, process, _upstream: upstream }
    }

    fn keys(&self) -> String {
        std::fs::read_to_string(self.files.dir.path().join("keys.toml")).unwrap()
    }

    fn write(&self, keys: &str) {
        std::fs::write(self.files.dir.path().join("keys.toml"), keys).unwrap();
    }

    fn status(&self, role: &str) -> u16 {
        delete(self.process.address(), &signed(role)).status
    }

    fn log_has(&self, text: &str) -> usize {
        self.process.log().matches(text).count()
    }

    fn part_ok(&self) -> bool {
        get(self.process.admin(), "/metrics").body.contains("saltgate_part_ok{part=\"directory\"} 1")
    }
}

#[test]
fn no_request_drops_the_keys_that_were_replaced() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut gate = Gate::before(&upstream);
    // As a request holds them that came before the change.
    let held = gate.gateway().current().load_full();
    let keys = std::fs::read_to_string(gate.files.dir.path().join("keys.toml")).unwrap();
    std::fs::write(gate.files.dir.path().join("keys.toml"), without(&keys, "MEMBER")).unwrap();
    until("the change is in force", || gate.delete(&signed("MEMBER")).status == 401);
    let replaced = Arc::downgrade(&held.directory);
    drop(held);
    assert_eq!(replaced.strong_count(), 1, "another thread drops them, within a second");
    until("they are dropped", || replaced.strong_count() == 0);
}

fn without(keys: &str, role: &str) -> String {
    let parts = keys.split_inclusive("[[key]]\n").collect::<String>();
    let mut kept = String::new();
    for part in parts.split("[[key]]\n").filter(|part| !part.is_empty()) {
        if !part.contains(&format!("\"{}\"", api_key(role))) {
            kept += &format!("[[key]]\n{part}");
        }
    }
    kept
}

#[test]
fn a_revocation_by_a_changed_file_is_in_force_within_two_seconds() {
    let watched = Watched::start(|_| {});
    let (all, clock) = (watched.keys(), Clock::system());
    let mut took = Vec::new();
    // The median, because on a busy machine anything may wait.
    for _ in 0..3 {
        assert_eq!(watched.status("OWNER"), 200);
        let began = clock.elapsed();
        watched.write(&without(&all, "OWNER"));
        until("it is revoked", || watched.status("OWNER") == 401);
        took.push(clock.elapsed() - began);
        assert_eq!(watched.status("MEMBER"), 200, "the others are not");
        watched.write(&all);
        until("it is back", || watched.status("OWNER") == 200);
    }
    took.sort();
    assert!(took[1] < IN_FORCE, "{took:?}");
    assert_eq!(watched.log_has("\"reloaded\""), 0);
}

/// A volume as Kubernetes mounts a Secret: `..data` is a link to the folder of one version, and is replaced.
fn volume(folder: &Path, version: &str, files: &[(&str, &str)]) {
    let of_version = folder.join(format!("..{version}"));
    std::fs::create_dir_all(&of_version).unwrap();
    for (name, content) in files {
        std::fs::write(of_version.join(name), content).unwrap();
        let link = folder.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

fn key(secret_file: &str) -> String {
    format!(
        "[[key]]\napi_key = \"NCSOWNER\"\nsecret = {{ file = \"{secret_file}\" }}\naccount = \"account-1\"\nmember = \
         \"member-1\"\nrole = \"OWNER\"\n"
    )
}

#[test]
fn a_secret_volume_is_taken_when_it_is_swapped_and_when_its_file_appears() {
    const OTHER: &str = "another secret, of nobody";
    let owner = secret("OWNER");
    let watched = Watched::start(|files| {
        let folder = files.dir.path().join("volume");
        volume(&folder, "1", &[("keys.toml", &key("owner")), ("owner", &owner)]);
        let config = std::fs::read_to_string(files.path()).unwrap();
        std::fs::write(files.path(), config.replace("\"keys.toml\"", "\"volume/keys.toml\"")).unwrap();
    });
    let folder = watched.files.dir.path().join("volume");
    assert_eq!(watched.status("OWNER"), 200);
    // Only the secret changes.
    volume(&folder, "2", &[("keys.toml", &key("owner")), ("owner", OTHER)]);
    until("the other secret is in force", || watched.status("OWNER") == 401);
    volume(&folder, "3", &[("keys.toml", &key("owner")), ("owner", &format!("{owner}\n"))]);
    until("the first one is again", || watched.status("OWNER") == 200);

    // A key names a file that is not there yet.
    let refused = watched.log_has(CANNOT);
    volume(&folder, "4", &[("keys.toml", &key("late"))]);
    until("it cannot be used", || watched.log_has(CANNOT) > refused);
    assert!(watched.process.log().contains("volume/late"), "the log names the file: {}", watched.process.log());
    assert_eq!(watched.status("OWNER"), 200, "the keys of before are in force");
    let taken = watched.log_has(TAKEN);
    volume(&folder, "5", &[("keys.toml", &key("late")), ("late", &owner)]);
    until("it is taken", || watched.log_has(TAKEN) > taken);
    assert_eq!(watched.status("OWNER"), 200);

    // An empty file is no secret.
    volume(&folder, "6", &[("keys.toml", &key("late")), ("late", "")]);
    until("it cannot be used", || watched.log_has(CANNOT) == refused + 2);
    assert_eq!(watched.status("OWNER"), 200);
}

#[test]
fn faulty_keys_are_reported_once_and_those_of_before_stay_in_force() {
    let watched = Watched::start(|_| {});
    let (all, admin) = (watched.keys(), watched.process.admin());
    assert!(watched.part_ok());
    watched.write(&all.replacen("account = ", "acount = ", 1));
    until("it is reported", || watched.log_has(CANNOT) == 1);
    assert_eq!(watched.log_has("did you mean `account`?"), 1, "with its faults: {}", watched.process.log());
    assert!(!watched.part_ok());
    let ready = get(admin, "/ready");
    assert!(ready.status == 200 && ready.body.contains("the keys were changed"), "{}", ready.body);
    let status = get(admin, "/status.json").body;
    assert!(status.contains("the keys were changed and cannot be used") && !status.contains("NCSOWNER"), "{status}");
    assert_eq!(watched.status("OWNER"), 200);

    // Another fault is reported as well, and in between nothing was repeated.
    for lost in ["", "# all gone\n"] {
        let before = watched.log_has(CANNOT);
        watched.write(lost);
        until("it is reported", || watched.log_has(CANNOT) > before);
        assert_eq!(watched.log_has(CANNOT), before + 1);
        assert_eq!(watched.status("OWNER"), 200, "an empty file revokes nobody");
    }
    assert!(watched.process.log().contains("allow_empty = true"), "it says what to do");
    std::fs::remove_file(watched.files.dir.path().join("keys.toml")).unwrap();
    until("that it is gone is reported", || watched.log_has(CANNOT) == 4);
    assert_eq!(watched.status("OWNER"), 200);

    watched.write(&without(&all, "OWNER"));
    until("what can be used is taken", || watched.status("OWNER") == 401);
    assert!(watched.part_ok());
    assert!(!get(admin, "/ready").body.contains("the keys were changed"));
}

#[test]
fn an_empty_file_is_taken_with_allow_empty() {
    let watched = Watched::start(|files| {
        let config = std::fs::read_to_string(files.path()).unwrap();
        let config = config.replace("[directory.file]\n", "[directory.file]\nallow_empty = true\n");
        std::fs::write(files.path(), config).unwrap();
    });
    watched.write("");
    until("nobody is known", || watched.status("OWNER") == 401);
    until("it is warned of", || watched.log_has("every request would be refused\"") == 1);
    assert!(!watched.part_ok());
}

#[test]
fn a_file_that_is_being_written_is_not_taken() {
    let watched = Watched::start(|_| {});
    let all = watched.keys().replace("\"NCSOWNER\"", "\"NCSOTHER\"");
    let mut file = std::fs::File::create(watched.files.dir.path().join("keys.toml")).unwrap();
    // It takes longer than two checks; every beginning of the file is faulty or revokes somebody.
    let pieces: Vec<&[u8]> = all.as_bytes().chunks(all.len() / 50).collect();
    for piece in pieces {
        file.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(watched.log_has(TAKEN) + watched.log_has(CANNOT), 0, "{}", watched.process.log());
    }
    until("the whole file is taken", || watched.log_has(TAKEN) == 1);
    assert_eq!((watched.status("OWNER"), watched.status("MEMBER"), watched.log_has(CANNOT)), (401, 200, 0));
}

#[test]
fn after_a_reload_the_files_of_the_new_configuration_are_watched() {
    let watched = Watched::start(|_| {});
    let folder = watched.files.dir.path();
    let (all, other) = (watched.keys(), folder.join("other.toml"));
    std::fs::write(&other, &all).unwrap();
    let config = std::fs::read_to_string(watched.files.path()).unwrap();
    std::fs::write(watched.files.path(), config.replace("\"keys.toml\"", "\"other.toml\"")).unwrap();
    watched.process.signal("-HUP");
    until("it is reloaded", || watched.log_has("\"reloaded\"") == 1);
    watched.write("nonsense");
    std::fs::write(&other, without(&all, "OWNER")).unwrap();
    until("the other file is watched", || watched.status("OWNER") == 401);
    assert_eq!(watched.log_has(CANNOT), 0, "the first one is not");
}
