"""mbpoll, and so libmodbus, against the server: TCP, and RTU by a serial line that ends in a TCP connection."""

import os
import re
import select
import socket
import subprocess
import threading
import tty

from common import (
    COILS, MEMORY, NOBODY, ORDERS, REGISTERS, TAGS, Line, Suite, address, equal, float_of, registers_of,
    shortest,
)

TIMEOUT_S = 60

COIL, DISCRETE, INPUT, HOLDING = "0", "1", "3", "4"


class SerialLine:
    """A terminal whose other side is a TCP connection, as a serial device server makes it."""

    def __init__(self):
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        # Held open, so that the terminal outlives each run of the client.
        self._slave = slave
        self._server = socket.create_connection(address("rtu"))
        threading.Thread(target=self._copy, daemon=True).start()

    def _copy(self):
        while True:
            ready, _, _ = select.select([self._master, self._server], [], [])
            if self._master in ready:
                self._server.sendall(os.read(self._master, 4096))
            if self._server in ready:
                data = self._server.recv(4096)
                if not data:
                    return
                os.write(self._master, data)


class Mbpoll:
    """How to run it for a transport."""

    def __init__(self, transport):
        self._serial = SerialLine() if transport == "rtu" else None
        if self._serial:
            self._mode, self._target = ["-m", "rtu", "-b", "115200", "-P", "none"], self._serial.path
        else:
            host, port = address(transport)
            self._mode, self._target = ["-m", "tcp", "-p", str(port)], host

    def _run(self, unit, kind, first, options, values=()):
        values = [str(value) for value in values]
        command = ["mbpoll", "-q", "-1", "-0", "-o", "10", *self._mode, "-a", str(unit), "-t", kind, "-r", str(first)]
        command += [*options, self._target, *(["--"] if values else []), *values]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        return done.returncode, done.stdout, done.stderr.strip()

    def read(self, unit, kind, first, count, *options):
        """What it printed for each reference, which are checked."""
        code, out, err = self._run(unit, kind, first, ["-c", str(count), *options])
        equal((code, err), (0, ""), f"reading {kind} {first}: exit code and complaint")
        found = re.findall(r"^\[(\d+)\]:\s+(\S+)", out, re.MULTILINE)
        step = 2 if kind.endswith((":int", ":float")) else 1
        equal([int(at) for at, _ in found], [first + step * n for n in range(count)], "references")
        return [value for _, value in found]

    def write(self, unit, kind, first, values, *options):
        code, out, err = self._run(unit, kind, first, options, values)
        equal((code, err), (0, ""), f"writing {kind} {first}: exit code and complaint")
        equal(f"Written {len(values)} references." in out, True, f"confirmation in {out!r}")

    def refused(self, why, unit, kind, first, *options, values=()):
        """The server must refuse, and the program say so in its words."""
        code, _, err = self._run(unit, kind, first, options, values)
        equal((code, err.rsplit(": ", 1)[-1]), (1, why), f"{kind} {first} of unit {unit}")


def main():
    suite = Suite("mbpoll")
    line = Line()
    for transport in ("tcp", "rtu"):
        mbpoll = Mbpoll(transport)
        cases(suite, transport, mbpoll, line)
    suite.end()


