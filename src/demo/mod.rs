//! The demo: a gateway in front of an embedded CRM. Tests use the CRM, too. Not part of the image that `make image` builds.

pub(crate) mod crm;

mod crm_alone;
mod programs;
mod rotation;
mod walk;

pub(crate) use crm_alone::serve_crm;
pub(crate) use walk::Demo;
