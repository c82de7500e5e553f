//! The signing scheme (contract §2), pure: bytes in, verdict out.
//!
//! 1. [`Credentials`] is the header: parsed once, whole, borrowing from it and allocating nothing.
//! 2. [`Date`] is a grammar before it is a time. No date is the beginning of another, so that nothing can move between
//!    date and salt under one signature.
//! 3. The MAC covers the bytes that were received: neither date nor salt is ever printed anew before it is verified.
//! 4. [`SigningKey::verify`] holds the one constant-time comparison of the crate.
//! 5. Secrets, keys and signatures show nothing of themselves: no `Display`, no `PartialEq`, a redacted `Debug`.

mod calendar;
mod date;
mod header;
mod malformed;
mod secret;
mod signature;
mod signing_key;

pub use date::{BadDate, Date, PhpDates};
pub use header::{Credentials, header_value};
pub use malformed::Malformed;
pub use secret::{Secret, SecretError};
pub use signature::Signature;
pub use signing_key::SigningKey;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod vectors;
