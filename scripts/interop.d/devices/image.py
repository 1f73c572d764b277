"""What all devices look like: how large their areas are, and what is missing in them.

Each program here that is a device is told by lines on its standard input, and answers each with one line:

    set UNIT AREA FIRST VALUE…      ok
    get UNIT AREA FIRST COUNT       VALUE…
    requests                        the requests since the last time that it was asked, in hex, without framing:
                                    all that write, and those that read a single register or bit

Its arguments are the port of 127.0.0.1, how frames travel (tcp, udp or rtu) and its units ("1,2"). Given "whole"
besides, nothing is missing in its areas, and they are SPACIOUS. It ends with its standard input.
"""

import collections
import sys
import threading

SIZES = {"coil": 64, "discrete": 64, "input": 100, "holding": 200}
SPACIOUS = 10_000
# Addresses that answer exception 2 though others around them do not.
MISSING = {"coil": (), "discrete": (), "input": (95,), "holding": (111, 112, 120)}

# A holding register that cannot hold more than that, whatever is written.
CLAMPED, MOST = 108, 1000

READS = (1, 2, 3, 4)
MOST_REQUESTS = 10_000


def ranges(area, whole):
    """First addresses and lengths of what is there."""
    size = SPACIOUS if whole else SIZES[area]
    first = 0
    for missing in (*(() if whole else MISSING[area]), size):
        if missing > first:
            yield first, missing - first
        first = missing + 1


class Requests:
    """Remembers requests."""

    def __init__(self):
        self._all = collections.deque(maxlen=MOST_REQUESTS)

    def add(self, pdu):
        if pdu[0] not in READS or pdu[3:5] == b"\0\1":
            self._all.append(bytes(pdu).hex())

    def take(self):
        return [self._all.popleft() for _ in range(len(self._all))]


def arguments():
    """Port, carrier, units, and whether nothing is missing."""
    port, carrier, units = sys.argv[1:4]
    return int(port), carrier, [int(unit) for unit in units.split(",")], "whole" in sys.argv[4:]


def obey(read, write, requests):
    """Answer what comes on standard input; returns with its end."""
    for line in sys.stdin:
        verb, *fields = line.split()
        if verb == "requests":
            reply = requests.take()
        else:
            unit, area, first, *numbers = fields
            numbers = [int(number) for number in numbers]
            if verb == "set":
                write(int(unit), area, int(first), numbers)
                reply = ["ok"]
            else:
                reply = read(int(unit), area, int(first), *numbers)
        print(*(item if isinstance(item, str) else int(item) for item in reply), flush=True)


def obey_aside(*how):
    """The same beside whatever the program does; `how` ends with what is done at the end."""
    *how, end = how

    def run():
        obey(*how)
        end()

    threading.Thread(target=run, daemon=True).start()
