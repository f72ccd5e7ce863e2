#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""turnpike-load against the real daemon over each transport to the server: counts, certificates, IPv6, a shared secret, runs of
DTLS records, and sessions held while all workers are killed."""
import json
import os
import socket
import subprocess
import unittest

import daemon

LOAD = os.path.join(os.environ["TP_PREFIX"], "bin", "turnpike-load") if os.environ.get("TP_PREFIX") else \
    os.path.join(daemon.TOP_BUILD, "src", "prog", "turnpike-load")
V6 = "  - {{ address: '::1', port: {v6}, transport: [ udp, tcp ] }}\n"
CONFIG = daemon.DEFAULT.replace("transport: udp }}\n", """transport: [ udp, tcp ] }}
  - {{ address: 127.0.0.1, port: {tls}, transport: [ tls, dtls ] }}
""" + V6).replace("[ 127.0.0.1 ]", "[ 127.0.0.1, '::1' ]") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ connections_per_prefix: 0, challenges_per_prefix: 0, bindings_per_prefix: 0 }}
"""
SESSIONS = 24


def has_v6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            s.bind(("::1", 0))
            return True
    except OSError:
        return False


def until(condition, what):
    if not daemon.until(condition):
        raise AssertionError(what)


class Streams(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.v6 = has_v6()
        config = CONFIG if cls.v6 else CONFIG.replace(V6, "").replace(", '::1' ]", " ]")
        cls.tls = daemon.free_port(kind=socket.SOCK_STREAM)
        cls.d = daemon.Daemon(config, start=False, tls=cls.tls,
                              v6=daemon.free_port("::1") if cls.v6 else 0)
        daemon.certificate(cls.d.dir)
        cls.cert = os.path.join(cls.d.dir, "cert.pem")
        cls.d.start()

    @classmethod
    def tearDownClass(cls):
        code = cls.d.stop()
        assert code == 0, (code, cls.d.text())

    def command(self, transport, *args, server=None):
        port = self.tls if transport in ("tls", "dtls") else self.d.port
        return [LOAD, *args, "--server", server or "127.0.0.1:%d" % port, "--transport", transport, "--json"]

    def load(self, transport, *args, server=None, login=("-u", "alice", "-w", "wonderland")):
        r = subprocess.run(self.command(transport, "--linger", "10", *args, *login, server=server), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=600, check=False)
        self.assertTrue(r.stdout, r.stderr)
        return r.returncode, json.loads(r.stdout)

    def all_there(self, transport, report, packets):
        self.assertEqual(report["transport"], transport)
        self.assertGreaterEqual(report["up"]["sent"] + report["down"]["sent"], packets)
        for direction in ("up", "down"):
            side = dict(report[direction])
            side.pop("latency")
            self.assertEqual(side.pop("sent"), side.pop("delivered"), direction)
            self.assertEqual(set(side.values()), {0}, (direction, side))

    # ---- counts ----

    def test_nothing_is_lost(self):
        for transport in ("tcp", "tls", "dtls"):
            for name, args in {"channels": ["-l", "121", "-R", "8", "-d", "both"],
                               "indications": ["-i", "-l", "333", "-d", "both"],
                               "threads": ["-t", "2", "-d", "both"], "echo": ["-d", "echo", "-l", "1400"]}.items():
                with self.subTest(transport + ", " + name):
                    code, report = self.load(transport, "-n", "6", "--packets", "4000", "--window", "48", "-s", "60", *args)
                    self.all_there(transport, report, 4000)
                    self.assertEqual((code, report["connections"]["made"], report["setup"]["failed"]), (0, 6, 0))

    def test_records_leave_together(self):
        """A run of a DTLS flow is one send (UDP_SEGMENT): the server receives it merged.  Without GSO it does not."""
        merged = []
        for more in ((), ("--no-gso",)):
            before = self.d.counter("receive_merged_packets")
            code, report = self.load("dtls", "-n", "3", "-R", "16", "--packets", "960", "--window", "48", "-s", "60", *more)
            self.all_there("dtls", report, 960)
            merged.append(self.d.counter("receive_merged_packets") - before)
        if next(p for p in self.d.status()["processes"] if p["process"] == "worker")["engine"] != "gso":
            self.skipTest("no engine that merges here")
        self.assertGreater(merged[0], 480)
        self.assertEqual(merged[1], 0)

    def test_one_at_a_time(self):
        for transport in ("udp", "tcp", "tls", "dtls"):
            with self.subTest(transport):
                code, report = self.load(transport, "setup", "-n", "4", "--packets", "60", "-s", "60")
                self.assertEqual((code, report["setup"]["ready"], report["setup"]["failed"]), (0, 60, 0))
                code, report = self.load(transport, "connect", "-n", "4", "--packets", "60", "-s", "60", login=())
                self.assertEqual((code, report["setup"]["ready"], report["setup"]["failed"]), (0, 60, 0))
                if transport != "udp":
                    self.assertEqual(report["connections"]["made"], 60)
                    self.assertEqual(report["connections"]["latency"]["count"], 60)
        until(lambda: self.d.status()["sessions"] == 0, "sessions stayed")

    # ---- the processes ----

    def test_the_certificate(self):
        few = ("--packets", "100", "-s", "60", "--ca", self.cert)
        for transport in ("tls", "dtls"):
            code, report = self.load(transport, *few, "--server-name", "turn.test")
            self.assertEqual(code, 0, report)
            self.assertRegex(report["connections"]["cipher"], "^" + transport.upper())
            for name in (("--server-name", "other.test"), ()):
                code, report = self.load(transport, *few, *name)
                self.assertEqual((code, report["setup"]["ready"], report["setup"]["errors"]), (1, 0, {"4": 1}))
                self.assertIn("mismatch", report["connections"]["first_failure"])

    def test_a_shared_secret(self):
        for transport in ("udp", "tcp", "tls", "dtls"):
            code, report = self.load(transport, "-n", "3", "--packets", "300", "-s", "60", "--window", "16",
                                     login=("-u", "carol", "--secret", daemon.SECRET))
            self.all_there(transport, report, 300)
            self.assertEqual(code, 0)
        code, report = self.load("tcp", "-n", "2", "-s", "60", login=("-u", "carol", "--secret", "another"))
        self.assertEqual((code, report["setup"]["errors"]), (1, {"401": 2}))

    def test_ipv6(self):
        if not self.v6:
            self.skipTest("no ::1 here")
        for transport in ("udp", "tcp"):
            for args in ((), ("-i", "-l", "201")):
                code, report = self.load(transport, "-n", "4", "-d", "both", "--packets", "1000", "--window", "32", "-s", "60",
                                         "--per-flow", *args, server="[::1]:%d" % self.d.values["v6"])
                self.all_there(transport, report, 1000)
                self.assertEqual(code, 0)
                self.assertTrue(all(f["relayed"].startswith("[::1]:") for f in report["flows"]))

    def test_nobody_there(self):
        code, report = self.load("tcp", "-n", "2", "-s", "60", server="127.0.0.1:1")
        self.assertEqual((code, report["setup"]["errors"]), (1, {"3": 2}))

    # ---- hold ----

    def held(self):
        """{id: packets relayed both ways}"""
        rows = json.loads(self.d.ctl("sessions", as_json=True)[1])
        rows = rows["sessions"] if isinstance(rows, dict) else rows
        return {r["id"]: (r["up_packets"], r["down_packets"]) for r in rows}

    def until_all_relay(self):
        """Each of the sessions has relayed in both directions since now."""
        before = {}

        def all_seen():         # a look passes over a session that is being changed at that moment
            before.clear()
            before.update(self.held())
            return len(before) == SESSIONS
        until(all_seen, "sessions are missing")

        def moved():
            now = self.held()
            return all(now.get(i, (0, 0))[k] > before[i][k] for i in before for k in (0, 1))
        until(moved, "some sessions relay nothing")

    def kill_workers(self):
        before = self.d.children("worker")
        self.assertEqual(len(before), 2)
        daemon.kill_all(before)
        until(lambda: self.d.replaced("worker", before), "no new workers")

    def hold(self, transport, between):
        """A hold that ends when everything has been seen, not after some time."""
        p = subprocess.Popen(self.command(transport, "hold", "-n", str(SESSIONS), "-t", "2", "-s", "300", "--stopped-after", "60",
                                          "-u", "alice", "-w", "wonderland"),
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: len(self.held()) == SESSIONS, "no sessions")
            self.until_all_relay()
            between()
            p.terminate()
            out, err = p.communicate(timeout=600)
        finally:
            if p.poll() is None:
                p.kill()
                p.communicate()
        self.assertTrue(out, err)
        until(lambda: self.d.status()["sessions"] == 0, "sessions stayed")
        return p.returncode, json.loads(out)

    def survive(self, transport):
        def between():
            for _ in range(3):
                self.kill_workers()
                self.until_all_relay()
        code, report = self.hold(transport, between)
        self.assertEqual((code, report["stopped"], report["setup"]["ready"]), (0, 0, SESSIONS), report)
        for direction in ("up", "down"):
            self.assertEqual([report[direction][k] for k in ("duplicated", "damaged", "misdelivered")], [0, 0, 0])
            # A worker that dies takes the packets in its hands with it: what is lost is a figure.
            print("%s %s: %d sent, %d lost, longest gap %.0f ms" % (
                transport, direction, report[direction]["sent"], report[direction]["lost"], report["longest_gap_ms"]))

    def test_all_workers_die_udp(self):
        self.survive("udp")

    def test_all_workers_die_tcp(self):
        self.survive("tcp")

    def test_all_workers_die_tls(self):
        self.survive("tls")

    def test_all_workers_die_dtls(self):
        self.survive("dtls")


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2)
