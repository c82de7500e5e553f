//! The protocol of the control socket. A connection carries one question, a line of JSON. The answer is several lines
//! of JSON, after which the gateway closes the connection.
//!
//! ```text
//! → {"command":"freeze","scope":"key","name":"NCS…","reason":"a leak","wait_seconds":30}
//! ← {"frozen":"key NCS…","new":true,…}
//! ← {"done":true}
//! ```
//!
//! An answer ends with `done`, or with `error` and the reason. Without either it is incomplete.

mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::safeguard::Target;

pub use client::ask;

/// The most bytes of a question; far more than any header to explain.
pub(crate) const MAX_QUESTION: usize = 64 << 10;

/// The longest time that an answer waits for something to end.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(600);

/// The folder of a control socket, if it does not exist: nothing creates it.
pub(crate) fn missing_folder(socket: &Path) -> Option<&Path> {
    socket.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
}

/// A question to the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Freezes `target`; answers once no deletion that was permitted before can still be sent.
    Freeze {
        /// What to freeze.
        target: Target,
        /// The operator's reason.
        reason: Option<String>,
        /// How long to wait for deletions that were permitted before.
        wait: Duration,
    },
    /// Lifts a freeze.
    Unfreeze(Target),
    /// Lists what is frozen.
    Frozen,
    /// Lists the requests that were refused last.
    Refusals {
        /// Only the one with this request id.
        id: Option<String>,
        /// Only those that claim this apiKey.
        key: Option<String>,
        /// Only those since this time, as [`crate::clock::rfc3339`] writes it.
        since: Option<String>,
    },
    /// What the status page shows, and the keys that it must not.
    Status,
    /// Explains how a header is judged.
    Explain {
        /// The value of the `Authorization` field.
        header: String,
    },
    /// Which keys are in force.
    KeySet,
    /// When secrets were last used, as [`crate::key_use::GatewayUses`] writes it in lines.
    KeyUses,
    /// Takes the configuration as it is now; answers what was taken, or every fault.
    Reload,
    /// Drains; answers once nothing is under way.
    Drain {
        /// How long to wait for that.
        wait: Duration,
    },
}

/// What is wrong with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// It could not be read from the socket.
    #[error("the question cannot be read")]
    Unread,
    /// It is too long, or has no line end.
    #[error("the question is not one line of at most {MAX_QUESTION} bytes")]
    NotALine,
    /// It is not JSON.
    #[error("the question is not JSON")]
    NotJson,
    /// It has no `command`, or an unknown one.
    #[error("the question has no `command` that this build knows")]
    Command,
    /// `explain` comes without a header.
    #[error("explain needs a `header`")]
    NoHeader,
    /// Its `name` cannot be that of an account or a key.
    #[error("the `name` is not 1 to 128 visible ASCII characters")]
    Name,
    /// Its `scope` is unknown.
    #[error("the `scope` must be all, account or key")]
    Scope,
}

impl Question {
    /// The question as a line of JSON, without the line end.
    pub fn line(&self) -> String {
        match self {
            Self::Freeze { target, reason, wait } => {
                let mut line = with_target("freeze", target);
                line["reason"] = reason.clone().into();
                line["wait_seconds"] = wait.as_secs().into();
                line
            }
            Self::Unfreeze(target) => with_target("unfreeze", target),
            Self::Frozen => json!({ "command": "frozen" }),
            Self::Refusals { id, key, since } => {
                json!({ "command": "refusals", "id": id, "key": key, "since": since })
            }
            Self::Status => json!({ "command": "status" }),
            Self::Explain { header } => json!({ "command": "explain", "header": header }),
            Self::KeySet => json!({ "command": "key_set" }),
            Self::KeyUses => json!({ "command": "key_uses" }),
            Self::Reload => json!({ "command": "reload" }),
            Self::Drain { wait } => json!({ "command": "drain", "wait_ms": wait.as_millis() as u64 }),
        }
        .to_string()
    }

    /// Parses a line of JSON.
    ///
    /// # Errors
    /// If it is not a valid question.
    pub fn parse(line: &[u8]) -> Result<Self, QuestionError> {
        let value: Value = serde_json::from_slice(line).map_err(|_| QuestionError::NotJson)?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        match value["command"].as_str() {
            Some("freeze") => Ok(Self::Freeze {
                target: target(&value)?,
                reason: text("reason"),
                wait: Duration::from_secs(value["wait_seconds"].as_u64().unwrap_or(30)).min(MAX_WAIT),
            }),
            Some("unfreeze") => Ok(Self::Unfreeze(target(&value)?)),
            Some("frozen") => Ok(Self::Frozen),
            Some("refusals") => Ok(Self::Refusals { id: text("id"), key: text("key"), since: text("since") }),
            Some("status") => Ok(Self::Status),
            Some("explain") => Ok(Self::Explain { header: text("header").ok_or(QuestionError::NoHeader)? }),
            Some("key_set") => Ok(Self::KeySet),
            Some("key_uses") => Ok(Self::KeyUses),
            Some("reload") => Ok(Self::Reload),
            Some("drain") => {
                let wait = Duration::from_millis(value["wait_ms"].as_u64().unwrap_or(30_000));
                Ok(Self::Drain { wait: wait.min(MAX_WAIT) })
            }
            _ => Err(QuestionError::Command),
        }
    }
}

fn with_target(command: &str, target: &Target) -> Value {
    let (scope, name) = match target {
        Target::All => ("all", None),
        Target::Account(name) => ("account", Some(name)),
        Target::Key(name) => ("key", Some(name)),
    };
    json!({ "command": command, "scope": scope, "name": name })
}

fn target(question: &Value) -> Result<Target, QuestionError> {
    let name = || {
        let name = question["name"].as_str().unwrap_or_default();
        let fits = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(name.to_owned()) } else { Err(QuestionError::Name) }
    };
    match question["scope"].as_str() {
        Some("all") => Ok(Target::All),
        Some("account") => name().map(Target::Account),
        Some("key") => name().map(Target::Key),
        _ => Err(QuestionError::Scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_parsed_as_it_was_written() {
        let some = |text: &str| Some(text.to_owned());
        for question in [
            Question::Freeze { target: Target::All, reason: some("why"), wait: Duration::from_secs(7) },
            Question::Freeze { target: Target::Key("K".into()), reason: None, wait: Duration::ZERO },
            Question::Unfreeze(Target::Account("a-1".into())),
            Question::Frozen,
            Question::Status,
            Question::Refusals { id: some("x"), key: None, since: some("2026-11-24T00:00:00.000Z") },
            Question::Explain { header: "HMAC-SHA256 \"\n".into() },
            Question::KeySet,
            Question::KeyUses,
            Question::Reload,
            Question::Drain { wait: Duration::from_millis(1500) },
        ] {
            let line = question.line();
            assert!(!line.contains('\n'));
            assert_eq!(Question::parse(line.as_bytes()), Ok(question));
        }
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"command":"delete"}"#,
            r#"{"command":"freeze"}"#,
            r#"{"command":"freeze","scope":"key"}"#,
            r#"{"command":"freeze","scope":"key","name":""}"#,
            r#"{"command":"unfreeze","scope":"account","name":"a b"}"#,
            r#"{"command":"explain"}"#,
        ] {
            assert!(Question::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
