//! Arrows point down only: which room may use which is a table, and the `use` lines keep to it.

use std::path::{Path, PathBuf};

/// Room → the rooms it may use. Third-party homes are below.
const MAY_USE: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("turn", &[]),
    ("bytewise", &[]),
    ("credential", &["bytewise"]),
    ("policy", &[]),
    ("refusal", &[]),
    ("replay", &["clock", "turn"]),
    ("listen", &["gate", "policy"]),
    ("throttle", &["policy"]),
    ("directory", &["credential", "policy", "throttle"]),
    ("wire", &["bytewise"]),
    ("telemetry", &["bytewise", "clock", "refusal"]),
    ("audit", &["clock"]),
    ("upstream", &["audit", "bytewise", "clock", "throttle", "wire"]),
    ("ownership", &["policy", "upstream"]),
    ("safeguard", &["policy", "upstream"]),
    ("control", &["safeguard"]),
    ("explain", &["clock", "credential", "directory", "refusal", "replay"]),
    ("config", &["credential", "policy", "replay"]),
    (
        "gate",
        &[
            "audit",
            "clock",
            "credential",
            "directory",
            "ownership",
            "policy",
            "refusal",
            "replay",
            "safeguard",
            "telemetry",
            "throttle",
            "turn",
            "upstream",
        ],
    ),
    ("stack", &["gate"]),
    (
        "serve",
        &[
            "audit",
            "clock",
            "config",
            "control",
            "credential",
            "directory",
            "explain",
            "gate",
            "listen",
            "ownership",
            "policy",
            "refusal",
            "replay",
            "safeguard",
            "stack",
            "telemetry",
            "throttle",
            "upstream",
            "wire",
        ],
    ),
    ("demo", &["clock", "config", "credential", "serve"]),
    (
        "cli",
        &[
            "audit",
            "clock",
            "config",
            "control",
            "credential",
            "demo",
            "directory",
            "explain",
            "ownership",
            "policy",
            "refusal",
            "replay",
            "safeguard",
            "serve",
            "telemetry",
            "upstream",
        ],
    ),
];

/// Crates that have one home.
const HOMES: &[(&str, &str)] = &[
    ("hmac", "credential"),
    ("sha2", "credential audit safeguard"),
    ("flate2", "audit"),
    ("siphasher", "credential"),
    ("prometheus", "telemetry"),
    ("toml", "config"),
    ("humantime", "clock config"),
    ("rusqlite", "demo"),
    ("redis", "replay"),
    ("clap", "cli"),
    ("memchr", "credential wire"),
    ("moka", "throttle"),
    ("socket2", "listen"),
    ("tokio_rustls", "listen upstream"),
    ("rustls_native_certs", "upstream"),
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

/// The code of a file, without its comments and the tests at its foot.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
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
        if ["lib", "main"].contains(&room) || place.ends_with("theorem.rs") {
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
