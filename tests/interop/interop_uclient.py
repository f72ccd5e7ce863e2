#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's coturn client tools (unpacked, never installed) talk through the relay.

TP_COTURN names the directory where the package was unpacked; without it the test is skipped (exit 77)."""
import os
import re
import signal
import subprocess
import sys
import time
import unittest

import daemon

COTURN = os.environ.get("TP_COTURN", "")
UCLIENT = os.path.join(COTURN, "usr/bin/turnutils_uclient")
PEER = os.path.join(COTURN, "usr/bin/turnutils_peer")
CONFIG = daemon.DEFAULT.replace(
    "addresses: [ 127.0.0.1 ]", 'addresses: [ 127.0.0.1, "::1" ]').replace(
    "relay:", '  - {{ address: "::1", port: {port}, transport: [ udp ] }}\nrelay:').replace("transport: udp }}", "transport: [ udp, tcp, tls, dtls ] }}") + \
    "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n"
# Debian 12's turnutils_uclient binds channel numbers of RFC 5766.
CONFIG = CONFIG.replace("relay:", "relay:\n  rfc5766_channels: true", 1)


class Relay(unittest.TestCase):
    config, values = CONFIG, {}

    @classmethod
    def setUpClass(cls):
        cls.d = daemon.Daemon(cls.config, start=False, **cls.values)
        daemon.certificate(cls.d.dir)
        cls.d.start()
        cls.peer_port = daemon.free_port()
        cls.peers = [subprocess.Popen([PEER, "-L", host, "-p", str(cls.peer_port)], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for host in ("127.0.0.1", "::1")]

    @classmethod
    def tearDownClass(cls):
        for p in cls.peers:
            p.kill()
            p.wait()
        cls.d.stop()

    def command(self, *options, server="127.0.0.1", peer="127.0.0.1", clients=4, messages=100, gap_ms=2):
        return [UCLIENT, "-u", "alice", "-w", "wonderland", "-p", str(self.d.port), "-m", str(clients), "-n", str(messages),
                "-z", str(gap_ms), "-e", peer, "-r", str(self.peer_port), *options, server]


class Uclient(Relay):
    def run_client(self, *options, **kw):
        relayed = ("relayed_packets",)
        before = self.d.counter(*relayed)
        made = self.d.counter("allocations_made")
        argv = self.command(*options, **kw)
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(r.returncode, 0, r.stdout[-3000:])
        sent = [int(x) for x in re.findall(r"tot_send_msgs=(\d+)", r.stdout)]
        got = [int(x) for x in re.findall(r"tot_recv_msgs=(\d+)", r.stdout)]
        self.assertTrue(sent and sent[-1] > 0, r.stdout[-3000:])
        lost = re.findall(r"Total lost packets (\d+)", r.stdout)
        self.assertEqual(lost[-1], "0", r.stdout[-3000:])
        self.assertEqual(got[-1], sent[-1], r.stdout[-3000:])
        self.assertGreaterEqual(self.d.counter(*relayed) - before, 2 * sent[-1])
        self.assertGreater(self.d.counter("allocations_made"), made)

    def test_channels(self):
        self.run_client()

    def test_send_indications(self):
        self.run_client("-s")

    def test_no_rtcp(self):
        self.run_client("-c")

    def test_relay_to_relay(self):
        self.run_client("-y")

    def test_relay_to_relay_indications(self):
        self.run_client("-y", "-s")

    def test_dual_allocation(self):
        self.run_client("-Z")

    def test_ipv6_relay(self):
        self.run_client("-x", peer="::1")

    def test_ipv6_both_sides(self):
        self.run_client("-x", server="::1", peer="::1")

    def test_ipv6_client_to_ipv4(self):
        self.run_client("-X", server="::1")

    def test_dont_fragment(self):
        self.run_client("-g")

    def test_extra_requests(self):
        self.run_client("-G")

    def test_padding_and_large(self):
        self.run_client("-D", "-l", "1000")

    def test_tcp(self):
        self.run_client("-t")

    def test_tcp_indications_relay_to_relay(self):
        self.run_client("-t", "-s", "-y")

    def test_tls(self):
        self.run_client("-t", "-S")

    def test_tls_indications_relay_to_relay(self):
        self.run_client("-t", "-S", "-s", "-y")

    def test_dtls(self):
        self.run_client("-S")

    def test_dtls_indications_relay_to_relay(self):
        self.run_client("-S", "-s", "-y")

    def test_rest_secret(self):
        argv = ["-W", daemon.SECRET]
        self.run_client(*argv)


class Survives(Relay):
    """The same client while everything that its sessions stand on ends or is replaced; it sends each message once."""
    config, values = CONFIG.replace("workers: 2", "workers: {workers}, shards: 4"), {"workers": 2}
    MESSAGES, GAP_MS, CLIENTS = 300, 20, 8		# 6 s of traffic

    def wait_ready(self, workers):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.d.ready() and len(self.d.children("worker")) == workers:
                return
            time.sleep(0.02)
        self.fail("not ready again\n" + self.d.text()[-2000:])

    def kill_workers(self):
        for pid in self.d.children("worker"):
            os.kill(pid, signal.SIGKILL)
        self.wait_ready(2)

    def reload(self):
        self.d.write(self.config + "limits: {{ allocations_per_user: 1000 }}\n")
        self.assertIn("applied now", self.d.ctl("reload")[1])
        self.d.write(self.config)
        self.assertIn("applied now", self.d.ctl("reload")[1])

    def resize(self):
        for workers in (4, 1, 2):
            self.d.values["workers"] = workers
            self.d.write(self.config)
            self.assertIn("%d workers replaced" % workers, self.d.ctl("reload")[1])
            self.wait_ready(workers)

    def upgrade(self):
        self.assertIn("upgraded", self.d.ctl("upgrade")[1])
        self.wait_ready(2)

    def across(self, what, lossless, *options):
        """Its allocations live through `what`, and nothing is missing but what was in a killed worker's hands."""
        deaths, made = self.d.counter("child_deaths"), self.d.counter("allocations_made")
        p = subprocess.Popen(self.command(*options, clients=self.CLIENTS, messages=self.MESSAGES, gap_ms=self.GAP_MS),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            end = time.monotonic() + 30
            relayed = self.d.counter("relayed_packets")
            while self.d.counter("relayed_packets") < relayed + 10 * self.CLIENTS and time.monotonic() < end:
                time.sleep(0.05)
            before = self.d.status()["sessions"]
            allocations = self.d.counter("allocations_made")
            what()
            still = p.poll() is None
            out = p.communicate(timeout=120)[0]
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()
        self.assertEqual(p.returncode, 0, out[-3000:])
        self.assertGreaterEqual(before, self.CLIENTS)
        sent = int(re.findall(r"tot_send_msgs=(\d+)", out)[-1])
        got = int(re.findall(r"tot_recv_msgs=(\d+)", out)[-1])
        self.assertEqual(sent, self.CLIENTS * self.MESSAGES, out[-3000:])
        self.assertEqual(self.d.counter("allocations_made"), allocations, "the client had to begin again")
        self.assertGreater(allocations, made)
        # A round trip passes a worker twice; of a death the batch in hand is lost: at most what all clients had under way.
        died = self.d.counter("child_deaths") - deaths
        print("%s: %d messages, %d lost, %d deaths%s" % (self.id().rsplit(".", 1)[-1], sent, sent - got, died,
                                                         "" if still else ", after the last message"), flush=True)
        self.assertLessEqual(sent - got, 0 if lossless else died * 2 * self.CLIENTS)
        self.assertEqual(self.d.ctl("verify")[0], 0, self.d.ctl("verify", check=False)[1])

    def test_across_kills(self):
        def kills():
            for _ in range(5):
                self.kill_workers()
                time.sleep(0.2)
        self.across(kills, False)

    def test_across_reload_resize_upgrade(self):
        def planned():
            self.reload()
            self.resize()
            self.upgrade()
        self.across(planned, True)

    def test_across_everything_tcp(self):
        def everything():
            self.reload()
            self.resize()
            self.upgrade()
            self.kill_workers()
        self.across(everything, True, "-t", "-s")


if __name__ == "__main__":
    if not os.access(UCLIENT, os.X_OK):
        print("skipped: TP_COTURN does not name an unpacked coturn package")
        sys.exit(77)
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
