//! From nothing to a gateway that serves: `saltgate init`, and `saltgate serve --upstream` without a configuration.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{SEGMENT, Upstream, service, signed, until};
use crate::http::delete;
use crate::operations::{Process, text, told};

const PROGRAM: &str = env!("CARGO_BIN_EXE_saltgate");

fn keys(folder: &Path) -> String {
    let role = "OWNER";
    let (key, secret) = (crate::harness::api_key(role), crate::harness::secret(role));
    let path = folder.join("my keys.toml");
    let text = format!(
        "[[key]]\napi_key = \"{key}\"\nsecret = \"{secret}\"\naccount = \"account-1\"\nmember = \"member-1\"\nrole = \"{role}\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn looks(upstream: &str, keys: &str, data: &str, log: std::path::PathBuf) -> Process {
    let arguments = ["serve", "--upstream", upstream, "--keys", keys, "--listen", "127.0.0.1:0", "--data", data];
    Process::serve_by(&arguments, log)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_first_look_makes_every_check_keeps_a_record_and_says_what_it_is_not() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("look");
    let (keys, url) = (keys(folder.path()), format!("http://{}", upstream.address));
    let header = signed("OWNER");
    {
        let process = looks(&url, &keys, data.to_str().unwrap(), folder.path().join("log"));
        let said = process.log();
        for told in
            ["FIRST LOOK, not for production", "no TLS", "/ready and /metrics are not served", "that folder is new"]
        {
            assert!(said.contains(told), "{told}: {said}");
        }
        assert_eq!(delete(process.address(), &header).status, 200);
        assert_eq!(delete(process.address(), &header).status, 401, "its salt is spent");
        assert_eq!(delete(process.address(), &signed("MEMBER")).status, 401, "an unknown key");
        let config = data.join("saltgate.toml");
        let refusals = text(&told(&["refusals", "--config", config.to_str().unwrap()], "").stdout);
        assert!(refusals.contains("salt_reused"), "{refusals}");
    }
    assert_eq!((mode(&data), mode(&data.join("saltgate.toml"))), (0o700, 0o600));
    let config = data.join("saltgate.toml");
    let config = config.to_str().unwrap();
    let record = text(&told(&["audit", "show", "--config", config], "").stdout);
    assert!(record.contains(SEGMENT) && record.contains("deleted"), "{record}");
    assert!(told(&["audit", "verify", "--config", config], "").status.success());

    // Again: nothing was forgotten, and nothing has to be waited for.
    let process = looks(&url, &keys, data.to_str().unwrap(), folder.path().join("log"));
    assert!(!process.log().contains("that folder is new"), "{}", process.log());
    assert_eq!(delete(process.address(), &header).status, 401, "a restart does not bring a salt back");
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
    assert_eq!(upstream.deletes(), 2);
    drop(process);

    // The journal is gone, and the folder is not new: that is a loss.
    std::fs::remove_dir_all(data.join("replay")).unwrap();
    let process = looks(&url, &keys, data.to_str().unwrap(), folder.path().join("log"));
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 503, "behind the fence");
}

#[test]
fn a_first_look_that_was_stopped_before_its_first_deletion_goes_on_without_a_fence() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("look");
    let (keys, url) = (keys(folder.path()), format!("http://{}", upstream.address));
    drop(looks(&url, &keys, data.to_str().unwrap(), folder.path().join("log")));
    let process = looks(&url, &keys, data.to_str().unwrap(), folder.path().join("log"));
    assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
}

