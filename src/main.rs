//! The `saltgate` command.

use std::process::ExitCode;

/// For all of the process: a request allocates some twenty times.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    saltgate::cli::run()
}
