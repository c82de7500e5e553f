//! The signing scheme (contract §2), pure: bytes in, verdict out.
//!
//! 1. [`Credentials`] is the parsed header. It borrows from the header and allocates nothing.
//! 2. [`Date`] has a strict grammar in which no date is a prefix of another. So no byte can move between date and
//!    salt under the same signature.
//! 3. The MAC covers the bytes as received: neither date nor salt is formatted again before the verification.
//! 4. [`SigningKey::verify`] contains the only constant-time comparison of signatures in the crate.
//! 5. Secrets, keys and signatures reveal nothing: no `Display`, no `PartialEq`, and a redacted `Debug`.

mod calendar;
mod date;
mod field_digest;
mod header;
mod hidden;
mod malformed;
mod salt_id;
mod secret;
mod signature;
mod signing_key;

pub use date::PhpDates;
pub(crate) use date::{BadDate, Date};
pub(crate) use field_digest::FieldDigest;
pub use header::{Credentials, header_value};
pub(crate) use hidden::Hidden;
pub(crate) use malformed::MalformedHeader;
pub use salt_id::SaltId;
pub use secret::Secret;
pub(crate) use secret::{Doubt, SecretError, SecretSlot};
pub(crate) use signature::Signature;
pub use signing_key::SigningKey;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod vectors;
