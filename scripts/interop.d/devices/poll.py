"""Let Lumina poll and write real devices, and check what both sides have.

    poll.py WORK LUMINA NAME…

One Lumina polls all devices that are named, each from two sections on one connection. The devices go through all
cases at the same time, each in a thread, for most of the time is spent waiting. What they print, and Lumina's
configuration, log and answers, are left in WORK.
"""

import os
import signal
import subprocess
import sys
import threading
import time

from common import Line, Suite, equal, printed
from peers import PEERS, free_port
from points import (
    BITS, CHANGES, MEANINGLESS, MISSING, ROUNDS, SCALED, VALUES, encoded, image, second_template, shown, template,
)

# So long anything may take, on a machine that does other things as well.
SOON_S = 60
# So long all of it.
LONGEST_S = 600

CONFIGURATION = """\
[server]
name = "interop polls"

[[listen]]
url = "line://127.0.0.1:{line}"

{templates}
{devices}"""

DEVICE = """\
[[device]]
name = "{name}"
url = "{url}"
unit = {unit}
template = "{template}"
rate = "100ms"
# No healthy device is to be held for dead because this machine has other things to do.
timeout = "1s"
retries = 2
stale_after = "10s"
{options}
"""


def until(what, wanted, ask):
    """Ask until it is what is wanted; it must be soon."""
    deadline = time.monotonic() + SOON_S
    while (got := ask()) != wanted:
        if time.monotonic() > deadline:
            if isinstance(got, dict) and isinstance(wanted, dict):
                names = sorted(name for name in wanted | got if wanted.get(name) != got.get(name))
                got, wanted = ({name: side.get(name) for name in names} for side in (got, wanted))
            equal(got, wanted, what)
            return
        time.sleep(0.05)


