//! `saltgate drain`: has the running gateway send its clients elsewhere, and waits until nothing is under way.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Socket, fail};
use crate::clock;
use crate::console::say;
use crate::control::{MAX_WAIT, Question};

#[derive(Args)]
pub(super) struct Arguments {
    /// How long to wait until nothing is under way, at most 10m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
    wait: Duration,
    #[command(flatten)]
    socket: Socket,
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = clock::parse_duration(text).map_err(|error| error.to_string())?;
    if wait > MAX_WAIT {
        return Err(format!("is longer than {MAX_WAIT:?}"));
    }
    Ok(wait)
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let wait = arguments.wait;
    let mut left = None;
    let asked = arguments.socket.ask(&Question::Drain { wait }, wait, |answer| {
        let count = |name: &str| answer[name].as_u64().unwrap_or_default();
        left = (answer["drained"] != true).then(|| {
            let now = if answer["accepts"] == true { "it still accepts connections (drain_delay)" } else { "it accepts no more" };
            format!(
                "{now}; {} requests are under way, {} of which have spent their salts, on {} connections. Nothing of it is cut \
                 off. Run the command again to wait for them",
                count("requests"),
                count("to_the_end"),
                count("connections")
            )
        });
    });
    match (asked, left) {
        (Err(code), _) => code,
        (Ok(()), Some(left)) => fail(format!("the gateway is not drained after {} s: {left}", wait.as_secs_f64())),
        (Ok(()), None) => {
            say!("drained: nothing is under way; the process stays until it gets SIGTERM");
            ExitCode::SUCCESS
        }
    }
}
