//! What goes with the command line: completions in real shells, and manual pages.

use std::process::{Command, Output};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_saltgate");

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).env_remove("BASH_ENV").output();
    output.unwrap_or_else(|error| panic!("{program}: {error}; tests/requirements.sh installs it"))
}

fn out(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

/// The script for a shell, in a file.
fn script(shell: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("_saltgate");
    std::fs::write(&file, out(&run(PROGRAM, &["completions", shell]))).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (folder, path)
}

/// The names of all commands and inner commands, as `--help` prints them.
fn commands(of: &[&str]) -> Vec<String> {
    let help = out(&run(PROGRAM, &[of, &["--help"]].concat()));
    let Some((_, listed)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let names = listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_values_and_files() {
    let (_folder, script) = script("bash");
    out(&run("bash", &["-n", &script]));
    let complete = |words: &str| {
        let program = format!(
            "source {script}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             $(complete -p saltgate | sed 's/.*-F \\([^ ]*\\) .*/\\1/') saltgate \
             \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        out(&run("bash", &["--norc", "-c", &program])).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("saltgate au"), ["audit"]);
    assert_eq!(complete("saltgate audit ver"), ["verify"]);
    assert_eq!(complete("saltgate check --co"), ["--config"]);
    assert_eq!(complete("saltgate completions f"), ["fish"]);
    assert_eq!(complete("saltgate serve --config /etc/passw").iter().filter(|name| *name == "/etc/passwd").count(), 1);
    let all = complete("saltgate ''");
    for name in commands(&[]) {
        assert!(all.contains(&name), "{name} is not completed: {all:?}");
    }
}

#[test]
fn fish_completes_commands_and_options() {
    let (_folder, script) = script("fish");
    out(&run("fish", &["--no-config", "--no-execute", &script]));
    let complete = |line: &str| {
        let program = format!("source {script}; complete -C '{line}'");
        let lines = out(&run("fish", &["--no-config", "-c", &program]));
        lines.lines().filter_map(|line| line.split('\t').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(complete("saltgate au"), ["audit"]);
    assert_eq!(complete("saltgate audit ver"), ["verify"]);
    assert_eq!(complete("saltgate check --con"), ["--config"]);
    assert!(complete("saltgate serve --config /etc/passw").contains(&"/etc/passwd".to_owned()));
}

#[test]
fn zsh_takes_its_script() {
    let (folder, script) = script("zsh");
    out(&run("zsh", &["--no-rcs", "-n", &script]));
    // It is found by its name in `fpath`, and registers itself for the command.
    let folder = folder.path().display();
    let program = format!(
        "fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -d {folder}/dump; print $_comps[saltgate]"
    );
    assert_eq!(out(&run("zsh", &["--no-rcs", "-c", &program])).trim(), "_saltgate");
}

#[test]
fn every_command_has_a_manual_page_that_mandoc_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    out(&run(PROGRAM, &["man", path]));
    let mut names = vec!["saltgate".to_owned()];
    for command in commands(&[]) {
        names.extend(commands(&[&command]).iter().map(|inner| format!("saltgate-{command}-{inner}")));
        names.push(format!("saltgate-{command}"));
    }
    names.sort();
    let mut pages: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().trim_end_matches(".1").to_owned())
        .collect();
    pages.sort();
    assert_eq!(pages, names);
    for name in &names {
        let page = format!("{path}/{name}.1");
        let lint = run("mandoc", &["-Tlint", "-Werror", &page]);
        assert!(lint.status.success(), "{name}: {}", String::from_utf8_lossy(&lint.stdout));
        let text = out(&run("mandoc", &["-Tascii", "-Owidth=200", &page])).replace("_\u{8}", "");
        assert!(text.contains("EXIT STATUS") || text.contains("E\u{8}EX\u{8}XI\u{8}I"), "{name}: {text}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(format!("{path}/saltgate.1")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o644, "everybody may read it");
    // Again, over what is there: the same bytes.
    let first = std::fs::read(format!("{path}/saltgate-serve.1")).unwrap();
    out(&run(PROGRAM, &["man", path]));
    assert_eq!(std::fs::read(format!("{path}/saltgate-serve.1")).unwrap(), first);
}

#[test]
fn a_folder_that_is_not_there_gets_no_pages() {
    let output = run(PROGRAM, &["man", "/nowhere/at/all"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("/nowhere/at/all: No such file or directory"), "{said}");
    let output = run(PROGRAM, &["completions", "tcsh"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bash, zsh, fish"));
}
