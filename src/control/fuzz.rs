//! Fuzzing of the control socket: any bytes as a question, and any bytes as an answer.

use std::time::Duration;

use serde_json::Value;

use super::client::{AnswerError, answer as read_answer};
use super::{MAX_QUESTION, Question};
use crate::safeguard::Target;

/// A question that parses is one line, and parses to the same question when it is written again.
pub(crate) fn question(bytes: &[u8]) {
    let question = match Question::parse(bytes) {
        Ok(question) => question,
        Err(why) => {
            let why = why.to_string();
            return assert!(!why.is_empty() && why.len() < 100 && !why.contains('\n'), "{why:?}");
        }
    };
    let line = question.line();
    assert!(!line.contains('\n'));
    // JSON escapes a byte with up to six.
    assert!(line.len() <= 6 * bytes.len().min(MAX_QUESTION) + 200);
    assert_eq!(Question::parse(line.as_bytes()).as_ref(), Ok(&question));
    match &question {
        Question::Freeze { target, wait, .. } => {
            assert!(*wait <= Duration::from_secs(600));
            fits(target);
        }
        Question::Drain { wait } => assert!(*wait <= Duration::from_secs(600)),
        Question::Unfreeze(target) => fits(target),
        Question::Frozen
        | Question::Refusals { .. }
        | Question::Explain { .. }
        | Question::KeySet
        | Question::KeyUses
        | Question::Reload
        | Question::Status => {}
    }
}

/// A name has only visible characters, because it is shown in lists.
fn fits(target: &Target) {
    if let Target::Account(name) | Target::Key(name) = target {
        assert!((1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
}

/// An answer is complete if a second, simpler reader finds it complete, and no prefix of it is complete.
pub(crate) fn answer(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let mut lines = Vec::new();
        let ended = read_answer(bytes, |line| lines.push(line));
        (ended, lines)
    };
    let (ended, lines) = read(bytes);
    let mut expected = Vec::new();
    for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Ok(value) = serde_json::from_slice::<Value>(line) else {
            assert!(matches!(ended, Err(AnswerError::Broken(_))), "line {at}: {ended:?}");
            return assert_eq!(lines, expected);
        };
        if let Some(Value::String(why)) = value.get("error") {
            assert_eq!(ended, Err(AnswerError::Refused(why.clone())));
            return assert_eq!(lines, expected);
        }
        if value.get("done") == Some(&Value::Bool(true)) {
            assert_eq!(ended, Ok(()));
            assert_eq!(lines, expected);
            let before: usize = bytes.split_inclusive(|byte| *byte == b'\n').take(at).map(<[u8]>::len).sum();
            let (cut, all) = read(&bytes[..before]);
            assert!(matches!(cut, Err(AnswerError::Broken(_))), "an incomplete answer counts as complete: {cut:?}");
            return assert_eq!(all, expected);
        }
        expected.push(value);
    }
    assert!(matches!(ended, Err(AnswerError::Broken(_))), "{ended:?}");
    assert_eq!(lines, expected);
}
