#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Connections whose workers are killed again and again: not one is broken, not one byte of a stream is lost, doubled or
moved.  Every request is answered exactly once and in order; relayed data comes at most once and never to another.

TP_KILLS: times that workers are killed (50; with TP_SOAK=1, make soak, 1,000); TP_SEED: what is sent; TP_FLOWS: connections
of each transport (64)."""
import os
import random
import selectors
import ssl
import struct
import threading
import time
import unittest

import daemon
from daemon import tls_context as context
import turnclient as tc

FLOWS = int(os.environ.get("TP_FLOWS", 64))
KILLS = int(os.environ.get("TP_KILLS", 1000 if os.environ.get("TP_SOAK") else 50))
CONFIG = daemon.DEFAULT.replace("transport: udp }}", "transport: [ udp, tcp ] }}") + """
limits: {{ connections_per_prefix: 0 }}
"""
WINDOW = 24


class Flow:
    """Requests and data in one stream, cut anywhere; what must come back is known."""

    def __init__(self, number, client, rnd):
        self.number, self.c, self.rnd = number, client, rnd
        self.p = daemon.Peer()
        self.p.sock.setblocking(False)
        client.allocate()
        client.bind(0x4000, self.p.addr)
        client.sock.setblocking(False)
        self.out, self.buffer = b"", client.buffer
        self.asked = self.answered = self.sent = self.heard = self.echoed = 0
        self.last_heard = self.last_echo = -1
        self.errors = []

    def fill(self):
        while self.asked - self.answered < WINDOW and len(self.out) < 4096:
            n = self.rnd.choice((0, 3, 60, 200, 1200))
            payload = struct.pack("!II", self.number, self.sent) + bytes([self.sent & 255]) * n
            self.out += struct.pack("!HH", 0x4000, len(payload)) + payload + b"\0" * (-len(payload) % 4)
            self.sent += 1
            self.out += tc.build(tc.BINDING, tc.REQUEST, struct.pack("!III", 7, self.number, self.asked))
            self.asked += 1

    def write(self):
        if not self.out:
            return
        try:
            n = self.c.sock.send(self.out[:self.rnd.choice((1, 7, 100, 1500, 5000))])
            self.out = self.out[n:]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass

    def read(self):
        try:
            got = self.c.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not got:
            raise OSError("closed by the server")
        self.buffer += got
        while len(self.buffer) >= 4:
            kind, n = struct.unpack("!HH", self.buffer[:4])
            size = 20 + n if kind < 0x4000 else 4 + n + (-n % 4)
            if kind not in (0x0101, 0x4000):
                raise OSError("out of step: " + self.buffer[:16].hex())
            if len(self.buffer) < size:
                break
            self.frame(kind, self.buffer[:size], n)
            self.buffer = self.buffer[size:]

    def frame(self, kind, raw, n):
        if kind == 0x0101:
            want = struct.pack("!III", 7, self.number, self.answered)
            if raw[8:20] != want:
                raise OSError("answer %s instead of %s" % (raw[8:20].hex(), want.hex()))
            self.answered += 1
            return
        number, i = struct.unpack("!II", raw[4:12])
        if number != self.number or i <= self.last_echo or raw[12:4 + n] != bytes([i & 255]) * (n - 8):
            raise OSError("data of flow %d, number %d after %d" % (number, i, self.last_echo))
        self.last_echo = i
        self.echoed += 1

    def peer(self):
        while True:
            try:
                data, src = self.p.sock.recvfrom(65536)
            except BlockingIOError:
                return
            number, i = struct.unpack("!II", data[:8])
            if number != self.number or i <= self.last_heard or src[:2] != self.c.relayed:
                raise OSError("the peer heard flow %d, number %d after %d" % (number, i, self.last_heard))
            self.last_heard = i
            self.heard += 1
            self.p.send(data, self.c.relayed)


class Player(threading.Thread):
    """All flows; one that breaks is noted and left."""

    def __init__(self, flows):
        super().__init__(daemon=True)
        self.flows, self.stopping, self.broken = flows, False, []
        self.lossless = False           # the end waits for every echo, not only for every answer
        self.selector = selectors.DefaultSelector()
        for f in flows:
            self.selector.register(f.c.sock, selectors.EVENT_READ, (f, f.read))
            self.selector.register(f.p.sock, selectors.EVENT_READ, (f, f.peer))

    def guard(self, f, call):
        if f.errors:
            return
        try:
            call()
            if isinstance(f.c.sock, ssl.SSLSocket):
                while call == f.read and f.c.sock.pending():
                    call()
        except (OSError, ValueError) as e:
            f.errors.append(str(e))
            self.broken.append((f.number, str(e)))
            self.selector.unregister(f.c.sock)
            self.selector.unregister(f.p.sock)

    def waits(self, f):
        return not f.errors and (f.out or f.answered < f.asked or (self.lossless and f.echoed < f.sent))

    def run(self):
        while not self.stopping or any(map(self.waits, self.flows)):
            for key, _ in self.selector.select(0.005):
                self.guard(*key.data)
            for f in self.flows:
                if not self.stopping:
                    f.fill()
                self.guard(f, f.write)
            if self.stopping and time.monotonic() > self.deadline:
                break

    def finish(self, within=120):
        self.deadline = time.monotonic() + within
        self.stopping = True
        self.join(within + 5)


def tls_daemon(**kw):
    # The certificate lies beside the configuration, which names it by a relative path.
    d = daemon.Daemon(CONFIG.replace("[ udp, tcp ] }}", "[ udp, tcp, tls ] }}") +
                      "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n", start=False, **kw)
    daemon.certificate(d.dir)
    return d.start()


class Streams(unittest.TestCase):
    def one_kill(self, d, rnd):
        """One worker, or all of them; now and then a turnpike-tls with it."""
        before = d.children("worker")
        killed = sorted(before) if rnd.random() < 0.2 else [rnd.choice(sorted(before))]
        daemon.kill_all(killed + (sorted(d.children("tls")) if rnd.random() < 0.1 else []))
        self.until(lambda: d.replaced("worker", killed, len(before)))

    def check(self, d, player, flows):
        player.finish()
        self.assertEqual(player.broken, [])
        for f in flows:
            self.assertEqual((f.out, f.answered), (b"", f.asked), "flow %d" % f.number)
            self.assertGreater(f.echoed, 0)
        self.assertEqual(d.ctl("verify")[0], 0, d.ctl("verify")[1])
        print("%d requests, %d of %d data heard, %d echoed" % (sum(f.asked for f in flows), sum(f.heard for f in flows),
              sum(f.sent for f in flows), sum(f.echoed for f in flows)), flush=True)
        for f in flows:
            f.c.close()
        self.until(lambda: d.status()["sessions"] == 0)

    def play(self, d, connect, kills, between, count=FLOWS):
        seed = int(os.environ.get("TP_SEED", time.time_ns() % 1000000))
        print("TP_SEED=%d" % seed, flush=True)
        rnd = random.Random(seed)
        flows = [Flow(i, connect(i), random.Random(rnd.random())) for i in range(count)]
        player = Player(flows)
        player.start()
        for _ in range(kills):
            time.sleep(rnd.uniform(0, 0.08))
            between(d, rnd)
            self.assertEqual(player.broken, [])
        self.check(d, player, flows)

    def tcp(self, d):
        return lambda i: tc.StreamClient(d.server, *tc.rest_credentials(daemon.SECRET, "u%d" % i))

    def test_workers_killed(self):
        """TCP, TLS 1.2 and 1.3 beside each other."""
        with tls_daemon() as d:
            tcp, tls = self.tcp(d), self.tls(d, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
            self.play(d, lambda i: (tls if i % 2 else tcp)(i), KILLS, self.one_kill, 2 * FLOWS)

    def test_tcp_reload_and_rolling_restart(self):
        def between(d, rnd):
            d.ctl(rnd.choice(("reload", "restart-workers", "upgrade")), check=False)
        with daemon.Daemon(CONFIG) as d:
            self.play(d, self.tcp(d), 6, between)

    def tls(self, d, *versions):
        contexts = [context(v) for v in versions]
        return lambda i: tc.StreamClient(d.server, *tc.rest_credentials(daemon.SECRET, "u%d" % i),
                                         tls=contexts[(i // 2) % len(contexts)])

    def test_tls_basic(self):
        with tls_daemon() as d:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                c, p = self.tls(d, version)(1), daemon.Peer()
                self.assertEqual(c.binding(), c.sock.getsockname()[:2])
                c.allocate()
                c.bind(0x4000, p.addr)
                for size in (0, 1, 5, 1200, 20000, 60000):
                    payload = os.urandom(size)
                    c.channel_data(0x4000, payload)
                    self.assertEqual(p.recv(), (payload, c.relayed))
                    p.send(payload, c.relayed)
                    self.assertEqual(c.data(), (0x4000, payload))
                for i in range(3):      # a frame in many records
                    raw = tc.build(tc.BINDING, tc.REQUEST, b"%012d" % i)
                    for at in range(len(raw)):
                        c.raw(raw[at:at + 1])
                    self.assertIsNotNone(c.wait(b"%012d" % i))
                c.sock.unwrap()         # close_notify is answered
                c.close()
            plain = self.tcp(d)(2)
            self.assertIsNotNone(plain.binding())
            plain.close()

    def one_upgrade(self, d, rnd):
        text = d.ctl("upgrade", check=False)[1]
        self.assertIn("upgraded", text)
        self.until(lambda: d.text().count("every process is of version") >= d.text().count("has taken over"))

    def test_tcp_upgrade(self):
        with daemon.Daemon(CONFIG) as d:
            self.play(d, self.tcp(d), 3, self.one_upgrade)

    def test_tls_upgrade(self):
        with tls_daemon() as d:
            self.play(d, self.tls(d, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3), 3, self.one_upgrade)
            tlsds = list(d.children("tls"))
            self.assertEqual(len(tlsds), 1)
            late = self.tls(d, ssl.TLSVersion.TLSv1_3)(7)	# a handshake with the new one
            self.assertIsNotNone(late.binding())
            late.close()

    def test_whatever_an_operator_does(self):
        """TCP and TLS across reloads, a resize 2 -> 1 -> 2, rolling restarts and upgrades; new ones come as before."""
        with tls_daemon() as d:
            tcp, tls = self.tcp(d), self.tls(d, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
            flows = [Flow(i, (tls if i % 2 else tcp)(i), random.Random(i)) for i in range(16)]
            player = Player(flows)
            player.lossless = True      # no process is killed here
            player.start()
            before = d.children()
            tlsds = set(d.children("tls"))
            self.assertTrue(tlsds)
            for n, step in enumerate((("reload",), 1, ("upgrade",), 2, ("restart-workers",), ("upgrade",), ("reload",))):
                heard = [f.answered for f in flows]
                if isinstance(step, int):
                    with open(d.config) as f:
                        text = f.read()
                    with open(d.config, "w") as f:
                        f.write(text.replace("workers: %d" % (3 - step), "workers: %d" % step))
                    d.ctl("reload")
                    self.until(lambda: d.ready() and len(d.children("worker")) == step)
                else:
                    said = d.ctl(*step)[1]
                    if step == ("upgrade",):
                        self.assertIn("upgraded", said)
                    self.until(d.ready)
                self.until(lambda: all(f.errors or f.answered > h for f, h in zip(flows, heard)))
                self.assertEqual(player.broken, [], str(step))
                for connect in (tcp, tls, tls):         # the certificates and turnpike-tls processes came along, too
                    c = connect(100 + n)
                    c.allocate()
                    c.close()
            self.until(lambda: d.text().count("every process is of version") == 2)
            self.assertFalse(set(before) & set(d.children()))
            self.assertEqual(len(d.children("tls")), len(tlsds))
            self.assertNotIn("killed by the supervisor", d.text())
            self.check(d, player, flows)
            self.assertEqual([(f.sent - f.heard, f.sent - f.echoed) for f in flows], [(0, 0)] * len(flows))

    def until(self, condition):
        self.assertTrue(daemon.until(condition), "not in time")

    def test_authd_killed_while_clients_come(self):
        """A request that waits for a key is not lost with turnpike-auth, nor with the worker."""
        with daemon.Daemon(CONFIG) as d:
            for i in range(6):
                c = self.tcp(d)(i)
                m = c.once(tc.ALLOCATE, tc.attr("REQUESTED_TRANSPORT", b"\x11\0\0\0"))
                c.realm, c.nonce = m.get("REALM").decode(), m.get("NONCE")
                for role in ("auth", "worker"):
                    daemon.kill_all(d.children(role))
                c.allocate()
                c.close()


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
