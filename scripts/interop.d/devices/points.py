"""What is polled: the points, the registers that their values are in, and the configuration that says so.

The encoding here is Python's own, of the standard's words; it shares nothing with what is tested.
"""

import json
import struct

from common import parsed

ORDERS = ("abcd", "cdab", "badc", "dcba")
# For each type: values that have all their bytes different, and the ends of its range.
TYPES = {
    "i16": (-32768, -12345, 32767),
    "u16": (65535, 0x1234, 0x8001),
    "i32": (-(2**31), 123456789, -2),
    "u32": (2**32 - 1, 0x12345678, 0xDEADBEEF),
    "i64": (-(2**63), 0x0123456789ABCDEF, -3),
    "u64": (2**63 - 1, 0x0123456789ABCDEF, 0x7766554433221100),
    "f32": (21.7, -12.375, 16777216.0),
    "f64": (0.1, -1.7976931348623157e308, 5e-324),
    "bcd16": (1234, 9876, 59),
    "bcd32": (90817263, 12345678, 1020304),
}
FORMATS = {"i16": ">h", "u16": ">H", "i32": ">i", "u32": ">I", "i64": ">q", "u64": ">Q", "f32": ">f", "f64": ">d"}
ROUNDS = 3
# What is written: a change each, and a value that differs in all bytes.
CHANGES = {kind: values[1:] for kind, values in TYPES.items()}

# Single points in holding registers.
TEXT, SWAPPED_TEXT, BOOL, BITS, SCALED, CLAMPED = 92, 98, 104, 105, 106, 108
TEXTS = ("elf letters", "Prüfstand", "")
# Around registers that are not there: read in vain to merge two points, and one that is asked for.
AROUND = {"gap/before": 110, "gap/after": 113, "near/before": 119, "near/after": 121}
BIT_ADDRESSES = {"coil": (0, 1, 2, 16, 63), "discrete": (0, 7, 8, 15, 63)}
# What is missing, and its value where it is not.
MISSING = {"missing": ("holding", 120, 4711), "input/missing": ("input", 95, 815), "coil/missing": ("coil", 1000, 1)}

MEANINGLESS = {}


def encoded(kind, order, value):
    """The registers of a number."""
    if kind.startswith("bcd"):
        data = bytes.fromhex(f"{value:0{int(kind[3:]) // 4}}")
    else:
        data = struct.pack(FORMATS[kind], value)
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if order in ("cdab", "dcba"):
        words.reverse()
    if order in ("badc", "dcba"):
        words = [word[::-1] for word in words]
    return [int.from_bytes(word, "big") for word in words]


def encoded_text(text, swapped):
    """The six registers of a text of up to eleven bytes."""
    data = text.encode().ljust(12, b"\0")
    return [int.from_bytes(data[at : at + 2], "little" if swapped else "big") for at in range(0, 12, 2)]


def table(area):
    """Name, type, order and address for each type in each order."""
    address = 0
    prefix = "input" if area == "input" else "holding"
    for kind, values in TYPES.items():
        for order in ORDERS:
            yield f"{prefix}/{kind}/{order}", kind, order, address
            address += len(encoded(kind, order, values[0]))


VALUES = {area: list(table(area)) for area in ("holding", "input")}

for name, kind, order, address in VALUES["holding"]:
    if kind == "u64":
        MEANINGLESS[name] = (address, [0xFFFF] * 4)
    elif kind == "bcd16":
        MEANINGLESS[name] = (address, [0xA000 if order in ("abcd", "cdab") else 0x00A0])
MEANINGLESS["text"] = (TEXT, [0xFFFE] * 6)


