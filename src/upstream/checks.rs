//! Servers are asked whether they are well (`[upstream.health]`).

use std::sync::Arc;

use http::{Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::server::{Server, Servers};
use super::settings::Health;
use super::{AskError, RequestHead, Unsayable, exchange};

/// Checks that are going on; dropping it ends them.
pub struct Checks {
    _each: JoinSet<()>,
}

impl Servers {
    /// Begins to check every server, on the runtime of the caller. Until a server was asked for
    /// the first time it counts as well; that first answer decides by itself.
    pub fn check(self: &Arc<Self>) -> Checks {
        let mut each = JoinSet::new();
        if let Some(health) = &self.settings.health {
            for at in 0..self.list.len() {
                each.spawn(watch(self.clone(), at, health.clone()));
            }
        }
        Checks { _each: each }
    }

    /// Asks one server, the way its health is checked.
    ///
    /// # Errors
    /// Why it is not well.
    pub(super) async fn is_well(&self, server: &Server, health: &Health) -> Result<StatusCode, String> {
        let asked = timeout(health.timeout, self.status(server, &health.path)).await;
        let late = || format!("no answer within {:?}", health.timeout);
        let status = asked.map_err(|_| late())?.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(status) } else { Err(format!("answered {}", status.as_u16())) }
    }

    /// On a connection of its own: that new ones can be made is part of being well.
    async fn status(&self, server: &Server, path: &str) -> Result<StatusCode, AskError> {
        let (stream, _) = self.connect(server).await?;
        let unfit = |error: Unsayable| AskError::Unreachable(error.to_string());
        let mut question = RequestHead::new(&Method::GET, path, None).map_err(unfit)?;
        question.text("user-agent: ", "saltgate-health").map_err(unfit)?;
        exchange::status(stream, &server.host, &question).await.map_err(|_| AskError::Broken)
    }
}

async fn watch(servers: Arc<Servers>, at: usize, health: Health) {
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
                    tracing::info!(server = server.name, "the upstream server is well and used again");
                }
            }
            Err(why) => {
                (well, ill) = (0, ill + 1);
                if (first || ill >= health.unhealthy_threshold) && server.set_down(true) {
                    tracing::warn!(server = server.name, why, "the upstream server is not well and not used");
                }
            }
        }
    }
}
