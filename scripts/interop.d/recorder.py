"""Run a client with relays between it and the server, and record what they say.

    recorder.py CAPTURE COMMAND…

INTEROP_TCP, INTEROP_UDP and INTEROP_RTU say where the server is; the command finds the relays there instead. What
passes is written to CAPTURE.pcap, as if TCP and UDP of the port 502 (503 where the framing is RTU) had been captured,
and CAPTURE.json says how many frames each transport carried. So nobody needs a right to capture, and no frame is
missed. The exit code is the command's, or 1 if it hangs, or if the server holds on to a connection that the client
closed.
"""

import asyncio
import json
import os
import socket
import struct
import sys
import time

# A client that takes longer hangs.
CLIENT_S = 300
# So long the server may take to close what the client has closed.
CLOSING_S = 30

SERVER_PORTS = {"tcp": 502, "udp": 502, "rtu": 503}
CHUNK_BYTES = 65536


class Capture:
    """Packets of made-up headers around real bytes."""

    def __init__(self):
        self._packets = []
        self.frames = {}
        # One for each connection that is relayed.
        self.relays = set()

    def count(self, transport, direction, frames):
        key = f"{transport} {direction}"
        self.frames[key] = self.frames.get(key, 0) + frames

    def add(self, protocol, source, target, header, data=b""):
        pair = struct.pack(">HH", source, target)
        body = pair + header + data
        loopback = socket.inet_aton("127.0.0.1")
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0)
        self._packets.append((time.time(), ip + loopback + loopback + body))

    def write(self, path):
        with open(path, "wb") as file:
            # Version 2.4, packets of up to 64 KiB, raw IP.
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
            for at, packet in self._packets:
                seconds, micros = int(at), int(at % 1 * 1e6)
                file.write(struct.pack("<IIII", seconds, micros, len(packet), len(packet)) + packet)


class TcpStream:
    """One connection as packets: the handshake, each piece of data, the end."""

    def __init__(self, capture, client_port, server_port):
        self._capture = capture
        self._ports = {"requests": (client_port, server_port), "responses": (server_port, client_port)}
        self._sent = {"requests": 0, "responses": 0}
        self._packet("requests", "S")
        self._packet("responses", "SA")
        self._packet("requests", "A")

    def data(self, direction, data):
        # What came at once may be more than a packet holds.
        for at in range(0, len(data), 16384):
            self._packet(direction, "PA", data[at : at + 16384])

    def end(self, direction):
        self._packet(direction, "FA")

    def _packet(self, direction, flags, data=b""):
        other = "responses" if direction == "requests" else "requests"
        bits = sum({"F": 1, "S": 2, "P": 8, "A": 16}[flag] for flag in flags)
        acknowledged = self._sent[other] if "A" in flags else 0
        header = struct.pack(">IIBBHHH", self._sent[direction], acknowledged, 5 << 4, bits, 65535, 0, 0)
        self._capture.add(6, *self._ports[direction], header, data)
        self._sent[direction] += len(data) + ("S" in flags) + ("F" in flags)


class MbapFrames:
    """Counts frames whose header tells their length."""

    def __init__(self):
        self._rest = b""

    def feed(self, data):
        self._rest += data
        frames = 0
        while len(self._rest) >= 6:
            end = 6 + int.from_bytes(self._rest[4:6], "big")
            if len(self._rest) < end:
                break
            self._rest = self._rest[end:]
            frames += 1
        return frames


class RtuFrames:
    """Counts frames that end in their CRC, with a piece of data: nobody sends a second one before the answer.

    Broadcasts do not count: nobody answers them, and tshark takes them for parts of something longer.
    """

    def __init__(self):
        self._rest = b""

    def feed(self, data):
        self._rest += data
        if len(self._rest) < 4 or crc16(self._rest) != 0:
            return 0
        is_broadcast = self._rest[0] == 0
        self._rest = b""
        return 0 if is_broadcast else 1


def crc16(data):
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


async def relay_stream(capture, transport, server):
    """Listen, and relay each connection to the server."""
    frames = RtuFrames if transport == "rtu" else MbapFrames

    async def copy(reader, writer, stream, direction):
        counter = frames()
        try:
            while data := await reader.read(CHUNK_BYTES):
                stream.data(direction, data)
                capture.count(transport, direction, counter.feed(data))
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()
        stream.end(direction)

    async def accept(reader, writer):
        capture.relays.add(asyncio.current_task())
        client_port = writer.get_extra_info("peername")[1]
        stream = TcpStream(capture, client_port, SERVER_PORTS[transport])
        server_reader, server_writer = await asyncio.open_connection(*server)
        await asyncio.gather(
            copy(reader, server_writer, stream, "requests"),
            copy(server_reader, writer, stream, "responses"),
        )
        for end in (writer, server_writer):
            end.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    return listener.sockets[0].getsockname()[1]


class DatagramClients(asyncio.DatagramProtocol):
    """The side of the clients; each of them has a socket of its own to the server."""

    def __init__(self, capture, server):
        self._capture = capture
        self._server = server
        self._peers = {}

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, client):
        packet(self._capture, client[1], SERVER_PORTS["udp"], "requests", data)
        asyncio.ensure_future(self._pass_on(data, client))

    async def _pass_on(self, data, client):
        if client not in self._peers:
            loop = asyncio.get_running_loop()
            reply = DatagramReplies(self._capture, self._transport, client)
            self._peers[client] = loop.create_task(
                loop.create_datagram_endpoint(lambda: reply, remote_addr=self._server)
            )
        (await self._peers[client])[0].sendto(data)


class DatagramReplies(asyncio.DatagramProtocol):
    """The side of the server, for one client."""

    def __init__(self, capture, to_clients, client):
        self._capture = capture
        self._to_clients = to_clients
        self._client = client

    def datagram_received(self, data, _server):
        packet(self._capture, SERVER_PORTS["udp"], self._client[1], "responses", data)
        self._to_clients.sendto(data, self._client)


def packet(capture, source, target, direction, data):
    capture.count("udp", direction, 1)
    capture.add(17, source, target, struct.pack(">HH", 8 + len(data), 0), data)


async def relay_datagrams(capture, server):
    """Take datagrams, and relay those of each client to the server."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: DatagramClients(capture, server), local_addr=("127.0.0.1", 0)
    )
    return transport.get_extra_info("sockname")[1]


async def main(path, command):
    capture = Capture()
    environment = dict(os.environ)
    for transport in SERVER_PORTS:
        name = "INTEROP_" + transport.upper()
        host, port = os.environ[name].rsplit(":", 1)
        server = (host, int(port))
        if transport == "udp":
            relay = await relay_datagrams(capture, server)
        else:
            relay = await relay_stream(capture, transport, server)
        environment[name] = f"127.0.0.1:{relay}"
    client = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        code = await asyncio.wait_for(client.wait(), CLIENT_S)
    except asyncio.TimeoutError:  # before 3.11 another than the built-in one
        print(f"FAIL  it did not end within {CLIENT_S} s", flush=True)
        client.kill()
        code = 1
    if capture.relays:
        _, held = await asyncio.wait(capture.relays, timeout=CLOSING_S)
        if held:
            print(f"FAIL  {len(held)} connections that the client closed are still open", flush=True)
            code = 1
        for relay in held:
            relay.cancel()
    capture.write(path + ".pcap")
    with open(path + ".json", "w", encoding="utf-8") as file:
        json.dump(capture.frames, file)
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
