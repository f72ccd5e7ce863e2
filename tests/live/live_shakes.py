#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Handshakes and their owners: bursts of TLS, DTLS and TCP clients with fewer workers than shards, with as many, and
while the shards change their owners; handshakes whose worker is another one when they end.

TP_ROUNDS: bursts of each kind (4); TP_BURST: clients of each transport in one (50); TP_SEED: cuts and orders of fragments."""
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import threading
import unittest

import daemon
from daemon import tls_context as context, until
import dtlsclient
import turnclient as tc

ROUNDS = int(os.environ.get("TP_ROUNDS", 4))
# Connections that the workers may have accepted in the round of their death: ACCEPT_BURST of two listeners and two workers.
ACCEPTED = 16
BURST = int(os.environ.get("TP_BURST", 50))
SEED = int(os.environ.get("TP_SEED") or random.randrange(1 << 32))
CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: [ udp, tcp ] }}
  - {{ address: 127.0.0.1, port: {tls}, transport: [ tls, dtls ] }}""").replace("workers: 2", "workers: %d, shards: 4") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ stream_deadline: 60s, handshake_timeout: 60s, connections_per_prefix: 0,
  half_open_per_prefix: 10000, half_open_total: 10000 }}
"""


def tls_client(port):
    c = tc.StreamClient(("127.0.0.1", port), "alice", "wonderland", tls=context(), timeout=45)
    return c


def tcp_client(port):
    return tc.StreamClient(("127.0.0.1", port), "alice", "wonderland", timeout=45)


def dtls_client(port):
    return dtlsclient.DtlsClient(("127.0.0.1", port), "alice", "wonderland", within=45)


class Burst:
    """Clients of each transport, all at once; each must be answered.  While workers are killed a client may have to connect
    twice: a connection that a worker has accepted and not yet passed on to the supervisor ends with the worker."""

    def __init__(self, d, n=BURST, tries=1):
        self.failed, self.go, self.threads, self.tries, self.again = [], threading.Event(), [], tries, 0
        for make, port in ((tls_client, d.values["tls"]), (tcp_client, d.port), (dtls_client, d.values["tls"])):
            for _ in range(n):
                t = threading.Thread(target=self.one, args=(make, port))
                t.start()
                self.threads.append(t)
        self.go.set()

    def one(self, make, port):
        self.go.wait()
        for left in reversed(range(self.tries)):
            try:
                c = make(port)
                assert c.binding() is not None
                c.close()
                return
            except (OSError, AssertionError, TimeoutError) as e:
                self.again += 1
                if left == 0:
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
            burst = Burst(d, BURST // 2, tries=2)
            before = d.children("worker")
            daemon.kill_all(before)
            self.assertTrue(until(lambda: d.replaced("worker", before)))
            self.assertEqual(burst.end(), [])
            self.assertLessEqual(burst.again, ACCEPTED)

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

    def test_a_full_queue_delays_and_loses_nothing(self):
        """turnpike-tls stands still while more clients come than its queues hold; then each is answered."""
        n = int(os.environ.get("TP_CROWD", 3000))
        d = self.daemon(2)
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        with self.assertRaises(ssl.SSLWantReadError):
            context().wrap_bio(into, out, server_hostname="turn.test").do_handshake()
        hello, clients = out.read(), []
        tls = d.children("tls")
        for pid in tls:
            os.kill(pid, signal.SIGSTOP)
        for _ in range(n):
            s = socket.create_connection(("127.0.0.1", d.values["tls"]), timeout=45)
            self.addCleanup(s.close)
            s.sendall(hello)
            clients.append(s)
        self.assertTrue(until(lambda: self.connections(d) >= n))
        for pid in tls:
            os.kill(pid, signal.SIGCONT)
        self.assertEqual({s.recv(1) for s in clients}, {b"\x16"})

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


class Fragments(unittest.TestCase):
    """A DTLS hello in any fragments that RFC 6347 allows, and large ones."""

    @classmethod
    def setUpClass(cls):
        cls.port = daemon.free_port()
        cls.d = daemon.Daemon(CONFIG % 2, start=False, tls=cls.port)
        daemon.certificate(cls.d.dir)
        cls.d.start()
        cls.rng = random.Random(SEED)

    @classmethod
    def tearDownClass(cls):
        code = cls.d.stop()
        assert code == 0, (code, cls.d.text())

    # ---- OpenSSL's own

    def s_client(self, *args):
        p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % self.port, *args],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(p.communicate)
        self.addCleanup(p.kill)
        text, want = b"", bytes.fromhex("0101000c2112a442")
        while b"Verify return code" not in text:
            got = os.read(p.stdout.fileno(), 65536)
            self.assertNotEqual(got, b"", text)
            text += got
        p.stdin.write(tc.build(tc.BINDING, tc.REQUEST, b"\0" * 12))
        p.stdin.flush()
        while want not in text:
            got = os.read(p.stdout.fileno(), 65536)
            self.assertNotEqual(got, b"", text)
            text += got

    def test_s_client_at_small_mtus(self):
        for mtu in ("256", "300", "576", "1200"):
            self.s_client("-dtls1_2", "-mtu", mtu)

    # ---- a raw client

    def fragments(self, body, seq, cuts):
        """(at, end) of each: headers in the message."""
        head = bytes([1]) + len(body).to_bytes(3, "big") + struct.pack("!H", seq)
        return [head + at.to_bytes(3, "big") + (end - at).to_bytes(3, "big") + body[at:end] for at, end in cuts]

    def record(self, *messages):
        self.number += 1
        content = b"".join(messages)
        return b"\x16\xfe\xff" + struct.pack("!HHIH", 0, 0, self.number - 1, len(content)) + content

    def hello(self, cookie=b"", pad=0, groups=b"\0\x1d\0\x17"):
        suites = bytes.fromhex("c02bc02cc02fc030cca9cca8")
        names = struct.pack("!HHH", 10, 2 + len(groups), len(groups)) + groups
        algorithms = bytes.fromhex("000d000e000c040305030603080408050806")
        share = b""
        if pad:         # a key share of an unknown group, as TLS 1.3 and DTLS 1.3 clients send
            share = struct.pack("!HHHHH", 51, 6 + pad, 4 + pad, 0x7777, pad) + bytes(i & 255 for i in range(pad))
        extensions = names + algorithms + bytes.fromhex("000b00020100") + share
        return b"\xfe\xfd" + self.random + b"\0" + bytes([len(cookie)]) + cookie + struct.pack("!H", len(suites)) + suites + \
            b"\1\0" + struct.pack("!H", len(extensions)) + extensions

    def open(self):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(s.close)
        s.connect(("127.0.0.1", self.port))
        s.settimeout(45)
        self.number, self.random = 0, self.rng.randbytes(32)
        return s

    def cookie_for(self, s, datagrams):
        for d in datagrams:
            s.send(d)
        answer = s.recv(2048)
        self.assertEqual((answer[13], len(answer)), (3, 48))
        return answer[28:]

    def server_hello(self, s):
        got = s.recv(2048)
        self.assertEqual((got[0], got[13]), (22, 2), got)
        self.assertGreaterEqual(int.from_bytes(got[5:11], "big"), 1)

    def cuts(self, n, step):
        return [(at, min(at + step, n)) for at in range(0, n, step)]

    def shake(self, step, order=lambda c: c, pad=0, first=None, join=1, overlap=0):
        s = self.open()
        body = self.hello(pad=pad)
        cookie = self.cookie_for(s, [self.record(f) for f in self.fragments(body, 0, self.cuts(len(body), first or step))])
        body = self.hello(cookie, pad)
        cuts = [(max(0, a - overlap), min(len(body), b + overlap)) for a, b in self.cuts(len(body), step)]
        parts = [self.record(f) for f in self.fragments(body, 1, order(cuts))]
        for i in range(0, len(parts), join):
            s.send(b"".join(parts[i:i + join]))
        self.server_hello(s)

    def test_any_size(self):
        for step in (1, 7, 16, 34, 35, 40, 60, 71, 100, 231, 5000):
            self.shake(step)

    def test_first_fragments_that_hold_less_or_more_than_the_second(self):
        self.shake(5000, first=10)
        self.shake(20, first=5000)
        self.shake(231, first=50)

    def test_any_order(self):
        self.shake(40, order=lambda c: c[::-1])
        for _ in range(10):
            self.shake(self.rng.randrange(4, 90), order=lambda c: self.rng.sample(c, len(c)))

    def test_overlapping_and_doubled(self):
        self.shake(30, overlap=9)
        self.shake(30, overlap=30, order=lambda c: c[::-1])
        self.shake(50, order=lambda c: [x for part in c for x in (part, part)])

    def test_several_in_a_datagram(self):
        self.shake(20, join=3)
        self.shake(20, join=50)
        s = self.open()
        body = self.hello()
        cookie = self.cookie_for(s, [self.record(*self.fragments(body, 0, self.cuts(len(body), 30)))])
        body = self.hello(cookie)
        s.send(self.record(*self.fragments(body, 1, self.cuts(len(body), 30))))
        self.server_hello(s)

    def test_large_hellos_with_an_unknown_group(self):
        for pad in (1200, 1700, 4000, 12000):
            self.shake(1100, pad=pad)
            self.shake(1100, pad=pad, order=lambda c: c[::-1])
        self.shake(200, pad=1700, order=lambda c: self.rng.sample(c, len(c)))
        self.shake(20000, pad=6000)     # in one datagram

    def test_a_lost_fragment_is_sent_again(self):
        s = self.open()
        body = self.hello(pad=1200)
        cookie = self.cookie_for(s, [self.record(f) for f in self.fragments(body, 0, self.cuts(len(body), 300))])
        body = self.hello(cookie, 1200)
        for lost in (2, 0):
            for i, f in enumerate(self.fragments(body, 1, self.cuts(len(body), 300))):
                if i != lost:
                    s.send(self.record(f))
        self.server_hello(s)

    # ---- the same over TCP

    def test_a_large_tls_hello_in_pieces(self):
        """As browsers send it today: a share of X25519MLKEM768, with one of X25519 beside it or without."""
        def extension(kind, body):
            return struct.pack("!HH", kind, len(body)) + body

        def block(body, form="!H"):
            return struct.pack(form, len(body)) + body
        hybrid = b"\x11\xec" + block(self.rng.randbytes(1216))
        for shares in (hybrid + b"\0\x1d" + block(self.rng.randbytes(32)), b"\x77\x77" + block(self.rng.randbytes(3000))):
            extensions = extension(43, block(b"\3\4", "!B")) + extension(10, block(b"\x11\xec\x77\x77\0\x1d")) + \
                extension(13, block(bytes.fromhex("040308040401"))) + extension(51, block(shares)) + \
                extension(21, b"\0" * 500)
            body = b"\3\3" + self.rng.randbytes(32) + block(self.rng.randbytes(32), "!B") + \
                block(bytes.fromhex("130213031301")) + b"\1\0" + block(extensions)
            message = b"\1" + len(body).to_bytes(3, "big") + body
            for step in (1, 100, 1400, 5000):
                records = b"".join(b"\x16\3\1" + block(message[i:i + 700]) for i in range(0, len(message), 700))
                s = socket.create_connection(("127.0.0.1", self.port), timeout=45)
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for i in range(0, len(records), step):
                    s.sendall(records[i:i + step])
                got = s.recv(6)
                self.assertEqual((got[0], got[5]), (22, 2))      # ServerHello or HelloRetryRequest
                s.close()

    # ---- what is not believed

    def test_a_wrong_cookie_in_fragments(self):
        s = self.open()
        body = self.hello(self.rng.randbytes(20), 1200)
        before = self.d.counter("handshake_strays")
        for f in self.fragments(body, 1, self.cuts(len(body), 40)):
            self.number += 1
            s.send(self.record(f))
        self.assertTrue(until(lambda: self.d.drops("dtls_fragment") > 0))
        s.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            s.recv(2048)
        self.assertEqual(self.d.counter("handshake_strays"), before)

    def test_datagrams_of_strangers_do_not_reach_turnpike_tls(self):
        """And TLS handshakes go on while very many of them come."""
        before, stop = self.d.counter("handshake_strays"), threading.Event()
        stray = b"\x16\xfe\xfd\0\1" + b"\0" * 5 + b"\1\0\x28" + b"x" * 40

        def flood():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.connect(("127.0.0.1", self.port))
            while not stop.is_set():
                s.send(stray)
            s.close()
        threads = [threading.Thread(target=flood) for _ in range(2)]
        for t in threads:
            t.start()
        try:
            for _ in range(30):
                c = tls_client(self.port)
                self.assertIsNotNone(c.binding())
                c.close()
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.assertTrue(until(lambda: self.d.drops("dtls_stray") > 0))
        self.assertEqual(self.d.counter("handshake_strays"), before)


class Refusals(unittest.TestCase):
    """Handshakes that fail are counted and said, with the client's address and what it means."""

    def daemon(self, limits=""):
        d = daemon.Daemon((CONFIG % 2).replace("stream_deadline", limits + "stream_deadline"), start=False,
                          tls=daemon.free_port(kind=socket.SOCK_STREAM))
        daemon.certificate(d.dir)
        self.addCleanup(d.stop)
        d.start()
        return d

    def fails(self, d, make, text):
        with self.assertRaises(OSError):
            s = make().wrap_socket(socket.create_connection(("127.0.0.1", d.values["tls"]), timeout=45),
                                   server_hostname="turn.test")
            self.assertNotEqual(s.recv(1), b"")         # TLS 1.3: the refusal comes after our Finished
            raise OSError
        line = "handshake failed: %s: client 127.0.0.1:" % text
        self.assertTrue(until(lambda: line in d.text()), d.text())

    def test_reasons(self):
        d = self.daemon()
        self.fails(d, ssl.create_default_context, "the client does not accept the certificate")

        def alpn():
            c = context()
            c.set_alpn_protocols(["h2"])
            return c
        self.fails(d, alpn, "the client asks by ALPN for another protocol than TURN")

        def old():
            c = context()
            c.minimum_version = ssl.TLSVersion.TLSv1
            c.maximum_version = ssl.TLSVersion.TLSv1_1
            c.set_ciphers("ALL:@SECLEVEL=0")
            return c
        self.fails(d, old, "no common TLS version")

    def test_a_limit_for_each_address(self):
        d = self.daemon("handshakes_per_prefix: 1, ")
        for make in (tls_client, dtls_client):
            before, failed = d.drops("handshake_rate"), 0
            for _ in range(24):
                try:
                    if make is dtls_client:
                        c = dtlsclient.DtlsClient(("127.0.0.1", d.values["tls"]), within=1)
                    else:
                        c = make(d.values["tls"])
                    c.close()
                except OSError:
                    failed += 1
                if failed >= 3:
                    break
            self.assertGreaterEqual(failed, 1)
            self.assertTrue(until(lambda: d.drops("handshake_rate") > before))
        self.assertTrue(until(lambda: "limits.handshakes_per_prefix is reached (1): client 127.0.0.1" in d.text()))


if __name__ == "__main__":
    print("seed", SEED)
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
