//! Servers are asked whether they are well (`[upstream.health]`).

use std::sync::Arc;

use http::header::{HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::server::{Server, Servers};
use super::settings::Health;
use super::{AskError, pool};

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
        let mut sender = pool::handshake(stream).await?;
        let question = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(HOST, &server.host)
            .header(USER_AGENT, "saltgate-health")
            .body(Full::default().into())
            .map_err(|error| AskError::Unreachable(error.to_string()))?;
        Ok(sender.send_request(question).await.map_err(|_| AskError::Broken)?.status())
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
