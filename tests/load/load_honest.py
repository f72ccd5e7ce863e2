#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""turnpike-load must find again, to the packet, what a relay broke on purpose."""
import json
import os
import random
import subprocess
import sys
import unittest

from faulty_relay import ASTRAY, DOWN, FATES, UP, FaultyRelay

LOAD = os.path.join(os.path.abspath(os.environ.get("top_builddir", ".")), "src", "prog", "turnpike-load")
SEED = int(os.environ.get("TP_SEED", random.SystemRandom().randrange(1 << 31)))


def load(relay, *args):
    r = subprocess.run([LOAD, "--server", "127.0.0.1:%d" % relay.port, "--json", "--warmup", "0", "--linger", "1", "--per-flow", *args],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    if not r.stdout:
        raise AssertionError("turnpike-load: %d: %s" % (r.returncode, r.stderr))
    return r.returncode, json.loads(r.stdout)


class Honest(unittest.TestCase):
    def relay(self, plan, stream=False):
        relay = FaultyRelay(plan, stream)
        relay.start()
        self.addCleanup(relay.stop)
        return relay

    def random_relay(self, fates, share=0.04, stream=False):
        rnd = random.Random(SEED)
        return self.relay(lambda direction, n: rnd.choice(fates) if rnd.random() < share else None, stream)

    def check(self, relay, report):
        for direction in (UP, DOWN):
            books, found = relay.books[direction], report[direction]
            lost = sum(books[f] for f in ("drop", "flip", "cut", "stray", ASTRAY))
            self.assertEqual(found["sent"], books["received"], direction)
            self.assertEqual(found["lost"], lost, direction)
            self.assertEqual(found["delivered"], books["received"] - lost, direction)
            self.assertEqual(found["duplicated"], books["duplicate"], direction)
            self.assertEqual(found["reordered"], books["late"], direction)
            self.assertEqual(found["damaged"], books["flip"] + books["cut"], direction)
            self.assertEqual(found["misdelivered"], books["stray"] + books[ASTRAY], direction)
            for key in ("sent", "lost", "delivered", "duplicated", "reordered", "damaged", "misdelivered"):
                self.assertEqual(sum(f[direction][key] for f in report["flows"] if direction in f), found[key], key)

    def test_clean(self):
        relay = self.relay(lambda direction, n: None)
        code, report = load(relay, "-n", "4", "-d", "both", "--packets", "2000", "--window", "32")
        self.check(relay, report)
        self.assertEqual(code, 0)
        self.assertEqual(report["up"]["lost"] + report["down"]["lost"], 0)
        self.assertGreaterEqual(report["up"]["sent"] + report["down"]["sent"], 2000)

    def test_each_fate_alone(self):
        for fate in FATES:
            with self.subTest(fate=fate):
                relay = self.relay(lambda direction, n, fate=fate: fate if n % 50 == 20 else None)
                code, report = load(relay, "-n", "3", "-d", "both", "--packets", "2000", "--window", "32")
                self.check(relay, report)
                self.assertGreater(relay.books[UP][fate], 0)
                self.assertGreater(relay.books[DOWN][fate], 0)
                self.assertEqual(code, 1 if fate in ("flip", "cut", "stray") else 0)

    def test_all_at_once(self):
        for name, args in {"channels": ["-R", "8"], "indications": ["-i"], "odd size": ["-i", "-l", "333"],
                           "large": ["-l", "1200"], "no offload": ["-R", "8", "--no-gso", "--no-gro"],
                           "a peer socket each": ["--peers", "5"]}.items():
            with self.subTest(name):
                relay = self.random_relay(FATES)
                _, report = load(relay, "-n", "5", "-d", "both", "--packets", "4000", "--window", "40", *args)
                self.check(relay, report)

    def test_two_threads(self):
        # A stray packet of a neighbour in the other thread comes by that one's socket or relayed address.
        relay = self.random_relay(FATES)
        _, report = load(relay, "-n", "6", "-t", "2", "-d", "both", "--packets", "4000", "--window", "40")
        self.check(relay, report)

    def test_to_a_peer_of_another_thread(self):
        relay = self.relay(lambda direction, n: ASTRAY if direction == UP and n % 9 == 3 else None)
        code, report = load(relay, "-n", "6", "-t", "3", "-d", "both", "--packets", "3000", "--window", "40")
        self.check(relay, report)
        self.assertGreater(relay.books[UP][ASTRAY], 0)
        self.assertEqual((code, report["other"]["strange_source"]), (1, 0))

    def test_over_tcp(self):
        for name, args in {"channels": ["-R", "8"], "indications": ["-i"], "odd size": ["-l", "333"], "echo": ["-d", "echo"],
                           "large": ["-l", "1399", "-t", "2"]}.items():
            with self.subTest(name):
                relay = self.random_relay(FATES, stream=True)
                _, report = load(relay, "--transport", "tcp", "-n", "5", "-d", "both", "--packets", "3000",
                                 "--window", "40", *args)
                self.check(relay, report)
                self.assertEqual(report["connections"]["made"], 5)

    def test_echo(self):
        relay = self.random_relay(FATES)
        _, report = load(relay, "-n", "3", "-d", "echo", "--packets", "2000", "--window", "24")
        self.check(relay, report)
        self.assertEqual(report["down"]["sent"], report["up"]["delivered"])

    def test_open_loop(self):
        relay = self.random_relay(FATES)
        _, report = load(relay, "-n", "4", "-d", "both", "--rate", "500", "-s", "2")
        self.check(relay, report)

    def test_every_packet_is_lost(self):
        relay = self.relay(lambda direction, n: "drop")
        _, report = load(relay, "-n", "2", "-d", "both", "-s", "0.5", "--window", "8")
        self.check(relay, report)
        self.assertGreater(report["other"]["window_stalls"], 0)
        self.assertEqual(report["up"]["delivered"], 0)

    def test_hold_names_what_stopped(self):
        relay = self.relay(lambda direction, n: None)
        relay.frozen = {1, 3}
        relay.freeze_after = 600
        code, report = load(relay, "hold", "-n", "6", "-s", "6", "--rate", "600", "--stopped-after", "3")
        # --setup-window 64 starts flows in order, so the n-th allocation is flow n
        self.assertEqual([f["flow"] for f in report["flows"] if f["stopped"]], [1, 3])
        self.assertEqual((code, report["stopped"]), (1, 2))

    def test_hold_names_whose_connection_ended(self):
        relay = self.relay(lambda direction, n: None, stream=True)
        relay.ended = {1, 4}
        code, report = load(relay, "hold", "--transport", "tcp", "-n", "6", "-s", "60", "--packets", "400", "--rate", "1200",
                            "--stopped-after", "30")
        stopped = [f for f in report["flows"] if f["stopped"]]
        self.assertEqual({f["relayed"] for f in stopped},
                         {"127.0.0.1:%d" % relay.order[i].sock.getsockname()[1] for i in relay.ended})
        self.assertEqual((code, report["stopped"], report["setup"]["errors"]), (1, 2, {"5": 2}))
        self.assertTrue(all("closed_s" in f for f in stopped))

    def test_no_server(self):
        relay = self.relay(lambda direction, n: None)
        relay.from_client = lambda *a: None
        r = subprocess.run([LOAD, "--server", "127.0.0.1:1", "-n", "1", "--json"], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=60, check=False, text=True)
        self.assertEqual(r.returncode, 1)
        self.assertEqual(json.loads(r.stdout)["setup"]["ready"], 0)


if __name__ == "__main__":
    print("TP_SEED=%d" % SEED)
    sys.argv = sys.argv[:1] + sys.argv[1:]
    unittest.main(verbosity=2)