#[test]
fn a_first_look_refuses_what_it_is_not_for_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("look");
    let data = data.to_str().unwrap();
    let keys = keys(folder.path());
    let run = |arguments: &[&str]| {
        let arguments = [&["serve"], arguments, &["--data", data]].concat();
        told(&arguments, "")
    };
    let upstream = "http://127.0.0.1:9";
    let open = run(&["--upstream", upstream, "--keys", &keys, "--listen", "0.0.0.0:0"]);
    assert_eq!(open.status.code(), Some(2));
    assert!(text(&open.stderr).contains("is not a loopback address"), "{}", text(&open.stderr));
    assert!(!Path::new(data).exists(), "nothing was written");
    for arguments in [&["--upstream", upstream][..], &["--keys", &keys], &[], &["--listen", "127.0.0.1:0"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let both = told(&["serve", "--config", "x.toml", "--upstream", upstream, "--keys", &keys], "");
    assert_eq!(both.status.code(), Some(2));
    let no_url = run(&["--upstream", "127.0.0.1:9\"]\n[audit]", "--keys", &keys, "--listen", "127.0.0.1:0"]);
    assert_eq!(no_url.status.code(), Some(78));
    assert!(text(&no_url.stderr).contains("upstream.servers: \"127.0.0.1:9\\\"]"), "{}", text(&no_url.stderr));
    let no_keys = run(&["--upstream", upstream, "--keys", "nowhere.toml", "--listen", "127.0.0.1:0"]);
    assert_eq!(no_keys.status.code(), Some(78));
    assert!(text(&no_keys.stderr).contains("nowhere.toml: is not there"), "{}", text(&no_keys.stderr));
}

fn init(place: &str, directory: &Path) -> Output {
    Command::new(PROGRAM).args(["init", place]).arg(directory).output().unwrap()
}

#[test]
fn what_init_writes_is_sound_serves_and_is_never_overwritten() {
    for place in ["sidecar", "edge"] {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("gate");
        let made = init(place, &directory);
        let said = text(&made.stdout);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let config = directory.join("saltgate.toml");
        let path = config.to_str().unwrap();
        for next in ["check", "serve"] {
            assert!(said.contains(&format!("\n  saltgate {next} --config {path}\n")), "{said}");
        }
        assert_eq!((mode(&directory), mode(&config), mode(&directory.join("keys.toml"))), (0o700, 0o600, 0o600));

        // As it is, only the secret that it names is missing.
        let unset = Command::new(PROGRAM).args(["check", "--config", path]).env_remove("CRM_KEY_1").output().unwrap();
        assert_eq!(unset.status.code(), Some(78));
        let faults = text(&unset.stderr);
        assert!(faults.lines().count() == 1 && faults.contains("CRM_KEY_1"), "{faults}");
        let secret = "an example of a secret";
        let check = Command::new(PROGRAM).args(["check", "--config", path]).env("CRM_KEY_1", secret).output().unwrap();
        assert!(check.status.success(), "{place}: {}", text(&check.stderr));

        // What is there is left alone, whichever of the two it is.
        let before = std::fs::read(&config).unwrap();
        std::fs::remove_file(directory.join("keys.toml")).unwrap();
        let again = init("edge", &directory);
        assert_eq!(again.status.code(), Some(1));
        assert!(text(&again.stderr).contains("saltgate.toml is there already; nothing was written"));
        assert!(!directory.join("keys.toml").exists());
        assert_eq!(std::fs::read(&config).unwrap(), before);

        // Served as written, but for ports, the service and the keys.
        let upstream = Upstream::start(service("account-1", "member-1"));
        let text = String::from_utf8(before).unwrap();
        let text = text.replace("127.0.0.1:9000", &upstream.address.to_string()).replace("0.0.0.0:8080", "127.0.0.1:0");
        let text = text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9901", "127.0.0.1:0");
        std::fs::write(&config, text).unwrap();
        std::fs::rename(keys(folder.path()), directory.join("keys.toml")).unwrap();
        let process = Process::serve_by(&["serve", "--config", path], folder.path().join("log"));
        assert_eq!(delete(process.address(), &signed("OWNER")).status, 200);
        until("the control socket is there", || directory.join("control.sock").exists());
    }
}

#[test]
fn init_says_what_it_cannot_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let made = init("sidecar", &file);
    assert_eq!(made.status.code(), Some(1));
    assert!(text(&made.stderr).contains("file:"), "{}", text(&made.stderr));
    assert_eq!(init("cluster", folder.path()).status.code(), Some(2));
    // A link that leads nowhere is something, too.
    std::os::unix::fs::symlink("elsewhere", folder.path().join("keys.toml")).unwrap();
    assert_eq!(init("sidecar", folder.path()).status.code(), Some(1));
    assert!(!folder.path().join("saltgate.toml").exists());
}
