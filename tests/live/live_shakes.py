#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Handshakes and who they belong to: bursts of TLS, DTLS and TCP clients with fewer workers than shards, with as many, and
while the shards change their owners; handshakes whose worker is another one when they end.

TP_ROUNDS: bursts of each kind (4); TP_BURST: clients of each transport in one (50)."""
import os
import signal
import socket
import ssl
import threading
import time
import unittest

import daemon
from daemon import tls_context as context, until
import dtlsclient
import turnclient as tc

ROUNDS = int(os.environ.get("TP_ROUNDS", 4))
BURST = int(os.environ.get("TP_BURST", 50))
CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: [ udp, tcp ] }}
  - {{ address: 127.0.0.1, port: {tls}, transport: [ tls, dtls ] }}""").replace("workers: 2", "workers: %d, shards: 4") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ stream_deadline: 60s, handshake_timeout: 60s, connections_per_prefix: 0 }}
"""


def tls_client(port):
    c = tc.StreamClient(("127.0.0.1", port), "alice", "wonderland", tls=context(), timeout=45)
    return c


def tcp_client(port):
    return tc.StreamClient(("127.0.0.1", port), "alice", "wonderland", timeout=45)


def dtls_client(port):
    return dtlsclient.DtlsClient(("127.0.0.1", port), "alice", "wonderland", within=45)


class Burst:
    """Clients of each transport, all at once; each must be answered."""

    def __init__(self, d, n=BURST):
        self.failed, self.go, self.threads = [], threading.Event(), []
        for make, port in ((tls_client, d.values["tls"]), (tcp_client, d.port), (dtls_client, d.values["tls"])):
            for _ in range(n):
                t = threading.Thread(target=self.one, args=(make, port))
                t.start()
                self.threads.append(t)
        self.go.set()

    def one(self, make, port):
        self.go.wait()
        try:
            c = make(port)
            assert c.binding() is not None
            c.close()
        except (OSError, AssertionError, TimeoutError) as e:
            self.failed.append("%s: %r" % (make.__name__, e))

    def end(self):
        for t in self.threads:
            t.join()
        return self.failed


class Shakes(unittest.TestCase):
    def daemon(self, workers):
        d = daemon.Daemon(CONFIG % workers, start=False, tls=daemon.free_port(kind=socket.SOCK_STREAM))
        daemon.certificate(d.dir)
        self.addCleanup(self.end, d)
        d.start()
        return d

    def end(self, d):
        code = d.stop()
        self.assertEqual(code, 0, d.text())

    def resize(self, d, workers):
        d.write(CONFIG % workers)
        d.ctl("reload")
        self.assertTrue(until(lambda: len(d.children("worker")) == workers and d.status()["ready"]))

    def bursts(self, workers):
        d = self.daemon(workers)
        for _ in range(ROUNDS):
            self.assertEqual(Burst(d).end(), [])

    def test_one_worker_of_four_shards(self):
        self.bursts(1)

    def test_as_many_workers_as_shards(self):
        self.bursts(4)

    def test_bursts_while_the_shards_change_owners(self):
        d = self.daemon(1)
        for workers in (4, 2, 3, 1) * ((ROUNDS + 3) // 4):
            burst = Burst(d, BURST // 2)
            self.resize(d, workers)
            self.assertEqual(burst.end(), [])

    def test_bursts_while_workers_die(self):
        d = self.daemon(2)
        for _ in range(ROUNDS):
            burst = Burst(d, BURST // 2)
            before = d.children("worker")
            daemon.kill_all(before)
            self.assertTrue(until(lambda: d.replaced("worker", before)))
            self.assertEqual(burst.end(), [])

    # ---- one handshake at a time, its owner changes in the middle

    def half_tls(self, d):
        """A connection that has sent half of its hello."""
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context().wrap_bio(into, out, server_hostname="turn.test")
        with self.assertRaises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = out.read()
        s = socket.create_connection(("127.0.0.1", d.values["tls"]), timeout=45)
        self.addCleanup(s.close)
        s.sendall(hello[:len(hello) // 2])
        return s, tls, into, out, hello[len(hello) // 2:]

    def finish_tls(self, s, tls, into, out, rest):
        s.sendall(rest)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                s.sendall(out.read())
                got = s.recv(65536)
                self.assertNotEqual(got, b"")
                into.write(got)
        tls.write(tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab"))
        s.sendall(out.read())
        while True:
            try:
                answer = tls.read(1000)
                break
            except ssl.SSLWantReadError:
                got = s.recv(65536)
                self.assertNotEqual(got, b"")
                into.write(got)
        self.assertEqual(answer[:2], b"\x01\x01")

    def test_a_tls_handshake_goes_to_the_new_owner(self):
        """Begun under one split of the shards, finished under others."""
        d = self.daemon(1)
        for workers in (4, 1, 3):
            halves = [self.half_tls(d) for _ in range(16)]
            self.assertTrue(until(lambda: d.counter("half_open_handshakes") == len(halves)))
            self.resize(d, workers)
            for h in halves:
                self.finish_tls(*h)
        self.assertEqual(d.drops("stream_desync"), 0)

    def test_a_tls_handshake_that_nobody_has_read_goes_to_the_new_owner(self):
        """turnpike-tls stands still until the shards have another owner: both owners have asked it by then, and it must not
        begin two handshakes on one connection."""
        d = self.daemon(1)
        for workers in (4, 1, 3):
            tls = d.children("tls")
            for pid in tls:
                os.kill(pid, signal.SIGSTOP)
            halves = [self.half_tls(d) for _ in range(16)]
            self.assertTrue(until(lambda: self.connections(d) >= len(halves)))
            self.resize(d, workers)
            for pid in tls:
                os.kill(pid, signal.SIGCONT)
            for h in halves:
                self.finish_tls(*h)

    def connections(self, d):
        return d.counter("connections_opened") - d.counter("connections_closed")

    def test_a_dtls_handshake_goes_to_the_new_owner(self):
        d = self.daemon(1)
        for workers in (4, 1, 3):
            clients = [dtlsclient.DtlsClient(("127.0.0.1", d.values["tls"]), handshake=False) for _ in range(16)]
            for c in clients:
                for r in c.dtls.step():
                    c.datagram(r)
                for r in c.dtls.step(tc.Client.recv_raw(c, 20)):
                    c.datagram(r)
            self.assertTrue(until(lambda: d.counter("half_open_handshakes") == len(clients)))
            self.resize(d, workers)
            for c in clients:
                c.handshake()
                self.assertIsNotNone(c.binding())
                c.close()


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
