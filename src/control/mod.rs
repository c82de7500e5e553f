//! What is said over the control socket: one question a connection, a line of JSON; the answer is
//! lines of JSON, and after the last the gateway closes.
//!
//! ```text
//! → {"command":"freeze","scope":"key","name":"NCS…","reason":"a leak","wait_seconds":30}
//! ← {"frozen":"key NCS…","new":true,…}
//! ← {"done":true}
//! ```
//!
//! An answer that does not end in `done` is not whole; one that ends in `error` says why.

mod client;

use std::time::Duration;

use serde_json::{Value, json};

use crate::safeguard::Target;

pub use client::{Failed, ask};

/// The most bytes of a question. The longest header that anybody explains is far shorter.
pub const MAX_QUESTION: usize = 64 << 10;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Freezes; answers once no deletion that was judged before can still leave.
    Freeze {
        /// What.
        target: Target,
        /// Why, for whoever finds it frozen.
        reason: Option<String>,
        /// How long to wait for what may still leave.
        wait: Duration,
    },
    /// Thaws.
    Unfreeze(Target),
    /// What is frozen.
    Frozen,
    /// The last requests that were refused.
    Refusals {
        /// The one with this id.
        id: Option<String>,
        /// Those that claim this apiKey.
        key: Option<String>,
        /// Those since this time, as [`crate::clock::rfc3339`] writes it.
        since: Option<String>,
    },
    /// How this header is judged.
    Explain {
        /// The value of the `Authorization` line.
        header: String,
    },
}

impl Question {
    /// The question as a line, without its end.
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
            Self::Explain { header } => json!({ "command": "explain", "header": header }),
        }
        .to_string()
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|_| "the question is not JSON".to_owned())?;
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        match value["command"].as_str() {
            Some("freeze") => Ok(Self::Freeze {
                target: target(&value)?,
                reason: text("reason"),
                wait: Duration::from_secs(value["wait_seconds"].as_u64().unwrap_or(30).min(600)),
            }),
            Some("unfreeze") => Ok(Self::Unfreeze(target(&value)?)),
            Some("frozen") => Ok(Self::Frozen),
            Some("refusals") => Ok(Self::Refusals { id: text("id"), key: text("key"), since: text("since") }),
            Some("explain") => Ok(Self::Explain { header: text("header").ok_or("explain needs a `header`")? }),
            _ => Err("the question has no `command` that this build knows".into()),
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

fn target(question: &Value) -> Result<Target, String> {
    let name = || {
        let name = question["name"].as_str().unwrap_or_default();
        let fits = (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(name.to_owned()) } else { Err("the `name` is not 1 to 128 visible ASCII characters".to_owned()) }
    };
    match question["scope"].as_str() {
        Some("all") => Ok(Target::All),
        Some("account") => name().map(Target::Account),
        Some("key") => name().map(Target::Key),
        _ => Err("the `scope` is none of all, account and key".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_meant() {
        let some = |text: &str| Some(text.to_owned());
        for question in [
            Question::Freeze { target: Target::All, reason: some("why"), wait: Duration::from_secs(7) },
            Question::Freeze { target: Target::Key("K".into()), reason: None, wait: Duration::ZERO },
            Question::Unfreeze(Target::Account("a-1".into())),
            Question::Frozen,
            Question::Refusals { id: some("x"), key: None, since: some("2026-11-24T00:00:00.000Z") },
            Question::Explain { header: "HMAC-SHA256 \"\n".into() },
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
