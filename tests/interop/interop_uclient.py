#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Debian's coturn client tools (unpacked, never installed) talk through the relay.

TP_COTURN names the directory where the package was unpacked; without it the test is skipped (exit 77)."""
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402

COTURN = os.environ.get("TP_COTURN", "")
UCLIENT = os.path.join(COTURN, "usr/bin/turnutils_uclient")
PEER = os.path.join(COTURN, "usr/bin/turnutils_peer")
CONFIG = daemon.DEFAULT.replace(
    "addresses: [ 127.0.0.1 ]", 'addresses: [ 127.0.0.1, "::1" ]').replace(
    "relay:", '  - {{ address: "::1", port: {port}, transport: [ udp ] }}\nrelay:').replace("transport: udp }}", "transport: [ udp, tcp, tls, dtls ] }}") + \
    "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n"


class Uclient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.d = daemon.Daemon(CONFIG, start=False)
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

    def run_client(self, *options, server="127.0.0.1", peer="127.0.0.1", clients=4, messages=100):
        relayed = ("relayed_packets",)
        before = self.d.counter(*relayed)
        made = self.d.counter("allocations_made")
        argv = [UCLIENT, "-u", "alice", "-w", "wonderland", "-p", str(self.d.port), "-m", str(clients), "-n", str(messages),
                "-z", "2", "-e", peer, "-r", str(self.peer_port), *options, server]
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

    # Without -s it takes channel numbers from the whole range of RFC 5766, which RFC 8656 has cut.
    def test_tcp(self):
        self.run_client("-t", "-s")

    def test_tcp_relay_to_relay(self):
        self.run_client("-t", "-s", "-y")

    def test_tls(self):
        self.run_client("-t", "-S", "-s")

    def test_dtls(self):
        self.run_client("-S")

    def test_dtls_indications_relay_to_relay(self):
        self.run_client("-S", "-s", "-y")

    def test_rest_secret(self):
        argv = ["-W", daemon.SECRET]
        self.run_client(*argv)


if __name__ == "__main__":
    if not os.access(UCLIENT, os.X_OK):
        print("skipped: TP_COTURN does not name an unpacked coturn package")
        sys.exit(77)
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
