//! Whether the workers use rings: what `[runtime] io` asks for, and what the kernel permits.

use std::io;

use rustix::io::Errno;

use super::{Config, Fault, Workers};
use crate::socket::{IoBackend, IoChoice, probe_ring};

impl Config {
    /// How the workers read and write their sockets. If the configuration asks for a ring, tries whether one can be had.
    ///
    /// # Errors
    /// If it asks for nothing else, and none can be had.
    pub(crate) fn io_backend(&self) -> Result<IoBackend, Fault> {
        if self.io == IoChoice::Epoll || self.workers == Workers::Shared {
            return Ok(IoBackend::Epoll);
        }
        match probe_ring() {
            Ok(()) => Ok(IoBackend::Uring),
            Err(error) if self.io == IoChoice::Auto => {
                tracing::debug!(%error, "there is no io_uring, and sockets use epoll: {}", remedy(&error));
                Ok(IoBackend::Epoll)
            }
            Err(error) => {
                let message = format!(
                    "is \"uring\", and the kernel gives none ({error}): {}; or choose \"auto\" or \"epoll\"",
                    remedy(&error)
                );
                Err(self.fault("runtime.io", message))
            }
        }
    }
}

/// What to do about it.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            "it is forbidden here; permit io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile \
             (those of Docker and containerd forbid them), and set the sysctl kernel.io_uring_disabled to 0"
        }
        Some(Errno::NOSYS) => {
            "it was built without it, or a seccomp profile hides it; permit io_uring_setup, io_uring_enter and io_uring_register there"
        }
        Some(Errno::INVAL | Errno::OPNOTSUPP) | None => "it is older than Linux 6.1, which is needed",
        Some(Errno::NOMEM | Errno::MFILE | Errno::NFILE) => {
            "memory or descriptors are short; raise the limits of the process"
        }
        Some(_) => "see io_uring_setup(2)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forbids_a_ring_is_named() {
        let said = |errno: Errno| remedy(&io::Error::from(errno));
        assert!(said(Errno::PERM).contains("seccomp") && said(Errno::PERM).contains("kernel.io_uring_disabled"));
        assert!(said(Errno::NOSYS).contains("io_uring_setup"));
        assert!(said(Errno::INVAL).contains("6.1"));
    }
}
