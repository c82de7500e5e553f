//! `saltgate explain`: judges a header clause by clause, with a configuration file or by asking the running gateway.
//! Does not spend its salt.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EX_USAGE, Socket, fail, key_table, load, report};
use crate::authentication::Rules;
use crate::clock::Clock;
use crate::console::{self, complain};
use crate::control::Question;
use crate::credential::Secret;
use crate::explain::{Explainer, Language};

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the running gateway, which uses its own keys, clock and spent salts
    #[arg(long)]
    live: bool,
    /// The gateway's control socket [default: from the configuration, or /run/saltgate/control.sock]
    #[arg(long, value_name = "PATH", requires = "live")]
    socket: Option<PathBuf>,
    /// The language of the explanation
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = ["en", "ko"])]
    lang: String,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // No header is this long; the limit keeps an endless input from being read forever.
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
        (Some(config), false) => offline(config, header, language),
        (None, false) => {
            complain!("saltgate explain: give --config FILE, or --live to ask the running gateway");
            ExitCode::from(EX_USAGE)
        }
    }
}

fn live(arguments: &Arguments, header: &str) -> ExitCode {
    let socket = Socket { config: arguments.config.clone(), socket: arguments.socket.clone() };
    let question = Question::Explain { header: header.to_owned() };
    let asked = socket.ask(&question, Duration::ZERO, |answer| {
        console::text(answer[arguments.lang.as_str()].as_str().unwrap_or_default());
    });
    asked.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

fn offline(path: &std::path::Path, header: &str, language: Language) -> ExitCode {
    let mut config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // Copied first, because the directory takes the secrets; the explainer needs them to recognize common mistakes.
    let secrets: Vec<(String, Vec<Secret>)> =
        config.keys.iter().map(|k| (k.api_key.clone(), copies(&k.secrets))).collect();
    let directory = match config.take_directory() {
        Ok(directory) => directory,
        Err(faults) => return report(&faults),
    };
    let directory = match &config.key_table {
        None => directory,
        Some(table) => match key_table::read_once(table) {
            Ok(directory) => directory,
            Err(error) => return fail(format!("{}: {error}", config.keys_file.path.display())),
        },
    };
    let explainer = Explainer {
        rules: Rules { directory: &directory, php_dates: config.php_dates, window: config.window },
        keys: &config.keys_file.path.display().to_string(),
        now: Clock::system().now(),
        secrets: &secrets,
    };
    console::text(&explainer.explain(header, None, language).text);
    ExitCode::SUCCESS
}

fn copies(secrets: &[Secret]) -> Vec<Secret> {
    secrets.iter().filter_map(|secret| Secret::new(secret.expose()).ok()).collect()
}
