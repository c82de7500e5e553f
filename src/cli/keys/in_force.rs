//! Whether a changed file is in force in the running gateway.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::fail;
use crate::clock::{self, Clock};
use crate::config;
use crate::control::{self, Question};
use crate::key_use::GatewayUses;

/// How long an answer of the gateway may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the gateway may take to notice a change.
const NOTICED: Duration = Duration::from_secs(10);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// The gateway that uses the file, if it can be asked.
pub(super) struct InForce {
    socket: Option<PathBuf>,
    /// The keys in force before the change.
    before: Option<Keys>,
}

/// What the gateway says of its keys.
struct Keys {
    set: u64,
    refused: bool,
    gateway: String,
}

impl InForce {
    /// The gateway whose control socket this configuration names.
    pub(super) fn of(config: Option<&Path>) -> Self {
        let socket = config.and_then(|config| config::control_socket(config).ok());
        Self { socket, before: None }
    }

    /// No gateway.
    pub(super) fn nowhere() -> Self {
        Self::of(None)
    }

    /// The file is about to be changed.
    pub(super) fn will_change(&mut self) {
        self.before = self.keys();
    }

    /// From when the change is in force. Waits until the gateway has taken it.
    pub(super) fn since(&self) -> Result<String, ExitCode> {
        let Some(before) = &self.before else {
            return Ok(match self.socket {
                Some(_) => "no gateway with this control.socket is running: in force from its next start on".into(),
                None => "a running gateway with this file takes it within 2 seconds; which gateways that are is not known here".into(),
            });
        };
        let clock = Clock::system();
        let until = clock.elapsed() + NOTICED;
        while clock.elapsed() < until {
            match self.keys() {
                Some(keys) if keys.set != before.set => {
                    return Ok(format!(
                        "in force since {} on {} (key set {})",
                        clock::rfc3339(clock.now()),
                        keys.gateway,
                        keys.set
                    ));
                }
                Some(keys) if keys.refused && !before.refused => break,
                Some(_) => std::thread::sleep(PAUSE),
                None => return Err(fail("written, but the gateway has ended: in force from its next start on")),
            }
        }
        Err(fail(
            "written, but NOT in force: the gateway has not taken the file; its log and `saltgate status` say why",
        ))
    }

    /// When secrets were last used, as the running gateway knows it.
    pub(super) fn uses(&self) -> Option<GatewayUses> {
        let mut lines = Vec::new();
        let asked = control::ask(self.socket.as_ref()?, &Question::KeyUses, PATIENCE, |line| lines.push(line));
        asked.ok().and_then(|()| GatewayUses::of_lines(lines).ok())
    }

    fn keys(&self) -> Option<Keys> {
        let mut keys = None;
        let asked = control::ask(self.socket.as_ref()?, &Question::KeySet, PATIENCE, |line| {
            let gateway = line["gateway"].as_str().unwrap_or("the gateway").to_owned();
            keys = line["key_set"].as_u64().map(|set| Keys { set, refused: line["refused"] == true, gateway });
        });
        asked.ok().and(keys)
    }
}
