"""Run the configurations that the README shows under "Poll devices", with nothing changed but addresses.

    readme.py README WORK LUMINA

`lumina check` must find nothing in any of them. Those that need no proxy are run as well, against a device that has
registers at all addresses: their tags show what the device holds, and those that can be written reach it, within
their limits. It fails if there is no such example.
"""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from decimal import Decimal

from common import Line, Suite, equal, parsed
from peers import ModbusTk, free_port
from points import encoded

SECTION = "Poll devices"
# A meter, a PLC with writes, a proxy.
LEAST_EXAMPLES = 3
SOON_S = 60
# What registers hold, before scale and offset.
RAW = {"bool": 1, "bcd16": 215, "bcd32": 215}
RAW_NUMBER = 217


def examples(text):
    """The TOML blocks of the section, up to the next heading that is not below its own."""
    found, level, block = [], None, None
    for line in text.splitlines():
        heading = re.match(r"(#+) +(.*?) *#*$", line) if block is None else None
        if heading and level is not None and len(heading[1]) <= level:
            break
        if heading and heading[2] == SECTION:
            level = len(heading[1])
        if level is None:
            continue
        if block is None and line.strip() == "```toml":
            block = []
        elif block is not None and line.strip() == "```":
            found.append("\n".join(block) + "\n")
            block = None
        elif block is not None:
            block.append(line)
    return found


def with_devices(blocks):
    """Each example; before one that names a device which it does not have stands the example that has it."""
    seen = {}
    for block in blocks:
        parts = tomllib.loads(block)
        names = [device["name"] for device in parts.get("device", ())]
        wanted = [proxy["device"] for proxy in parts.get("modbus", {}).get("proxy", ())]
        before = dict.fromkeys(seen[name] for name in wanted if name not in names and name in seen)
        seen |= dict.fromkeys(names, block)
        yield "\n".join([*before, block])


def adapted(text, device_port, line_port):
    """The same with other addresses, and with a listener for us."""
    text = re.sub(r'(url = "(?:line|modbus|modbus-rtu)(?:\+udp)?://)(127\.0\.0\.1|0\.0\.0\.0|\[::1?\])(:\d+)?"',
                  r'\g<1>127.0.0.1:0"', text)
    devices = tomllib.loads(text).get("device", ())
    for url in {device["url"] for device in devices}:
        text = text.replace(f'"{url}"', f'"modbus://127.0.0.1:{device_port}"')
    return text + f'\n[[listen]]\nurl = "line://127.0.0.1:{line_port}"\n'


def points(parts):
    """Name of the tag, unit and point of all that is polled."""
    templates = {template["name"]: template.get("tag", []) for template in parts.get("template", ())}
    for device in parts.get("device", ()):
        for point in [*templates.get(device.get("template"), ()), *device.get("tag", ())]:
            yield f"{device['name']}/{point['name']}", device.get("unit", 1), point


def place(address):
    """Area, number and bit of an address in words; the examples have no others."""
    area, number, bit = re.fullmatch(r"(coil|discrete|input|holding):(\d+)(?:\.(\d+))?", address).groups()
    return area, int(number), None if bit is None else int(bit)


def scaled(point, raw):
    """What the tag shows of a raw number: an int if all that is in it are whole."""
    scale, offset = (Decimal(str(point.get(key, default))) for key, default in (("scale", 1), ("offset", 0)))
    value = raw * scale + offset
    is_whole = scale == int(scale) and offset == int(offset) and not point["type"].startswith("f")
    return int(value) if is_whole else float(value)


