"""pymodbus against the server: each function, over TCP, UDP and RTU in TCP."""

import asyncio
import math
import socket
import struct
import sys

from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient, ModbusTcpClient, ModbusUdpClient
from pymodbus.pdu.bit_message import ReadCoilsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest

from common import (
    COILS, DEVICE_FAILURE, FLOATS, ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, MEMORY, NO_PATH, NOBODY,
    ORDERS, REGISTERS, TAGS, Line, Suite, address, equal, float_of, registers_of, shortest,
)

TIMEOUT_S = 30
VERSION = sys.argv[1]
TYPES = ModbusTcpClient.DATATYPE

# The unit of RTU framing that means all of them.
BROADCAST = 0

# Object ids of the identification.
VENDOR, PRODUCT_CODE, REVISION = 0, 1, 2
BASIC, REGULAR, INDIVIDUAL = 1, 2, 4


def client(transport):
    host, port = address(transport)
    if transport == "udp":
        made = ModbusUdpClient(host, port=port, timeout=TIMEOUT_S, retries=0)
    else:
        framer = FramerType.RTU if transport == "rtu" else FramerType.SOCKET
        made = ModbusTcpClient(host, port=port, framer=framer, timeout=TIMEOUT_S, retries=0)
    equal(made.connect(), True, "connected")
    return made


def fine(reply):
    """The reply, which must not be an exception."""
    if reply.isError():
        raise AssertionError(f"refused: {reply}")
    return reply


def refused(reply, code, what):
    equal(reply.exception_code if reply.isError() else "no exception", code, what)


def pattern(count, seed):
    """Bits without a short period."""
    return [(n * n + seed) % 7 < 3 for n in range(count)]


