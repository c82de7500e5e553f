//! Which clause of the contract a header meets or misses, line by line: by a configuration at
//! rest, or by a gateway that runs. Spends nothing.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EX_USAGE, Socket, fail, load, report};
use crate::clock::Clock;
use crate::control::Question;
use crate::credential::{PhpDates, Secret};
use crate::explain::{Bench, Language};
use crate::serve;

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the running gateway, by its own keys, clock and spent salts
    #[arg(long)]
    live: bool,
    /// Its control socket [default: that of the configuration, or /run/saltgate/control.sock]
    #[arg(long, value_name = "PATH", requires = "live")]
    socket: Option<PathBuf>,
    /// en or ko
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = ["en", "ko"])]
    lang: String,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // Somewhat more than any header; the rest of an endless input is not waited for.
    let mut input = String::new();
    if let Err(error) = std::io::stdin().take(32 << 10).read_to_string(&mut input) {
        return fail(format!("standard input cannot be read: {error}"));
    }
    let line = input.trim_end_matches(['\n', '\r']);
    let header = match line.split_once(':') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("authorization") => value.trim(),
        _ => line,
    };
    let language = Language::parse(&arguments.lang).unwrap_or(Language::English);
    match (&arguments.config, arguments.live) {
        (_, true) => live(arguments, header),
        (Some(config), false) => at_rest(config, header, language),
        (None, false) => {
            eprintln!("saltgate explain: give --config FILE, or --live to ask the running gateway");
            ExitCode::from(EX_USAGE)
        }
    }
}

fn live(arguments: &Arguments, header: &str) -> ExitCode {
    let socket = Socket { config: arguments.config.clone(), socket: arguments.socket.clone() };
    let question = Question::Explain { header: header.to_owned() };
    let asked = socket.ask(&question, Duration::ZERO, |answer| {
        print!("{}", answer[arguments.lang.as_str()].as_str().unwrap_or_default());
    });
    asked.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

fn at_rest(path: &std::path::Path, header: &str, language: Language) -> ExitCode {
    let mut config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // The near misses need the secrets; the directory takes them for good.
    let secrets: Vec<(String, Vec<Secret>)> =
        config.keys.iter().map(|k| (k.api_key.clone(), copies(k.secrets()))).collect();
    let directory = match serve::directory(&mut config) {
        Ok(directory) => directory,
        Err(faults) => return report(&faults),
    };
    let bench = Bench {
        directory: &directory,
        keys: &config.keys_file.display().to_string(),
        php_dates: if config.php_dates { PhpDates::Accept } else { PhpDates::Refuse },
        window: config.window,
        now: Clock::system().now(),
        secrets: &secrets,
    };
    print!("{}", bench.explain(header, None, language).text);
    ExitCode::SUCCESS
}

fn copies<'s>(secrets: impl Iterator<Item = &'s Secret>) -> Vec<Secret> {
    secrets.filter_map(|secret| Secret::new(secret.expose()).ok()).collect()
}
