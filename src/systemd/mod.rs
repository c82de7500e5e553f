//! What systemd is told about the process (sd_notify(3)), and what it asks for. Without systemd nothing is told.
//!
//! The crate `sd-notify` waits if nobody reads the socket, and knows no abstract sockets. Here a message is kept if it cannot be
//! sent now, and nothing ever waits for it.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::clock;
use crate::plain;

/// The most messages that wait for a socket that is full; beyond, the oldest are dropped.
const MAX_KEPT: usize = 16;

/// The socket of the service manager, if there is one.
pub(crate) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Messages that could not be sent yet.
    kept: VecDeque<String>,
    /// The status that was told last.
    status: String,
}

/// Why the service manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// The variable does not name a Unix socket.
    #[error("NOTIFY_SOCKET is {0}; expected an absolute path, or @ and the name of an abstract socket")]
    Address(String),
    /// There is no socket to send by.
    #[error("NOTIFY_SOCKET cannot be used: {0}")]
    Socket(#[source] io::Error),
}

impl Notifier {
    /// The socket that `NOTIFY_SOCKET` names.
    ///
    /// # Errors
    /// If it names something else.
    pub(crate) fn from_environment() -> Result<Self, NotifyError> {
        Self::of(env::var_os("NOTIFY_SOCKET").as_deref())
    }

    fn of(name: Option<&OsStr>) -> Result<Self, NotifyError> {
        let socket = name.filter(|name| !name.is_empty()).map(|name| {
            let address = match name.as_bytes() {
                [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
                [b'/', ..] => SocketAddr::from_pathname(name),
                _ => Err(io::ErrorKind::InvalidInput.into()),
            };
            let address = address.map_err(|_| NotifyError::Address(plain::quoted(&name.to_string_lossy())))?;
            let socket = UnixDatagram::unbound().map_err(NotifyError::Socket)?;
            socket.set_nonblocking(true).map_err(NotifyError::Socket)?;
            Ok((socket, address))
        });
        Ok(Self { socket: socket.transpose()?, kept: VecDeque::new(), status: String::new() })
    }

    /// A notifier that tells nobody.
    pub(crate) fn nobody() -> Self {
        Self { socket: None, kept: VecDeque::new(), status: String::new() }
    }

    /// The start, or a reload, is done.
    pub(crate) fn ready(&mut self, status: &str) {
        self.tell("READY=1", status);
    }

    /// A reload has begun. [`Self::ready`] ends it, whatever came of it.
    pub(crate) fn reloading(&mut self) {
        // `Type=notify-reload` needs the time to tell this reload from an earlier one.
        let now = clock::monotonic().as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}"), "reloading");
    }

    /// The process is about to end.
    pub(crate) fn stopping(&mut self, status: &str) {
        self.tell("STOPPING=1", status);
    }

    /// What `systemctl status` shows. The same again is told once.
    pub(crate) fn status(&mut self, status: &str) {
        if self.status != status {
            self.status = status.to_owned();
            self.keep(format!("STATUS={}", plain::line(status)));
        }
        self.send();
    }

    /// Everything is well. Not kept: it would say so later, when it may not be so.
    pub(crate) fn watchdog(&self) {
        if let Some((socket, address)) = &self.socket {
            drop(socket.send_to_addr(b"WATCHDOG=1", address));
        }
    }

    fn tell(&mut self, state: &str, status: &str) {
        self.status = status.to_owned();
        self.keep(format!("{state}\nSTATUS={}", plain::line(status)));
        self.send();
    }

    fn keep(&mut self, message: String) {
        if self.socket.is_some() {
            self.kept.push_back(message);
            if self.kept.len() > MAX_KEPT {
                self.kept.pop_front();
            }
        }
    }

    /// Sends what is kept, as far as the socket takes it now.
    fn send(&mut self) {
        let Some((socket, address)) = &self.socket else { return };
        while let Some(message) = self.kept.front() {
            match socket.send_to_addr(message.as_bytes(), address) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the service manager cannot be told"),
            }
            self.kept.pop_front();
        }
    }
}

/// Within which time the service manager wants to hear from this process, again and again (`WatchdogSec=`).
pub(crate) fn watchdog_period() -> Option<Duration> {
    let of_ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let period = env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)?;
    (of_ours && !period.is_zero() && env::var_os("NOTIFY_SOCKET").is_some()).then_some(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    #[test]
    fn a_socket_that_is_full_keeps_nobody_waiting_and_is_told_the_latest_once_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut notifier = Notifier::of(Some(path.as_os_str())).unwrap();
        notifier.ready("well");
        for n in 0..10_000 {
            notifier.status(&format!("status {n}"));
        }
        assert_eq!(notifier.kept.len(), MAX_KEPT, "nobody reads");
        assert_eq!(received(&socket).as_deref(), Some("READY=1\nSTATUS=well"));
        let mut last = None;
        while let Some(message) = received(&socket) {
            last = Some(message);
            notifier.status("status 9999");
        }
        assert_eq!(last.as_deref(), Some("STATUS=status 9999"));
    }

    #[test]
    fn only_unix_sockets_are_told() {
        for wrong in ["notify", "vsock:2:1234", "@"] {
            assert!(Notifier::of(Some(OsStr::new(wrong))).is_err(), "{wrong}");
        }
        for nobody in [None, Some(OsStr::new(""))] {
            let mut notifier = Notifier::of(nobody).unwrap();
            notifier.ready("well");
            assert!(notifier.kept.is_empty());
        }
        let mut gone = Notifier::of(Some(OsStr::new("/nowhere/notify"))).unwrap();
        gone.ready("well");
        assert!(gone.kept.is_empty(), "whoever is not there is not told later");
    }
}
