//! `check --live`: tries to connect to every server, and checks its health.

use super::AskError;
use super::checks::NotWell;
use super::server::{Server, Servers};
use super::stream::Stream;
use super::traffic::Probe;

/// Why an attempt at a server failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// There is no connection to it. The error below names the server.
    #[error("upstream {0}")]
    NoConnection(#[source] AskError),
    /// Its health check failed.
    #[error("upstream {server}: GET {path}: {why}")]
    NotWell {
        /// The server.
        server: String,
        /// The path of the health check.
        path: String,
        /// What is wrong.
        #[source]
        why: NotWell,
    },
}

impl Servers {
    /// Connects to every server and, if `[upstream.health]` is set, checks its health. Returns a line to print for each
    /// attempt that succeeded, and an error for the others. No other request is sent.
    pub(crate) async fn probe(&self) -> Vec<Result<String, ProbeError>> {
        let mut attempts = Vec::new();
        for server in &self.list {
            let connected = self.connect::<Probe>(server).await.map_err(ProbeError::NoConnection);
            let reached = connected.is_ok();
            attempts.push(connected.map(|made| described(server, made.stream())));
            if let (true, Some(health)) = (reached, &self.settings.health) {
                let (name, path) = (&server.name, &health.path);
                attempts.push(match self.is_well(server, health).await {
                    Ok(status) => Ok(format!("upstream {name}: GET {path}: answered {}", status.as_u16())),
                    Err(why) => Err(ProbeError::NotWell { server: name.to_string(), path: path.to_string(), why }),
                });
            }
        }
        attempts
    }
}

fn described(server: &Server, stream: &Stream) -> String {
    let name = &server.name;
    match stream {
        Stream::Tls(tls) => {
            let version = tls.get_ref().1.protocol_version();
            let version = version.and_then(|version| version.as_str()).unwrap_or("TLS");
            format!("upstream {name}: connected, its certificate is valid ({version})")
        }
        Stream::Plain(_) => format!("upstream {name}: connected"),
    }
}
