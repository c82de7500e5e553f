//! `saltgate top`: the status, drawn again each second until `q`, Ctrl-C or a signal.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{TopArguments, lines};
use crate::cli::{fail, socket::TIMEOUT};
use crate::clock::Clock;
use crate::console::{self, Terminal};
use crate::control::{self, Question};

/// How often the status is asked for.
const EVERY: Duration = Duration::from_secs(1);
/// How often the keyboard is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The keys that leave: `q`, `Q` and Ctrl-C, which is a key while the terminal is ours.
const LEAVING: [u8; 3] = [b'q', b'Q', 3];

pub(in crate::cli) fn run(arguments: &TopArguments) -> ExitCode {
    let path = match arguments.socket.path() {
        Ok(path) => path,
        Err(code) => return code,
    };
    let status = || -> Result<String, String> {
        let mut answer = Value::Null;
        control::ask(&path, &Question::Status, TIMEOUT, |status| answer = status).map_err(|error| error.to_string())?;
        Ok(lines::of(&answer))
    };
    let first = match status() {
        Ok(first) => first,
        Err(error) => return fail(error),
    };
    if !console::is_terminal() {
        console::text(&first);
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    runtime.block_on(async { redraw(first, status).await }).map_or_else(fail, |()| ExitCode::SUCCESS)
}

async fn redraw(first: String, status: impl Fn() -> Result<String, String>) -> std::io::Result<()> {
    // Before the terminal is taken, so that none of them leaves it as it is.
    let mut signals = Signals::new()?;
    let terminal = Terminal::take()?;
    let clock = Clock::system();
    let (mut drawn_at, mut last) = (clock.elapsed(), first);
    terminal.draw(&last)?;
    loop {
        if signals.came_within(LOOK).await || terminal.pressed().iter().any(|key| LEAVING.contains(key)) {
            return Ok(());
        }
        if clock.elapsed() < drawn_at + EVERY {
            continue;
        }
        match status() {
            Ok(lines) => {
                last = lines;
                terminal.draw(&last)?;
            }
            // It may be restarting: what was last known stays, with what is wrong above it.
            Err(error) => terminal.draw(&format!("NO ANSWER: {error}\nlast known:\n{last}"))?,
        }
        drawn_at = clock.elapsed();
    }
}

/// The signals that end a command.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let [end, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self([end?, interrupt?, hangup?]))
    }

    async fn came_within(&mut self, limit: Duration) -> bool {
        let [end, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = end.recv() => true,
            _ = interrupt.recv() => true,
            _ = hangup.recv() => true,
            () = tokio::time::sleep(limit) => false,
        }
    }
}
