"""Builds Saltgate twice: first to count what its code does under load, then optimized by these counts."""
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

from comparing import machine, peers, phases
from comparing.machine import Fault, say

from . import profraw

PROGRAMS = {"llvm-profdata": "llvm", "openssl": "openssl"}
HOST = "x86_64-unknown-linux-gnu"
FEATURES = ("--no-default-features", "--features", "postgres")
# Code that never ran under load is placed apart from code that did, so that less of it is in the caches.
APART = "-Clink-arg=-Wl,-z,keep-text-section-prefix"
# Mostly the plain DELETE: code that is marked as hot should fit into the caches and into a sidecar's memory.
ACCEPTED, OTHERS, REFUSED = 400_000, 20_000, 20_000


def loads(field):
    """A use case to optimize for: a series and its load. Without load, only its start."""
    saltgate, *stores = [one for one in phases.DELETE if one.product == "saltgate"]
    tls = next(one for one in phases.TLS if one.product == "saltgate")
    yield from ((one, ()) for one in phases.START)
    yield saltgate, ("--requests", ACCEPTED)
    for one in stores:
        yield one, ("--requests", OTHERS)
    yield tls, ("--requests", OTHERS, "--transport", "tls", "--ca", field.certificate)
    yield tls, ("--seconds", 2, "--transport", "h2", "--ca", field.certificate, "--connections", 4, "--streams", 8)
    for kind in phases.REFUSALS.values():
        if kind != "good":
            yield saltgate, ("--requests", REFUSED, "--kind", kind, "--expect", 401)


def release(static=False):
    """The path of the program. A static one needs no library of the system."""
    host = next((line.split()[1] for line in machine.told("rustc", "-vV").splitlines() if line.startswith("host:")), "unknown")
    if host != HOST:
        raise Fault(f"this was written for {HOST} and its linker, and rustc is for {host}; there it is: cargo build --release {' '.join(FEATURES)}")
    machine.require(PROGRAMS, {})
    load, upstream = machine.tools()
    place = machine.target(machine.REPOSITORY) / ("profiled-static" if static else "profiled")
    always = ["-Ctarget-feature=+crt-static"] if static else []

    def build(*flags):
        # With --target, build scripts are compiled without these flags. Source and Cargo profile stay the same, so that the names
        # of functions, by which the counts are found, stay the same, too.
        flags = "\x1f".join([*os.environ.get("RUSTFLAGS", "").split(), *always, *flags])
        machine.cargo(machine.REPOSITORY, *FEATURES, "--bin", "saltgate", "--target", HOST,
                      CARGO_ENCODED_RUSTFLAGS=flags, CARGO_TARGET_DIR=str(place))
        return place / HOST / "release" / "saltgate"

    counting = build(f"-Cprofile-generate={place}/elsewhere")
    profile = place / "saltgate.profdata"
    counts(counting, load, upstream, place, profile)
    program = build(f"-Cprofile-use={profile}", APART)
    if b".text.hot" not in sections(program.read_bytes()):
        raise Fault(f"{program} was built, but not by the counts: none of its code is told to be hot")
    return program


def counts(saltgate, load, upstream, place, profile):
    """Runs the counting program under each load, and writes the counts."""
    cpus = sorted(os.sched_getaffinity(0))
    field = peers.Field(place, saltgate, load, upstream, {cpus[-1]})
    raw = pathlib.Path(tempfile.mkdtemp(prefix="counts-", dir=place))
    try:
        # All processes of the program add to one file (%m).
        os.environ["LLVM_PROFILE_FILE"] = f"{raw}/%m.profraw"
        for series, arguments in loads(field):
            say(f"  {series.label}: {' '.join(map(str, arguments)) or 'start'}")
            with field.peer(series, {cpus[0]}) as peer:
                if arguments:
                    field.drive(peer, {cpus[-1]}, *arguments)
        files = list(raw.iterdir())
        if not files:
            raise Fault("the program that counts wrote no counts")
        for file in files:
            try:
                file.with_suffix(".proftext").write_bytes(profraw.text(file.read_bytes()))
            except profraw.Fault as fault:
                raise Fault(f"{file.name}: {fault}") from fault
        made = subprocess.run(["llvm-profdata", "merge", "-o", profile, *raw.glob("*.proftext")], capture_output=True, text=True)
        if made.returncode != 0:
            raise Fault(f"llvm-profdata: {made.stderr.strip()}")
    finally:
        os.environ.pop("LLVM_PROFILE_FILE", None)
        shutil.rmtree(raw, ignore_errors=True)
        field.close()


def sections(program):
    """The names of an ELF file's sections; 64 bits, little endian."""
    table, = struct.unpack_from("<Q", program, 0x28)
    size, count, names = struct.unpack_from("<3H", program, 0x3A)
    strings, = struct.unpack_from("<Q", program, table + names * size + 0x18)
    starts = (strings + struct.unpack_from("<I", program, table + number * size)[0] for number in range(count))
    return {program[start:program.index(b"\0", start)] for start in starts}
