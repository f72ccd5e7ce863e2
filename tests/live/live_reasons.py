#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Why a client gets no relay: each refusal's reason in the JSON log, by its field; how an allocation ends; limits of the
log itself; shortened addresses; the filter for fail2ban."""
import json
import os
import re
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402
from daemon import until as wait_for    # noqa: E402
import turnclient as tc          # noqa: E402

CONFIG = daemon.DEFAULT.replace("log: {{ level: info, target: stderr }}",
                                "log: {{ level: info, target: \"{dir}/json\", format: json }}\nlimits: {{ {limits} }}")


def records(d, **want):
    """Log records with these fields."""
    found = []
    with open(d.dir + "/json") as f:
        for line in f:
            if line.endswith("\n"):
                r = json.loads(line)
                if all(r.get(k) == v for k, v in want.items()):
                    found.append(r)
    return found


class Reasons(unittest.TestCase):
    def daemon(self, limits="allocations_total: 0", config=CONFIG, **values):
        d = daemon.Daemon(config, limits=limits, start=False, **values)
        os.chmod(d.dir, 0o777)
        self.addCleanup(d.__exit__, None)
        return d.start()

    def refused(self, d, code, user=None, password=None, **kw):
        with tc.Client(d.server, user, password, **kw) as c:
            with self.assertRaises(tc.TurnError) as e:
                c.allocate()
            self.assertEqual(e.exception.code, code)

    def expect(self, d, reason, **fields):
        self.assertTrue(wait_for(lambda: records(d, event="refused", reason=reason, **fields)), (reason, fields, d.text()))
        r = records(d, event="refused", reason=reason, **fields)[0]
        for key in ("client", "user", "transport"):
            self.assertIn(key, r)
        self.assertGreater(d.counter("refusals", reason=reason), 0)
        return r

    def test_credentials(self):
        d = self.daemon()
        self.refused(d, 401, "alice", "not-hers")
        r = self.expect(d, "wrong_password", user="alice", code=401, transport="udp")
        self.assertIn("wrong password", r["message"])
        self.refused(d, 401, "mallory", "x")
        self.expect(d, "unknown_user", user="mallory")
        self.refused(d, 401, *tc.rest_credentials("another-secret-that-does-not-match", "carol"))
        self.expect(d, "no_secret_matches")
        self.refused(d, 401, *tc.rest_credentials(daemon.SECRET, "dave", lifetime=-100))
        r = self.expect(d, "expired")
        self.assertRegex(r["message"], r"expired 10\d s ago")
        # A lifetime for a time; milliseconds.
        self.refused(d, 401, "86400:erin", "x")
        self.expect(d, "timestamp", user="86400:erin")
        self.refused(d, 401, "%d:frank" % (time.time() * 1000), "x")
        self.assertTrue(wait_for(lambda: len(records(d, reason="timestamp")) == 2))

    def test_nonce_and_realm(self):
        d = self.daemon()
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            realm = c.realm
            c.realm = "another.example"
            m = c.once(tc.REFRESH, b"")
            self.assertEqual(m.code, 401)
            r = self.expect(d, "wrong_realm", user="alice")
            self.assertIn("not " + (realm if isinstance(realm, str) else realm.decode()), r["message"])
            c.realm, c.nonce = realm, b"obMatJos2AAAAAAAAAAAAAAA"
            self.assertEqual(c.once(tc.REFRESH, b"").code, 438)
            self.assertTrue(wait_for(lambda: d.counter("refusals", reason="nonce_foreign") > 0))

    def test_wrong_user(self):
        d = self.daemon()
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            c.user, c.password = "bob", "builder"
            self.assertEqual(c.once(tc.REFRESH, b"").code, 441)
            self.expect(d, "wrong_user", user="bob", code=441)

    def test_quotas(self):
        d = self.daemon("allocations_per_user: 1")
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            self.refused(d, 486, "alice", "wonderland")
            r = self.expect(d, "limits.allocations_per_user", user="alice", code=486)
            self.assertIn("limits.allocations_per_user is reached (1)", r["message"])
            self.assertEqual(r["level"], "warn")
        d = self.daemon("allocations_per_prefix: 1")
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            self.refused(d, 486, "bob", "builder")
            self.expect(d, "limits.allocations_per_prefix", user="bob")
        d = self.daemon("allocations_total: 1")
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            self.refused(d, 508, "bob", "builder")
            self.expect(d, "limits.allocations_total", user="bob", code=508)

    def test_ports(self):
        d = self.daemon(config=CONFIG.replace("addresses: [ 127.0.0.1 ]", "addresses: [ 127.0.0.1 ]\n  ports: 40000-40001"))
        with tc.Client(d.server, "alice", "wonderland") as a, tc.Client(d.server, "bob", "builder") as b:
            a.allocate()
            b.allocate()
            self.refused(d, 508, "alice", "wonderland")
            self.expect(d, "ports", code=508)

    def test_bandwidth(self):
        d = self.daemon("bandwidth_per_allocation: 80kbit")
        with tc.Client(d.server, "alice", "wonderland") as c, daemon.Peer() as peer:
            c.allocate()
            c.permit(peer.addr)
            for _ in range(200):
                c.send_indication(peer.addr, b"x" * 1000)
            self.assertTrue(wait_for(lambda: records(d, event="refused", reason="bandwidth")))
            r = records(d, reason="bandwidth")[0]
            self.assertEqual(r["user"], "alice")
            self.assertIn("bandwidth_per_allocation (80000 bit/s)", r["message"])

    def test_ends(self):
        """A client that went, one that ended it, one that the operator ended; with figures as numbers."""
        config = CONFIG.replace("transport: udp }}", "transport: [ udp, tcp ] }}")
        d = self.daemon(config=config)
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            self.assertTrue(wait_for(lambda: records(d, event="allocated", user="alice", transport="udp")))
            begun = records(d, event="allocated")[0]
            self.assertEqual(begun["lifetime"], 600)
            self.assertEqual(begun["relay"], "127.0.0.1:%d" % c.relayed[1])
            c.refresh(0)
        self.assertTrue(wait_for(lambda: records(d, event="ended", reason="client")))
        r = records(d, event="ended")[0]
        self.assertEqual(r["session"], begun["session"])
        for key in ("seconds", "up_bytes", "up_packets", "down_bytes", "down_packets"):
            self.assertIsInstance(r[key], int)
        with tc.StreamClient(d.server, "alice", "wonderland") as c:
            c.allocate()
        self.assertTrue(wait_for(lambda: records(d, event="ended", reason="connection", transport="tcp")))
        with tc.Client(d.server, "bob", "builder") as c:
            c.allocate()
            d.ctl("close", "user=bob")
            self.assertTrue(wait_for(lambda: records(d, event="ended", reason="operator", user="bob")))

    def test_one_noisy_client(self):
        """It repeats itself a thousand times, and others with it are still seen."""
        d = self.daemon()
        for _ in range(100):
            self.refused(d, 401, "noisy", "x")
        self.refused(d, 401, "alice", "wrong")
        self.expect(d, "wrong_password", user="alice")
        self.assertIn(len(records(d, user="noisy")), (1, 2))         # two workers, each with a table of its own
        # Made-up names of one source: ten lines a minute.
        for i in range(60):
            self.refused(d, 401, "name-%d" % i, "x")
        self.assertTrue(wait_for(lambda: d.counter("refusals", reason="unknown_user") >= 60))
        self.assertLessEqual(len([r for r in records(d, reason="unknown_user") if r["user"].startswith("name-")]), 20)

    def test_anonymous(self):
        d = self.daemon(config=CONFIG.replace("format: json", "format: json, anonymize_addresses: true"))
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
        self.refused(d, 401, "alice", "wrong")
        self.expect(d, "wrong_password")
        self.assertEqual(records(d, event="allocated")[0]["client"], "127.0.0.0")
        self.assertEqual(records(d, event="refused")[0]["client"], "127.0.0.0")

    def test_fail2ban(self):
        """The filter that is shipped matches text lines of refused strangers, and no others."""
        path = os.path.join(daemon.TOP_SRC, "contrib", "fail2ban", "filter.d", "turnpike.conf")
        with open(path) as f:
            text = f.read()
        rule = re.search(r"^failregex = (.*)$", text, re.M).group(1).replace("<HOST>", r"(?P<host>[0-9a-fA-F.:]+?)")
        with daemon.Daemon() as d:
            self.refused(d, 401, "alice", "wrong")
            self.assertTrue(wait_for(lambda: "wrong password" in d.text()))
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
            self.assertTrue(wait_for(lambda: "allocated" in d.text()))
            hits = [re.search(rule, x) for x in d.text().splitlines()]
            hosts = [m.group("host") for m in hits if m]
            self.assertEqual(hosts, ["127.0.0.1"])


if __name__ == "__main__":
    daemon.isolate()
    socket.setdefaulttimeout(60)
    unittest.main()
