//! The uses of a gateway as lines of JSON: in its file, and in an answer of the control socket.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::GatewayUses;
use crate::clock::{instant, rfc3339};

/// These lines are no uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not of the last use of keys")]
pub(crate) struct NotUses(usize);

impl GatewayUses {
    /// The gateway in the first line, and each use in one of its own.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Value> {
        let first = json!({
            "gateway": self.gateway,
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "ended": self.ended,
            "lost": self.lost.map(|(from, to)| [rfc3339(from), rfc3339(to)]),
        });
        let mut uses: Vec<_> = self.uses.iter().collect();
        uses.sort();
        let uses = uses
            .into_iter()
            .map(|((api_key, secret), at)| json!({ "api_key": api_key, "secret": secret, "used": rfc3339(*at) }));
        std::iter::once(first).chain(uses.collect::<Vec<_>>())
    }

    /// Reads such lines.
    ///
    /// # Errors
    /// The first line that is none.
    pub(crate) fn of_lines(lines: impl IntoIterator<Item = Value>) -> Result<Self, NotUses> {
        let mut lines = lines.into_iter();
        let mut read = lines.next().as_ref().and_then(header).ok_or(NotUses(1))?;
        for (number, line) in (2..).zip(lines) {
            let text = |name: &str| line[name].as_str().map(Into::into);
            let of = || Some(((text("api_key")?, text("secret")?), time(&line["used"])?));
            let (key, at) = of().ok_or(NotUses(number))?;
            read.uses.insert(key, at);
        }
        Ok(read)
    }
}

fn header(line: &Value) -> Option<GatewayUses> {
    let lost = match line.get("lost")? {
        Value::Null => None,
        lost => Some((time(&lost[0])?, time(&lost[1])?)),
    };
    Some(GatewayUses {
        gateway: line["gateway"].as_str()?.to_owned(),
        since: time(&line["since"])?,
        until: time(&line["until"])?,
        ended: line["ended"].as_bool()?,
        lost,
        uses: HashMap::new(),
    })
}

fn time(value: &Value) -> Option<SystemTime> {
    instant(value.as_str()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let at = |minutes: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(minutes * 60);
        let uses = [("A", "1"), ("A", "2"), ("B", "1")].into_iter().zip(5..);
        let uses = uses.map(|((key, secret), minute)| ((key.into(), secret.into()), at(minute))).collect();
        let whole = GatewayUses {
            gateway: "g".into(),
            since: at(1),
            until: at(9),
            ended: true,
            lost: Some((at(2), at(3))),
            uses,
        };
        let none = GatewayUses { ended: false, lost: None, uses: HashMap::new(), ..whole.clone() };
        for uses in [whole.clone(), none] {
            assert_eq!(GatewayUses::of_lines(uses.lines()), Ok(uses));
        }
        let lines: Vec<Value> = whole.lines().collect();
        for (number, line) in (1..).zip(&lines) {
            for (field, value) in line.as_object().unwrap() {
                let mut wrong = lines.clone();
                wrong[number - 1][field] = if value.is_boolean() { json!("x") } else { json!(7) };
                assert_eq!(GatewayUses::of_lines(wrong), Err(NotUses(number)), "{field}");
            }
        }
        assert_eq!(GatewayUses::of_lines([]), Err(NotUses(1)));
    }
}
