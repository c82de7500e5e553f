//! Changes the code that decides (.cargo/mutants.toml) in one place at a time, and says which changes no test notices.
//!
//! cargo-mutants names the changes, and would build the tests once for each. Here one build holds them all, each behind a question
//! (`weave`), and only the tests that reach a change are run with it (`trial`). The arguments select changes, as those of
//! `cargo mutants` do: `-F src/policy/`.

mod build;
mod judged;
mod mutant;
mod trial;
mod weave;

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use judged::Judged;
use mutant::Mutant;
use trial::Tests;

/// How long the unit tests of one change may take, and those of the gateway, before no more of them are begun.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(60));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    run(&arguments).unwrap_or_else(|error| {
        eprintln!("mutants: {error}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let out = std::env::var("OUT").unwrap_or_else(|_| "target/mutants".into());
    fs::create_dir_all(format!("{out}/tree")).map_err(|error| format!("{out}: {error}"))?;
    let out = fs::canonicalize(&out).map_err(|error| format!("{out}: {error}"))?;
    let mutants = mutant::list(arguments)?;
    let argued = fs::read_to_string("tests/mutating/argued").unwrap_or_default();
    let argued: BTreeSet<&str> = argued.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let tree = out.join("tree");
    let judged = Judged::open(&out.join("judged"), &mutants)?;
    let built = build::build(&tree, &mutants, &judged)?;

    let jobs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok());
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    let can_be_tried = |number: &u32| !built.left_out.contains(number) && !built.not_compilable.contains(number);
    let numbers: Vec<u32> = (1..).zip(&mutants).map(|(number, _)| number).filter(can_be_tried).collect();
    let unit = Tests::learn(&built.unit, &tree, &out.join("notes"), jobs, PATIENCE.0)?;
    let left = judged.all(&numbers, "unit", jobs, |number| unit.with(number, PATIENCE.0));
    eprintln!("of {} changes, the unit tests do not notice {}", numbers.len(), left.len());
    let gateway = Tests::learn(&built.gateway, &tree, &out.join("notes"), jobs, PATIENCE.1)?;
    let left = judged.all(&left, "gateway", jobs, |number| gateway.with(number, PATIENCE.1));

    let name = |number: &u32| &mutants[*number as usize - 1];
    let (known, unknown): (Vec<&Mutant>, Vec<&Mutant>) =
        left.iter().map(name).partition(|mutant| argued.contains(mutant.without_place().as_str()));
    println!(
        "{} changes: noticed {}, not compilable {}, without an end {}, not noticed {} (argued: {}); for cargo-mutants: {}",
        mutants.len(),
        numbers.len() - left.len() - judged.endless(),
        built.not_compilable.len(),
        judged.endless(),
        left.len(),
        known.len(),
        built.left_out.len()
    );
    built.left_out.iter().map(name).for_each(|mutant| println!("for cargo-mutants: {}", mutant.name));
    unknown.iter().for_each(|mutant| println!("no test notices: {}", mutant.name));
    Ok(if unknown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
