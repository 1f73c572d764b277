"""modbus_tk against the server, over TCP and RTU in TCP."""

import struct
import sys

import modbus_tk.defines as fn
from modbus_tk.exceptions import ModbusError
from modbus_tk.modbus_rtu_over_tcp import RtuOverTcpMaster
from modbus_tk.modbus_tcp import TcpMaster

from common import (
    COILS, FLOATS, ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, MEMORY, NO_PATH, NOBODY, ORDERS, REGISTERS,
    TAGS, Line, Suite, address, equal, float_of, registers_of, shortest,
)

TIMEOUT_S = 30
VERSION = sys.argv[1]

# What an exception takes in RTU framing; the client waits for a whole reply unless it is told.
EXCEPTION_BYTES = 5
# Around the message in RTU framing: the unit and the CRC.
RTU_BYTES = 3
# An identification before its objects.
IDENTIFICATION_BYTES = 7

BASIC, INDIVIDUAL = 1, 4
# Vendor, product code, revision.
IDENTIFICATION = ("Lumina", "lumina-server", VERSION)


def refused(master, code, what, *request, **more):
    """The request must be answered with that exception."""
    try:
        got = master.execute(*request, **more, expected_length=EXCEPTION_BYTES)
    except ModbusError as fault:
        equal(fault.get_exception_code(), code, what)
    else:
        raise AssertionError(f"{what}: {got}, wanted exception {code}")


def identify(master, access, object, object_bytes):
    """The answer behind its function code."""
    length = IDENTIFICATION_BYTES + object_bytes + RTU_BYTES
    return bytes(
        master.execute(
            MEMORY, fn.DEVICE_INFO, 0, output_value=(access, object), expected_length=length, returns_raw=True
        )
    )


def functions(suite, transport, master, line):
    unit = MEMORY

    with suite.case(transport, "coils: write one (5), many (15), read (1)"):
        want = (1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1)
        equal(master.execute(unit, fn.WRITE_MULTIPLE_COILS, 100, output_value=want), (100, 11), "echo of 15")
        equal(master.execute(unit, fn.READ_COILS, 100, 11), want, "coils")
        for on in (1, 0):
            reply = master.execute(unit, fn.WRITE_SINGLE_COIL, 101, output_value=on)
            equal(reply, (101, 0xFF00 if on else 0), "echo of 5")
            equal(master.execute(unit, fn.READ_COILS, 101, 1), (on,), "one coil")
            equal(line.get(f"modbus/{unit}/coil/101"), bool(on), "its tag")

    with suite.case(transport, "discretes: read (2) what the line protocol wrote"):
        want = (0, 1, 1, 0, 1, 0, 0, 0, 1)
        for n, on in enumerate(want):
            line.set(f"modbus/{unit}/discrete/{40 + n}", bool(on))
        equal(master.execute(unit, fn.READ_DISCRETE_INPUTS, 40, 9), want, "discretes")

    with suite.case(transport, "holding registers: write one (6), many (16), read (3)"):
        reply = master.execute(unit, fn.WRITE_MULTIPLE_REGISTERS, 10, output_value=[1, 2, 65535, -1])
        equal(reply, (10, 4), "echo of 16")
        reply = master.execute(unit, fn.WRITE_SINGLE_REGISTER, 11, output_value=0xCAFE)
        equal(reply, (11, 0xCAFE), "echo of 6")
        got = master.execute(unit, fn.READ_HOLDING_REGISTERS, 10, 4)
        equal(got, (1, 0xCAFE, 65535, 65535), "registers")
        got = master.execute(unit, fn.READ_HOLDING_REGISTERS, 10, 4, data_format=">hhhh")
        equal(got, (1, -13570, -1, -1), "registers with a sign")
        equal(line.get(f"modbus/{unit}/holding/11"), 0xCAFE, "the tag of register 11")

    with suite.case(transport, "input registers: read (4) what the line protocol wrote"):
        for n, value in enumerate((0, 1, 0x8000)):
            line.set(f"modbus/{unit}/input/{50 + n}", value)
        equal(master.execute(unit, fn.READ_INPUT_REGISTERS, 50, 3), (0, 1, 0x8000), "input registers")

    with suite.case(transport, "mask write (22)"):
        master.execute(unit, fn.WRITE_SINGLE_REGISTER, 30, output_value=0x12)
        reply = master.execute(unit, fn.MASK_WRITE_REGISTER, 30, and_mask=0xF2, or_mask=0x25)
        equal(reply, (30, 0xF2, 0x25), "echo")
        equal(master.execute(unit, fn.READ_HOLDING_REGISTERS, 30, 1), (0x17,), "register")

    with suite.case(transport, "write and read at once (23): the write comes first"):
        master.execute(unit, fn.WRITE_MULTIPLE_REGISTERS, 60, output_value=[1, 2, 3])
        got = master.execute(
            unit, fn.READ_WRITE_MULTIPLE_REGISTERS, 60, 3, write_starting_address_fc23=61, output_value=[7, 8]
        )
        equal(got, (1, 7, 8), "registers")

    with suite.case(transport, "the most that one request carries"):
        want = tuple(n * n % 5 % 2 for n in range(1968))
        master.execute(unit, fn.WRITE_MULTIPLE_COILS, 32, output_value=want)
        equal(master.execute(unit, fn.READ_COILS, 0, 2000)[32:], want, "1,968 coils written, 2,000 read")
        want = tuple(n * 263 & 0xFFFF for n in range(123))
        master.execute(unit, fn.WRITE_MULTIPLE_REGISTERS, 500, output_value=want)
        got = master.execute(unit, fn.READ_HOLDING_REGISTERS, 499, 125)
        equal(got, (0, *want, 0), "123 registers written, 125 read")

    with suite.case(transport, "exceptions 1, 2, 3 and 10"):
        for what, request in {
            "registers": (unit, fn.READ_HOLDING_REGISTERS, REGISTERS - 1, 2),
            "input registers": (unit, fn.READ_INPUT_REGISTERS, REGISTERS, 1),
            "coils": (unit, fn.READ_COILS, COILS, 1),
            "discretes": (unit, fn.READ_DISCRETE_INPUTS, 65535, 1),
        }.items():
            refused(master, ILLEGAL_ADDRESS, what, *request)
        refused(
            master, ILLEGAL_ADDRESS, "write", unit, fn.WRITE_SINGLE_REGISTER, REGISTERS, output_value=1
        )
        refused(master, ILLEGAL_VALUE, "no registers", unit, fn.READ_HOLDING_REGISTERS, 0, 0)
        refused(master, ILLEGAL_VALUE, "2,001 coils", unit, fn.READ_COILS, 0, 2001)
        refused(master, NO_PATH, "unit that is not there", NOBODY, fn.READ_HOLDING_REGISTERS, 0, 1)
        refused(master, ILLEGAL_FUNCTION, "function 7", unit, fn.READ_EXCEPTION_STATUS, 0)
        # A request of no function, as bytes.
        refused(master, ILLEGAL_FUNCTION, "function 99", unit, fn.RAW, 0, pdu=bytes([99, 1, 2]))

    with suite.case(transport, "identification (43/14)"):
        basic = b""
        # In RTU framing the client must be told how long the answer is; so one object at a time comes first.
        for id, value in enumerate(IDENTIFICATION):
            want = bytes([id, len(value)]) + value.encode()
            got = identify(master, INDIVIDUAL, id, len(want))
            equal(got[5:], b"\x01" + want, f"object {id}")
            basic += want
        got = identify(master, BASIC, 0, len(basic))
        equal(got[:2], bytes([14, BASIC]), "what it answers")
        equal(got[3:], b"\x00\x00\x03" + basic, "basic objects")
        refused(master, ILLEGAL_ADDRESS, "no such object", unit, fn.DEVICE_INFO, 0, output_value=(4, 0x79))


