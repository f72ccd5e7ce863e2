#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Successors of workers that are replaced on purpose stand by until the workers stop: what comes and goes meanwhile is theirs,
and whatever dies or changes in between, no session is lost."""
import os
import random
import signal
import threading
import time
import unittest

import daemon
import marked
import turnclient as tc
from daemon import kill_all, until

SEED = int(os.environ.get("TP_SEED", random.SystemRandom().randrange(1 << 31)))
ROUNDS = 100 if os.environ.get("TP_SOAK") else 20
CONFIG = daemon.DEFAULT.replace("transport: udp", "transport: [ udp, tcp ]")
POINTS = ("start:preparing", "start:prepared", "start:taken")


def descriptors(pid):
    """Of sockets: number, inode."""
    found = {}
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            target = os.readlink("/proc/%d/fd/%s" % (pid, name))
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found[int(name)] = target
    return found


class StandBy(unittest.TestCase):
    def setUp(self):
        self.rnd = random.Random(SEED)
        print("seed %d" % SEED, flush=True)

    def start(self, **kw):
        d = daemon.Daemon(CONFIG, start=False)
        if kw.get("points"):
            marked.give(d, supervisor=True)
        d.start()
        self.addCleanup(d.stop)
        self.clients, self.threads, self.peer = [], [], daemon.Peer()
        self.addCleanup(self.peer.close)
        return d

    def come(self, d):
        kind = self.rnd.choice((tc.Client, tc.StreamClient))
        c = kind(d.server, "alice", "wonderland")
        c.allocate()
        self.clients.append(c)

    def go(self):
        c = self.clients.pop(self.rnd.randrange(len(self.clients)))
        if self.rnd.random() < 0.5:
            c.refresh(0)
        c.close()

    def relays(self, d):
        """Each session, both ways."""
        self.assertTrue(until(d.ready), d.text()[-2000:])
        for n, c in enumerate(self.clients):
            c.bind(0x4000, self.peer.addr)
            c.channel_data(0x4000, b"up %d" % n)
            got, source = self.peer.recv()
            self.assertEqual(got, b"up %d" % n)
            self.peer.send(b"down %d" % n, source)
            self.assertEqual(c.data()[1], b"down %d" % n)
        code, text = d.ctl("verify")
        self.assertEqual(code, 0, text)

    def replace(self, d, n):
        """Returns at once: another split of the shards, or one worker after the other."""
        if n % 4 == 3:
            d.write(CONFIG.replace("workers: 2", "workers: %d" % (1 + n // 4 % 2)))
            d.process.send_signal(signal.SIGHUP)
        else:
            t = threading.Thread(target=d.ctl, args=("restart-workers",), kwargs={"check": False}, daemon=True)
            t.start()
            self.threads.append(t)

    def replaced(self, d):
        while self.threads:
            self.threads.pop().join(60)
        self.assertTrue(until(d.ready), d.text()[-2000:])

    def test_what_comes_and_goes_meanwhile(self):
        """No worker is left with a socket that the supervisor has closed: one that is started afterwards has the same."""
        d = self.start()
        engine = {x["engine"] for x in d.status()["processes"] if x["process"] == "worker"}
        for _ in range(20):
            self.come(d)
        for n in range(ROUNDS):
            self.replace(d, n)
            for _ in range(self.rnd.randrange(1, 8)):
                self.come(d) if self.rnd.random() < 0.5 or len(self.clients) < 10 else self.go()
                time.sleep(self.rnd.uniform(0, 0.003))
            self.replaced(d)
        self.relays(d)
        self.assertEqual({x["engine"] for x in d.status()["processes"] if x["process"] == "worker"}, engine)
        time.sleep(1)                   # what workers gave back is closed
        before = self.windows(d)
        kill_all(list(d.children("worker")))
        self.relays(d)
        after = self.windows(d)
        self.assertEqual({x for x in before if x not in after}, set())
        self.assertGreaterEqual(len(before), len(self.clients))

    def test_changes_meanwhile(self):
        """A reload, a drain or a death of a worker or of the supervisor while there are stand-bys: workers are replaced all the
        same."""
        d = self.start()
        for _ in range(20):
            self.come(d)
        for n in range(ROUNDS):
            old = set(d.children("worker"))
            self.replace(d, n)
            time.sleep(self.rnd.uniform(0, 0.008))
            what = n % 5
            if what == 0:
                d.process.send_signal(signal.SIGHUP)
            elif what == 1:
                kill_all([self.rnd.choice(list(d.children("worker")))])     # one of the old, or a stand-by
            elif what == 2:
                kill_all([d.supervisor()])
            elif what == 3:
                d.ctl("drain", check=False)
            else:
                kill_all(list(d.children("worker"))[-1:])
            self.replaced(d)
            self.assertTrue(until(lambda: d.ctl("undrain", check=False)[0] == 0))
            self.assertTrue(until(lambda: not old & set(d.children("worker"))), d.text()[-3000:])
            self.assertTrue(until(lambda: len(d.children("worker")) == d.status()["workers"]), d.text()[-3000:])
            self.relays(d)

    @unittest.skipUnless(marked.built(), "no programs with crash points")
    def test_a_stand_by_dies(self):
        """At each of its points; also one that never says that it is prepared."""
        d = self.start(points=True)
        for _ in range(10):
            self.come(d)
        for name in POINTS * (ROUNDS // 10):
            old = set(d.children("worker"))
            d.orders.arm(name)
            d.ctl("restart-workers")
            self.assertTrue(d.orders.dead(), name)
            d.orders.clear()
            self.assertTrue(until(lambda: not old & set(d.children("worker"))), d.text()[-3000:])
            self.relays(d)

    def windows(self, d):
        """(number, inode) of the sockets that workers have from the supervisor's windows."""
        return {x for p in d.children("worker") for x in descriptors(p).items() if x[0] >= 128}


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