class Polled:
    """A peer as Lumina shows it."""

    def __init__(self, peer):
        self.peer = peer
        self.first, self.second, self.deaf = peer.name, peer.name + "-b", peer.name + "-deaf"
        self.suite = Suite(peer.name, width=13)

    def sections(self):
        both = {"url": self.peer.url}
        yield DEVICE.format(name=self.first, unit=1, template="first", options="use_fc22 = true", **both)
        options = 'write_single = false\nbit_write = "rmw"\nmax_registers = 7'
        unit = self.peer.second_unit
        yield DEVICE.format(name=self.second, unit=unit, template="second", options=options, **both)
        if self.peer.is_silent_to_others:
            options = f'timeout = "200ms"\n[[device.tag]]\nname = "any"\naddress = "holding:0"\ntype = "u16"'
            section = DEVICE.replace('timeout = "1s"\n', "").replace('template = "{template}"\n', "")
            yield section.format(name=self.deaf, unit=9, options=options, **both)

    def connect(self):
        self.line = Line()

    def samples(self, device):
        """Of each tag of a device, without its name: what it is and its quality."""
        *lines, _ = self.line.ask(f"READ {device}/#")
        fields = (line.split(" ", 2) for line in lines)
        return {name.removeprefix(device + "/"): shown(rest) for _, name, rest in fields}

    def figure(self, name, device=None):
        return self.line.sample(f"$device/{device or self.first}/{name}")[0]

    def write(self, tag, value, device=None):
        """What Lumina answers to a write of JSON."""
        return self.line.ask(f"SET {device or self.first}/{tag} {value}")[-1]

    def requests(self, address):
        """What the device was asked since the last time about that address, in hex; polls of single bits aside."""
        asked = [pdu for pdu in self.peer.requests() if pdu[2:6] == f"{address:04x}"]
        return [pdu for pdu in asked if pdu[:2] not in ("01", "02")]

    def run(self):
        """All cases."""
        try:
            self.connect()
            self.cases()
        finally:
            self.peer.stop()

    def case(self, what):
        return self.suite.case(self.peer.carrier, what)

    def cases(self):
        peer = self.peer
        with self.case("two devices on one connection, online"):
            until("states", ["online"] * 2, lambda: [self.figure("state", name) for name in (self.first, self.second)])

        for turn in range(ROUNDS):
            with self.case(f"all types, orders and areas, values {turn + 1} of {ROUNDS}"):
                registers, values = image(turn)
                for area, first, words in registers:
                    peer.set(1, area, first, words)
                until("tags", values, lambda: self.samples(self.first))

        with self.case("registers without a meaning are bad, and good again"):
            self.meaningless()

        with self.case("what is missing is out of the poll, and nothing else"):
            until("quarantined", len(MISSING), lambda: self.figure("quarantined"))
            equal(self.figure("state"), "online")
            equal({tag: self.samples(self.first)[tag] for tag in MISSING}, dict.fromkeys(MISSING, (None, "bad")))
            equal(self.figure("quarantined", self.second), 0, "of the other device")

        with self.case("writes of all types and orders (6, 16)"):
            self.write_all()
        with self.case("writes of coils (5) and of bits of registers (22)"):
            self.write_bits()
        with self.case("writes by 15 and 16 only, bits by reading and writing, read-back of two registers"):
            self.write_otherwise()
        with self.case("limits and scale, what the device refuses, read-back"):
            self.write_limits()

        if peer.is_silent_to_others:
            with self.case("a deaf unit on the same connection is silent, and holds up nobody"):
                until("state", "silent", lambda: self.figure("state", self.deaf))
                equal(self.line.ask(f"SET {self.second}/word 7")[-1], "OK")
                equal(self.figure("state"), "online")
                self.all_good("while one is deaf")

        with self.case("a device that hangs is silent and its tags uncertain; then good again"):
            self.hang()
        with self.case("a device that is gone is offline and its tags uncertain"):
            self.go()
        with self.case("it comes back, with what was missing: all is good, old orders are not sent"):
            self.come_back()
        with self.case("no reply was taken for another"):
            self.all_good("at the end")
            # Without ids, what a device that hung says when it goes on answers nobody, and is dropped and counted.
            if peer.carrier != "rtu":
                names = (self.first, self.second)
                equal([self.figure("mismatched", name) for name in names], [0, 0], "mismatched")

    def meaningless(self):
        _, values = image(ROUNDS - 1)
        for tag, (first, words) in MEANINGLESS.items():
            was = self.peer.get(1, "holding", first, len(words))
            self.peer.set(1, "holding", first, words)
            until(tag, (None, "bad"), lambda tag=tag: self.samples(self.first)[tag])
            equal(self.figure("state"), "online")
            self.peer.set(1, "holding", first, was)
            until(tag, values[tag], lambda tag=tag: self.samples(self.first)[tag])

    def write_all(self):
        for name, kind, order, address in VALUES["holding"]:
            for value in CHANGES[kind]:
                words = encoded(kind, order, value)
                self.peer.requests()
                equal(self.write(name, printed(value)), "OK", f"{name} {value}")
                # Confirmed is confirmed, whatever poll was under way.
                equal(self.samples(self.first)[name], (value, "good"), name)
                equal(self.peer.get(1, "holding", address, len(words)), words, f"{name} in the device")
                data = "".join(f"{word:04x}" for word in words)
                wanted = f"06{address:04x}{data}"
                if len(words) > 1:
                    wanted = f"10{address:04x}{len(words):04x}{2 * len(words):02x}{data}"
                equal(self.requests(address), [wanted], f"request for {name}")

    def write_bits(self):
        for address in (0, 2, 63):
            for on in (True, False):
                self.peer.requests()
                equal(self.write(f"coil/{address}", str(on).lower()), "OK")
                equal(self.peer.get(1, "coil", address, 1), [int(on)], "the coil")
                equal(self.requests(address), [f"05{address:04x}{'ff00' if on else '0000'}"])
                equal(self.samples(self.first)[f"coil/{address}"], (on, "good"))
        self.peer.set(1, "holding", BITS, [0x5AA5])
        for bit, on, left in ((15, True, 0xDAA5), (0, False, 0xDAA4), (7, False, 0xDA24), (7, True, 0xDAA4)):
            self.peer.requests()
            equal(self.write(f"bit/{bit}", str(on).lower()), "OK")
            mask = f"16{BITS:04x}{0xFFFF & ~(1 << bit):04x}{int(on) << bit:04x}"
            equal(self.requests(BITS), [mask])
            equal(self.peer.get(1, "holding", BITS, 1), [left], "the register")
            equal(self.samples(self.first)[f"bit/{bit}"], (on, "good"))
        bits = {f"bit/{bit}": (bool(0xDAA4 >> bit & 1), "good") for bit in (0, 7, 15)}
        until("bits", bits, lambda: {tag: self.samples(self.first)[tag] for tag in bits})

    def write_otherwise(self):
        unit = self.peer.second_unit
        self.peer.set(unit, "holding", 161, [0x00FF])
        for tag, area, address, value, asked, left in (
            ("coil", "coil", 40, "true", ["0f0028000101" + "01"], [1]),
            ("coil", "coil", 40, "false", ["0f0028000101" + "00"], [0]),
            ("word", "holding", 160, "4660", ["1000a0000102" + "1234"], [0x1234]),
            ("bit/12", "holding", 161, "true", ["0300a10001", "1000a1000102" + "10ff"], [0x10FF]),
            ("bit/3", "holding", 161, "false", ["0300a10001", "1000a1000102" + "10f7"], [0x10F7]),
            # Read back as well, which is two registers and so not among the requests that are remembered.
            ("verified", "holding", 162, "-2", ["1000a2000204" + "fffeffff"], [0xFFFE, 0xFFFF]),
        ):
            self.peer.requests()
            equal(self.write(tag, value, self.second), "OK", tag)
            equal(self.peer.get(unit, area, address, len(left)), left, f"{tag} in the device")
            equal(self.requests(address), asked, f"requests for {tag}")
            wanted = value == "true" if value in ("true", "false") else int(value)
            equal(self.samples(self.second)[tag], (wanted, "good"))
        qualities = {tag: quality for tag, (_, quality) in self.samples(self.second).items()}
        equal(qualities, dict.fromkeys(qualities, "good"))

    def write_limits(self):
        self.peer.requests()
        for value, word in (("21.7", 617), ("-40", 0), ("100", 1400)):
            equal(self.write("scaled", value), "OK")
            equal(self.peer.get(1, "holding", SCALED, 1), [word], "scaled")
            equal(self.samples(self.first)["scaled"], (float(value), "good"))
        equal(len(self.requests(SCALED)), 3)
        for value in ("-40.1", "100.1", "1e9"):
            equal(self.write("scaled", value).split(" ")[:2], ["ERR", "out-of-range"], value)
        equal(self.write("scaled", '"warm"').split(" ")[:2], ["ERR", "wrong-type"])
        equal(self.requests(SCALED), [], "what is refused is not sent")
        equal(self.write("input/u16/abcd", "1").split(" ")[:2], ["ERR", "read-only"])

        # It is out of the poll, and yet the device itself says what it thinks of a write.
        equal(self.write("missing", "1"), "ERR device illegal data address")
        equal(self.requests(120)[-1:], ["0600780001"], "the request")

        equal(self.write("clamped", "1000"), "OK")
        equal(self.requests(108), ["06006c03e8", "03006c0001"], "written and read back")
        if self.peer.clamps:
            equal(self.write("clamped", "1001"), "ERR device read-back differs")
            equal(self.samples(self.first)["clamped"], (1000, "good"), "what the device has")
            equal(self.peer.get(1, "holding", 108, 1), [1000])

    def all_good(self, when):
        qualities = {tag: quality for tag, (_, quality) in self.samples(self.first).items() if tag not in MISSING}
        equal({tag: quality for tag, quality in qualities.items() if quality != "good"}, {}, when)

    def doubtful(self, was):
        """The tags as they are when nobody knows."""
        return {tag: (value, "uncertain" if quality == "good" else quality) for tag, (value, quality) in was.items()}

    def hang(self):
        was = self.samples(self.first)
        self.peer.signal(signal.SIGSTOP)
        try:
            until("state", True, lambda: self.figure("state") in ("silent", "offline"))
            until("tags", self.doubtful(was), lambda: self.samples(self.first))
            equal(self.write("holding/u16/abcd", "1").split(" ")[:2], ["ERR", "offline"])
        finally:
            self.peer.signal(signal.SIGCONT)
        until("state", "online", lambda: self.figure("state"))
        until("tags", was, lambda: self.samples(self.first))

    def go(self):
        was = self.samples(self.first)
        self.peer.stop()
        until("tags", self.doubtful(was), lambda: self.samples(self.first))
        names = (self.first, self.second)
        gone = [["offline"] * 2] + ([["silent"] * 2] if self.peer.carrier == "udp" else [])
        until("states", True, lambda: [self.figure("state", name) for name in names] in gone)
        equal(self.write(VALUES["holding"][0][0], "77").split(" ")[:2], ["ERR", "offline"])

    def come_back(self):
        self.peer.start(whole=True)
        self.peer.requests()
        registers, values = image(0)
        for area, first, words in registers:
            self.peer.set(1, area, first, words)
        for tag, (area, address, value) in MISSING.items():
            self.peer.set(1, area, address, [value])
            values[tag] = (bool(value) if area == "coil" else value, "good")
        until("states", ["online"] * 2, lambda: [self.figure("state", name) for name in (self.first, self.second)])
        until("tags", values, lambda: self.samples(self.first))
        until("quarantined", 0, lambda: self.figure("quarantined"))
        equal([pdu for pdu in self.peer.requests() if int(pdu[:2], 16) >= 5], [], "writes")
        equal(self.figure("reconnects") >= 1 or self.peer.carrier == "udp", True, "reconnects")


