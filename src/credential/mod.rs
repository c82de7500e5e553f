//! The signing scheme (contract §2), pure: bytes in, verdict out.

mod secret;

pub use secret::{Secret, SecretError};
