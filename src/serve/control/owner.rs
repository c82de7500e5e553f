//! What the control socket has the owner of the gateway do.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::lines::{Lines, error, failed};
use super::{Peer, Subject};
use crate::serve::commands::{Command, NotReloaded};
use crate::serve::drain::{Stage, UnderWay};
use crate::serve::reload::Reloaded;

pub(super) async fn reload(peer: Peer, subject: &Subject) -> String {
    let (answer, answered) = oneshot::channel();
    tracing::info!(uid = peer.uid, pid = peer.pid, "a reload by command");
    // If nobody receives it, the answer is dropped.
    drop(subject.to_owner.send(Command::Reload(answer)));
    match answered.await {
        Ok(Ok(reloaded)) => taken(&reloaded),
        Ok(Err(NotReloaded::Faults(faults))) => failed(
            faults.iter().map(|fault| json!({ "fault": fault.to_string() })),
            "not reloaded: the configuration is at fault; the old one stays in force",
        ),
        Ok(Err(NotReloaded::Draining)) => error("not reloaded: the gateway is draining"),
        Err(_) => error("not reloaded: the gateway is ending"),
    }
}

fn taken(reloaded: &Reloaded) -> String {
    let Reloaded { changed, needs_restart, warnings, keys } = reloaded;
    let keys = json!({ "keys": keys.all, "added": keys.added, "removed": keys.removed });
    let lines =
        |name: &'static str, all: &[String]| -> Vec<Value> { all.iter().map(|it| json!({ name: it })).collect() };
    let rest = [lines("changed", changed), lines("needs_restart", needs_restart), lines("warning", warnings)];
    Lines::of([keys].into_iter().chain(rest.into_iter().flatten()))
}

pub(super) async fn drain(wait: Duration, peer: Peer, subject: &Subject) -> String {
    tracing::info!(uid = peer.uid, pid = peer.pid, "a drain by command");
    // A gateway that drains already goes on with that.
    drop(subject.to_owner.send(Command::Drain));
    let mut progress = subject.progress.clone();
    let over = |stage: &Stage| matches!(stage, Stage::Drained | Stage::CutOff);
    drop(timeout(wait, progress.wait_for(over)).await);
    let stage = *progress.borrow();
    match stage {
        Stage::Drained => Lines::of([json!({ "drained": true })]),
        Stage::CutOff => error("the gateway was told to end, and drain_timeout is over: requests were cut off"),
        Stage::Serving | Stage::Announcing | Stage::Closing => {
            let UnderWay { requests, to_the_end, connections } = UnderWay::of(&subject.process);
            Lines::of([json!({
                "drained": false,
                "accepts": stage != Stage::Closing,
                "requests": requests,
                "to_the_end": to_the_end,
                "connections": connections,
            })])
        }
    }
}