def image(turn):
    """Areas, addresses and words of the first device in a round; and its tags by their names."""
    registers, tags = [], {}
    for area, points in VALUES.items():
        words = []
        for at, (name, kind, order, _) in enumerate(points):
            value = TYPES[kind][(turn + at) % ROUNDS]
            words += encoded(kind, order, value)
            tags[name] = (value, "good")
        registers.append((area, 0, words))
    text, swapped = TEXTS[turn], TEXTS[(turn + 1) % ROUNDS]
    registers.append(("holding", TEXT, encoded_text(text, False) + encoded_text(swapped, True)))
    tags |= {"text": (text, "good"), "text/swapped": (swapped, "good")}
    pattern = 0x8081 >> turn
    registers.append(("holding", BOOL, [turn, pattern, 617 + turn]))
    tags |= {"bool": (turn != 0, "good"), "scaled": ((217 + turn) / 10, "good")}
    tags |= {f"bit/{bit}": (bool(pattern >> bit & 1), "good") for bit in (0, 7, 15)}
    registers.append(("holding", CLAMPED, [900 + turn]))
    tags["clamped"] = (900 + turn, "good")
    for at, (name, address) in enumerate(AROUND.items()):
        registers.append(("holding", address, [1000 * turn + at]))
        tags[name] = (1000 * turn + at, "good")
    for area, addresses in BIT_ADDRESSES.items():
        for at, address in enumerate(addresses):
            on = (turn + at) % ROUNDS == 0
            registers.append((area, address, [int(on)]))
            tags[f"{area}/{address}"] = (on, "good")
    for name in MISSING:
        tags[name] = (None, "bad")
    return registers, tags


def shown(text):
    """What the line protocol shows of a tag, "value quality time": the first two."""
    value, quality, _ = text.rsplit(" ", 2)
    return parsed(value), quality


def tag(name, address, **keys):
    lines = [f'name = "{name}"', f'address = "{address}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "[[template.tag]]\n" + "\n".join(lines) + "\n"


def template():
    """The points of the first device."""
    tags = []
    for area, points in VALUES.items():
        keys = {"access": "rw"} if area == "holding" else {}
        tags += [
            tag(name, f"{area}:{address}", type=kind, order=order, **keys) for name, kind, order, address in points
        ]
    # Also as manuals write addresses.
    tags.append(tag("text", f"4{TEXT + 1:04}", type="string(11)"))
    tags.append(tag("text/swapped", f"4x{SWAPPED_TEXT + 1}", type="string(11)", order="badc"))
    tags.append(tag("bool", f"{400001 + BOOL}", type="bool"))
    tags += [tag(f"bit/{bit}", f"holding:{BITS}.{bit}", access="rw") for bit in (0, 7, 15)]
    scaled = {"type": "i16", "scale": 0.1, "offset": -40, "min": -40, "max": 100}
    tags.append(tag("scaled", f"holding:{SCALED}", access="rw", **scaled))
    tags.append(tag("clamped", f"holding:{CLAMPED}", type="u16", access="rw", verify=True))
    tags += [tag(name, f"holding:{address}", type="u16") for name, address in AROUND.items()]
    for area, addresses in BIT_ADDRESSES.items():
        keys = {"access": "rw"} if area == "coil" else {}
        tags += [tag(f"{area}/{address}", f"{area}:{address}", **keys) for address in addresses]
    for name, (area, address, _) in MISSING.items():
        keys = {} if area == "coil" else {"type": "u16"}
        tags.append(tag(name, f"{area}:{address}", **keys, **({"access": "rw"} if area == "holding" else {})))
    return '[[template]]\nname = "first"\n\n' + "\n".join(tags) + "\n"


def second_template():
    """The points of the second one, which is written in other ways."""
    tags = [
        tag("coil", "coil:40", access="rw"),
        tag("word", "holding:160", type="u16", access="rw"),
        tag("bit/3", "holding:161.3", access="rw"),
        tag("bit/12", "holding:161.12", access="rw"),
        tag("verified", "holding:162", type="i32", order="cdab", access="rw", verify=True),
    ]
    return '[[template]]\nname = "second"\n\n' + "\n".join(tags) + "\n"
