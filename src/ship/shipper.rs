//! Copies the record while the gateway runs.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use tokio::sync::oneshot;

use super::ShipSettings;
use super::shipment::Shipment;
use crate::audit::ShippedFiles;
use crate::clock::Clock;
use crate::telemetry::Metrics;

/// The longest pause after attempts that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// On a processor that it shares with workers, requests go first.
const NICER: i32 = 10;

/// A thread that copies new lines; dropping this ends it.
pub(crate) struct Shipper {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shipper {
    /// Starts to copy the record in this directory.
    ///
    /// # Errors
    /// If the system has no thread or no event loop.
    pub(crate) fn start(
        directory: &Path,
        settings: &ShipSettings,
        files: ShippedFiles,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shipment = Shipment::new(directory, settings);
        metrics.deliveries().record_shipped(0);
        let mut shipping = Shipping { shipment, files, metrics, complete_at: clock.elapsed(), clock, failed: false };
        let (stop, mut stopped) = oneshot::channel::<()>();
        let interval = settings.interval;
        let thread = thread::Builder::new().name("ship".into()).spawn(move || {
            if let Err(error) = rustix::process::nice(NICER) {
                tracing::debug!(%error, "the priority of copying the record cannot be lowered");
            }
            runtime.block_on(async {
                tokio::select! {
                    _ = &mut stopped => {}
                    () = shipping.again_and_again(interval) => {}
                }
            });
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

struct Shipping {
    shipment: Shipment,
    files: ShippedFiles,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// When everything on record was copied last, on the elapsed clock.
    complete_at: Duration,
    failed: bool,
}

impl Shipping {
    async fn again_and_again(&mut self, interval: Duration) {
        let mut pause = interval;
        loop {
            pause = if self.once().await { interval } else { (pause * 2).min(LONGEST_PAUSE.max(interval)) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Copies what is new; returns whether that was possible.
    async fn once(&mut self) -> bool {
        let (metrics, files) = (&self.metrics, &self.files);
        let sent = self
            .shipment
            .send(|lines| metrics.deliveries().record_shipped(lines), |file, length| files.add(file, length));
        let sent = sent.await;
        let now = self.clock.elapsed();
        match &sent {
            Ok(()) => {
                self.complete_at = now;
                if std::mem::take(&mut self.failed) {
                    tracing::info!("audit.ship: everything on record is copied again");
                }
            }
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                tracing::error!(%error, "audit.ship: the record is not copied; deletions go on, and it is tried again");
            }
            Err(error) => tracing::debug!(%error, "audit.ship: the record is still not copied"),
        }
        self.metrics.deliveries().record_unshipped(now.saturating_sub(self.complete_at));
        sent.is_ok()
    }
}
