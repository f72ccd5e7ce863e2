#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Addresses come, go, are not ready and are temporary: what can be had is served, what is missing is taken when it comes."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402
from daemon import until         # noqa: E402
import turnclient as tc          # noqa: E402

CONFIG = """
auth: {{ realm: example.org, users: {{ alice: correct-horse-battery }} }}
{what}
peers: {{ allow_private: [ 127.0.0.0/8, 10.0.0.0/8 ] }}
log: {{ level: debug, target: stderr }}
process: {{ workers: 2 }}
metrics: {{ address: 127.0.0.1, port: {metrics} }}
"""
NAMED = "listeners: [ {{ address: 127.0.0.1, port: {port} }} ]\n"


def ip(*args, check=True):
    r = subprocess.run(["ip", *args], capture_output=True, text=True)
    if check and r.returncode != 0:
        raise RuntimeError("ip %s: %s" % (" ".join(args), r.stderr))
    return r


class Addresses(unittest.TestCase):
    def setUp(self):
        if ip("link", "add", "tpa0", "type", "dummy", check=False).returncode != 0:
            ip("link", "add", "tpa0", "type", "veth", "peer", "name", "tpa1")
            ip("link", "set", "tpa1", "up")
        ip("link", "set", "tpa0", "up")
        self.addCleanup(ip, "link", "del", "tpa0", check=False)

    def run_with(self, what):
        return daemon.Daemon(CONFIG.replace("{what}", what))

    def answers(self, address, port):
        try:
            with tc.Client((address, port)) as c:
                return c.binding() is not None
        except OSError:             # TimeoutError is one
            return False

    def relayed(self, d):
        """The address of one allocation; None when it is refused."""
        with tc.Client(d.server, "alice", "correct-horse-battery") as c:
            try:
                c.allocate()
                return c.relayed[0]
            except tc.TurnError:
                return None

    def test_a_listener_that_comes_later(self):
        with self.run_with("listeners: [ {{ address: 127.0.0.1, port: {port} }}, {{ address: 10.99.0.1, port: {port}, "
                           "transport: [ udp, tcp ] }} ]\nrelay: {{ addresses: [ 127.0.0.1 ] }}") as d:
            self.assertIn("10.99.0.1 is not an address of this host now", d.text())
            self.assertEqual(d.ctl("reload")[0], 0)     # not refused because of it
            ip("addr", "add", "10.99.0.1/32", "dev", "tpa0")
            self.assertTrue(until(lambda: self.answers("10.99.0.1", d.port)))
            ip("addr", "del", "10.99.0.1/32", "dev", "tpa0")
            self.assertEqual(d.ctl("reload")[0], 0)
            ip("addr", "add", "10.99.0.1/32", "dev", "tpa0")
            self.assertTrue(until(lambda: self.answers("10.99.0.1", d.port)))
            self.assertEqual(d.stop(), 0)

    def test_a_relay_address_that_comes_and_goes(self):
        with self.run_with(NAMED + "relay: {{ addresses: [ 127.0.0.1, 10.99.0.2 ] }}") as d:
            self.assertIn("10.99.0.2 is not ready", d.text())
            self.assertEqual({self.relayed(d) for _ in range(20)}, {"127.0.0.1"})
            ip("addr", "add", "10.99.0.2/32", "dev", "tpa0")
            self.assertTrue(until(lambda: self.relayed(d) == "10.99.0.2"))
            ip("addr", "del", "10.99.0.2/32", "dev", "tpa0")
            self.assertTrue(until(lambda: d.text().count("10.99.0.2 is not ready") == 2))
            self.assertTrue(until(lambda: {self.relayed(d) for _ in range(20)} == {"127.0.0.1"}))
            self.assertEqual({self.relayed(d) for _ in range(40)}, {"127.0.0.1"})
            self.assertEqual(d.ctl("verify")[0], 0)
            self.assertEqual(d.stop(), 0)

    def test_an_address_that_has_gone_is_given_to_nobody(self):
        """The sockets that were made ahead are bound to it still."""
        with self.run_with(NAMED + "relay: {{ addresses: [ 10.99.0.5 ] }}") as d:
            self.assertIsNone(self.relayed(d))
            ip("addr", "add", "10.99.0.5/32", "dev", "tpa0")
            self.assertTrue(until(lambda: self.relayed(d) == "10.99.0.5"))
            ip("addr", "del", "10.99.0.5/32", "dev", "tpa0")
            # None of those that wait for an allocation is left, and no new one can be made.
            self.assertTrue(until(lambda: d.status()["sockets"]["pool"] == 0), d.status()["sockets"])
            self.assertEqual({self.relayed(d) for _ in range(10)}, {None})
            self.assertEqual(d.stop(), 0)

    def test_an_ipv6_address_that_is_tentative(self):
        """Duplicate detection of an address never ends on a link without carrier, or fails: nothing else waits for it."""
        with self.run_with("listeners: [ {{ address: 127.0.0.1, port: {port} }}, {{ address: \"fd99::1\", port: {port} }} ]\n"
                           "relay: {{ addresses: [ 127.0.0.1, \"fd99::1\" ] }}") as d:
            self.assertEqual(self.relayed(d), "127.0.0.1")
            ip("-6", "addr", "add", "fd99::1/64", "dev", "tpa0")
            self.assertEqual(d.ctl("reload")[0], 0)
            self.assertTrue(until(lambda: self.answers("fd99::1", d.port)))
            self.assertTrue(until(lambda: "fd99::1 is ready" in d.text()))
            self.assertEqual(d.stop(), 0)

    def test_every_address_follows_the_host(self):
        with self.run_with("listeners: [ {{ address: \"*\", port: {port} }} ]\nrelay: {{ addresses: [ 127.0.0.1 ] }}") as d:
            self.assertFalse(self.answers("10.99.0.3", d.port))
            ip("addr", "add", "10.99.0.3/32", "dev", "tpa0")
            self.assertTrue(until(lambda: self.answers("10.99.0.3", d.port)))
            self.assertEqual(d.stop(), 0)

    def test_no_network_at_the_start(self):
        """DHCP is late: it starts, says so, and serves what comes."""
        with self.run_with("listeners: [ {{ address: 127.0.0.1, port: {port} }} ]") as d:
            self.assertIn("no default route", d.text())
            self.assertIsNone(self.relayed(d))
            ip("addr", "add", "10.99.0.4/24", "dev", "tpa0")
            ip("route", "add", "default", "via", "10.99.0.9", "dev", "tpa0")
            self.assertTrue(until(lambda: self.relayed(d) == "10.99.0.4"), d.text())
            self.assertEqual(d.stop(), 0)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
