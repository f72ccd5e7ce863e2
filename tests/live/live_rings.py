#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A crowd without credentials holds all memory of streams that it can get.  Sessions go on, new clients are served when the
crowd's time is over, and no connection is closed for lack of room.

The crowd is larger than the rings of one shard that connections without an allocation may have (3/8 of 16,384)."""
import os
import resource
import socket
import ssl
import unittest

import daemon
from daemon import tls_context as context, until
import turnclient as tc

DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, 65536), DESCRIPTORS))
CROWD = 6600
CONFIG = daemon.DEFAULT.replace("transport: udp }}", "transport: [ udp, tcp, tls ] }}").replace(
    "workers: 2", "workers: 1, shards: 1") + """
tls: {{ watch_interval: 0s, certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ connections_per_prefix: 0, stream_deadline: {deadline}, bindings_per_prefix: 0 }}
"""
HALF = tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab") + tc.build(tc.BINDING, tc.REQUEST, b"abcdefghijkl")[:19]


@unittest.skipIf(DESCRIPTORS < CROWD * 2 + 1000, "needs %d open files" % (CROWD * 2 + 1000))
class Rings(unittest.TestCase):
    def daemon(self, deadline):
        d = daemon.Daemon(CONFIG, start=False, deadline=deadline)
        daemon.certificate(d.dir)
        d.start()
        self.addCleanup(d.stop)
        return d

    def client(self, d, tls=None):
        c = tc.StreamClient(d.server, "alice", "wonderland", tls=tls)
        self.addCleanup(c.close)
        return c

    def session(self, d, tls=None):
        c, p = self.client(d, tls), daemon.Peer()
        self.addCleanup(p.close)
        c.allocate()
        c.bind(0x4000, p.addr)
        return c, p

    def crowd(self, d):
        for i in range(CROWD):
            s = socket.create_connection(d.server, source_address=("127.0.%d.%d" % (1 + i // 200, 1 + i % 200), 0))
            self.addCleanup(s.close)
            s.sendall(HALF)

    def relay(self, session, payload):
        c, p = session
        c.channel_data(0x4000, payload)
        self.assertEqual(p.recv(), (payload, c.relayed))
        p.send(payload, c.relayed)
        self.assertEqual(c.data(), (0x4000, payload))

    def test_sessions_go_on_and_none_is_closed(self):
        d = self.daemon("600s")
        sessions = [self.session(d), self.session(d, context(ssl.TLSVersion.TLSv1_2)),
                    self.session(d, context(ssl.TLSVersion.TLSv1_3))]
        before = d.counter("connections_closed")
        self.crowd(d)
        self.assertTrue(until(lambda: d.counter("connections_stalled") > 0))
        for s in sessions:
            for size in (1, 1200, 9000):
                self.relay(s, os.urandom(size))
            s[0].refresh(600)
        # Those of the crowd end whose time is over, and no other connection.
        self.assertTrue(until(lambda: d.counter("connections_closed") - before == d.drops("stream_deadline")))
        self.assertEqual(d.drops("stream_room"), 0)
        # The crowd's rings come free a while after they were taken, although its deadline is far.
        with tc.StreamClient(d.server, "alice", "wonderland") as c:
            c.allocate()
        self.assertEqual(d.drops("stream_room"), 0)
        self.assertEqual(d.ctl("verify")[0], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
