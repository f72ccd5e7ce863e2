#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""TURN over TCP: framing at any split, what closes a connection, limits, PROXY headers, slow readers."""
import json
import os
import random
import socket
import struct
import time
import unittest

import daemon
from daemon import until
import turnclient as tc

CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: [ udp, tcp ] }}
  - {{ address: 127.0.0.1, port: {proxy}, transport: tcp, proxy_protocol: [ 127.0.0.0/8 ] }}""") + """
limits: {{ connections_per_prefix: 40, stream_deadline: {deadline}, stream_queue: 64KiB }}
"""
BINDING = tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab")
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class Base(unittest.TestCase):
    deadline = "60s"

    @classmethod
    def setUpClass(cls):
        cls.proxy = daemon.free_port(kind=socket.SOCK_STREAM)
        cls.d = daemon.Daemon(CONFIG, proxy=cls.proxy, deadline=cls.deadline)

    @classmethod
    def tearDownClass(cls):
        code = cls.d.stop()
        assert code == 0, (code, cls.d.text())

    def setUp(self):
        # What an earlier test left must be gone: the limit per prefix counts all of them.
        self.assertTrue(until(lambda: self.d.status()["sessions"] == 0))

    def client(self, user="alice", password="wonderland", **kw):
        c = tc.StreamClient(kw.pop("server", self.d.server), user, password, **kw)
        self.addCleanup(c.close)
        return c

    def peer(self):
        p = daemon.Peer()
        self.addCleanup(p.close)
        return p

    def relay(self, c, p, payload=b"payload"):
        c.channel_data(0x4000, payload)
        self.assertEqual(p.recv(), (payload, c.relayed))
        p.send(payload[::-1], c.relayed)
        self.assertEqual(c.data(), (0x4000, payload[::-1]))


class Deadline(Base):
    deadline = "5s"

    def test_deadline(self):
        before = self.d.drops("stream_deadline")
        silent, slow, good = self.client(), self.client(), self.client()
        slow.raw(BINDING[:10])
        self.assertIsNotNone(good.binding())
        self.assertTrue(silent.is_closed())
        self.assertTrue(slow.is_closed())
        self.assertIsNotNone(good.binding())
        self.assertEqual(daemon.reach(lambda: self.d.drops("stream_deadline"), before + 2), before + 2)


class Tcp(Base):
    def test_binding_and_channel_of_all_sizes(self):
        c, p = self.client(), self.peer()
        self.assertEqual(c.binding(), c.sock.getsockname()[:2])
        c.allocate()
        self.assertEqual(c.mapped, c.sock.getsockname()[:2])
        c.bind(0x4000, p.addr)
        for size in (0, 1, 2, 3, 4, 5, 120, 1200, 1461, 9000, 60000):
            self.relay(c, p, os.urandom(size))
        c.refresh(0)
        self.assertIsNotNone(c.binding())

    def test_indications(self):
        c, p = self.client(), self.peer()
        c.allocate()
        c.permit(p.addr)
        for size in (0, 1, 120, 1200):
            payload = os.urandom(size)
            c.send_indication(p.addr, payload)
            self.assertEqual(p.recv(), (payload, c.relayed))
            p.send(payload, c.relayed)
            self.assertEqual(c.data()[:2], (p.addr, payload))

    def test_any_split_and_coalesced(self):
        seed = int(os.environ.get("TP_SEED", time.time_ns() % 1000000))
        print("TP_SEED=%d" % seed, flush=True)
        rnd = random.Random(seed)
        c, p = self.client(), self.peer()
        c.allocate()
        c.bind(0x4000, p.addr)
        stream, sent = b"", []
        for i in range(60):
            payload = struct.pack("!I", i) + os.urandom(rnd.choice((0, 1, 2, 3, 60, 1200)))
            sent.append(payload)
            stream += struct.pack("!HH", 0x4000, len(payload)) + payload + b"\0" * (-len(payload) % 4)
            if rnd.random() < 0.3:
                stream += tc.build(tc.BINDING, tc.REQUEST, b"b%011d" % i)
        at = 0
        while at < len(stream):
            n = rnd.choice((1, 2, 3, 4, 5, 7, 19, 1000, 5000))
            c.raw(stream[at:at + n])
            at += n
            if rnd.random() < 0.2:
                time.sleep(0.001)
        self.assertEqual([p.recv()[0] for _ in sent], sent)

    def test_byte_at_a_time(self):
        c = self.client()
        for i in range(len(BINDING)):
            c.raw(BINDING[i:i + 1])
            time.sleep(0.001)
        self.assertIsNotNone(c.wait(b"0123456789ab"))

    def test_two_bindings_in_one_segment(self):
        c = self.client()
        c.raw(BINDING + tc.build(tc.BINDING, tc.REQUEST, b"second------"))
        self.assertIsNotNone(c.wait(b"0123456789ab"))
        self.assertIsNotNone(c.wait(b"second------"))

    def test_what_is_no_frame_closes_without_an_answer(self):
        for name, data in (("http get", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ("http head", b"HEAD / HTTP/1.0\r\n\r\n"),
                           ("http post", b"POST / HTTP/1.1\r\n\r\n"), ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
                           ("zeros", b"\0" * 64), ("ff", b"\xff" * 64), ("no cookie", BINDING[:4] + b"\0" * 16),
                           ("odd length", BINDING[:2] + b"\0\1" + BINDING[4:] + b"\0"),
                           ("oversize", BINDING[:2] + b"\xff\xfc" + BINDING[4:]),
                           ("channel first", b"\x40\x00\x00\x04abcd"), ("proxy header", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n")):
            with self.subTest(name):
                c = self.client()
                c.raw(data)
                self.assertTrue(c.is_closed(), name)

    def test_desync_after_an_allocation_frees_it(self):
        for junk in (b"\x80\0\0\0", b"\0\1\0\3" + b"\0" * 30, b"\0\1\0\0" + b"\0" * 16):
            c = self.client()
            c.allocate()
            self.assertEqual(self.d.status()["sessions"], 1)
            c.raw(junk)
            self.assertTrue(c.is_closed())
            self.assertTrue(until(lambda: self.d.status()["sessions"] == 0))

    def test_fin_and_reset_free_the_allocation(self):
        for reset in (False, True):
            c = self.client()
            c.allocate()
            if reset:
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.sock.close()
            self.assertTrue(until(lambda: self.d.status()["sessions"] == 0), "reset %s" % reset)

    def test_answered_before_half_close(self):
        c = self.client()
        c.raw(BINDING)
        c.sock.shutdown(socket.SHUT_WR)
        self.assertIsNotNone(c.wait(b"0123456789ab"))
        self.assertTrue(c.is_closed())

    def test_udp_and_tcp_side_by_side(self):
        c, p = self.client(), self.peer()
        port = c.sock.getsockname()[1]
        u = tc.Client(self.d.server, "bob", "builder", local=("127.0.0.1", port))
        self.addCleanup(u.close)
        c.allocate()
        u.allocate()
        self.assertNotEqual(c.relayed, u.relayed)
        c.bind(0x4000, p.addr)
        u.bind(0x4000, p.addr)
        self.relay(c, p, b"tcp")
        self.relay(u, p, b"udp")

    def limit_per_prefix(self, client):
        def served(c):
            try:
                return c.binding() is not None
            except OSError:
                return False
        held = [client() for _ in range(60)]
        alive = sum(map(served, held))
        self.assertLessEqual(alive, 40)
        self.assertGreaterEqual(alive, 35)
        yield
        for c in held:
            c.close()
        self.assertTrue(until(lambda: served(client())))
        yield

    def test_limit_per_prefix(self):
        for _ in self.limit_per_prefix(lambda: self.client(local=("127.0.0.9", 0))):
            pass

    def test_limit_per_prefix_of_proxied_clients(self):
        """The client that the header names counts, and not the proxy, which all of them share."""
        def from_address(last):
            return self.proxied(b"PROXY TCP4 203.0.113.%d 127.0.0.1 4567 3478\r\n" % last)
        steps = self.limit_per_prefix(lambda: from_address(9))
        next(steps)
        others = [from_address(i) for i in range(10, 60)]
        for c in others:
            self.assertIsNotNone(c.binding())
        for c in others:
            c.close()
        next(steps)

    def test_slow_reader_loses_data_and_nothing_else(self):
        c, p = self.client(), self.peer()
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.allocate()
        c.bind(0x4000, p.addr)
        other, q = self.client("bob", "builder"), self.peer()
        other.allocate()
        other.bind(0x4000, q.addr)
        full = self.d.drops("stream_full")
        for i in range(4000):
            p.send(struct.pack("!I", i) + b"." * 1000, c.relayed)
            if i % 50 == 0:
                time.sleep(0.005)
        self.assertTrue(until(lambda: self.d.drops("stream_full") > full))
        self.assertTrue(until(lambda: "limits.stream_queue is reached (65536): client 127.0.0.1:" in self.d.text()))
        self.assertGreater(json.loads(self.d.ctl("limits", as_json=True)[1])["refused"]["limits.stream_queue"], 0)
        self.relay(other, q)
        p.send(b"the last", c.relayed)
        last, count = -1, 0
        while True:
            got = c.data(1.5)
            if got is None:                     # this one was dropped, too: there is room now
                p.send(b"the last", c.relayed)
                continue
            if got[1] == b"the last":
                break
            number, = struct.unpack("!I", got[1][:4])
            self.assertGreater(number, last)
            self.assertEqual(got[1][4:], b"." * 1000)
            last, count = number, count + 1
        self.assertGreater(count, 50)
        self.assertIsNotNone(c.refresh(600))
        c.channel_data(0x4000, b"and on")
        self.assertEqual(p.recv(), (b"and on", c.relayed))
        p.send(b"and back", c.relayed)
        got = c.data()
        while got and got[1] == b"the last":
            got = c.data()
        self.assertEqual(got, (0x4000, b"and back"))

    def test_answers_wait_behind_a_full_queue(self):
        c = self.client()
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        n, before = 30000, self.d.drops("rate_binding")
        c.sock.settimeout(0.2)
        data = b"".join(tc.build(tc.BINDING, tc.REQUEST, struct.pack("!III", 1, 2, i)) for i in range(n))
        sent = 0
        try:
            while sent < len(data):
                sent += c.sock.send(data[sent:sent + 65536])
        except socket.timeout:
            pass
        # Over the rate of Binding answers they are dropped, never reordered or cut.
        whole, numbers = sent // 20, []

        def all_told():
            g = c.recv_raw(0.5)
            while g:
                numbers.append(struct.unpack("!I", g[16:20])[0])
                g = c.recv_raw(0)
            return len(numbers) + self.d.drops("rate_binding") - before >= whole
        self.assertTrue(until(all_told, 120))
        self.assertEqual(len(numbers) + self.d.drops("rate_binding") - before, whole)
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertGreater(len(numbers), 100)

    # ---- PROXY protocol ----

    def v2(self, command=0x21, family=0x11, body=None, extra=b""):
        if body is None:
            body = socket.inet_aton("203.0.113.7") + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 4567, 3478)
        return SIGNATURE + struct.pack("!BBH", command, family, len(body) + len(extra)) + body + extra

    def proxied(self, header):
        return self.client(server=("127.0.0.1", self.proxy), header=header)

    def test_proxy_names_the_client(self):
        v6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 4567, 3478)
        mapped4 = socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.7") * 2 + struct.pack("!HH", 4567, 3478)
        for header, mapped in (
                (b"PROXY TCP4 203.0.113.7 127.0.0.1 4567 3478\r\n", ("203.0.113.7", 4567)),
                (b"PROXY TCP6 2001:db8::7 ::1 4567 3478\r\n", ("2001:db8::7", 4567)),
                (self.v2(), ("203.0.113.7", 4567)), (self.v2(family=0x21, body=v6), ("2001:db8::7", 4567)),
                (b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:127.0.0.1 4567 3478\r\n", ("203.0.113.7", 4567)),
                (self.v2(family=0x21, body=mapped4), ("203.0.113.7", 4567)),
                (self.v2(extra=b"\x04\0\x05hello"), ("203.0.113.7", 4567)), (b"PROXY UNKNOWN\r\n", None),
                (b"PROXY UNKNOWN ff ff\r\n", None), (self.v2(command=0x20), None), (self.v2(family=0, body=b""), None)):
            for split in (False, True):
                c = self.client(server=("127.0.0.1", self.proxy))
                for piece in ([bytes([b]) for b in header] if split else [header]):
                    c.raw(piece)
                    if split:
                        time.sleep(0.0005)
                self.assertEqual(c.binding(), mapped or c.sock.getsockname()[:2], header)
                c.close()

    def test_proxy_header_of_any_length(self):
        for extra in (600, 4096, 5000, 65523):
            tlv = b"\x04" + struct.pack("!H", extra - 3) + b"x" * (extra - 3)
            for split in (False, True):
                header = self.v2(extra=tlv)
                c = self.client(server=("127.0.0.1", self.proxy))
                for piece in ([header[i:i + 999] for i in range(0, len(header), 999)] if split else [header]):
                    c.raw(piece)
                self.assertEqual(c.binding(), ("203.0.113.7", 4567))
                c.close()

    def test_proxied_allocation(self):
        c, p = self.proxied(b"PROXY TCP4 203.0.113.7 127.0.0.1 4567 3478\r\n"), self.peer()
        c.allocate()
        self.assertEqual(c.mapped, ("203.0.113.7", 4567))
        c.bind(0x4000, p.addr)
        self.relay(c, p)

    def test_proxy_header_that_is_wrong(self):
        before = self.d.drops("proxy")
        bad = [BINDING, b"PROXY TCP4 203.0.113.7 127.0.0.1 4567 3478\n" + b"x" * 80, b"PROXY TCP4 203.0.113.7  127.0.0.1 1 2\r\n",
               b"PROXY TCP4 203.0.113.07 127.0.0.1 1 2\r\n", b"PROXY TCP4 203.0.113.7 127.0.0.1 01 2\r\n",
               b"PROXY TCP4 203.0.113.7 127.0.0.1 70000 2\r\n", b"PROXY TCP6 203.0.113.7 127.0.0.1 1 2\r\n",
               b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2 3\r\n", b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
               b"PROXY TCP4 " + b"1" * 120, b"proxy unknown\r\n", self.v2(command=0x22), self.v2(command=0x31),
               self.v2(family=0x12), self.v2(body=b"\0" * 8)]
        for header in bad:
            c = self.proxied(header)
            self.assertTrue(c.is_closed(), header)
        self.assertEqual(daemon.reach(lambda: self.d.drops("proxy"), before + len(bad)), before + len(bad))


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
