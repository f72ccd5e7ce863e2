#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""TURN over DTLS: relaying, workers and turnpike-tls processes that die, bad records, cookies, a new handshake on a live 5-tuple."""
import json
import os
import random
import struct
import subprocess
import time
import unittest

import daemon
from daemon import until
import dtlsclient
import turnclient as tc

CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: [ udp, dtls ] }}
  - {{ address: 127.0.0.1, port: {dtls}, transport: dtls }}""") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
"""
SEED = int(os.environ.get("TP_SEED") or random.randrange(1 << 32))
HELLO = 1


def crowd(mode, port, n):
    """Very many clients in one process: tests/bench/dtls_crowd.c."""
    return subprocess.Popen([os.path.join(daemon.TOP_BUILD, "tests", "bench", "dtls_crowd"), mode, "127.0.0.1:%d" % port, str(n)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Dtls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.port = daemon.free_port()
        cls.d = daemon.Daemon(CONFIG, start=False, dtls=cls.port)
        daemon.certificate(cls.d.dir)
        cls.d.start()
        cls.rng = random.Random(SEED)

    @classmethod
    def tearDownClass(cls):
        code = cls.d.stop()
        assert code == 0, (code, cls.d.text())

    def client(self, port=None, **kw):
        c = dtlsclient.DtlsClient(("127.0.0.1", port or self.port), "alice", "wonderland", **kw)
        self.addCleanup(c.close)
        return c

    def kill(self, role):
        self.assertTrue(until(lambda: self.d.children(role)))
        before = self.d.children(role)
        daemon.kill_all(before)
        self.assertTrue(until(lambda: self.d.replaced(role, before)))

    def sessions(self, n):
        self.assertTrue(until(lambda: self.d.status()["sessions"] == n), self.d.status())

    def open_associations(self):
        return self.d.counter("connections_opened") - self.d.counter("connections_closed")

    def dropped(self, reason, act):
        """`act` leads to a drop of this reason."""
        before = self.d.drops(reason)
        act()
        self.assertTrue(until(lambda: self.d.drops(reason) > before), reason)

    def relays(self, c, peer, n=20):
        """Both ways, by channel and by indication, with retransmissions: datagrams may be lost, not changed."""
        c.permit(peer.addr)
        c.bind(0x4001, peer.addr)
        for i in range(n):
            up, down = b"up %d %d" % (i, self.rng.getrandbits(64)), b"down %d" % i
            for _ in range(20):
                if i % 2:
                    c.channel_data(0x4001, up)
                else:
                    c.send_indication(peer.addr, up)
                got = peer.recv(1.0)
                while got is not None and got[0] != up:
                    got = peer.recv(1.0)
                if got is not None:
                    break
            self.assertEqual((got or (None,))[0], up)
            for _ in range(20):
                peer.send(down, c.relayed)
                back = c.data(1.0)
                while back is not None and back[1] != down:
                    back = c.data(1.0)
                if back is not None:
                    break
            self.assertEqual(back[:2], (0x4001, down))

    # ---- what works

    def test_binding_with_every_suite(self):
        for suite in ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"):
            c = self.client(ciphers=suite)
            self.assertEqual(c.binding(), c.sock.getsockname())

    def test_relay(self):
        with daemon.Peer() as peer:
            c = self.client()
            c.allocate()
            self.relays(c, peer)
            c.close()
        self.sessions(0)

    def test_udp_and_dtls_on_one_port_are_two_5_tuples(self):
        c = self.client(port=self.d.port)
        c.allocate()
        local = c.sock.getsockname()
        u = tc.Client(self.d.server, "alice", "wonderland")
        self.addCleanup(u.sock.close)
        u.sock.close()
        u.sock = c.sock.dup()           # the same address, in plain
        u.allocate()
        self.assertNotEqual(u.relayed, c.relayed)
        self.assertEqual(u.mapped, c.mapped)
        self.assertEqual(c.mapped, local)
        self.sessions(2)
        c.refresh(600)
        u.refresh(0)
        self.sessions(1)
        c.close()
        self.sessions(0)

    def test_a_plain_message_to_a_dtls_port_is_junk(self):
        u = tc.Client(("127.0.0.1", self.port))
        self.addCleanup(u.sock.close)
        self.dropped("junk", lambda: u.raw(tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab")))
        self.assertIsNone(u.recv_raw(0.1))

    def test_s_client(self):
        p = subprocess.Popen(["openssl", "s_client", "-dtls1_2", "-connect", "127.0.0.1:%d" % self.port],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
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
        p.kill()
        p.communicate()
        self.assertIn(want, text)

    def test_close_notify_frees_and_is_answered(self):
        before = self.open_associations()
        c = self.client()
        c.allocate()
        self.sessions(1)
        c.datagram(c.dtls.close())
        self.assertIsNone(c.recv_raw(20))
        self.assertTrue(c.dtls.closed())
        self.sessions(0)
        self.assertTrue(until(lambda: self.open_associations() <= before))

    # ---- losses and deaths

    def test_lost_datagrams_of_the_handshake(self):
        for n in (1, 3, 5, 8):
            c = self.client(handshake=False)
            c.handshake(lose=lambda i: i == n)
            self.assertIsNotNone(c.binding())

    def test_a_lost_final_flight_is_sent_again(self):
        """The client repeats its own, and what was published answers: CCS and Finished with fresh numbers."""
        c = self.client(handshake=False)
        lost, real = [], tc.Client.recv_raw

        def recv(this, timeout=None):
            got = real(this, timeout)
            if got is not None and (got[0] == 20 or got[3:5] == b"\0\1") and len(lost) < 2:
                lost.append(got)
                return None
            return got
        tc.Client.recv_raw = recv
        try:
            c.handshake()
        finally:
            tc.Client.recv_raw = real
        self.assertEqual(b"".join(lost)[:1], b"\x14")
        self.assertIsNotNone(c.binding())

    def test_a_handshake_survives_its_worker(self):
        c = self.client(handshake=False)
        for r in c.dtls.step():
            c.datagram(r)
        verify = tc.Client.recv_raw(c, 20)
        for r in c.dtls.step(verify):
            c.datagram(r)
        self.kill("worker")
        c.handshake()
        self.assertIsNotNone(c.binding())

    def test_workers_and_tlsds_die_under_sessions(self):
        kills = 1000 if os.environ.get("TP_SOAK") else 12
        with daemon.Peer() as peer:
            clients = []
            for _ in range(64):
                c = self.client()
                c.allocate()
                c.permit(peer.addr)
                c.bind(0x4001, peer.addr)
                clients.append(c)
            for _ in range(kills):
                # Many at once in flight while it happens, then each must still relay, byte for byte.
                for i, c in enumerate(clients):
                    c.channel_data(0x4001, b"noise %d" % i)
                role = self.rng.choice(("worker", "worker", "tls"))
                children = sorted(self.d.children(role))
                if children:
                    daemon.kill_all([self.rng.choice(children)])
                for c in self.rng.sample(clients, 8):
                    self.echoes(c, peer)
            for c in clients:
                self.echoes(c, peer)
            self.assertEqual(self.d.status()["sessions"], 64)
            for c in clients:
                c.refresh(0)
        self.sessions(0)

    def test_what_an_operator_does(self):
        """Reload, another number of workers, rolling restart, upgrade: no association ends."""
        with daemon.Peer() as peer, open(self.d.config) as f:
            text = f.read()
            clients = [self.client() for _ in range(8)]
            for c in clients:
                c.allocate()
                c.permit(peer.addr)
                c.bind(0x4001, peer.addr)
            for workers, act in ((2, "reload"), (1, "reload"), (1, "upgrade"), (2, "reload"), (2, "restart-workers")):
                self.d.write(text.replace("{", "{{").replace("}", "}}").replace("workers: 2", "workers: %d" % workers))
                # One after the other: what is under way may refuse the next.
                self.assertTrue(until(lambda: self.d.ctl(act, check=False)[0] == 0), act)
                for c in clients:
                    self.echoes(c, peer)
                self.assertTrue(until(lambda: self.d.ready() and len(self.d.children("worker")) == workers), act)
            for c in clients:
                self.echoes(c, peer)
                c.refresh(0)
        self.sessions(0)

    def echoes(self, c, peer):
        text = b"%x" % self.rng.getrandbits(256)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            c.channel_data(0x4001, text)
            got = peer.recv(0.5)
            while got is not None and got[0] != text:
                self.assertTrue(got[0].startswith(b"noise ") or len(got[0]) > 50, got)
                got = peer.recv(0.5)
            if got is None:
                continue
            self.assertEqual(got[1], c.relayed)
            peer.send(text, c.relayed)
            back = c.data(0.5)
            while back is not None and back[1] != text:
                back = c.data(0.5)
            if back is not None:
                self.assertEqual(back[0], 0x4001)
                return
        self.fail("no echo (seed %d)" % SEED)

    # ---- what is bad

    def memory(self, *roles):
        return daemon.memory([pid for role in roles for pid in self.d.children(role)])

    def crowd(self, mode, n):
        return crowd(mode, self.port, n)

    def test_hellos_without_a_cookie_cost_nothing(self):
        opened = self.d.counter("connections_opened")

        def flood(n):
            """From n sources, each with another random; how many were answered."""
            text = self.crowd("hellos", n).communicate()[0]
            print(text.strip(), flush=True)
            return int(text.split()[2])
        flood(5000)
        before = self.memory("worker", "tls")
        # What the kernel's buffers could not take was lost there, and would be sent again.
        self.assertGreater(flood(100000), 50000)
        # A slot each would be 30 MB; what a receive buffer once touched is not counted against anybody.
        self.assertLess(self.memory("worker", "tls"), before + (8 << 20))
        self.assertEqual(self.d.counter("connections_opened"), opened)
        self.assertIsNotNone(self.client().binding())

    def cookie_hello(self, c):
        for r in c.dtls.step():
            c.datagram(r)
        return c.dtls.step(tc.Client.recv_raw(c, 20))

    def test_a_cookie_from_another_address_is_refused(self):
        c, other = self.client(handshake=False), self.client(handshake=False)
        records = self.cookie_hello(c)
        self.dropped("dtls_hello", lambda: [other.datagram(r) for r in records])
        self.assertIsNone(tc.Client.recv_raw(other, 0.2))
        for r in records:
            c.datagram(r)
        c.handshake()
        self.assertIsNotNone(c.binding())

    def test_a_changed_cookie_is_refused(self):
        c = self.client(handshake=False)
        hello = bytearray(b"".join(self.cookie_hello(c)))
        at = 13 + 12 + 2 + 32 + 1 + hello[13 + 12 + 34] + 1
        hello[at + 10] ^= 1
        self.dropped("dtls_hello", lambda: c.datagram(bytes(hello)))

    def test_a_fragment_that_declares_much(self):
        c = self.client(handshake=False)
        body = bytes([HELLO]) + (650000).to_bytes(3, "big") + b"\0\0" + b"\0\0\0" + b"\0\0\x0a" + b"\xfe\xfd" + b"x" * 8
        self.dropped("dtls_hello", lambda: c.datagram(b"\x16\xfe\xfd" + b"\0" * 8 + struct.pack("!H", len(body)) + body))
        self.assertIsNone(tc.Client.recv_raw(c, 0.1))

    def test_bad_records_are_dropped_and_the_session_lives(self):
        c = self.client()
        c.allocate()
        good = c.dtls.seal(tc.build(tc.BINDING, tc.REQUEST, b"0123456789ab"))
        c.datagram(good)
        self.assertIsNotNone(c.recv_raw(20))
        self.dropped("dtls_replay", lambda: c.datagram(good))
        bad = bytearray(c.dtls.seal(b"x" * 40))
        bad[-1] ^= 1
        self.dropped("dtls_mac", lambda: c.datagram(bytes(bad)))
        self.dropped("dtls_record", lambda: c.datagram(c.dtls.seal(b"y" * 40)[:-5]))
        self.dropped("dtls_record", lambda: c.datagram(b"\x17\xfe\xfd\0\7" + b"\0" * 6 + b"\0\4abcd"))
        self.dropped("dtls_record", lambda: c.datagram(b"\x19\xfe\xfd\0\1" + b"\0" * 6 + b"\0\4abcd"))
        self.dropped("dtls_record", lambda: c.datagram(b"\x15\xfe\xfd\0\0" + b"\0" * 6 + b"\0\2\2\50"))
        late = [c.dtls.seal(tc.build(tc.BINDING, tc.REQUEST, b"late %07d" % i)) for i in range(10)]
        self.rng.shuffle(late)
        seen = set()
        for r in late:
            c.datagram(r)
        while len(seen) < 10:
            got = c.recv_raw(20)
            self.assertIsNotNone(got)
            seen.add(tc.Message(got).txid)
        # Far ahead, then one that is too old to tell.
        old = c.dtls.seal(b"old")
        for _ in range(70):
            c.datagram(c.dtls.seal(b"junk"))
        c.datagram(c.dtls.seal(tc.build(tc.BINDING, tc.REQUEST, b"after all of")))
        self.assertIsNotNone(c.wait(b"after all of", 20))
        self.dropped("dtls_replay", lambda: c.datagram(old))
        c.refresh(600)

    def test_half_open_handshakes(self):
        """Thousands return the cookie and then fall silent: at most the cap are kept, the deadline clears them, another
        client gets through at any time, and what they took is given back."""
        cap, count = 300, int(os.environ.get("TP_HALF_OPEN", 3000))
        d = daemon.Daemon(CONFIG + "limits: {{ half_open_total: %d, handshake_timeout: 5s }}\n" % cap, start=False,
                          dtls=daemon.free_port())
        daemon.certificate(d.dir)

        def memory():
            return daemon.memory([d.process.pid, *d.children()]) >> 10

        def newcomer():
            for _ in range(12):         # one that waits too long tries again
                try:
                    c = self.client(port=d.values["dtls"], within=5)
                except TimeoutError:
                    continue
                self.assertIsNotNone(c.binding())
                c.close()
                return
            self.fail("no client gets through")

        def flood(n):
            p, most, through = crowd("halves", d.values["dtls"], n), 0, 0
            while p.poll() is None:
                most = max(most, d.counter("half_open_handshakes"))
                newcomer()
                through += 1
            text = p.communicate()[0]
            self.assertEqual(p.returncode, 0)
            print(text.strip() + "; %d others got through, at most %d half-open" % (through, most), flush=True)
            self.assertLessEqual(most, cap)
            self.assertTrue(until(lambda: d.counter("half_open_handshakes") == 0, 60))
            return int(text.split()[2])
        with d:
            d.start()
            newcomer()
            before, since = memory(), time.monotonic()
            begun = flood(count)
            ends = sum(d.counter("handshake_failures", reason=r) for r in ("crowded", "timeout"))
            self.assertGreaterEqual(ends, begun)
            crowded = d.counter("handshake_failures", reason="crowded")
            refused = json.loads(d.ctl("limits", as_json=True)[1])["refused"]["limits.half_open_total"]
            self.assertGreater(refused, 0)
            self.assertLessEqual(refused, crowded)
            said = d.text().count("limits.half_open_total is reached (%d): client 127." % cap)
            minutes = 1 + (time.monotonic() - since) // 60
            self.assertTrue(1 <= said <= 2 * minutes, "%d lines: by each worker once a minute" % said)
            grown = memory() - before
            print("%+d KiB after %d half-open handshakes" % (grown, count), flush=True)
            if not daemon.is_sanitized(d.process.pid):        # it keeps what was freed; 300 of libssl's objects are 18 MB
                self.assertTrue(until(lambda: memory() - before < 8192))
            c = self.client(port=d.values["dtls"])
            c.allocate()
            c.close()

    def test_thousands_answered_by_successors(self):
        """make bench-dtls, small: each of many associations is answered after every worker was killed."""
        n = int(os.environ.get("TP_CROWD", 1000))
        p = self.crowd("hold", n)
        self.addCleanup(p.kill)
        self.assertEqual(p.stdout.readline().split()[:4], ["held", "%d" % n, "of", "%d," % n])
        self.assertEqual(self.open_associations() >= n, True)
        for _ in range(2):
            self.kill("worker")
            p.stdin.write("again\n")
            p.stdin.flush()
            self.assertEqual(p.stdout.readline().split()[:4], ["answered", "%d" % n, "of", "%d," % n])
        p.stdin.close()
        self.assertEqual(p.wait(60), 0)
        self.assertTrue(until(lambda: self.open_associations() < n, 60))

    def test_garbage(self):
        c = self.client()
        c.allocate()
        for _ in range(500):
            c.datagram(bytes([self.rng.randrange(20, 64)]) + self.rng.randbytes(self.rng.randrange(0, 200)))
        for _ in range(200):
            raw = bytearray(b"\x17\xfe\xfd\0\1" + self.rng.randbytes(6) + b"\0\0" + self.rng.randbytes(self.rng.randrange(60)))
            raw[11:13] = struct.pack("!H", len(raw) - 13)
            c.datagram(bytes(raw))
        c.refresh(600)

    def test_a_new_handshake_on_a_live_5_tuple(self):
        c = self.client()
        c.allocate()
        self.sessions(1)
        again = dtlsclient.DtlsClient(("127.0.0.1", self.port), "alice", "wonderland", handshake=False)
        again.sock.close()
        again.sock = c.sock             # the client restarted, on the same port
        hello = again.dtls.step()
        for r in hello:
            again.datagram(r)
        records = again.dtls.step(tc.Client.recv_raw(again, 20))
        for r in records:
            again.datagram(r)
        # Begun, not complete: the old one lives.
        while tc.Client.recv_raw(c, 0.5) is not None:
            pass
        c.refresh(600)
        self.sessions(1)
        again.handshake()
        self.sessions(0)                # the allocation went with the session that made it
        self.assertIsNotNone(again.binding())
        again.allocate()
        self.sessions(1)
        self.dropped("dtls_mac", lambda: c.datagram(c.dtls.seal(b"of the old keys")))
        again.refresh(600)
        again.datagram(again.dtls.close())
        self.sessions(0)
        again.dtls.free()


if __name__ == "__main__":
    print("seed", SEED)
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
