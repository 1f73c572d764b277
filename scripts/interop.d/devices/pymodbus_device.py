"""A device on pymodbus; image.py says how it is told what to do."""

import asyncio

from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer, ModbusUdpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from image import CLAMPED, MOST, Requests, arguments, obey_aside, ranges

# In pymodbus's order.
AREAS = ("coil", "discrete", "holding", "input")
READ_HOLDINGS = 3


def device(unit, whole):
    """Bits are told as a list, for of a count 3.16 builds the square."""
    simdata = []
    for area in AREAS:
        is_bits = area in ("coil", "discrete")
        kind = DataType.BITS if is_bits else DataType.REGISTERS
        simdata.append([
            SimData(first, values=[False] * length if is_bits else [0] * length, datatype=kind)
            for first, length in ranges(area, whole)
        ])
    return SimDevice(unit, tuple(simdata), action=None if whole else clamp)


async def clamp(function, start, _address, _count, registers, _values):
    """One register is limited: when it is read, for the confirmation of a write shows what is there by then."""
    if function == READ_HOLDINGS:
        registers[CLAMPED - start] = min(registers[CLAMPED - start], MOST)


async def main():
    port, carrier, units, whole = arguments()
    requests = Requests()
    devices = [device(unit, whole) for unit in units]
    kind = ModbusUdpServer if carrier == "udp" else ModbusTcpServer
    framer = FramerType.RTU if carrier == "rtu" else FramerType.SOCKET

    def trace(is_sent, pdu):
        if not is_sent:
            requests.add(bytes([pdu.function_code]) + pdu.encode())
        return pdu

    server = kind(devices, framer=framer, address=("127.0.0.1", port), trace_pdu=trace)
    await server.serve_forever(background=True)
    loop = asyncio.get_running_loop()

    def ask(call):
        return asyncio.run_coroutine_threadsafe(call, loop).result()

    def read(unit, area, first, count):
        function = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}[area]
        return ask(server.async_getValues(unit, function, first, count))

    def write(unit, area, first, values):
        # pymodbus itself looks only at the area that a function is of.
        function = {"coil": 15, "discrete": 2, "holding": 16, "input": 4}[area]
        values = [bool(value) for value in values] if area in ("coil", "discrete") else values
        ask(server.async_setValues(unit, function, first, values))

    ended = asyncio.Event()
    obey_aside(read, write, requests, lambda: loop.call_soon_threadsafe(ended.set))
    print("listening", flush=True)
    await ended.wait()


asyncio.run(main())
