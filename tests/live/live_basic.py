#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The daemon relays: every path a packet can take, over IPv4 and IPv6, checked by bytes and counters."""
import os
import struct
import time
import unittest

import daemon
import turnclient as tc

CONFIG = daemon.DEFAULT.replace(
    "addresses: [ 127.0.0.1 ]", 'addresses: [ 127.0.0.1, "::1" ]').replace(
    "relay:", '  - {{ address: "::1", port: {port}, transport: [ udp ] }}\nrelay:')


class Basic(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.d = daemon.Daemon(CONFIG)

    @classmethod
    def tearDownClass(cls):
        code = cls.d.stop()
        assert code == 0, (code, cls.d.text())

    def client(self, user="alice", password="wonderland", v6=False, **kw):
        c = tc.Client(("::1" if v6 else "127.0.0.1", self.d.port), user, password, **kw)
        self.addCleanup(c.close)
        return c

    def peer(self, host="127.0.0.1"):
        p = daemon.Peer(host)
        self.addCleanup(p.close)
        return p

    def test_binding(self):
        for v6 in (False, True):
            c = self.client(v6=v6)
            self.assertEqual(c.binding(), c.sock.getsockname()[:2])

    def test_binding_is_exactly_the_mapped_address(self):
        c = self.client()
        txid = os.urandom(12)
        c.raw(tc.build(tc.BINDING, tc.REQUEST, txid))
        self.assertEqual(len(c.recv_raw()), 32)

    def test_channel_both_ways(self):
        for v6 in (False, True):
            host = "::1" if v6 else "127.0.0.1"
            c, p = self.client(v6=v6), self.peer(host)
            c.allocate(tc.attr("REQUESTED_ADDRESS_FAMILY", bytes([2 if v6 else 1, 0, 0, 0])))
            c.bind(0x4001, p.addr)
            for size in (0, 1, 3, 4, 120, 1200):
                payload = os.urandom(size)
                c.channel_data(0x4001, payload)
                got = p.recv()
                self.assertIsNotNone(got, size)
                self.assertEqual(got, (payload, c.relayed))
                p.send(payload[::-1], c.relayed)
                self.assertEqual(c.data(), (0x4001, payload[::-1]))

    def test_indications_both_ways(self):
        c, p = self.client(), self.peer()
        c.allocate()
        c.permit(p.addr)
        for size in (0, 1, 3, 120, 1200):
            payload = os.urandom(size)
            c.send_indication(p.addr, payload)
            self.assertEqual(p.recv(), (payload, c.relayed))
            p.send(payload, c.relayed)
            self.assertEqual(c.data()[:2], (p.addr, payload))

    def test_large_datagram(self):
        c, p = self.client(), self.peer()
        c.allocate()
        c.bind(0x4000, p.addr)
        payload = os.urandom(60000)
        c.channel_data(0x4000, payload)
        self.assertEqual(p.recv(), (payload, c.relayed))
        p.send(payload, c.relayed)
        self.assertEqual(c.data(), (0x4000, payload))

    def test_families_meet(self):
        """An IPv4 client with an IPv6 relayed address reaches an IPv6 peer, and the reverse."""
        for v6 in (False, True):
            c, p = self.client(v6=v6), self.peer("127.0.0.1" if v6 else "::1")
            c.allocate(tc.attr("REQUESTED_ADDRESS_FAMILY", bytes([1 if v6 else 2, 0, 0, 0])))
            c.bind(0x4000, p.addr)
            c.channel_data(0x4000, b"across")
            self.assertEqual(p.recv(), (b"across", c.relayed))
            p.send(b"back", c.relayed)
            self.assertEqual(c.data(), (0x4000, b"back"))

    def test_dual_allocation(self):
        c, p4, p6 = self.client(), self.peer(), self.peer("::1")
        m = c.allocate(tc.attr("ADDITIONAL_ADDRESS_FAMILY", b"\2\0\0\0"))
        relayed = m.addresses("XOR_RELAYED_ADDRESS")
        self.assertEqual(sorted(":" in a[0] for a in relayed), [False, True])
        c.permit(p4.addr, p6.addr)
        for p, v6 in ((p4, False), (p6, True)):
            c.send_indication(p.addr, b"x")
            data, src = p.recv()
            self.assertEqual(data, b"x")
            self.assertIn(src, relayed)
            p.send(b"y", src)
            self.assertEqual(c.data()[:2], (p.addr, b"y"))

    def test_hairpin(self):
        a, b = self.client(), self.client("bob", "builder")
        a.allocate()
        b.allocate()
        a.bind(0x4000, b.relayed)
        b.permit(a.relayed)
        a.channel_data(0x4000, b"to b")
        self.assertEqual(b.data()[:2], (a.relayed, b"to b"))
        b.send_indication(a.relayed, b"to a")
        self.assertEqual(a.data(), (0x4000, b"to a"))

    def test_credentials(self):
        for user, password in (("alice", "wonderland"), tc.rest_credentials(daemon.SECRET, "carol"),
                               tc.rest_credentials(daemon.SECRET, None)):
            c = self.client(user, password)
            c.allocate()
        for user, password in (("alice", "wrong"), ("nobody", "wonderland"),
                               tc.rest_credentials(daemon.SECRET, "carol", lifetime=-5),
                               tc.rest_credentials("another-secret-that-is-not-configured", "carol")):
            c = self.client(user, password)
            with self.assertRaises(tc.TurnError) as e:
                c.allocate()
            self.assertEqual(e.exception.code, 401)

    def test_sha256(self):
        c = self.client(sha256=True)
        m = c.allocate()
        self.assertEqual(m.signed_by(c.key), "sha256")

    def test_answers_are_signed(self):
        c = self.client()
        self.assertEqual(c.allocate().signed_by(c.key), "sha1")
        self.assertEqual(c.refresh().signed_by(c.key), "sha1")

    def test_even_port_and_token(self):
        a, b = self.client(), self.client()
        m = a.allocate(tc.attr("EVEN_PORT", b"\x80"))
        self.assertEqual(a.relayed[1] % 2, 0)
        token = m.get("RESERVATION_TOKEN")
        self.assertEqual(len(token), 8)
        b.allocate(tc.attr("RESERVATION_TOKEN", token))
        self.assertEqual(b.relayed[1], a.relayed[1] + 1)
        c = self.client()
        with self.assertRaises(tc.TurnError) as e:
            c.allocate(tc.attr("RESERVATION_TOKEN", token))
        self.assertEqual(e.exception.code, 508)

    def test_refresh_zero_frees(self):
        c, p = self.client(), self.peer()
        c.allocate()
        c.bind(0x4000, p.addr)
        c.refresh(0)
        c.channel_data(0x4000, b"late")
        self.assertIsNone(p.recv(0.2))
        with self.assertRaises(tc.TurnError) as e:
            c.refresh(600)
        self.assertEqual(e.exception.code, 437)
        c.allocate()

    def test_dead_peer_costs_the_live_one_nothing(self):
        c, live = self.client(), self.peer()
        dead = self.peer()
        c.allocate()
        c.bind(0x4000, live.addr)
        c.bind(0x4001, dead.addr)
        dead.close()
        for i in range(200):
            c.channel_data(0x4001, b"into the void")
            c.channel_data(0x4000, struct.pack("!I", i))
            if i % 20 == 19:
                time.sleep(0.01)
        got = [struct.unpack("!I", live.recv()[0])[0] for _ in range(200)]
        self.assertEqual(got, list(range(200)))
        end, icmp = time.monotonic() + 20, None
        while icmp is None and time.monotonic() < end:
            d = c.data(0.5)
            icmp = d[2] if d and len(d) > 2 else None
        self.assertIsNotNone(icmp, "no ICMP attribute came")
        self.assertEqual((icmp[2] >> 1, ((icmp[2] & 1) << 8) | icmp[3]), (3, 3))

    def test_no_permission_no_data(self):
        c, p = self.client(), self.peer()
        c.allocate()
        p.send(b"uninvited", c.relayed)
        self.assertIsNone(c.data(0.2))
        c.send_indication(p.addr, b"uninvited")
        self.assertIsNone(p.recv(0.2))

    def test_default_denied_peers(self):
        c = self.client()
        c.allocate()
        for host in ("10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "224.0.0.1", "168.63.129.16"):
            with self.assertRaises(tc.TurnError) as e:
                c.permit((host, 80))
            self.assertEqual(e.exception.code, 403, host)
        with self.assertRaises(tc.TurnError) as e:
            c.bind(0x4000, ("127.0.0.1", self.d.port))      # our own listener, even where loopback is open
        self.assertEqual(e.exception.code, 403)

    def test_malformed_is_silence_and_counted(self):
        c = self.client()
        cases = [(b"\xff" * 20, "junk"), (tc.build(tc.BINDING, tc.REQUEST, b"x" * 12)[:19], "short"),
                 (b"\0\1\0\0" + b"\0" * 16, "cookie"), (tc.build(tc.BINDING, tc.SUCCESS, b"x" * 12), "class"),
                 (b"\x40\0\0\4abcd", "no_allocation")]
        for raw, reason in cases:
            before = self.d.drops(reason)
            for _ in range(3):
                c.raw(raw)
            self.assertEqual(daemon.reach(lambda: self.d.drops(reason) - before, 3), 3, reason)
            self.assertIsNone(c.recv_raw(0.15), reason)

    def test_five_hundred_clients_of_one_address(self):
        clients = [self.client() for _ in range(500)]
        for c in clients:
            c.txid = os.urandom(12)
            c.raw(tc.build(tc.ALLOCATE, tc.REQUEST, c.txid, tc.attr("REQUESTED_TRANSPORT", b"\x11\0\0\0")))
        for c in clients:
            m = c.wait(c.txid)
            self.assertIsNotNone(m, self.d.http("/metrics")[1])
            self.assertEqual(m.code, 401)
            c.realm, c.nonce = m.get("REALM").decode(), m.get("NONCE")
        for c in clients:
            c.request_bytes = tc.build(tc.ALLOCATE, tc.REQUEST, c.txid,
                                       tc.attr("REQUESTED_TRANSPORT", b"\x11\0\0\0") + c.auth_attrs(), c.key)
            c.raw(c.request_bytes)
        for c in clients:
            for _ in range(20):
                m = c.wait(c.txid, 2.0)
                if m is not None:
                    break
                c.raw(c.request_bytes)          # as RFC 8489 6.2.1 has it
            self.assertIsNotNone(m, self.d.http("/metrics")[1])
            self.assertEqual((m.cls, m.code), (tc.SUCCESS, None))
            c.relayed = m.address("XOR_RELAYED_ADDRESS")

    def test_metrics_move_while_the_session_lives(self):
        c, p = self.client(), self.peer()
        c.allocate()
        c.bind(0x4000, p.addr)
        before = self.d.counter("relayed_packets", direction="up", form="channel")
        for _ in range(50):
            c.channel_data(0x4000, b"n" * 100)
            p.recv()
        self.assertEqual(daemon.reach(lambda: self.d.counter("relayed_packets", direction="up", form="channel") - before, 50), 50)
        self.assertEqual(self.d.http("/healthz")[0], 200)
        self.assertEqual(self.d.http("/readyz")[0], 200)

    def test_verify(self):
        self.assertEqual(self.d.ctl("verify")[0], 0)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
