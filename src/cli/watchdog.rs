//! Tells systemd again and again that the workers answer (`WatchdogSec=`), and tells it nothing while one hangs.

use std::io;
use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::serve::Heartbeat;
use crate::systemd::Notifier;

/// Starts it, on a thread of its own. `period` is the time within which systemd wants to hear from this process.
pub(super) fn start(period: Duration, heartbeat: Heartbeat, notifier: Notifier) -> io::Result<()> {
    let watch = move || watch(period / 2, &heartbeat, &notifier);
    thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}

/// Asks the workers each `interval`, and tells systemd as soon as all of them have answered.
fn watch(interval: Duration, heartbeat: &Heartbeat, notifier: &Notifier) {
    let (clock, pause) = (Clock::system(), interval / 16);
    loop {
        let asked = clock.elapsed();
        heartbeat.ask();
        let mut warned = false;
        while let Some(worker) = heartbeat.silent() {
            if !warned && clock.elapsed().saturating_sub(asked) > interval {
                warned = true;
                tracing::warn!(worker, "a worker does not answer: systemd is not told that all is well until it does");
            }
            thread::sleep(pause);
        }
        if warned {
            tracing::info!("all workers answer again");
        }
        notifier.watchdog();
        // Rounds last as long however long the answers took, unless they took longer.
        thread::sleep(interval.saturating_sub(clock.elapsed().saturating_sub(asked)));
    }
}
