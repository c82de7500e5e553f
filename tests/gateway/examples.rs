//! The README and the examples work as they are: their commands print what they say.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports that other tests or programs may use: each example gets free ports in their place.
const PORTS: &[&str] = &["8080", "8081", "8082", "8443", "9000", "9001", "9901", "9902", "9911", "9912", "6380"];

/// The next port to try. These are below the range that the kernel uses for connections and for the other tests,
/// which could otherwise take a port before its server does.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// A free port for each of them.
fn free_ports() -> Vec<(&'static str, String)> {
    let free = |_: &&str| {
        std::iter::repeat_with(|| NEXT_PORT.fetch_add(1, Ordering::Relaxed))
            .take_while(|port| *port < 32_000)
            .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
            .unwrap()
            .to_string()
    };
    PORTS.iter().map(|port| (*port, free(port))).collect()
}

/// The text with its ports replaced. Longer numbers that contain one are left alone.
fn with_ports(text: &str, ports: &[(&str, String)]) -> String {
    let (mut replaced, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let (number, after) = from.split_at(from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len()));
        replaced += before;
        replaced += ports.iter().find(|(port, _)| *port == number).map_or(number, |(_, free)| free);
        rest = after;
    }
    replaced + rest
}

fn copy(from: &Path, to: &Path, ports: &[(&str, String)]) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        // Files that somebody left behind after trying the example are not part of it.
        if path.is_file()
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            std::fs::write(to.join(name), with_ports(&text, ports)).unwrap();
        }
    }
}

/// The code blocks in this language, joined.
fn blocks(page: &str, language: &str) -> String {
    let blocks = page.split("\n```").filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n'));
    blocks.map(|block| format!("{block}\n")).collect()
}

/// Runs these commands in this folder; what is printed has these lines, in this order.
fn prints(folder: &Path, typed: &str, printed: &str) {
    let ends = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\nset -e\n";
    let programs = Path::new(env!("CARGO_BIN_EXE_saltgate")).parent().unwrap().display();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("timeout");
    shell.args(["120", "bash", "-c", &format!("{ends}{typed}")]).current_dir(folder);
    let output = shell.env("PATH", path).env("NO_PROXY", "*").output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{typed}\n{stdout}\n{stderr}", output.status);
    let mut lines = stdout.lines();
    for line in printed.lines() {
        assert!(lines.any(|one| one == line), "{line}\n{typed}\n{stdout}\n{stderr}");
    }
}

/// Runs the commands of an example's README in the root of the repository.
fn works_as_typed(example: &str) {
    let (root, elsewhere) = (Path::new(env!("CARGO_MANIFEST_DIR")), tempfile::tempdir().unwrap());
    let ports = free_ports();
    let examples = elsewhere.path().join("examples");
    copy(&root.join("examples"), &examples, &ports);
    copy(&root.join("examples").join(example), &examples.join(example), &ports);
    let page = std::fs::read_to_string(examples.join(example).join("README.md")).unwrap();
    let (typed, printed) = (blocks(&page, "sh"), blocks(&page, "text"));
    assert!(typed.contains(&format!("cd examples/{example}\n")) && !printed.is_empty());
    prints(elsewhere.path(), &typed, &printed);
}

#[test]
fn the_readme_works_as_typed() {
    let (root, elsewhere) = (Path::new(env!("CARGO_MANIFEST_DIR")), tempfile::tempdir().unwrap());
    let ports = free_ports();
    copy(&root.join("examples"), &elsewhere.path().join("examples"), &ports);
    let page = with_ports(&std::fs::read_to_string(root.join("README.md")).unwrap(), &ports);
    let (typed, printed) = (blocks(&page, "sh"), blocks(&page, "text"));
    // The program is built already, and `init` writes the ports that it always writes.
    let (build, init) =
        ("cargo build --locked && export PATH=\"$PWD/target/debug:$PATH\"\n", "saltgate init sidecar gate\n");
    assert!(typed.starts_with(&format!("{build}{init}")) && printed.contains("Unauthorized"), "{typed}");
    let moved: String = ports.iter().map(|(port, free)| format!(" -e s/:{port}/:{free}/")).collect();
    let typed = typed.replace(build, "").replace(init, &format!("{init}sed -i{moved} gate/saltgate.toml\n"));
    prints(elsewhere.path(), &typed, &printed);
}

#[test]
fn the_sidecar_example_works_as_typed() {
    works_as_typed("sidecar");
}

#[test]
fn the_edge_example_works_as_typed() {
    works_as_typed("edge");
}

#[test]
fn in_the_fleet_example_a_header_spent_on_one_gateway_is_refused_on_the_other() {
    works_as_typed("fleet");
}