def all_at_once(calls):
    """Each in a thread of its own, which does not hold up the end of the program."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LONGEST_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    equal(sum(thread.is_alive() for thread in threads), 0, f"devices that are not done within {LONGEST_S} s")


def configuration(polled, port):
    sections = "\n".join(section for one in polled for section in one.sections())
    return CONFIGURATION.format(line=port, templates=template() + second_template(), devices=sections)


def main():
    work, lumina, *names = sys.argv[1:]
    # What was started is stopped in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    polled = [Polled(PEERS[name](work)) for name in names]
    port = free_port()
    os.environ["INTEROP_LINE"] = f"127.0.0.1:{port}"
    file = os.path.join(work, "polls.toml")
    with open(file, "w", encoding="utf-8") as out:
        out.write(configuration(polled, port))
    server = None
    try:
        all_at_once(one.peer.start for one in polled)
        with open(os.path.join(work, "polls.log"), "w", encoding="utf-8") as log:
            command = [lumina, "serve", "--config", file]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        equal(server.stdout.readline(), f"listening on line://127.0.0.1:{port}\n", "Lumina")
        all_at_once(one.run for one in polled)
        server.send_signal(signal.SIGTERM)
        equal(server.wait(timeout=SOON_S), 0, "Lumina's exit code")
    finally:
        if server:
            server.kill()
            server.wait()
        for one in polled:
            one.peer.stop()
    sys.exit(0 if polled and all(one.suite.is_fine() for one in polled) else 1)


if __name__ == "__main__":
    main()
