//! Commands whose output cannot be written: a closed pipe, a full disk, a non-blocking pipe.

use std::fs::File;
use std::io::{PipeWriter, Read, Write, pipe};
use std::process::{Output, Stdio};

use crate::harness::{Files, Upstream, secret, service, signed, until};
use crate::http::delete;
use crate::operations::{Process, saltgate, text};

/// A pipe without a reader.
fn closed() -> PipeWriter {
    pipe().unwrap().1
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Stands for an empty folder, another one for each run.
const EMPTY_FOLDER: &str = "{empty folder}";
/// Stands for a file of keys, another one for each run.
const FRESH_KEYS: &str = "{fresh keys}";
/// Stands for a configuration with keys to seal by and another file of keys.
const FRESH_CONFIG: &str = "{fresh configuration}";
const KEYS: &str = "[[key]]\napi_key = \"ONE\"\nsecret = \"the secret of ONE\"\naccount = \"a\"\nmember = \"m\"\n[[key]]\n\
                    api_key = \"TWO\"\nsecrets = [\"the first of TWO\", \"the second of TWO\"]\naccount = \"a\"\nmember = \"m\"\n";

fn run(arguments: &[&str], out: Stdio, err: Stdio) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let others = tempfile::tempdir().unwrap();
    let [keys, config, kek] = ["keys.toml", "saltgate.toml", "kek"].map(|name| others.path().join(name));
    std::fs::write(&keys, KEYS).unwrap();
    std::fs::write(&kek, [7; 32]).unwrap();
    let sealing = "[directory.file]\npath = \"keys.toml\"\n[seal]\nkeys = [{ id = \"k\", file = \"kek\" }]\n";
    std::fs::write(&config, sealing).unwrap();
    let arguments = arguments.iter().map(|&argument| match argument {
        EMPTY_FOLDER => path,
        FRESH_KEYS => keys.to_str().unwrap(),
        FRESH_CONFIG => config.to_str().unwrap(),
        argument => argument,
    });
    let arguments: Vec<&str> = arguments.collect();
    let mut child = saltgate(&arguments).stdout(out).stderr(err).env("SECRET", secret("OWNER")).spawn().unwrap();
    // Some commands read nothing and have ended.
    let _ = child.stdin.take().unwrap().write_all(signed("OWNER").as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn no_command_panics_if_its_output_is_closed() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[control]\nsocket = \"c.sock\"\n");
    let gate = Process::serve(&files);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    assert_eq!(delete(gate.address(), "nonsense").status, 401);
    let config = files.path();
    let config = config.to_str().unwrap();
    // The port of its own configuration is chosen at the start.
    let probed = files.dir.path().join("probed.toml");
    std::fs::write(&probed, format!("[admin]\naddress = \"{}\"\n", gate.admin())).unwrap();
    let no_keys = files.dir.path().join("none.toml");
    std::fs::write(&no_keys, "# none\n").unwrap();
    let no_keys = no_keys.to_str().unwrap();
    let rows: &[&[&str]] = &[
        &["--help"],
        &["--version"],
        &["check", "--help"],
        &["check", "--config", config],
        &["check", "--all", "--config", config],
        &["check", "--live", "--config", config],
        &["sign", "--api-key", "NCSOWNER", "--secret-env", "SECRET"],
        &["explain", "--config", config],
        &["explain", "--live", "--config", config],
        &["refusals", "--config", config],
        &["refusals", "--json", "--config", config],
        &["status", "--config", config],
        &["status", "--json", "--config", config],
        &["top", "--config", config],
        &["freeze", "--list", "--config", config],
        &["freeze", "key", "NCSMEMBER", "--config", config],
        &["unfreeze", "key", "NCSMEMBER", "--config", config],
        &["audit", "verify", "--config", config],
        &["audit", "head", "--config", config],
        &["audit", "show", "--config", config],
        &["audit", "reconcile", "--config", config],
        &["replay", "reset-clock", "--config", config],
        &["probe", "ready", "--config", probed.to_str().unwrap()],
        &["keys", "list", "--file", FRESH_KEYS],
        &["keys", "list", "--json", "--config", FRESH_CONFIG],
        &["keys", "add", "NEW", "--account", "a", "--member", "m", "--file", FRESH_KEYS],
        &["keys", "rotate", "ONE", "--file", FRESH_KEYS],
        &["keys", "promote", "TWO", "--file", FRESH_KEYS],
        &["keys", "revoke", "ONE", "--file", FRESH_KEYS],
        &["keys", "expire", "ONE", "--at", "2037-01-01T00:00:00Z", "--file", FRESH_KEYS],
        &["keys", "seal", "--config", FRESH_CONFIG],
        &["keys", "reseal", "--config", FRESH_CONFIG],
        &["keys", "import", no_keys, "--file", FRESH_KEYS],
        &["keys", "diff", no_keys, "--file", FRESH_KEYS],
        &["reload", "--config", config],
        &["drain", "--config", config],
        &["init", "sidecar", EMPTY_FOLDER],
        &["config", "schema"],
        &["completions", "bash"],
        &["man", EMPTY_FOLDER],
        #[cfg(feature = "demo")]
        &["demo", "--once"],
    ];
    // No command is missing.
    let help = text(&run(&["--help"], Stdio::piped(), Stdio::piped()).stdout);
    let commands = help.split_once("Commands:\n").unwrap().1.lines().take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()) {
        let other = ["serve", "help"].contains(&command);
        assert!(other || rows.iter().any(|row| row[0] == command), "{command} is not tried");
    }

    for arguments in rows {
        let heard = run(arguments, Stdio::piped(), Stdio::piped());
        assert!(heard.status.success() && !heard.stdout.is_empty(), "{arguments:?}: {}", text(&heard.stderr));

        let unheard = run(arguments, closed().into(), Stdio::piped());
        assert_eq!((unheard.status.code(), unheard.stderr), (Some(0), heard.stderr), "{arguments:?}: quietly");

        let lost = run(arguments, full().into(), Stdio::piped());
        let said = text(&lost.stderr);
        assert_eq!(lost.status.code(), Some(1), "{arguments:?}: {said}");
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with("saltgate: standard output cannot be written: No space left"),
            "{arguments:?}: {said}"
        );
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");

        for nowhere in [closed().into(), full().into()] {
            assert_eq!(run(arguments, full().into(), nowhere).status.code(), Some(1), "{arguments:?}: deaf and dumb");
        }
    }
}