def cases(suite, transport, mbpoll, line):
    unit = MEMORY

    with suite.case(transport, "coils: write one (5), many (15), read (1)"):
        bits = [1, 0, 0, 1, 1, 0, 1, 1, 0, 1]
        mbpoll.write(unit, COIL, 100, bits)
        equal(mbpoll.read(unit, COIL, 100, 10), [str(bit) for bit in bits], "coils")
        for on in (1, 0):
            mbpoll.write(unit, COIL, 101, [on])
            equal(mbpoll.read(unit, COIL, 101, 1), [str(on)], "one coil")
            equal(line.get(f"modbus/{unit}/coil/101"), bool(on), "its tag")

    with suite.case(transport, "discretes (2) and input registers (4)"):
        for n, on in enumerate((True, False, True)):
            line.set(f"modbus/{unit}/discrete/{60 + n}", on)
        equal(mbpoll.read(unit, DISCRETE, 60, 3), ["1", "0", "1"], "discretes")
        for n, value in enumerate((1, 65535, 256)):
            line.set(f"modbus/{unit}/input/{60 + n}", value)
        equal(mbpoll.read(unit, INPUT, 60, 3), ["1", "65535", "256"], "input registers")
        equal(mbpoll.read(unit, INPUT + ":hex", 60, 3), ["0x0001", "0xFFFF", "0x0100"], "in hex")

    with suite.case(transport, "holding registers: write one (6), many (16), read (3)"):
        mbpoll.write(unit, HOLDING, 10, [0, 1, 65535])
        mbpoll.write(unit, HOLDING, 11, [4711])
        equal(mbpoll.read(unit, HOLDING, 10, 3), ["0", "4711", "65535"], "registers")
        equal(line.get(f"modbus/{unit}/holding/11"), 4711, "the tag of register 11")
        # As many as it can, which is what the standard allows.
        want = [n * 509 & 0xFFFF for n in range(123)]
        mbpoll.write(unit, HOLDING, 700, want)
        got = mbpoll.read(unit, HOLDING, 699, 125)
        equal([int(value) for value in got], [0, *want, 0], "123 registers written, 125 read")

    with suite.case(transport, "floats, of the two orders that it has"):
        # -B: the higher register first. Its digits are six.
        for order, options in (("abcd", ["-B"]), ("cdab", [])):
            for value in (81.5, -12.375, 0.1, 21.7):
                line.set(f"interop/f32/{order}", value)
                got = mbpoll.read(TAGS, HOLDING + ":float", ORDERS[order], 1, *options)
                equal(float(got[0]), value, f"{order} read")
                mbpoll.write(TAGS, HOLDING + ":float", ORDERS[order], [value + 1], *options)
                equal(line.get(f"interop/f32/{order}"), shortest(value + 1), f"{order} written")
        line.set("interop/input", -273.15)
        equal(mbpoll.read(TAGS, INPUT + ":float", 0, 1), ["-273.15"], "input register")

    with suite.case(transport, "floats of the other two orders, register by register"):
        for order in ("badc", "dcba"):
            line.set(f"interop/f32/{order}", 21.7)
            got = [int(value) for value in mbpoll.read(TAGS, HOLDING, ORDERS[order], 2)]
            equal(float_of(order, got), 21.7, f"{order} read")
            mbpoll.write(TAGS, HOLDING, ORDERS[order], registers_of(order, -0.1))
            equal(line.get(f"interop/f32/{order}"), -0.1, f"{order} written")

    with suite.case(transport, "integers of 32 bits, of both orders"):
        line.set("interop/i32", -123456789)
        equal(mbpoll.read(TAGS, HOLDING + ":int", 22, 1), ["-123456789"], "cdab read")
        mbpoll.write(TAGS, HOLDING + ":int", 22, [-2])
        equal(line.get("interop/i32"), -2, "cdab written")
        line.set("interop/u32", 0x12345678)
        equal(mbpoll.read(TAGS, HOLDING + ":int", 24, 1, "-B"), [str(0x12345678)], "abcd read")
        mbpoll.write(TAGS, HOLDING + ":int", 24, [2000000000], "-B")
        equal(line.get("interop/u32"), 2000000000, "abcd written")

    with suite.case(transport, "exceptions 2 and 10"):
        for what in ((unit, HOLDING, REGISTERS), (unit, INPUT, REGISTERS), (unit, COIL, COILS), (TAGS, HOLDING, 8)):
            mbpoll.refused("Illegal data address", *what)
        mbpoll.refused("Illegal data address", unit, HOLDING, REGISTERS - 1, values=[1, 2])
        mbpoll.refused("Gateway path unavailable", NOBODY, HOLDING, 0)


if __name__ == "__main__":
    main()
