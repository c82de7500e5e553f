"""Parses the output of callgrind: instructions by function and by call; and shortens names for display."""
import collections
import re

CRATE = re.compile(r"\[[0-9a-f]{8,}\]")
HASH = re.compile(r"::h[0-9a-f]{16}\b")
LONGEST = 96


def shortened(name):
    """A function's name without hashes, without the arguments of generics, and without paths of the machine."""
    name = re.sub(r"'\d+$", "", name)            # the level of a recursion
    name = HASH.sub("", CRATE.sub("", name))
    if "/" in name or name.startswith("0x") or name.startswith("???"):
        return "unknown"
    name = name.replace("$LT$", "<").replace("$GT$", ">").replace("{{closure}}", "{closure}").replace("{closure_env#0}", "{closure}")
    name = re.sub(r"\{closure#\d+\}", "{closure}", name)
    name = re.sub(r"drop_in_place(?:::)?<(?:&mut )?([\w:]+)(.*)>", lambda of: f"drop_in_place({of.group(1)})", name)
    # From the inside out: <a as b> becomes a, and arguments of generics are dropped.
    arrows = name.replace("->", "\0")
    for _ in range(40):
        inner = re.sub(r"::<[^<>]*>", "", arrows)
        inner = re.sub(r"(?<![\w}])<([^<>]*?) as ([^<>]*?)>", lambda as_: as_.group(1) + "\1" + last(as_.group(2)), inner, count=1)
        inner = re.sub(r"(?<=\w)<[^<>]*>", "", inner)
        inner = re.sub(r"(?<![\w}])<([^<>]*?)>", r"\1", inner)
        if inner == arrows:
            break
        arrows = inner
    name = arrows.replace("\0", "->").replace("\1", " as ")
    return name if len(name) <= LONGEST else name[:LONGEST - 1] + "…"


ESCAPES = {"$LT$": "<", "$GT$": ">", "$LP$": "(", "$RP$": ")", "$C$": ",", "$BP$": "*", "$RF$": "&", "..": "::"}


def demangled(name):
    """A symbol as rustc mangles it, with its hash: a generic function has one for each instance."""
    name = name.split(".llvm.")[0]
    if name.startswith("_R"):
        # The standard library uses the newer scheme: the words of its path are enough here.
        name, words, at = re.sub(r"Cs[0-9A-Za-z]+_|B[0-9A-Za-z]*_|s[0-9]*_", "", name[2:]), [], 0
        while length := re.compile(r"\D*?(\d+)_?").match(name, at):
            at = length.end() + int(length.group(1))
            words.append(name[length.end():at])
        return "::".join(words)
    if not name.startswith("_ZN"):
        return name
    parts, at = [], 3
    while length := re.match(r"\d+", name[at:]):
        at += len(length.group())
        parts.append(name[at:at + int(length.group())])
        at += int(length.group())
    text = "::".join(part.removeprefix("_") if part.startswith("_$") else part for part in parts)
    for escape, plain in ESCAPES.items():
        text = text.replace(escape, plain)
    return re.sub(r"\$u([0-9a-f]+)\$", lambda code: chr(int(code.group(1), 16)), text)


def last(path):
    return path.rsplit("::", 1)[-1]


class Counts:
    """One run, or the difference of two: own instructions of functions, and instructions within a call by caller and called."""

    def __init__(self, own, calls):
        self.own, self.calls = own, calls

    @property
    def total(self):
        return sum(self.own.values())

    def per_request(self, before, requests):
        """The cost of each of the `requests` that this run had in addition to the run `before`."""
        less = lambda now, then: {key: (now.get(key, 0) - then.get(key, 0)) / requests for key in now.keys() | then.keys()}
        return Counts(less(self.own, before.own), less(self.calls, before.calls))


def read(file, name_of=shortened):
    """Parses a file that callgrind wrote with --dump-instr=no: cost lines after fn=, and one more after each calls=."""
    own, calls = collections.Counter(), collections.Counter()
    names, short = {}, {}
    function = called = None
    within_call = False

    def named(text):
        number, _, name = text.partition(" ")
        if name:
            names[number] = name
        elif number not in names:
            raise ValueError(f"{file}: {number} has no name")
        name = names[number]
        if name not in short:
            short[name] = name_of(name)
        return short[name]

    with open(file, errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if line.startswith("fn="):
                function = named(line[3:])
            elif line.startswith("cfn="):
                called = named(line[4:])
            elif line.startswith("calls="):
                within_call = True
            elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
                cost = line.split(" ", 1)
                cost = int(cost[1]) if len(cost) == 2 else 0
                if within_call:
                    calls[function, called] += cost
                    within_call = False
                else:
                    own[function] += cost
    if not own:
        raise ValueError(f"{file}: nothing was counted")
    return Counts(own, calls)