def functions(suite, transport, unit, line):
    at = dict(device_id=unit)
    modbus = client(transport)

    with suite.case(transport, "coils: write one (5), many (15), read (1)"):
        for bits in (1, 7, 8, 9, 17):
            want = pattern(bits, bits)
            fine(modbus.write_coils(100, want, **at))
            equal(fine(modbus.read_coils(100, count=bits, **at)).bits[:bits], want, f"{bits} coils")
        for on in (True, False):
            fine(modbus.write_coil(103, on, **at))
            equal(fine(modbus.read_coils(103, count=1, **at)).bits[0], on, "one coil")
            equal(line.get(f"modbus/{unit}/coil/103"), on, "its tag")

    with suite.case(transport, "discretes: read (2) what the line protocol wrote"):
        want = pattern(11, 3)
        for n, on in enumerate(want):
            line.set(f"modbus/{unit}/discrete/{20 + n}", on)
        equal(fine(modbus.read_discrete_inputs(20, count=11, **at)).bits[:11], want, "discretes")

    with suite.case(transport, "holding registers: write one (6), many (16), read (3)"):
        fine(modbus.write_registers(10, [0, 1, 0x7FFF, 0x8000, 0xFFFF], **at))
        fine(modbus.write_register(12, 0x1234, **at))
        got = fine(modbus.read_holding_registers(9, count=7, **at)).registers
        equal(got, [0, 0, 1, 0x1234, 0x8000, 0xFFFF, 0], "registers 9 to 15")
        equal(line.get(f"modbus/{unit}/holding/12"), 0x1234, "the tag of register 12")

    with suite.case(transport, "input registers: read (4) what the line protocol wrote"):
        for n, value in enumerate((7, 65535, 0, 256)):
            line.set(f"modbus/{unit}/input/{5 + n}", value)
        got = fine(modbus.read_input_registers(5, count=4, **at)).registers
        equal(got, [7, 65535, 0, 256], "input registers 5 to 8")

    with suite.case(transport, "mask write (22)"):
        fine(modbus.write_register(30, 0x12, **at))
        reply = fine(modbus.mask_write_register(address=30, and_mask=0xF2, or_mask=0x25, **at))
        equal((reply.and_mask, reply.or_mask), (0xF2, 0x25), "echo")
        # The example of the standard, §6.16.
        equal(fine(modbus.read_holding_registers(30, **at)).registers, [0x17], "register")

    with suite.case(transport, "write and read at once (23): the write comes first"):
        fine(modbus.write_registers(40, [1, 2, 3, 4, 5, 6], **at))
        reply = modbus.readwrite_registers(
            read_address=40, read_count=6, write_address=42, values=[0xAAAA, 0x5555], **at
        )
        equal(fine(reply).registers, [1, 2, 0xAAAA, 0x5555, 5, 6], "registers read")

    with suite.case(transport, "the most that one request carries"):
        want = pattern(1968, 5)
        fine(modbus.write_coils(32, want, **at))
        got = fine(modbus.read_coils(0, count=2000, **at)).bits
        equal(got[32:2000], want, "1,968 coils written, 2,000 read")
        fine(modbus.write_coils(32, [False] * 1968, **at))
        want = [(n * 257) & 0xFFFF for n in range(125)]
        fine(modbus.write_registers(200, want[:123], **at))
        reply = modbus.readwrite_registers(
            read_address=200, read_count=125, write_address=204, values=want[4:125], **at
        )
        equal(fine(reply).registers, want, "121 registers written, 125 read at once")
        equal(fine(modbus.read_holding_registers(200, count=125, **at)).registers, want, "125 read")

    with suite.case(transport, "the last addresses, and exception 2 behind them"):
        fine(modbus.write_registers(REGISTERS - 2, [11, 22], **at))
        got = fine(modbus.read_holding_registers(REGISTERS - 2, count=2, **at)).registers
        equal(got, [11, 22], "the last two registers")
        fine(modbus.write_coil(COILS - 1, True, **at))
        equal(fine(modbus.read_coils(COILS - 1, count=1, **at)).bits[0], True, "the last coil")
        for what, reply in {
            "register behind the last": modbus.read_holding_registers(REGISTERS, **at),
            "input register behind the last": modbus.read_input_registers(REGISTERS, **at),
            "registers over the end": modbus.read_holding_registers(REGISTERS - 1, count=2, **at),
            "registers at the end of all": modbus.read_holding_registers(65535, count=125, **at),
            "coils over the end": modbus.read_coils(COILS - 1, count=2, **at),
            "discrete behind the last": modbus.read_discrete_inputs(COILS, count=1, **at),
            "coil to write": modbus.write_coil(COILS, True, **at),
            "register to write": modbus.write_register(REGISTERS, 1, **at),
            "registers to write over the end": modbus.write_registers(REGISTERS - 1, [1, 2], **at),
            "coils to write over the end": modbus.write_coils(COILS - 1, [True, True], **at),
            "mask write": modbus.mask_write_register(address=REGISTERS, **at),
            "read of a write and read": modbus.readwrite_registers(
                read_address=REGISTERS, read_count=1, write_address=0, values=[9], **at
            ),
            "write of a write and read": modbus.readwrite_registers(
                read_address=0, read_count=1, write_address=REGISTERS, values=[9], **at
            ),
        }.items():
            refused(reply, ILLEGAL_ADDRESS, what)
        got = fine(modbus.read_holding_registers(REGISTERS - 1, **at)).registers
        equal(got, [22], "the last register: a refused write wrote nothing")
        equal(fine(modbus.read_holding_registers(0, **at)).registers, [0], "register 0, likewise")

    with suite.case(transport, "exception 10 for a unit that is not there"):
        nobody = dict(device_id=NOBODY)
        refused(modbus.read_holding_registers(0, **nobody), NO_PATH, "read")
        refused(modbus.write_register(0, 1, **nobody), NO_PATH, "write")

    with suite.case(transport, "exception 1 for functions that the server does not have"):
        refused(modbus.read_exception_status(**at), ILLEGAL_FUNCTION, "function 7")
        refused(modbus.diag_query_data(b"ab", **at), ILLEGAL_FUNCTION, "function 8")
        refused(modbus.diag_get_comm_event_counter(**at), ILLEGAL_FUNCTION, "function 11")
        refused(modbus.report_device_id(**at), ILLEGAL_FUNCTION, "function 17")
        refused(modbus.read_fifo_queue(address=0, **at), ILLEGAL_FUNCTION, "function 24")

    with suite.case(transport, "exception 3 for quantities that the standard forbids"):
        # The client refuses to make such requests, so they are changed afterwards.
        for request, made in ((ReadCoilsRequest, (0, 2001)), (ReadHoldingRegistersRequest, (0, 126))):
            for count in made:
                asked = request(address=0, count=1, dev_id=unit)
                asked.encode = lambda count=count: struct.pack(">HH", 0, count)
                refused(modbus.execute(False, asked), ILLEGAL_VALUE, f"{request.__name__} of {count}")

    with suite.case(transport, "identification (43/14): basic, regular, one by one"):
        basic = fine(modbus.read_device_information(read_code=BASIC, **at))
        equal(sorted(basic.information), [VENDOR, PRODUCT_CODE, REVISION], "basic objects")
        equal(basic.information[REVISION].decode(), VERSION, "revision")
        equal(all(basic.information.values()), True, "no basic object is empty")
        equal(basic.more_follows, 0, "more follows")
        regular = fine(modbus.read_device_information(read_code=REGULAR, **at))
        equal({id: regular.information[id] for id in (0, 1, 2)}, basic.information, "regular begins as basic")
        equal(max(regular.information) in range(3, 0x80), True, "there are regular objects")
        equal(regular.conformity & 0x83, 0x82, "conformity: regular, one by one too")
        for id, value in regular.information.items():
            one = fine(modbus.read_device_information(read_code=INDIVIDUAL, object_id=id, **at))
            equal(one.information, {id: value}, f"object {id}")
        missing = modbus.read_device_information(read_code=INDIVIDUAL, object_id=0x79, **at)
        refused(missing, ILLEGAL_ADDRESS, "an object that is not there")

    if transport == "rtu":
        with suite.case(transport, "a broadcast: all units carry it out, and none answers"):
            fine(modbus.write_register(900, 0, **at))
            everybody = client(transport)
            everybody.write_register(900, 4321, device_id=BROADCAST, no_response_expected=True)
            # It ends when the server has had it: there is no other answer.
            everybody.socket.shutdown(socket.SHUT_WR)
            equal(everybody.socket.recv(1), b"", "answer to a broadcast")
            everybody.close()
            equal(fine(modbus.read_holding_registers(900, **at)).registers, [4321], "register")

    modbus.close()


