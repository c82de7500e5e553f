//! Who freezes and unfreezes, on any gateway.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::super::fleet::{self, Changed};
use super::Leaves;
use super::gateway::{Gateway, names};
use crate::adversary::Dice;
use crate::replay::simulated::RedisWorld;
use crate::safeguard::{Note, Target};

/// Freezes and unfreezes a key, or everything, again and again. Never ends.
pub(super) async fn works(
    key: Option<usize>,
    gateways: Vec<Arc<Gateway>>,
    world: Arc<RedisWorld>,
    leaves: Arc<Leaves>,
    seed: u64,
) {
    let mut dice = Dice(seed);
    // Everything is frozen seldom: nothing passes then.
    let pause = if key.is_some() { 4000 } else { 60_000 };
    loop {
        sleep(Duration::from_millis(500 + dice.roll(pause))).await;
        if change(&mut dice, &gateways, key, true, &world).await {
            leaves.freezes(key, true);
        }
        sleep(Duration::from_millis(dice.roll(8000))).await;
        // From here on it may be lifted, whatever the command says.
        leaves.freezes(key, false);
        while !change(&mut dice, &gateways, key, false, &world).await {
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Gives the command to any gateway. Returns whether it says that it is done.
async fn change(
    dice: &mut Dice,
    gateways: &[Arc<Gateway>],
    key: Option<usize>,
    freezes: bool,
    world: &RedisWorld,
) -> bool {
    let gateway = dice.pick(&(0..gateways.len()).collect::<Vec<_>>());
    let gateway = &gateways[gateway];
    let Some(process) = gateway.running() else { return false };
    let Some(fleet) = &process.fleet else { return false };
    let target = key.map_or(Target::All, |key| Target::Key(names(key).1));
    let note = freezes.then(|| Note { since: "now".into(), uid: 0, reason: None });
    let wait = Duration::from_secs(if freezes { 5 } else { 10 });
    let changed = fleet::change(&process.freeze, &gateway.clock, fleet, &target, note, wait).await;
    // The process may have ended meanwhile: then nobody has heard the answer.
    let is_there = gateway.running().is_some_and(|now| Arc::ptr_eq(&now, &process));
    let is_done = is_there && matches!(&changed, Ok(Changed { waiting, .. }) if waiting.is_empty());
    let told = changed.map(|changed| (changed.waiting.len(), changed.silent));
    world.tell(format!("gateway {}: freeze {freezes} of {target}: {told:?}", gateway.number));
    is_done
}
