#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""python3-aioice: its TURN transport, and two ICE agents that may use nothing but the relay."""
import asyncio
import os
import ssl
import sys
import unittest

import daemon
try:
    import aioice
    from aioice import turn
except ImportError:
    # Debian's package is for Debian's interpreter.
    if os.path.realpath(sys.executable) != os.path.realpath("/usr/bin/python3") and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    print("skipped: python3-aioice is not there")
    sys.exit(77)


CONFIG = daemon.DEFAULT.replace("transport: udp }}", "transport: [ udp, tcp, tls ] }}") + \
    "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n"


class Collect(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.got.put_nowait((data, addr))

    def error_received(self, exc):
        self.got.put_nowait((exc, None))


class Aioice(unittest.IsolatedAsyncioTestCase):
    async def test_turn_transport(self):
        await self.over()

    async def test_turn_over_tcp(self):
        await self.over(transport="tcp")

    async def test_turn_over_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        await self.over(transport="tcp", ssl=context)

    async def over(self, **how):
        with daemon.Daemon(CONFIG, start=False) as d:
            daemon.certificate(d.dir)
            d.start()
            loop = asyncio.get_running_loop()
            peer_transport, peer = await loop.create_datagram_endpoint(Collect, local_addr=("127.0.0.1", 0))
            transport, client = await turn.create_turn_endpoint(
                Collect, server_addr=d.server, username="alice", password="wonderland", lifetime=600, **how)
            there = peer_transport.get_extra_info("sockname")
            for i in range(100):
                transport.sendto(b"ping %d" % i, there)
                data, relayed = await asyncio.wait_for(peer.got.get(), 60)
                self.assertEqual(data, b"ping %d" % i)
                peer_transport.sendto(b"pong %d" % i, relayed)
                self.assertEqual(await asyncio.wait_for(client.got.get(), 60), (b"pong %d" % i, there))
            self.assertEqual(daemon.reach(lambda: d.counter("relayed_packets", direction="up"), 100), 100)
            transport.close()
            peer_transport.close()
            await asyncio.sleep(0.3)

    async def test_ice_over_relay_only(self):
        with daemon.Daemon() as d:
            def agent(controlling, user, password):
                c = aioice.Connection(ice_controlling=controlling, turn_server=d.server, turn_username=user, turn_password=password,
                                      use_ipv6=False)
                return c
            a, b = agent(True, "alice", "wonderland"), agent(False, "bob", "builder")
            await asyncio.gather(a.gather_candidates(), b.gather_candidates())
            for one, other in ((a, b), (b, a)):
                relays = [c for c in other.local_candidates if c.type == "relay"]
                self.assertEqual(len(relays), 1)
                await one.add_remote_candidate(relays[0])
                await one.add_remote_candidate(None)
                one.remote_username, one.remote_password = other.local_username, other.local_password
                # Only the relayed path: local sockets other than the TURN one are dropped from the check list.
                one._protocols = [p for p in one._protocols if p.local_candidate.type == "relay"]
            await asyncio.wait_for(asyncio.gather(a.connect(), b.connect()), 60)
            for i in range(20):
                await a.send(b"a%d" % i)
                self.assertEqual(await asyncio.wait_for(b.recv(), 60), b"a%d" % i)
                await b.send(b"b%d" % i)
                self.assertEqual(await asyncio.wait_for(a.recv(), 60), b"b%d" % i)
            self.assertGreaterEqual(daemon.reach(lambda: d.counter("relayed_packets", direction="up"), 40), 40)
            await a.close()
            await b.close()


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