def tags(suite, transport, line):
    at = dict(device_id=TAGS)
    modbus = client(transport)

    with suite.case(transport, "floats in four orders, written by the line protocol"):
        for value in FLOATS:
            for order in ORDERS:
                line.set(f"interop/f32/{order}", value)
            all_orders = fine(modbus.read_holding_registers(0, count=8, **at)).registers
            for order, first in ORDERS.items():
                registers = all_orders[first : first + 2]
                equal(registers, registers_of(order, value), f"registers of {value} in {order}")
                equal(float_of(order, registers), value, f"{value} in {order}")
            # The two orders that the client knows of itself.
            for word_order, first in (("big", ORDERS["abcd"]), ("little", ORDERS["cdab"])):
                got = modbus.convert_from_registers(
                    all_orders[first : first + 2], TYPES.FLOAT32, word_order=word_order
                )
                equal(shortest(got), value, f"{value} by the client, {word_order}")

    with suite.case(transport, "floats in four orders, read by the line protocol"):
        for value in [*FLOATS, math.inf, -math.inf]:
            for order, first in ORDERS.items():
                fine(modbus.write_registers(first, registers_of(order, value), **at))
                equal(line.get(f"interop/f32/{order}"), value, f"{value} in {order}")
            for word_order, order in (("big", "abcd"), ("little", "cdab")):
                registers = modbus.convert_to_registers(value, TYPES.FLOAT32, word_order=word_order)
                fine(modbus.write_registers(ORDERS[order], registers, **at))
                equal(line.get(f"interop/f32/{order}"), value, f"{value} by the client, {word_order}")
        # All four by one request.
        registers = [register for order in ORDERS for register in registers_of(order, 2.5)]
        fine(modbus.write_registers(0, registers, **at))
        equal([line.get(f"interop/f32/{order}") for order in ORDERS], [2.5] * 4, "all four")
        # And by one that reads them back.
        registers = [register for order in ORDERS for register in registers_of(order, -7.25)]
        reply = modbus.readwrite_registers(
            read_address=0, read_count=8, write_address=0, values=registers, **at
        )
        equal(fine(reply).registers, registers, "all four, written and read")
        equal([line.get(f"interop/f32/{order}") for order in ORDERS], [-7.25] * 4, "all four")

    with suite.case(transport, "each other type, both ways"):
        for tag, first, data_type, word_order, values in (
            ("i16", 20, TYPES.INT16, "big", (-32768, -1, 0, 32767)),
            ("u16", 21, TYPES.UINT16, "big", (0, 32768, 65535)),
            ("i32", 22, TYPES.INT32, "little", (-(2**31), -2, 123456789, 2**31 - 1)),
            ("u32", 24, TYPES.UINT32, "big", (0, 0xDEADBEEF, 2**32 - 1)),
            ("i64", 26, TYPES.INT64, "big", (-(2**63), -3, 2**63 - 1)),
            ("u64", 30, TYPES.UINT64, "little", (0, 0x0123456789ABCDEF, 2**63 - 1)),
            ("f64", 34, TYPES.FLOAT64, "big", (0.1, -1.7976931348623157e308, 5e-324, math.inf)),
            ("text", 41, TYPES.STRING, "big", ("", "a", "Prüfstand", "elf letters")),
        ):
            for value in values:
                width = data_type.value[1] or 6
                registers = modbus.convert_to_registers(value, data_type, word_order=word_order)
                registers += [0] * (width - len(registers))
                line.set(f"interop/{tag}", value)
                got = fine(modbus.read_holding_registers(first, count=width, **at)).registers
                equal(got, registers, f"registers of {value!r} as {tag}")
                back = modbus.convert_from_registers(got, data_type, word_order=word_order)
                equal(back, value, f"{tag} by the client")
                fine(modbus.write_registers(first, [0] * width, **at))
                fine(modbus.write_registers(first, registers, **at))
                equal(line.get(f"interop/{tag}"), value, f"{tag} by the line protocol")
        for tag, first, value, registers in (
            ("bcd16", 38, 1234, [0x1234]),
            ("bcd32", 39, 90817263, [0x9081, 0x7263]),
            ("bool", 47, True, [1]),
            ("bool", 47, False, [0]),
            ("scaled", 49, 21.7, [617]),
            ("scaled", 49, -40.1, [0xFFFF]),
        ):
            line.set(f"interop/{tag}", value)
            got = fine(modbus.read_holding_registers(first, count=len(registers), **at)).registers
            equal(got, registers, f"registers of {value} as {tag}")
            fine(modbus.write_registers(first, [0] * len(registers), **at))
            fine(modbus.write_registers(first, registers, **at))
            equal(line.get(f"interop/{tag}"), value, f"{tag} by the line protocol")

    with suite.case(transport, "bits of a register, coils and discretes that show tags"):
        for bit0, bit15 in ((True, False), (False, True), (True, True)):
            line.set("interop/bit0", bit0)
            line.set("interop/bit15", bit15)
            want = bit0 | bit15 << 15
            equal(fine(modbus.read_holding_registers(48, **at)).registers, [want], "register of bits")
        fine(modbus.mask_write_register(address=48, and_mask=0x7FFF, or_mask=0, **at))
        equal((line.get("interop/bit0"), line.get("interop/bit15")), (True, False), "after a mask write")
        for on in (True, False):
            line.set("interop/coil", on)
            equal(fine(modbus.read_coils(7, count=1, **at)).bits[0], on, "coil")
            fine(modbus.write_coil(7, not on, **at))
            equal(line.get("interop/coil"), not on, "its tag")
            line.set("interop/discrete", on)
            equal(fine(modbus.read_discrete_inputs(7, count=1, **at)).bits[0], on, "discrete")
        line.set("interop/input", 21.7)
        got = fine(modbus.read_input_registers(0, count=2, **at)).registers
        equal(got, registers_of("cdab", 21.7), "input registers")

    with suite.case(transport, "tags without a good value: an exception, the last value, a number"):
        choices = ("exception", "last", "number")
        for value, quality, last, number in (
            (5, "good", [5], [5, 0]),
            (6, "uncertain", [6], [65536 - 999, 1]),
            (7, "bad", None, [65536 - 999, 2]),
            (8, "good", [8], [8, 0]),
        ):
            for choice in choices:
                line.set(f"interop/doubtful/{choice}", value, quality)
            # The number, and the quality behind it.
            equal(fine(modbus.read_holding_registers(62, count=2, **at)).registers, number, quality)
            for first, want in ((60, [value] if quality == "good" else None), (61, last)):
                reply = modbus.read_holding_registers(first, **at)
                if want:
                    equal(fine(reply).registers, want, f"register {first}, {quality}")
                else:
                    refused(reply, DEVICE_FAILURE, f"register {first}, {quality}")
            if quality != "good":
                reply = modbus.read_holding_registers(60, count=4, **at)
                refused(reply, DEVICE_FAILURE, f"all of them, {quality}")

    with suite.case(transport, "exceptions of mapped registers"):
        refused(modbus.read_holding_registers(8, **at), ILLEGAL_ADDRESS, "a gap")
        refused(modbus.read_holding_registers(6, count=3, **at), ILLEGAL_ADDRESS, "into a gap")
        refused(modbus.write_registers(6, [1, 2, 3], **at), ILLEGAL_ADDRESS, "write into a gap")
        refused(modbus.read_coils(6, count=1, **at), ILLEGAL_ADDRESS, "coil that is not mapped")

    with suite.case(transport, "a subscriber is told what a client writes"):
        told = Line()
        fine(modbus.write_registers(0, registers_of("abcd", 1.5), **at))
        equal(told.ask("SUB interop/f32/abcd")[0].split(" ")[:4], "VAL interop/f32/abcd 1.5 good".split(" "))
        fine(modbus.write_registers(0, registers_of("abcd", 99.25), **at))
        equal(told.next().split(" ")[:4], "UPD interop/f32/abcd 99.25 good".split(" "))
        fine(modbus.write_register(77, 0, device_id=MEMORY))
        tag = f"modbus/{MEMORY}/holding/77"
        equal(told.ask(f"SUB {tag}")[0].split(" ")[:4], f"VAL {tag} 0 good".split(" "))
        fine(modbus.write_register(77, 4711, device_id=MEMORY))
        equal(told.next().split(" ")[:4], f"UPD {tag} 4711 good".split(" "))

    modbus.close()


async def many_at_once():
    """Fifty connections, each with a range of its own, all at the same time."""
    host, port = address("tcp")

    async def one(number):
        async with AsyncModbusTcpClient(host, port=port, timeout=TIMEOUT_S, retries=0) as modbus:
            for turn in range(20):
                want = [number, turn, number * turn, 0]
                first = 300 + 4 * number
                fine(await modbus.write_registers(first, want, device_id=MEMORY))
                reply = fine(await modbus.read_holding_registers(first, count=4, device_id=MEMORY))
                equal(reply.registers, want, f"registers of connection {number}")

    await asyncio.gather(*(one(number) for number in range(50)))


def main():
    suite = Suite("pymodbus")
    line = Line()
    for transport in ("tcp", "udp", "rtu"):
        functions(suite, transport, MEMORY, line)
        tags(suite, transport, line)
    with suite.case("tcp", "fifty connections at the same time"):
        asyncio.run(many_at_once())
    suite.end()


if __name__ == "__main__":
    main()
