"""The devices: how each is started, stopped, told what to hold and asked what it holds."""

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

from image import MISSING, READS, SIZES

HERE = os.path.dirname(os.path.abspath(__file__))
# So long a program may take to start; it is Python, and there are many.
STARTED_WITHIN_S = 120
# So long to end.
ENDED_WITHIN_S = 30
# Below the ports that systems choose by themselves (from 32768 on Linux), so that nobody takes one meanwhile.
PORTS = (20_000, 32_000)
# What free_port has given: nobody may have bound it yet.
_given = set()


def free_port():
    """A port of 127.0.0.1 that is free for TCP and UDP, another each time."""
    while True:
        port = random.randrange(*PORTS)
        if port in _given:
            continue
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
                _given.add(port)
                return port
            except OSError:
                continue


class Peer:
    """A program of this folder."""

    scheme = "modbus"
    carrier = "tcp"
    # The unit of the second device; where units are not looked at, the same memory.
    second_unit = 2
    # Requests to other units are not answered.
    is_silent_to_others = False
    # One register is limited.
    clamps = True

    def __init__(self, work, units=None):
        self._work = work
        self._units = units or sorted({1, self.second_unit})
        self.port = free_port()
        self._process = None
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"

    def command(self):
        raise NotImplementedError

    def start(self, whole=False):
        arguments = [str(self.port), self.carrier, ",".join(map(str, self._units))] + ["whole"] * whole
        with open(os.path.join(self._work, f"{self.name}.log"), "a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*self.command(), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        said = self._process.stdout.readline()
        if said != "listening\n":
            raise RuntimeError(f"{self.name} did not start; its log is {self.name}.log")

    def stop(self):
        """At once, as if the plug were pulled."""
        if self._process:
            self._process.kill()
            self._process.wait(timeout=ENDED_WITHIN_S)
            self._process = None

    def signal(self, number):
        self._process.send_signal(number)

    def _ask(self, *fields):
        self._process.stdin.write(" ".join(map(str, fields)) + "\n")
        self._process.stdin.flush()
        reply = self._process.stdout.readline()
        if not reply:
            raise RuntimeError(f"{self.name} has ended; its log is {self.name}.log")
        return reply.split()

    def set(self, unit, area, first, values):
        if self._ask("set", unit, area, first, *values) != ["ok"]:
            raise RuntimeError(f"{self.name} could not set {area} {first}")

    def get(self, unit, area, first, count):
        return [int(value) for value in self._ask("get", unit, area, first, count)]

    def requests(self):
        return self._ask("requests")


class Pymodbus(Peer):
    name = "pymodbus-tcp"

    def command(self):
        return [sys.executable, os.path.join(HERE, "pymodbus_device.py")]


class PymodbusUdp(Pymodbus):
    name = "pymodbus-udp"
    scheme, carrier = "modbus+udp", "udp"


class PymodbusRtu(Pymodbus):
    name = "pymodbus-rtu"
    scheme, carrier = "modbus-rtu", "rtu"


class ModbusTk(Peer):
    name = "modbus_tk-tcp"
    is_silent_to_others = True

    def command(self):
        return [sys.executable, os.path.join(HERE, "modbus_tk_device.py")]


class Libmodbus(Peer):
    name = "libmodbus-tcp"

    def command(self):
        return [os.path.join(self._work, "libmodbus_device")]


class LibmodbusRtu(Libmodbus):
    """It has one unit. There is no deaf one beside it: after a request to another unit the library takes the next
    frame for that one's answer, whatever it is."""

    name = "libmodbus-rtu"
    scheme, carrier = "modbus-rtu", "rtu"
    second_unit = 1


class Simulator(Peer):
    """The program pymodbus.simulator with a configuration, told and asked over HTTP."""

    name = "simulator-tcp"
    clamps = False
    # Registers of its one list, in which an area begins where the one before ends; 16 bits are one of them.
    _areas = {"coil": 0, "discrete": 100, "input": 200, "holding": 400}
    _lengths = {"coil": 100, "discrete": 100, "input": 200, "holding": 300}

    def __init__(self, work):
        super().__init__(work)
        self._http_port = free_port()
        self._log = os.path.join(work, f"{self.name}.log")
        self._read_to = 0

    def start(self, whole=False):
        self._read_to = 0
        file = os.path.join(self._work, f"{self.name}.json")
        with open(file, "w", encoding="utf-8") as out:
            json.dump(self._configuration(whole), out, indent=1)
        command = [os.path.join(os.path.dirname(sys.executable), "pymodbus.simulator"), "--json_file", file]
        command += ["--modbus_server", "server", "--modbus_device", "device", "--log", "debug"]
        command += ["--http_host", "127.0.0.1", "--http_port", str(self._http_port)]
        with open(self._log, "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._work)
        deadline = time.monotonic() + STARTED_WITHIN_S
        while True:
            try:
                return self._registers(0, 1)
            except ConnectionError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.1)

    def _configuration(self, whole):
        defaults = dict.fromkeys(("bits", "uint16", "uint32", "float32", "float64", "string"))
        values = {"bits": 0, "uint16": 0, "uint32": 0, "float32": 0.0, "float64": 0.0, "string": " "}
        there = {"bits": [], "uint16": []}
        for area, start in self._areas.items():
            if area in ("coil", "discrete"):
                size = self._lengths[area] - 1 if whole else SIZES[area] // 16
                there["bits"].append([start, start + size - 1])
                continue
            first = 0
            for missing in (*(() if whole else MISSING[area]), SIZES[area]):
                if missing > first:
                    there["uint16"].append([start + first, start + missing - 1])
                first = missing + 1
        return {
            "server_list": {
                "server": {
                    "comm": self.carrier,
                    "host": "127.0.0.1",
                    "port": self.port,
                    "ignore_missing_devices": False,
                    "framer": "socket",
                }
            },
            "device_list": {
                "device": {
                    "setup": {
                        "co size": self._lengths["coil"],
                        "di size": self._lengths["discrete"],
                        "ir size": self._lengths["input"],
                        "hr size": self._lengths["holding"],
                        "shared blocks": False,
                        "type exception": False,
                        "defaults": {"value": values, "action": defaults},
                    },
                    "invalid": [],
                    "write": [*there["bits"], *there["uint16"]],
                    **there,
                    "uint32": [],
                    "float32": [],
                    "float64": [],
                    "string": [],
                    "repeat": [],
                }
            },
        }

    def _post(self, **what):
        connection = http.client.HTTPConnection("127.0.0.1", self._http_port, timeout=STARTED_WITHIN_S)
        try:
            connection.request("POST", "/restapi/registers", json.dumps(what))
            reply = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if reply["result"] != "ok":
            raise RuntimeError(f"{self.name}: {reply}")
        return reply["register_rows"]

    def _registers(self, first, count):
        rows = self._post(submit="Registers", range_start=first, range_stop=first + count - 1)
        return [int(row["value"], 0) for row in rows]

    def set(self, _unit, area, first, values):
        at = self._areas[area]
        if area in ("coil", "discrete"):
            for bit, value in enumerate(values, first):
                register = at + bit // 16
                [was] = self._registers(register, 1)
                was = was & ~(1 << bit % 16) | value << bit % 16
                # As texts, for the number 0 is none.
                self._post(submit="Set", register=str(register), value=str(was))
            return
        for register, value in enumerate(values, at + first):
            self._post(submit="Set", register=str(register), value=str(value))

    def get(self, _unit, area, first, count):
        at = self._areas[area]
        if area in ("coil", "discrete"):
            return [self._registers(at + bit // 16, 1)[0] >> bit % 16 & 1 for bit in range(first, first + count)]
        return self._registers(at + first, count)

    def requests(self):
        """From its log, which has each frame that it takes to pieces."""
        # It answers only after it has written.
        self._registers(0, 1)
        with open(self._log, encoding="utf-8", errors="replace") as log:
            log.seek(self._read_to)
            said = log.read()
            self._read_to = log.tell()
        frames = (bytes.fromhex("".join(f"{int(byte, 16):02x}" for byte in found.split()))
                  for found in re.findall(r"Processing: ((?:0x[0-9a-f]+ ?)+)", said))
        pdus = (frame[7:] for frame in frames)
        return [pdu.hex() for pdu in pdus if pdu[0] not in READS or pdu[3:5] == b"\0\1"]


class SimulatorUdp(Simulator):
    name = "simulator-udp"
    scheme, carrier = "modbus+udp", "udp"


PEERS = {
    peer.name: peer
    for peer in (Pymodbus, PymodbusUdp, PymodbusRtu, Simulator, SimulatorUdp, ModbusTk, Libmodbus, LibmodbusRtu)
}
