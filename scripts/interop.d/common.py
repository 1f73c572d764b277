"""What the clients share: where the server is, its line protocol, and how a case is reported.

The server of lumina.toml has memory as unit 1 and tags as unit 2. Its addresses are in the environment:
INTEROP_LINE, INTEROP_TCP, INTEROP_UDP and INTEROP_RTU, each as host:port.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import traceback

MEMORY = 1
TAGS = 2
NOBODY = 77  # a unit that is not there

# Of unit 1, as in lumina.toml.
COILS = 2000
REGISTERS = 1000

# How the four bytes of a float come, and where unit 2 has one in that order.
ORDERS = {"abcd": 0, "cdab": 2, "badc": 4, "dcba": 6}

# Values of 32 bits, as their shortest decimals.
FLOATS = [81.5, -12.375, 0.1, 21.7, 3.4028235e38, 1e-45, -0.0, 16777216.0]

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
NO_PATH = 10


def address(name):
    """Host and port of "line", "tcp", "udp" or "rtu"."""
    host, port = os.environ["INTEROP_" + name.upper()].rsplit(":", 1)
    return host, int(port)


def arranged(order, data):
    """The bytes of a value, highest first, in the order of the wire; and back."""
    a, b, c, d = data
    return {
        "abcd": bytes([a, b, c, d]),
        "cdab": bytes([c, d, a, b]),
        "badc": bytes([b, a, d, c]),
        "dcba": bytes([d, c, b, a]),
    }[order]


def registers_of(order, value):
    """The two registers of a float."""
    return list(struct.unpack(">HH", arranged(order, struct.pack(">f", value))))


def float_of(order, registers):
    """The float in two registers, as its shortest decimal."""
    return shortest(struct.unpack(">f", arranged(order, struct.pack(">HH", *registers)))[0])


def shortest(single):
    """A number of 32 bits as the one of 64 bits that has its shortest decimal: 0.1, not 0.10000000149."""
    for digits in range(1, 10):
        near = float(f"{single:.{digits}g}")
        with contextlib.suppress(OverflowError):
            if struct.pack(">f", near) == struct.pack(">f", single):
                return near
    return single


class Line:
    """A connection that speaks the line protocol."""

    def __init__(self):
        self._file = socket.create_connection(address("line"), timeout=60).makefile("rw", newline="\n")

    def ask(self, request):
        """The data lines and the final line of the reply."""
        self._file.write(request + "\n")
        self._file.flush()
        lines = [self.next()]
        while lines[-1].split(" ")[0] not in ("OK", "ERR"):
            lines.append(self.next())
        return lines

    def next(self):
        """The next line that comes."""
        line = self._file.readline()
        if not line:
            raise ConnectionError("the line connection ended")
        return line.rstrip("\n")

    def set(self, tag, value, *quality):
        """Write a tag; good, unless a quality is given."""
        request = " ".join(["SET", tag, printed(value), *quality])
        equal(self.ask(request), ["OK"], f"reply to {request}")

    def get(self, tag):
        """The value of a tag, which must be good."""
        value, quality = self.sample(tag)
        equal(quality, "good", f"quality of {tag}")
        return value

    def sample(self, tag):
        """Value and quality of a tag."""
        reply = self.ask(f"GET {tag}")[-1]
        if not reply.startswith("OK "):
            raise AssertionError(f"GET {tag}: {reply}")
        value, quality, _time = reply[3:].rsplit(" ", 2)
        return parsed(value), quality


def printed(value):
    """As the line protocol writes it."""
    if isinstance(value, float) and value != value:
        return "nan"
    return json.dumps(value, ensure_ascii=False).replace("Infinity", "inf")


def parsed(text):
    """As the line protocol writes it, back."""
    return float(text) if text in ("nan", "inf", "-inf") else json.loads(text)


def equal(got, want, what="got"):
    """They are the same; 1, 1.0 and True are not, 0.0 and -0.0 neither."""
    if repr(got) != repr(want):
        raise AssertionError(f"{what}: {got!r}, wanted {want!r}")


# Of what is said of a failure.
MOST_CHARS = 2000


class Suite:
    """The cases of one client. Each gives a line; at the end it is known whether all were fine."""

    def __init__(self, client, width=10):
        self._client = f"{client:<{width}}"
        self._failed = 0
        self._done = 0

    @contextlib.contextmanager
    def case(self, transport, what):
        """A case. It fails by any exception, and the next one is tried all the same."""
        self._done += 1
        try:
            yield
        except Exception as fault:  # whatever the client's library raises
            self._failed += 1
            where = traceback.extract_tb(fault.__traceback__)[1:][:1]
            said = [f"      line {frame.lineno}: {frame.line}" for frame in where]
            self._say("FAIL", transport, what, *said, f"      {type(fault).__name__}: {fault}"[:MOST_CHARS])
        else:
            self._say("ok", transport, what)

    def _say(self, outcome, transport, what, *more):
        # In one piece, for others may have something to say as well.
        print("\n".join([f"{outcome:<5} {self._client} {transport:<4} {what}", *more]) + "\n", end="", flush=True)

    def is_fine(self):
        """There were cases, and none failed."""
        return self._done > 0 and self._failed == 0

    def end(self):
        """Leave the program: with 1 if any case failed, or if there was none."""
        sys.exit(0 if self.is_fine() else 1)
