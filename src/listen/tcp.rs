//! TCP addresses: each belongs to one gateway and is shared by all of its workers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::ListenError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A TCP address that this process listens on.
///
/// Workers share a port with `SO_REUSEPORT`. A second gateway could share it too and silently take some of the requests.
/// Therefore [`BoundTcp::open`] first takes a lock that is named after the address (an abstract Unix socket: it belongs to
/// the same network namespace as the port, and disappears with the process), then binds the address exclusively, and
/// only then binds it for sharing.
pub(crate) struct BoundTcp {
    address: SocketAddr,
    first: TcpListener,
    _lock: UnixListener,
}

impl BoundTcp {
    /// Binds an address for this process. Port 0 chooses a free port.
    ///
    /// # Errors
    /// If another process listens on it.
    pub(crate) fn open(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |error| ListenError::new(address, error);
        if address.port() == 0 {
            // The kernel never chooses a port that is in use, so there is nothing to check. Closing and rebinding it
            // would let another process take it.
            let first = bind(address, true).map_err(failed)?;
            let address = first.local_addr().map_err(failed)?;
            return Ok(Self { address, first, _lock: lock(address).map_err(failed)? });
        }
        let lock = lock(address).map_err(failed)?;
        bind(address, false).map_err(failed)?;
        let first = bind(address, true).map_err(failed)?;
        Ok(Self { address, first, _lock: lock })
    }

    /// The address, with the port that was bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// One listener for each worker.
    ///
    /// # Errors
    /// If a socket cannot be made, for example because the process has no file descriptors left.
    pub(crate) fn listeners(&self, workers: usize) -> io::Result<Vec<TcpListener>> {
        let further = (1..workers).map(|_| bind(self.address, true));
        std::iter::once(self.first.try_clone()).chain(further).collect()
    }
}

fn lock(address: SocketAddr) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&UnixAddr::from_abstract_name(format!("saltgate:{address}"))?)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_reserved_before_it_is_bound() {
        let free = BoundTcp::open(([127, 0, 0, 1], 0).into()).unwrap().address();
        // The lock is taken and the port is not bound yet: only the lock can tell.
        let about_to_open = lock(free).unwrap();
        let second = BoundTcp::open(free).err().unwrap();
        assert!(second.to_string().contains("is in use"), "{second}");
        drop(about_to_open);
        assert!(BoundTcp::open(free).is_ok());
    }

    #[test]
    fn an_address_belongs_to_one_gateway_and_all_of_its_workers() {
        let bound = BoundTcp::open(([127, 0, 0, 1], 0).into()).unwrap();
        assert_eq!(bound.listeners(3).unwrap().len(), 3);
        let second = BoundTcp::open(bound.address()).err().unwrap();
        assert!(second.to_string().contains("is in use"), "{second}");
        let everywhere = BoundTcp::open(([0, 0, 0, 0], bound.address().port()).into());
        assert!(everywhere.is_err(), "a wildcard would share the port with the address");
        let address = bound.address();
        drop(bound);
        assert!(BoundTcp::open(address).is_ok(), "the address is free again");
    }
}
