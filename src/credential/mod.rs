//! The signing scheme (contract §2), pure: bytes in, verdict out.
//!
//! 1. The grammar is exact: one spelling of each thing, nothing quoted, nothing escaped, nothing
//!    besides. Values are taken byte for byte.
//! 2. The date grammar is prefix-free. What is signed is `date‖salt` without a delimiter: were
//!    one valid date the beginning of another, bytes could move between date and salt under the
//!    same signature, and a spent header would pass as a new one.
//! 3. There is one comparison of signatures, and it takes the same time whatever it compares.
//! 4. Nothing here allocates to parse, and nothing here panics on any bytes.

mod date;
mod header;
mod secret;
mod signature;

pub use date::{BadDate, Date, PhpDates};
pub use header::{Credentials, MAX_BYTES, Malformed, header_value};
pub use secret::{Secret, SecretError};
pub use signature::{Signature, SigningKey};
