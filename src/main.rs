//! The `saltgate` command.

use std::process::ExitCode;

/// A fast allocator, because a request allocates about twenty times.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    saltgate::run()
}
