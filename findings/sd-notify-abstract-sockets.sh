#!/usr/bin/env bash
# The Rust crate sd-notify 0.5.0 does not reach a notification socket in the abstract namespace.
#
# In NOTIFY_SOCKET a first character "@" means an abstract socket, says sd_notify(3) of systemd 252. The crate takes "@name" for the
# name of a file in the working directory: notify() fails with "No such file or directory", and a service of Type=notify that
# ignores the error never becomes ready.
#
# Seen with sd-notify 0.5.0 (crates.io), Rust 1.95, Linux.
#   path socket:     READY=1
#   abstract socket: No such file or directory (os error 2); nothing arrives
#
# Needs cargo and python3. The gate sends its notifications itself (src/systemd).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "notify"
version = "0.0.0"
edition = "2021"
[dependencies]
sd-notify = "=0.5.0"
TOML
cat >src/main.rs <<'RUST'
fn main() {
    match sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        Ok(()) => println!("sent"),
        Err(error) => println!("{error}"),
    }
}
RUST
CARGO_TARGET_DIR="$work/target" cargo build --quiet
cat >listen.py <<'PYTHON'
"""What a program says, and what arrives, with a notification socket of this address."""
import os, socket, subprocess, sys
address, program = sys.argv[1:]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
    it.bind("\0" + address[1:] if address.startswith("@") else address)
    it.settimeout(1)
    said = subprocess.run([program], env={**os.environ, "NOTIFY_SOCKET": address}, capture_output=True, text=True).stdout.strip()
    try:
        arrived = it.recv(100).decode().strip()
    except TimeoutError:
        arrived = "nothing"
    print(f"{said}; arrived: {arrived}")
PYTHON
path=$(python3 listen.py "$work/socket" target/debug/notify)
abstract=$(python3 listen.py "@notify-$$" target/debug/notify)
printf 'path socket:     %s\nabstract socket: %s\n' "$path" "$abstract"
[ "$path" = "sent; arrived: READY=1" ]
[ "$abstract" = "No such file or directory (os error 2); arrived: nothing" ]
