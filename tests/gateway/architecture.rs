//! The table of rooms and the rooms that each may use; `use` lines must follow it.

mod files;
mod words;

use std::path::{Path, PathBuf};

/// Room → the rooms that it may use. The homes of third-party crates are below.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("net", &[]),
    ("state", &[]),
    ("event_loop", &["clock"]),
    ("socket", &[]),
    ("bytewise", &[]),
    ("plain", &["bytewise"]),
    ("console", &["plain"]),
    ("systemd", &["clock", "plain"]),
    ("credential", &["bytewise"]),
    ("policy", &["bytewise"]),
    ("repeats", &["clock", "credential"]),
    ("refusal", &["http", "repeats"]),
    ("certificate", &[]),
    ("file_watch", &[]),
    ("key_file", &["seal"]),
    ("replay", &["certificate", "clock", "credential", "event_loop", "net", "state"]),
    ("listen", &["certificate", "event_loop", "file_watch", "net", "policy", "socket", "state"]),
    ("throttle", &["credential", "net", "policy"]),
    ("seal", &["credential"]),
    ("directory", &["credential", "policy", "seal", "throttle"]),
    ("key_snapshot", &["clock", "credential", "directory", "policy", "seal", "state"]),
    ("key_use", &["clock", "directory", "state"]),
    (
        "postgres",
        &[
            "certificate",
            "clock",
            "credential",
            "directory",
            "event_loop",
            "key_file",
            "key_use",
            "net",
            "policy",
            "seal",
        ],
    ),
    ("http", &["bytewise", "clock", "event_loop", "policy"]),
    ("authentication", &["credential", "directory", "refusal", "replay"]),
    ("telemetry", &["clock", "net", "plain", "refusal", "repeats"]),
    ("status", &["clock", "explain", "plain", "refusal", "telemetry"]),
    ("audit", &["clock", "plain", "state"]),
    ("upstream", &["audit", "bytewise", "certificate", "clock", "event_loop", "file_watch", "http", "net", "socket"]),
    ("lookup", &["policy", "upstream"]),
    ("ownership", &["clock", "lookup", "policy", "postgres", "upstream"]),
    ("safeguard", &["audit", "clock", "lookup", "policy", "replay", "state", "upstream"]),
    ("ship", &["audit", "clock", "postgres", "state", "telemetry"]),
    ("trace", &["clock", "refusal", "telemetry", "upstream"]),
    ("control", &["safeguard"]),
    ("explain", &["authentication", "clock", "credential", "directory", "plain", "refusal", "repeats", "replay"]),
    (
        "config",
        &[
            "audit",
            "certificate",
            "clock",
            "credential",
            "directory",
            "file_watch",
            "listen",
            "net",
            "ownership",
            "plain",
            "policy",
            "postgres",
            "repeats",
            "replay",
            "safeguard",
            "seal",
            "ship",
            "socket",
            "telemetry",
            "trace",
            "upstream",
        ],
    ),
    (
        "gate",
        &[
            "audit",
            "authentication",
            "clock",
            "credential",
            "directory",
            "event_loop",
            "http",
            "net",
            "ownership",
            "plain",
            "policy",
            "refusal",
            "repeats",
            "replay",
            "safeguard",
            "telemetry",
            "throttle",
            "trace",
            "upstream",
        ],
    ),
    (
        "pipeline",
        &[
            "event_loop",
            "gate",
            "http",
            "policy",
            "refusal",
            "repeats",
            "safeguard",
            "telemetry",
            "throttle",
            "upstream",
        ],
    ),
    (
        "process",
        &["audit", "clock", "gate", "key_use", "pipeline", "repeats", "replay", "safeguard", "telemetry", "throttle"],
    ),
    ("stack", &["gate", "pipeline", "process", "upstream"]),
    (
        "serve",
        &[
            "audit",
            "certificate",
            "clock",
            "config",
            "control",
            "credential",
            "directory",
            "event_loop",
            "explain",
            "file_watch",
            "gate",
            "http",
            "key_snapshot",
            "key_use",
            "listen",
            "net",
            "ownership",
            "pipeline",
            "plain",
            "policy",
            "postgres",
            "process",
            "refusal",
            "repeats",
            "replay",
            "safeguard",
            "seal",
            "ship",
            "socket",
            "stack",
            "status",
            "telemetry",
            "throttle",
            "trace",
            "upstream",
        ],
    ),
    // The fuzz targets: each check is in the room of the code that it checks.
    (
        "fuzz",
        &[
            "audit",
            "config",
            "control",
            "credential",
            "http",
            "key_snapshot",
            "listen",
            "lookup",
            "repeats",
            "replay",
            "safeguard",
            "seal",
            "state",
            "trace",
        ],
    ),
    ("demo", &["clock", "config", "console", "credential", "key_file", "serve", "state"]),
    (
        "cli",
        &[
            "audit",
            "authentication",
            "clock",
            "config",
            "console",
            "control",
            "credential",
            "demo",
            "directory",
            "explain",
            "file_watch",
            "key_file",
            "key_use",
            "listen",
            "lookup",
            "ownership",
            "plain",
            "policy",
            "postgres",
            "process",
            "refusal",
            "replay",
            "safeguard",
            "seal",
            "serve",
            "ship",
            "state",
            "status",
            "systemd",
            "telemetry",
            "upstream",
        ],
    ),
];