def tags(suite, transport, master, line):
    unit = TAGS
    # The orders that the client unpacks itself; for the others it has no word.
    formats = {"abcd": ">f", "dcba": "<f"}

    with suite.case(transport, "floats in four orders, written by the line protocol"):
        for value in FLOATS:
            for order, first in ORDERS.items():
                line.set(f"interop/f32/{order}", value)
                if order in formats:
                    got = master.execute(
                        unit, fn.READ_HOLDING_REGISTERS, first, 2, data_format=formats[order]
                    )
                    equal(shortest(got[0]), value, f"{order}, unpacked by the client")
                got = master.execute(unit, fn.READ_HOLDING_REGISTERS, first, 2)
                equal(float_of(order, got), value, order)

    with suite.case(transport, "floats in four orders, read by the line protocol"):
        for value in FLOATS:
            for order, first in ORDERS.items():
                if order in formats:
                    master.execute(
                        unit, fn.WRITE_MULTIPLE_REGISTERS, first, output_value=[value],
                        data_format=formats[order],
                    )
                else:
                    registers = registers_of(order, value)
                    master.execute(unit, fn.WRITE_MULTIPLE_REGISTERS, first, output_value=registers)
                equal(line.get(f"interop/f32/{order}"), value, order)

    with suite.case(transport, "64 bits, unpacked by the client"):
        line.set("interop/i64", -(2**63))
        got = master.execute(unit, fn.READ_HOLDING_REGISTERS, 26, 4, data_format=">q")
        equal(got, (-(2**63),), "i64")
        line.set("interop/f64", 0.1)
        got = master.execute(unit, fn.READ_HOLDING_REGISTERS, 34, 4, data_format=">d")
        equal(got, (0.1,), "f64")
        registers = struct.unpack(">4H", struct.pack(">d", -2.5))
        master.execute(unit, fn.WRITE_MULTIPLE_REGISTERS, 34, output_value=registers)
        equal(line.get("interop/f64"), -2.5, "f64 written")


def main():
    suite = Suite("modbus_tk")
    line = Line()
    for transport, made in (("tcp", TcpMaster), ("rtu", RtuOverTcpMaster)):
        host, port = address(transport)
        master = made(host, port, timeout_in_sec=TIMEOUT_S)
        functions(suite, transport, master, line)
        tags(suite, transport, master, line)
        master.close()
    suite.end()


if __name__ == "__main__":
    main()
