//! The changes to try, as `cargo mutants --list --json` names them.

use std::process::Command;

use serde::Deserialize;

/// One change. Its number is its place in the list, counted from 1.
#[derive(Clone, Debug, Deserialize)]
pub struct Mutant {
    pub file: String,
    pub name: String,
    pub genre: String,
    pub span: Span,
    pub replacement: String,
    /// The function that it is in.
    pub function: Option<Function>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Function {
    pub return_type: String,
}

/// Where it starts.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Span {
    pub start: Place,
}

/// Both are counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// The place in bytes, from 0.
    pub fn in_bytes(self, text: &str) -> usize {
        let line: usize = text.split_inclusive('\n').take(self.line - 1).map(str::len).sum();
        line + text[line..].chars().take(self.column - 1).map(char::len_utf8).sum::<usize>()
    }
}

impl Mutant {
    /// Whether it returns another value from a function of `impl Trait`, which can have one type only.
    pub fn is_of_one_type(&self) -> bool {
        let declared = self.function.as_ref().map_or("", |function| function.return_type.as_str());
        self.genre == "FnValue" && declared.contains("impl ")
    }

    /// Its name without the line and column, which change with every line that is added above.
    pub fn without_place(&self) -> String {
        let what = self.name.splitn(4, ':').nth(3).unwrap_or_default();
        format!("{}:{what}", self.file)
    }
}

/// All changes in this tree that these further arguments of `cargo mutants` select.
pub fn list(arguments: &[String]) -> Result<Vec<Mutant>, String> {
    let mut command = Command::new("cargo");
    command.args(["mutants", "--list", "--json", "--no-shuffle"]).args(arguments);
    let output = command.output().map_err(|error| format!("cargo mutants: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo mutants --list failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo mutants --list --json: {error}"))
}
