#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Sends datagrams to a peer and back through a TURN relay, with python3-aioice.  usage: HOST PORT USER PASSWORD"""
import asyncio
import os
import sys

from aioice import turn

COUNT = 100


class Collect(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.got.put_nowait((data, addr))


async def main(host, port, user, password):
    loop = asyncio.get_running_loop()
    peer_transport, peer = await loop.create_datagram_endpoint(Collect, local_addr=(host, 0))
    transport, client = await turn.create_turn_endpoint(Collect, server_addr=(host, int(port)), username=user, password=password)
    there = peer_transport.get_extra_info("sockname")
    for _ in range(COUNT):
        payload = os.urandom(200)
        transport.sendto(payload, there)
        data, relayed = await asyncio.wait_for(peer.got.get(), 5)
        if data != payload:
            raise SystemExit("the peer got something else")
        peer_transport.sendto(payload[::-1], relayed)
        data, _ = await asyncio.wait_for(client.got.get(), 5)
        if data != payload[::-1]:
            raise SystemExit("the client got something else")
    print("%d datagrams to a peer and back, by way of the relayed address %s:%d" % (COUNT, *relayed))
    transport.close()
    await asyncio.sleep(0.2)

if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:5]), 60))
