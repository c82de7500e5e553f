//! Sockets that whoever started the process has passed in (socket activation, sd_listen_fds(3)).
//!
//! They are taken once, before the process opens anything, and kept for as long as it lives: a reload may take a listener away
//! and bring it back. All workers accept from the same socket.

use std::env;
use std::io;
use std::sync::OnceLock;

use listenfd::ListenFd;
use socket2::SockRef;

use super::{ListenAddress, ListenError, Listener};

static PASSED: OnceLock<Vec<PassedSocket>> = OnceLock::new();

/// One of them.
struct PassedSocket {
    name: String,
    socket: io::Result<Listener>,
}

/// A socket that was passed in and that this process accepts from.
pub(crate) struct BoundPassed {
    address: ListenAddress,
    listener: Listener,
}

/// Takes the sockets that were passed in. Called first of all: what has these numbers now was passed in, and nothing else.
pub(crate) fn take_passed_sockets() {
    PASSED.get_or_init(|| {
        let is_ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        if !is_ours {
            return Vec::new();
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        // What has no name is called so by systemd, too.
        let names = names.split(':').map(|name| if name.is_empty() { "unknown" } else { name });
        let names = names.chain(std::iter::repeat("unknown"));
        let sockets = (0..passed.len()).zip(names).map(|(number, name)| {
            let socket = take(&mut passed, number);
            PassedSocket { name: name.to_owned(), socket }
        });
        sockets.collect()
    });
}

fn take(passed: &mut ListenFd, number: usize) -> io::Result<Listener> {
    let unfit =
        |what: &str| io::Error::other(format!("it is {what}; expected a listening socket of TCP or a Unix one"));
    let listener = match (passed.take_tcp_listener(number), passed.take_unix_listener(number)) {
        (Ok(Some(listener)), _) => {
            listener.set_nonblocking(true)?;
            Listener::Tcp(listener)
        }
        (_, Ok(Some(listener))) => {
            listener.set_nonblocking(true)?;
            Listener::Unix(listener)
        }
        (_, _) => return Err(unfit("of another kind")),
    };
    let listens = match &listener {
        Listener::Tcp(listener) => SockRef::from(listener).is_listener()?,
        Listener::Unix(listener) => SockRef::from(listener).is_listener()?,
    };
    if listens { Ok(listener) } else { Err(unfit("a connection")) }
}

/// The names of those that no listener of these has.
pub(crate) fn unused_sockets<'a>(used: impl Iterator<Item = &'a ListenAddress>) -> Vec<&'static str> {
    let used: Vec<&str> = used.filter_map(ListenAddress::passed).collect();
    passed().iter().map(|passed| &*passed.name).filter(|name| !used.contains(name)).collect()
}

fn passed() -> &'static [PassedSocket] {
    PASSED.get().map_or(&[], Vec::as_slice)
}

impl BoundPassed {
    /// The socket of this name.
    ///
    /// # Errors
    /// If none, or several, were passed in under it, or it cannot be accepted from.
    pub(super) fn open(name: &str) -> Result<Self, ListenError> {
        let failed = |error| ListenError::new(format!("fd:{name}"), error);
        let mut named = passed().iter().filter(|passed| passed.name == name);
        let (first, further) = (named.next(), named.count());
        let Some(first) = first else { return Err(failed(io::Error::other(none_of_this_name()))) };
        if further > 0 {
            let all = further + 1;
            let message =
                format!("{all} sockets of this name were passed in; give each a FileDescriptorName= of its own");
            return Err(failed(io::Error::other(message)));
        }
        let listener = match &first.socket {
            Ok(listener) => listener.try_clone().map_err(failed)?,
            Err(error) => return Err(failed(io::Error::other(error.to_string()))),
        };
        let address = match &listener {
            Listener::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp).map_err(failed)?,
            Listener::Unix(listener) => {
                let address = listener.local_addr().map_err(failed)?;
                let path = address.as_pathname().map(|path| ListenAddress::Unix(path.to_owned()));
                path.unwrap_or_else(|| ListenAddress::Passed(name.to_owned()))
            }
        };
        Ok(Self { address, listener })
    }

    /// The address that it is bound to; its name if that has none.
    pub(super) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// A descriptor for each worker.
    ///
    /// # Errors
    /// If the process has no file descriptors left.
    pub(super) fn listeners(&self, workers: usize) -> io::Result<Vec<Listener>> {
        (0..workers).map(|_| self.listener.try_clone()).collect()
    }
}

fn none_of_this_name() -> String {
    let names: Vec<String> = passed().iter().map(|passed| format!("\"{}\"", passed.name)).collect();
    if names.is_empty() {
        return "no socket was passed in (LISTEN_FDS, LISTEN_PID); start the gateway by socket activation, or name an address"
            .into();
    }
    format!("no socket of this name was passed in; the names are {} (FileDescriptorName=)", names.join(", "))
}
