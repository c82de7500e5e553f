use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::ListenError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A TCP address that is ours.
///
/// Workers share a port by `SO_REUSEPORT`, which would let a second gateway share it too, and take
/// a part of the requests, silently. So a door first takes a lock named by the address (an abstract
/// Unix socket: it lives in the same network namespace as the port, and goes with the process,
/// however that ends), then tries the address alone, and only then opens it for sharing.
pub struct Door {
    address: SocketAddr,
    first: TcpListener,
    _lock: UnixListener,
}

impl Door {
    /// Takes an address for this process. Port 0 takes a free one.
    ///
    /// # Errors
    /// If somebody else has it.
    pub fn open(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |error| ListenError::new(address, error);
        if address.port() == 0 {
            // The kernel shares no port that it chooses by itself; giving it back to take it
            // again would let somebody else have it.
            let first = bind(address, true).map_err(failed)?;
            let address = first.local_addr().map_err(failed)?;
            return Ok(Self { address, first, _lock: lock(address).map_err(failed)? });
        }
        let lock = lock(address).map_err(failed)?;
        bind(address, false).map_err(failed)?;
        let first = bind(address, true).map_err(failed)?;
        Ok(Self { address, first, _lock: lock })
    }

    /// The address, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A listener of its own for each worker.
    ///
    /// # Errors
    /// If there are no more descriptors, say.
    pub fn listeners(&self, workers: usize) -> io::Result<Vec<TcpListener>> {
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
    fn an_address_that_a_gateway_is_about_to_open_is_its_own_already() {
        let free = Door::open(([127, 0, 0, 1], 0).into()).unwrap().address();
        // Between the lock and the port nobody listens yet, and the port alone would say so.
        let about_to_open = lock(free).unwrap();
        let second = Door::open(free).err().unwrap();
        assert!(second.to_string().contains("is in use"), "{second}");
        drop(about_to_open);
        assert!(Door::open(free).is_ok());
    }

    #[test]
    fn an_address_belongs_to_one_gateway_and_to_all_of_its_workers() {
        let door = Door::open(([127, 0, 0, 1], 0).into()).unwrap();
        assert_eq!(door.listeners(3).unwrap().len(), 3);
        let second = Door::open(door.address()).err().unwrap();
        assert!(second.to_string().contains("is in use"), "{second}");
        let everywhere = Door::open(([0, 0, 0, 0], door.address().port()).into());
        assert!(everywhere.is_err(), "a wildcard would share the port with the address");
        let address = door.address();
        drop(door);
        assert!(Door::open(address).is_ok(), "the address is free again");
    }
}
