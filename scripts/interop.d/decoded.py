"""Let tshark decode what the recorder wrote, and complain of what is not as it should be.

    decoded.py CAPTURE

No frame is malformed or draws a warning, each frame that was carried is decoded, each request has its response, in
order, and a response holds as many values as it says.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict

from common import Suite, equal
from recorder import SERVER_PORTS

FIELDS = [
    "frame.number", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "mbtcp.trans_id", "mbtcp.unit_id",
    "mbrtu.unit_id", "modbus.func_code", "modbus.byte_cnt", "modbus.bitval", "modbus.regval_uint16", "modbus.data",
    "modbus.exception_code", "mbtcp.cannot_classify", "_ws.malformed", "_ws.expert.severity", "_ws.expert.message",
]
# Warnings and errors.
SEVERE = 0x00600000
# How many bytes the values of a response take, by its function.
READ_BYTES = {
    "1": lambda packet: -(-values(packet, "modbus.bitval") // 8),
    "2": lambda packet: -(-values(packet, "modbus.bitval") // 8),
    "3": lambda packet: 2 * values(packet, "modbus.regval_uint16"),
    "4": lambda packet: 2 * values(packet, "modbus.regval_uint16"),
    "23": lambda packet: len(packet["modbus.data"]) // 2,
}
# Functions whose request is but a function code. tshark takes no RTU frame as short as that for one.
BARE_REQUESTS = ("7", "11", "12", "17")


def decode(path):
    """A dictionary for each packet; a field that came more than once has commas."""
    command = ["tshark", "-n", "-r", path]
    # Where the framing is RTU, and that it has a CRC that can be checked.
    command += ["-o", f"mbrtu.tcp.port:{SERVER_PORTS['rtu']}", "-o", "mbrtu.crc_verification:TRUE"]
    command += ["-T", "fields", "-E", "separator=/t", "-E", "aggregator=,"]
    for field in FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"tshark ended with {done.returncode}: {done.stderr.strip()}")
    lines = done.stdout.removesuffix("\n").split("\n")
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]


def values(packet, field):
    return len(packet[field].split(","))


def severe(packet):
    severities = (int(severity) for severity in packet["_ws.expert.severity"].split(",") if severity)
    malformed = packet["_ws.malformed"] or packet["mbtcp.cannot_classify"]
    return bool(malformed) or any(severity >= SEVERE for severity in severities)


def main():
    path = sys.argv[1]
    name = os.path.basename(path)
    with open(path + ".json", encoding="utf-8") as file:
        carried = json.load(file)
    suite = Suite("tshark")
    packets = []

    with suite.case("", f"{name}: nothing malformed, no warning"):
        packets = decode(path + ".pcap")
        equal([f"frame {one['frame.number']}: {one['_ws.expert.message']}" for one in packets if severe(one)], [])

    for transport in SERVER_PORTS:
        requests, responses = (carried.get(f"{transport} {way}", 0) for way in ("requests", "responses"))
        if requests == 0:
            continue
        with suite.case(transport, f"{name}: {requests} requests and their responses, in order"):
            equal(responses, requests, "responses")
            compare(packets, transport, requests)
    suite.end()


def compare(packets, transport, requests):
    """All frames of a transport against each other, and against how many there were."""
    layer = "udp" if transport == "udp" else "tcp"
    server_port = str(SERVER_PORTS[transport])
    asked, answered = defaultdict(list), defaultdict(list)
    bare = 0
    for packet in packets:
        source, target = packet[layer + ".srcport"], packet[layer + ".dstport"]
        if not packet["modbus.func_code"] or server_port not in (source, target):
            continue
        functions = packet["modbus.func_code"].split(",")
        units = (packet["mbtcp.unit_id"] or packet["mbrtu.unit_id"]).split(",")
        transactions = packet["mbtcp.trans_id"].split(",") if packet["mbtcp.trans_id"] else [""] * len(units)
        frames = list(zip(transactions, units, functions, strict=True))
        if target == server_port:
            asked[source] += frames
            continue
        refused = packet["modbus.exception_code"] != ""
        if transport == "rtu" and refused and functions[0] in BARE_REQUESTS:
            bare += 1
            continue
        answered[target] += frames
        if functions[0] in READ_BYTES and len(functions) == 1 and not refused:
            held = READ_BYTES[functions[0]](packet)
            equal(packet["modbus.byte_cnt"], str(held), f"count of bytes in frame {packet['frame.number']}")
    equal(sum(map(len, asked.values())), requests - bare, "requests decoded")
    equal(sum(map(len, answered.values())), requests - bare, "responses decoded")
    for client, frames in asked.items():
        equal(answered[client], frames, f"transactions, units and functions answered to port {client}")


if __name__ == "__main__":
    main()