/// Crates that only one room may use.
const HOMES: &[(&str, &str)] = &[
    ("hmac", "credential"),
    ("sha2", "credential audit safeguard"),
    ("flate2", "audit"),
    ("serde", "lookup"),
    ("siphasher", "credential repeats"),
    ("prometheus", "telemetry"),
    ("toml", "config"),
    ("toml_edit", "key_file"),
    ("httpdate", "http"),
    ("humantime", "clock config"),
    ("ring", "postgres seal"),
    ("rusqlite", "demo"),
    ("redis", "replay"),
    ("clap", "cli"),
    ("h2", "serve"),
    ("memchr", "credential http"),
    ("moka", "throttle"),
    ("socket2", "listen socket"),
    ("io_uring", "socket"),
    ("slab", "socket"),
    ("listenfd", "listen"),
    ("tokio_rustls", "listen postgres upstream"),
    ("rustls_native_certs", "postgres upstream"),
    ("tokio_postgres", "postgres"),
    ("futures_util", "postgres"),
    ("subtle", "credential directory"),
];

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

/// The code of a file, without its comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

fn words_after<'t>(text: &'t str, mark: &str) -> impl Iterator<Item = &'t str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(mark)
        .map(move |(at, mark)| {
            let rest = &text[at + mark.len()..];
            &rest[..rest.find(ends).unwrap_or(rest.len())]
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// Calls that create a file or folder with a mode that depends on the umask.
const MAKES: &[&str] = &["OpenOptions::new", "File::create", "fs::write(", "fs::copy(", "create_dir", "DirBuilder"];

/// Files that may use them, and why.
const MAKES_BY_ITSELF: &[&str] = &[
    // The one place.
    "state/mod.rs",
    "state/private.rs",
];

#[test]
fn files_and_folders_of_state_are_created_in_one_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let place = file.strip_prefix(&src).unwrap().display().to_string();
        let tests = ["tests.rs", "theorem.rs", "adversary.rs"].iter().any(|name| place.ends_with(name));
        if tests || MAKES_BY_ITSELF.contains(&&*place) {
            continue;
        }
        let code = code(&file);
        wrong.extend(MAKES.iter().filter(|makes| code.contains(**makes)).map(|makes| format!("{place}: {makes}")));
    }
    assert!(wrong.is_empty(), "use `state::file`, `state::folder` or `state::replace`: {}", wrong.join(", "));
}

#[test]
fn arrows_point_down_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in &files {
        let place = file.strip_prefix(&src).unwrap();
        let room = place.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let is_test = ["theorem.rs", "adversary.rs", "properties.rs", "tests.rs"]
            .iter()
            .any(|name| place.ends_with(name))
            || place.components().any(|part| ["simulated", "simulation"].iter().any(|name| part.as_os_str() == *name));
        if ["lib", "main", "parts"].contains(&room) || is_test {
            continue;
        }
        let (_, may_use) =
            MAY_USE.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room} is in no table"));
        let code = code(file);
        for used in words_after(&code, "crate::") {
            seen += 1;
            if used != room && !used.is_empty() && !may_use.contains(&used) {
                wrong.push(format!("{}: {room} → {used}", place.display()));
            }
        }
        // There `http::` would be the room; everywhere else it is the crate of that name.
        if code.contains("crate::http;") || code.contains("super::http;") {
            wrong.push(format!("{}: name what you use of `crate::http`", place.display()));
        }
        for (krate, homes) in HOMES {
            let used = code.contains(&format!("use {krate}::")) || code.contains(&format!(" {krate}::"));
            if used && !homes.split(' ').any(|home| home == room) {
                wrong.push(format!("{}: {krate} lives in {homes}", place.display()));
            }
        }
        if ["credential", "policy", "clock"].contains(&room) {
            for outside in ["tokio::", "hyper::", "tower::"] {
                assert!(!code.contains(outside), "{}: {outside}", place.display());
            }
        }
    }
    assert!(seen > 50, "the use lines are being read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Commands that serve nothing.
const SERVE_NOTHING: &[&str] = &[
    "check.rs",
    "completions.rs",
    "drain.rs",
    "init.rs",
    "keys",
    "live.rs",
    "man.rs",
    "schema.rs",
    "explain.rs",
    "sign.rs",
    "replay.rs",
    "freeze.rs",
    "probe.rs",
    "refusals.rs",
    "reload.rs",
    "socket.rs",
    "status",
    "audit",
];

#[test]
fn commands_that_serve_nothing_do_not_use_the_running_gateway() {
    let commands = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
    let mut files = Vec::new();
    for command in SERVE_NOTHING {
        let path = commands.join(command);
        if path.is_dir() { sources(&path, &mut files) } else { files.push(path) }
    }
    for file in files {
        assert!(!code(&file).contains("crate::serve"), "{}", file.display());
    }
}

/// Types that the configuration defines itself: the document as a whole, and settings of the process.
const OF_THE_CONFIGURATION: &[&str] = &["Config", "Workers", "Capacity", "Fault", "Setting"];

#[test]
fn the_configuration_is_read_into_the_settings_of_the_rooms_that_use_them() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config"), &mut files);
    for file in files {
        let code = code(&file);
        for kind in ["\npub struct ", "\npub enum ", "\npub(crate) struct ", "\npub(crate) enum "] {
            for name in words_after(&code, kind) {
                assert!(OF_THE_CONFIGURATION.contains(&name), "{name}: its home is the room that uses it");
            }
        }
    }
}
