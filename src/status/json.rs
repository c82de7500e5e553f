//! The status as JSON: `/status.json`, and the answer on the control socket.

use serde_json::{Value, json};

use super::{ShownRefusal, Status, StatusVerdict};
use crate::clock::rfc3339;
use crate::explain::words;

impl Status {
    /// What `/status.json` has: no key, account, member, segment or client.
    pub(crate) fn json(&self) -> Value {
        let Self { salts, config, .. } = self;
        let fenced_until = match self.verdict {
            StatusVerdict::Fenced(until) => Some(rfc3339(until)),
            _ => None,
        };
        json!({
            "time": rfc3339(self.now),
            "version": env!("CARGO_PKG_VERSION"),
            "up_seconds": self.up.as_secs(),
            "verdict": self.verdict.as_str(),
            "fenced_until": fenced_until,
            "troubles": self.troubles.iter().map(|(part, why)| json!({"part": part, "why": why})).collect::<Vec<_>>(),
            "remarks": self.remarks,
            "requests": self.requests.iter().map(|it| json!({
                "outcome": it.outcome.as_str(),
                "reason": it.reason.as_str(),
                "last_minute": it.counts[0],
                "last_10_minutes": it.counts[1],
                "last_hour": it.counts[2],
                "since_start": it.counts[3],
            })).collect::<Vec<_>>(),
            "in_flight": {"now": self.in_flight.0, "max": self.in_flight.1},
            "connections": {"now": self.connections.0, "max": self.connections.1},
            "io": self.io,
            "refusals": self.refusals.iter().map(refusal).collect::<Vec<_>>(),
            "upstreams": self.upstreams.iter().map(|(server, healthy)| {
                json!({"server": server, "healthy": healthy})
            }).collect::<Vec<_>>(),
            "salts": {"store": salts.kind, "held": salts.held, "room": salts.room},
            "record": self.record.as_ref().map(|record| json!({
                "writable": record.is_writable,
                "free_bytes": record.free,
                "open_outcomes": record.open_outcomes,
                "head": record.head,
            })),
            "frozen": self.frozen.iter().map(|(scope, count)| ((*scope).to_owned(), (*count).into()))
                .collect::<serde_json::Map<_, _>>(),
            "keys": {"count": self.keys.0, "read_seconds_ago": self.keys.1.as_secs()},
            "certificates": self.certificates.iter().map(|(part, name, expires)| {
                json!({"part": part, "name": name, "expires": rfc3339(*expires)})
            }).collect::<Vec<_>>(),
            "config": {"hash": config.hash, "differences": config.differences},
        })
    }

    /// The same with the keys that were claimed and what is frozen by name, for the control socket.
    pub(crate) fn json_with_keys(&self) -> Value {
        let mut value = self.json();
        value["refusals"] = self
            .refusals
            .iter()
            .map(|shown| {
                let mut line = refusal(shown);
                line["api_key"] = shown.api_key.as_deref().into();
                line
            })
            .collect();
        value["frozen_targets"] =
            self.frozen_targets.iter().map(|(target, since)| json!({"target": target, "since": since})).collect();
        value
    }
}

fn refusal(shown: &ShownRefusal) -> Value {
    json!({
        "time": rfc3339(shown.time),
        "request_id": shown.id,
        "reason": shown.reason.as_str(),
        "words": words(shown.reason).english,
    })
}
