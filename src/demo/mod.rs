//! What `saltgate demo` shows the job on, and the tests prove it on. Not in a container image.

pub mod crm;

mod programs;
mod walk;

pub use walk::Demo;
