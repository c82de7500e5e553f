//! Health checks of the servers (`[upstream.health]`).

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::server::{Server, Servers};
use super::settings::HealthSettings;
use super::traffic::Probe;
use super::{AskError, InvalidRequestHead, RequestHead, exchange};
use crate::event_loop::timeout;

/// The health checks that are running. Dropping it stops them.
pub struct Checks {
    _each: JoinSet<()>,
}

/// Why a server is not well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotWell {
    /// It did not answer in this time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// There is no answer.
    #[error("{0}")]
    NoAnswer(#[from] AskError),
    /// It answered with this status.
    #[error("answered {0}")]
    Status(u16),
}

impl Servers {
    /// Starts a health check of every server on the caller's runtime. A server counts as healthy until its first check,
    /// and that first result counts alone, whatever the thresholds say.
    pub fn check(self: &Arc<Self>) -> Checks {
        let mut each = JoinSet::new();
        if let Some(health) = &self.settings.health {
            for at in 0..self.list.len() {
                each.spawn(watch(self.clone(), at, health.clone()));
            }
        }
        Checks { _each: each }
    }

    /// Checks the health of one server.
    ///
    /// # Errors
    /// Why the server is not healthy.
    pub(super) async fn is_well(&self, server: &Server, health: &HealthSettings) -> Result<StatusCode, NotWell> {
        let asked = timeout(health.timeout, self.status(server, &health.path)).await;
        let status = asked.map_err(|_| NotWell::Late(health.timeout))??;
        if status.is_success() { Ok(status) } else { Err(NotWell::Status(status.as_u16())) }
    }

    /// Opens a new connection for it, because a healthy server accepts new connections.
    async fn status(&self, server: &Server, path: &str) -> Result<StatusCode, AskError> {
        let made = self.connect::<Probe>(server).await?;
        let unreachable = |error: InvalidRequestHead| AskError::Unreachable(error.to_string());
        let mut question = RequestHead::new(&Method::GET, path, None).map_err(unreachable)?;
        question.text("user-agent: ", "saltgate-health").map_err(unreachable)?;
        exchange::status(made, &server.host, &question)
            .await
            .map_err(|error| AskError::Broken(exchange::malformed(&error)))
    }
}

async fn watch(servers: Arc<Servers>, at: usize, health: HealthSettings) {
    let server = &servers.list[at];
    let mut ticks = interval(health.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut well, mut ill) = (0, 0);
    loop {
        ticks.tick().await;
        let first = !server.is_checked();
        match servers.is_well(server, &health).await {
            Ok(_) => {
                (well, ill) = (well + 1, 0);
                server.worked();
                if (first || well >= health.healthy_threshold) && server.set_down(false) {
                    tracing::info!(server = server.name, "the upstream server is healthy and used again");
                }
            }
            Err(why) => {
                let why = why.to_string();
                (well, ill) = (0, ill + 1);
                if (first || ill >= health.unhealthy_threshold) && server.set_down(true) {
                    tracing::warn!(server = server.name, why, "the upstream server is not healthy and not used");
                }
            }
        }
    }
}
