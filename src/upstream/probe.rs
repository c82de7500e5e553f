use super::server::{Server, Servers};
use super::stream::Stream;

impl Servers {
    /// Tries every server: can it be connected to, and is it well, if that is checked? A line for
    /// each thing tried; what failed is an error. Nothing is asked of a server but its health.
    pub async fn probe(&self) -> Vec<Result<String, String>> {
        let mut lines = Vec::new();
        for server in &self.list {
            let connected = self.connect(server).await.map_err(|error| format!("upstream {error}"));
            let reached = connected.is_ok();
            lines.push(connected.map(|(stream, _)| made(server, &stream)));
            if let (true, Some(health)) = (reached, &self.settings.health) {
                let told = |what: String| format!("upstream {}: GET {}: {what}", server.name, health.path);
                let well = self.is_well(server, health).await;
                lines.push(well.map(|status| told(format!("answered {}", status.as_u16()))).map_err(told));
            }
        }
        lines
    }
}

fn made(server: &Server, stream: &Stream) -> String {
    let name = &server.name;
    match stream {
        Stream::Tls(tls) => {
            let version = tls.get_ref().1.protocol_version();
            let version = version.and_then(|version| version.as_str()).unwrap_or("TLS");
            format!("upstream {name}: connected, its certificate is good ({version})")
        }
        Stream::Tcp(_) | Stream::Unix(_) => format!("upstream {name}: connected"),
    }
}
