#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 of any child while calls are up: sessions go on, nothing is delivered to the wrong one."""
import os
import struct
import threading
import time
import unittest

import daemon
import turnclient as tc

FLOWS = 24


class Flow(threading.Thread):
    """One allocation, one channel, an echo peer; every payload names its flow and number."""

    def __init__(self, d, number, stop):
        super().__init__(daemon=True)
        self.c = tc.Client(d.server, *tc.rest_credentials(daemon.SECRET, "u%d" % number))
        self.p = daemon.Peer()
        self.c.allocate()
        self.c.bind(0x4000 + number, self.p.addr)
        self.number, self.stop_event = number, stop
        self.sent = self.echoed = self.wrong = 0
        self.longest = 0.0

    def run(self):
        last = time.monotonic()
        while not self.stop_event.is_set():
            payload = struct.pack("!II", self.number, self.sent) + b"." * 100
            self.c.channel_data(0x4000 + self.number, payload)
            self.sent += 1
            end = time.monotonic() + 0.05
            while True:
                got = self.p.recv(max(end - time.monotonic(), 0.001))
                if got is None:
                    break
                if struct.unpack("!II", got[0][:8])[0] != self.number or got[1] != self.c.relayed:
                    self.wrong += 1
                self.p.send(got[0], self.c.relayed)
                back = self.c.data(0.05)
                if back is not None:
                    if back[0] != 0x4000 + self.number or struct.unpack("!II", back[1][:8])[0] != self.number:
                        self.wrong += 1
                    self.echoed += 1
                    now = time.monotonic()
                    self.longest, last = max(self.longest, now - last), now
                if struct.unpack("!II", got[0][:8])[1] == self.sent - 1:
                    break
            time.sleep(0.002)


class Survive(unittest.TestCase):
    def flows(self, d):
        self.stop = threading.Event()
        flows = [Flow(d, i, self.stop) for i in range(FLOWS)]
        for f in flows:
            f.start()
        return flows

    def finish(self, d, flows):
        marks = [f.echoed for f in flows]
        daemon.until(lambda: all(f.echoed > mark for f, mark in zip(flows, marks)))
        self.stop.set()
        for f, mark in zip(flows, marks):
            f.join(60)
            self.assertFalse(f.is_alive())
            self.assertGreater(f.echoed, mark, "flow %d stopped relaying" % f.number)
            self.assertEqual(f.wrong, 0, "flow %d got foreign data" % f.number)
            f.c.refresh(600)
        self.assertEqual(d.ctl("verify")[0], 0, d.ctl("verify")[1])
        self.assertEqual(d.status()["sessions"], FLOWS)
        print("longest gap %.0f ms" % (1000 * max(f.longest for f in flows)), flush=True)

    def kill(self, d, role, times, every=0.2):
        for _ in range(times):
            before = d.children(role)
            daemon.kill_all(before)
            self.assertTrue(daemon.until(lambda: d.replaced(role, before)), "%s was not replaced" % role)
            time.sleep(every)

    def test_workers(self):
        with daemon.Daemon() as d:
            flows = self.flows(d)
            time.sleep(0.3)
            self.kill(d, "worker", 10)
            self.finish(d, flows)

    def test_authd_and_admin(self):
        with daemon.Daemon() as d:
            flows = self.flows(d)
            self.kill(d, "auth", 3)
            self.kill(d, "admin", 3)
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
                c.refresh(0)
            time.sleep(0.5)
            self.finish(d, flows)

    def test_quota_is_exact_after_kills(self):
        config = daemon.DEFAULT + "limits: {{ allocations_per_user: 5 }}\n"
        with daemon.Daemon(config) as d:
            clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(5)]
            for c in clients:
                c.allocate()
            for _ in range(3):
                self.kill(d, "worker", 1)
                with tc.Client(d.server, "alice", "wonderland") as extra:
                    with self.assertRaises(tc.TurnError) as e:
                        extra.allocate()
                    self.assertEqual(e.exception.code, 486)
                gone = clients.pop()
                gone.refresh(0)
                clients.append(tc.Client(d.server, "alice", "wonderland"))
                clients[-1].allocate()
            for c in clients:
                c.refresh(0)
            self.assertTrue(daemon.until(lambda: d.status()["sessions"] == 0))
            self.assertEqual(d.ctl("verify")[0], 0)

    def test_retransmission_answered_alike_by_the_successor(self):
        with daemon.Daemon() as d:
            c = tc.Client(d.server, "alice", "wonderland")
            txid = os.urandom(12)
            extra = tc.attr("REQUESTED_TRANSPORT", b"\x11\0\0\0") + tc.attr("EVEN_PORT", b"\x80")
            m = c.once(tc.ALLOCATE, extra)
            c.realm, c.nonce = m.get("REALM").decode(), m.get("NONCE")
            first = c.once(tc.ALLOCATE, extra, txid=txid)
            self.assertEqual(first.cls, tc.SUCCESS)
            self.kill(d, "worker", 1)
            again = c.once(tc.ALLOCATE, extra, txid=txid)
            for name in ("XOR_RELAYED_ADDRESS", "XOR_MAPPED_ADDRESS", "LIFETIME", "RESERVATION_TOKEN"):
                self.assertEqual(first.get(name), again.get(name), name)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
