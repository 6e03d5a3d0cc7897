"""A libp2p host of another make that speaks /didcomm/v2: sends what it is told, prints what arrives.

Prints one JSON object per line: first where it listens, then {"status": N} for each line "ADDRESS BASE64URL" it reads, and
{"received": BASE64URL} for each message that arrives, which it accepts.
"""

import base64
import json
import sys

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

PROTOCOL = TProtocol("/didcomm/v2")
ACCEPTED = b"\x00"


def say(thing):
    print(json.dumps(thing), flush=True)


def varint(number):
    out = b""
    while number >= 128:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


async def read_exactly(stream, length):
    out = b""
    while len(out) < length:
        part = await stream.read(length - len(out))
        if not part:
            raise EOFError
        out += part
    return out


async def read_varint(stream):
    number, shift = 0, 0
    while True:
        byte = (await read_exactly(stream, 1))[0]
        number |= (byte & 127) << shift
        if byte < 128:
            return number
        shift += 7


async def take(stream):
    message = await read_exactly(stream, await read_varint(stream))
    say({"received": base64.urlsafe_b64encode(message).decode().rstrip("=")})
    await stream.write(ACCEPTED)
    await stream.close()


async def send(host, address, message):
    peer = info_from_p2p_addr(Multiaddr(address))
    await host.connect(peer)
    stream = await host.new_stream(peer.peer_id, [PROTOCOL])
    await stream.write(varint(len(message)) + message)
    say({"status": await read_varint(stream)})
    await stream.close()


async def main():
    host = new_host(key_pair=create_new_key_pair())
    host.set_stream_handler(PROTOCOL, take)
    async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        addresses = [str(address) for address in host.get_addrs()]
        say({"peer_id": str(host.get_id()), "addresses": addresses})
        async for line in trio.wrap_file(sys.stdin):
            address, message = line.split()
            await send(host, address, base64.urlsafe_b64decode(message + "=" * (-len(message) % 4)))


trio.run(main)
