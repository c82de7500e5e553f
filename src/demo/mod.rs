//! The demo: a gateway in front of an embedded CRM. Tests use the CRM, too. Not part of the container image.

pub(crate) mod crm;

mod programs;
mod walk;

pub(crate) use walk::Demo;
