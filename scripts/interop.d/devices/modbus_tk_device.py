"""A device on modbus_tk; image.py says how it is told what to do."""

import socket
import time

from modbus_tk import defines, hooks, modbus_tcp

from image import CLAMPED, MOST, Requests, arguments, obey, ranges

AREAS = {
    "coil": defines.COILS,
    "discrete": defines.DISCRETE_INPUTS,
    "holding": defines.HOLDING_REGISTERS,
    "input": defines.ANALOG_INPUTS,
}
STARTED_WITHIN_S = 120


def block_of(area, address, whole):
    """The name of the block that an address is in."""
    return next(f"{area} {first}" for first, length in ranges(area, whole) if first <= address < first + length)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main():
    port, _, units, whole = arguments()
    server = modbus_tcp.TcpServer(port=port, address="127.0.0.1")
    requests = Requests()
    slaves = {unit: server.add_slave(unit) for unit in units}
    for slave in slaves.values():
        for area, kind in AREAS.items():
            for first, length in ranges(area, whole):
                slave.add_block(f"{area} {first}", kind, first, length)

    def read(unit, area, first, count):
        return slaves[unit].get_values(block_of(area, first, whole), first, count)

    def write(unit, area, first, values):
        slaves[unit].set_values(block_of(area, first, whole), first, values)

    def clamp(_):
        if not whole:
            for unit in units:
                [value] = read(unit, "holding", CLAMPED, 1)
                write(unit, "holding", CLAMPED, [min(value, MOST)])

    hooks.install_hook("modbus.Slave.handle_request", lambda given: requests.add(given[1]))
    hooks.install_hook("modbus.Server.after_handle_request", clamp)
    server.start()
    deadline = time.monotonic() + STARTED_WITHIN_S
    while not listens(port):
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not listen")
        time.sleep(0.05)
    print("listening", flush=True)
    obey(read, write, requests)
    server.stop()


main()
