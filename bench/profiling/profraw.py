"""Translates the profile of a program built with `-Cprofile-generate` into the text that every llvm-profdata reads.

A raw profile is the memory of the program that wrote it, so only the llvm-profdata of rustc's own LLVM reads it, which a
plain toolchain does not include; the text format has not changed for ten years. The layout is that of `InstrProfData.inc` in
compiler-rt, version 10: a header; a record for each function; the counters; the names; the observed values.
"""
import hashlib
import struct
import zlib

MAGIC = 0xFF6C_7072_6F66_7281
VERSION = 10
IR = 1 << 56              # counted by LLVM itself, not by a front end
HEADER = struct.Struct("<16Q")
# name, hash of the shape, counters, bitmaps, address, values; how many counters, how many places of each kind of value, bitmaps
RECORD = struct.Struct("<6Q I 3H 2x I")
KINDS = ("IPVK_IndirectCallTarget", "IPVK_MemOPSize", "IPVK_VTableTarget")
CALLS = 0
VTABLE_RECORD = 40
# A call target outside the counted code, as llvm-profdata names it.
ELSEWHERE = b"** External Symbol **"


class Fault(Exception):
    """Why a profile cannot be read."""


def even(offset):
    """The next offset that is a multiple of eight."""
    return (offset + 7) & ~7


def text(raw):
    """The profile as text."""
    try:
        return b"".join(parts_of(raw))
    except (struct.error, zlib.error, IndexError, KeyError) as error:
        raise Fault(f"the profile was cut short or is damaged: {error}") from error


def parts_of(raw):
    if len(raw) < HEADER.size:
        raise Fault(f"{len(raw)} bytes are no profile")
    (magic, version, ids, records, before, counters, behind, bitmaps, behind_bitmaps, names_size,
     distance, _, _, vtables, vtable_names, last_kind) = HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise Fault("this is no profile of a 64-bit program of this byte order")
    if version & ~IR != VERSION or last_kind != len(KINDS) - 1:
        raise Fault(f"the profile has version {version & ~IR:#x}, and only {VERSION} is known here: rustc has another LLVM than "
                    "this was written for; `rustup component add llvm-tools` brings the llvm-profdata that reads it")
    records_at = HEADER.size + ids
    counters_at = records_at + records * RECORD.size + before
    names_at = counters_at + counters * 8 + behind + bitmaps + behind_bitmaps
    values_at = even(names_at + names_size) + vtables * VTABLE_RECORD + even(vtable_names)
    names = {fingerprint(name): name for name in names_in(raw[names_at:names_at + names_size])}
    functions = list(RECORD.iter_unpack(raw[records_at:records_at + records * RECORD.size]))
    addresses = {function[4]: names[function[0]] for function in functions if function[4]}
    yield b":ir\n" if version & IR else b""
    seen = set()
    for number, (name, shape, where, _, _, _, count, *places, _) in enumerate(functions):
        values = b""
        if any(places):
            values, values_at = values_in(raw, values_at, addresses)
        # Each crate that uses an inline function may contain it.
        if (name, shape) in seen:
            continue
        seen.add((name, shape))
        # Relative to the record; the header has it for the first one.
        at = counters_at + (where - distance + number * RECORD.size) % 2**64
        counts = struct.unpack_from(f"<{count}Q", raw, at)
        yield b"%s\n%d\n%d\n%s\n%s\n" % (names[name], shape, count, b"\n".join(b"%d" % one for one in counts), values)
    if values_at != len(raw):
        raise Fault(f"the profile has {len(raw)} bytes, and {values_at} of them were understood")


def fingerprint(name):
    return int.from_bytes(hashlib.md5(name, usedforsecurity=False).digest()[:8], "little")


def names_in(packed):
    """Blocks of names, each with its length before and after it was compressed."""
    at = 0
    while at < len(packed):
        if packed[at] == 0:
            at += 1
            continue
        size, at = number_at(packed, at)
        compressed, at = number_at(packed, at)
        block = packed[at:at + (compressed or size)]
        at += len(block)
        yield from (zlib.decompress(block) if compressed else block).split(b"\x01")


def number_at(packed, at):
    """LEB128."""
    value = shift = 0
    while True:
        byte = packed[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def values_in(raw, begin, addresses):
    """The observed values of one function as text, and where those of the next function begin."""
    size, kinds = struct.unpack_from("<2I", raw, begin)
    at = begin + 8
    parts = [b"%d\n" % kinds]
    for _ in range(kinds):
        kind, places = struct.unpack_from("<2I", raw, at)
        seen = raw[at + 8:at + 8 + places]
        at = even(at + 8 + places)
        parts.append(b"%d\n%d\n" % (kind, places))
        for count in seen:
            of_value = {}
            for _ in range(count):
                value, times = struct.unpack_from("<2Q", raw, at)
                at += 16
                shown = addresses.get(value, ELSEWHERE) if kind == CALLS else b"%d" % value
                of_value[shown] = of_value.get(shown, 0) + times
            parts.append(b"%d\n" % len(of_value) + b"".join(b"%s:%d\n" % one for one in of_value.items()))
    return b"".join(parts), begin + size
