//! `check --live`: tries to connect to every server, and checks its health.

use super::server::{Server, Servers};
use super::stream::Stream;
use super::traffic::Probe;

impl Servers {
    /// Connects to every server and, if `[upstream.health]` is set, checks its health. Returns a line for each attempt, as
    /// an error if it failed. No other request is sent.
    pub async fn probe(&self) -> Vec<Result<String, String>> {
        let mut lines = Vec::new();
        for server in &self.list {
            let connected = self.connect::<Probe>(server).await.map_err(|error| format!("upstream {error}"));
            let reached = connected.is_ok();
            lines.push(connected.map(|made| described(server, made.stream())));
            if let (true, Some(health)) = (reached, &self.settings.health) {
                let line = |what: String| format!("upstream {}: GET {}: {what}", server.name, health.path);
                let well = self.is_well(server, health).await;
                lines.push(
                    well.map(|status| line(format!("answered {}", status.as_u16())))
                        .map_err(|why| line(why.to_string())),
                );
            }
        }
        lines
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
        Stream::Tcp(_) | Stream::Unix(_) => format!("upstream {name}: connected"),
    }
}