#[test]
fn a_fault_has_its_exit_status_even_if_nobody_reads_it() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let gate = Process::serve(&files);
    assert_eq!(delete(gate.address(), &signed("OWNER")).status, 200);
    drop(gate);
    let config = files.path();
    let config = config.to_str().unwrap();
    let [record] = &files.record_files()[..] else { panic!("one process wrote one file") };
    let changed = std::fs::read_to_string(record).unwrap().replacen("member-1", "member-2", 1);
    std::fs::write(record, changed).unwrap();
    let rows: &[(&[&str], i32)] = &[
        (&["audit", "verify", "--config", config], 1),
        (&["refusals", "--socket", "/no/such.sock"], 1),
        (&["check", "--config", "/no/such.toml"], 78),
        (&["serve", "--config", "/no/such.toml"], 78),
        (&["sign", "--api-key", "K", "--secret-env", "NO_SUCH_VARIABLE"], 78),
        (&["freeze", "key", "--config", config], 2),
        (&["freeze", "--no-such-option"], 2),
        (&[], 2),
    ];
    for (arguments, status) in rows {
        let nowhere: [fn() -> Stdio; 3] = [Stdio::piped, || closed().into(), || full().into()];
        for out in nowhere {
            for err in nowhere {
                let told = run(arguments, out(), err());
                assert_eq!(told.status.code(), Some(*status), "{arguments:?}: {}", text(&told.stderr));
            }
        }
    }
}

#[test]
fn a_non_blocking_pipe_receives_all_output() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "");
    let config = files.path();
    let arguments = ["check", "--all", "--config", config.to_str().unwrap()];
    let whole = run(&arguments, Stdio::piped(), Stdio::piped()).stdout;
    assert!(!whole.is_empty());
    let (mut reader, writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut filled = 0;
    while let Ok(written) = (&writer).write(&[b'x'; 4096]) {
        filled += written;
    }
    let mut child = saltgate(&arguments).stdout(writer).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    until("it looks again and again whether there is room", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sleeps.is_some_and(|sleeps| sleeps.trim().parse::<u32>().unwrap() > 50)
    });
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(text(&read[filled..]), text(&whole));
}
