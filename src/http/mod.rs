//! HTTP itself: hosts, lengths, chunks, field names and targets, for both directions and both protocols.
//!
//! In this crate `http::` is the crate of that name, and `crate::http::` is this room. Nothing imports the room by
//! its bare name, so the two never meet in one file.

mod body;
pub(crate) mod fault;
pub(crate) mod fields;
pub(crate) mod form;
pub(crate) mod h1;
pub(crate) mod h2;
pub(crate) mod timer;

pub(crate) use body::RequestBody;
