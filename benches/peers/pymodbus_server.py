"""A Modbus server on pymodbus: what the cost of a request is held against in Python.

Unit 1, all addresses of the four areas in memory. Binds a free port of 127.0.0.1, prints the address and
serves until it is killed.
"""

import asyncio

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

AREA_SIZE = 65_536

# As a list: told a count of bits, 3.16 builds the square of it and runs out of memory.
BITS = [SimData(0, values=[False] * AREA_SIZE, datatype=DataType.BITS)]
REGISTERS = [SimData(0, values=0, count=AREA_SIZE, datatype=DataType.REGISTERS)]


async def main():
    unit = SimDevice(1, (BITS, BITS, REGISTERS, REGISTERS))
    server = ModbusTcpServer(unit, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    host, port = server.transport.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)
    await server.serving


asyncio.run(main())