def held(point):
    """The area, address and words that a point is read from, and what its tag shows of them."""
    area, number, bit = place(point["address"])
    if area in ("coil", "discrete"):
        return area, number, [1], True
    if bit is not None:
        return area, number, [1 << bit], True
    kind = point["type"]
    if kind.startswith("string"):
        return area, number, [0x4F4B] + [0] * ((int(kind[7:-1]) - 1) // 2), "OK"
    raw = RAW.get(kind, RAW_NUMBER)
    if kind == "bool":
        return area, number, [raw], True
    return area, number, encoded(kind, point.get("order", "abcd"), raw), scaled(point, raw)


def until(what, wanted, ask):
    deadline = time.monotonic() + SOON_S
    while (got := ask()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    equal(got, wanted, what)


def run(parts, peer, line):
    """Lumina runs: what it shows, and what it writes."""
    polled = list(points(parts))
    equal(len(polled) > 0, True, "something is polled")
    wanted = {}
    for name, unit, point in polled:
        area, number, words, wanted[name] = held(point)
        peer.set(unit, area, number, words)
    until("tags", {name: (value, "good") for name, value in wanted.items()},
          lambda: {name: sample(line, name) for name in wanted})
    for device in parts["device"]:
        equal(sample(line, f"$device/{device['name']}/state"), ("online", "good"))
    for name, unit, point in polled:
        if point.get("access") == "rw" and "type" in point and not point["type"].startswith("string"):
            write(peer, line, name, unit, point)


def write(peer, line, name, unit, point):
    """Its limits are kept; what is within them is in the device, and in the tag, when the write is confirmed."""
    for key, beyond in (("min", -1), ("max", 1)):
        if key in point:
            value = point[key] + beyond
            equal(line.ask(f"SET {name} {value}")[-1].split(" ")[:2], ["ERR", "out-of-range"], f"SET {name} {value}")
    # In the middle, and so in the register, which holds whole numbers.
    middle = int((point.get("min", 0) + point.get("max", 100)) / 2)
    raw = (Decimal(middle) - Decimal(str(point.get("offset", 0)))) / Decimal(str(point.get("scale", 1)))
    equal(line.ask(f"SET {name} {middle}")[-1], "OK", f"SET {name} {middle}")
    area, number, _ = place(point["address"])
    raw = float(raw) if point["type"].startswith("f") else int(raw)
    words = encoded(point["type"], point.get("order", "abcd"), raw)
    equal(peer.get(unit, area, number, len(words)), words, f"{name} in the device")
    equal(sample(line, name), (scaled(point, Decimal(raw)), "good"), name)


def sample(line, tag):
    reply = line.ask(f"GET {tag}")[-1]
    value, quality, _ = reply.removeprefix("OK ").rsplit(" ", 2)
    return parsed(value), quality


def lives(lumina, file, log, port):
    """Start Lumina, and wait until its line protocol is there."""
    server = subprocess.Popen([lumina, "serve", "--config", file], stdout=subprocess.PIPE, stderr=log, text=True)
    for said in server.stdout:
        if said == f"listening on line://127.0.0.1:{port}\n":
            return server
    raise RuntimeError(f"it did not start with {file}")


def main():
    readme, work, lumina = sys.argv[1:]
    suite = Suite("README")
    with open(readme, encoding="utf-8") as file:
        found = examples(file.read())
    with suite.case("", f"it has examples under '{SECTION}'"):
        equal(len(found) >= LEAST_EXAMPLES, True, f"{len(found)} of at least {LEAST_EXAMPLES}")
    for number, example in enumerate(with_devices(found), 1):
        parts = tomllib.loads(example)
        is_proxy = "proxy" in parts.get("modbus", {})
        peer = ModbusTk(work, sorted({device.get("unit", 1) for device in parts.get("device", ())} or {1}))
        port = free_port()
        path = os.path.join(work, f"readme{number}.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(adapted(example, peer.port, port))
        with suite.case("", f"example {number} is a configuration"):
            done = subprocess.run([lumina, "check", "--config", path], capture_output=True, text=True, check=False)
            equal(done.returncode, 0, f"exit code; it said {done.stderr.strip()}")
        if is_proxy or done.returncode != 0:
            continue
        with suite.case("tcp", f"example {number} against a device"), open(path + ".log", "w", encoding="utf-8") as log:
            peer.start(whole=True)
            server = None
            try:
                server = lives(lumina, path, log, port)
                os.environ["INTEROP_LINE"] = f"127.0.0.1:{port}"
                run(parts, peer, Line())
                server.send_signal(signal.SIGTERM)
                equal(server.wait(timeout=SOON_S), 0, "exit code")
            finally:
                if server:
                    server.kill()
                    server.wait()
                peer.stop()
    with suite.case("", "two of them at least are run, one has writes, one is a proxy"):
        each = [tomllib.loads(example) for example in found]
        writes = any(point.get("access") == "rw" for parts in each for _, _, point in points(parts))
        proxies = [parts for parts in each if "proxy" in parts.get("modbus", {})]
        equal((len(each) - len(proxies) >= 2, writes, len(proxies) > 0), (True, True, True))
    suite.end()


if __name__ == "__main__":
    main()
