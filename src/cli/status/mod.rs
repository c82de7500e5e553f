//! `saltgate status` and `saltgate top`: whether the running gateway is well, with the keys that its page must not show.

mod lines;
mod top;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Socket;
use crate::console::{self, say};
use crate::control::Question;
use crate::plain;

pub(super) use top::run as top;

#[derive(Args)]
pub(super) struct Arguments {
    /// Print it as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Args)]
pub(super) struct TopArguments {
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let asked = arguments.socket.ask(&Question::Status, Duration::ZERO, |status| {
        if arguments.json {
            say!("{}", plain::json_line(&status));
        } else {
            console::text(&lines::of(&status));
        }
    });
    asked.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}
