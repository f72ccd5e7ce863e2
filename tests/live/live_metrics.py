#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The metrics page for every kind of scraper, what it counts, and the dashboard and alert rules: each query of theirs names
series and labels that the page has.  promtool (TP_PROMTOOL, or in the path) judges the page where it is there."""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402
from daemon import until as wait_for    # noqa: E402
import turnclient as tc          # noqa: E402

OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"}
MONITORING = os.path.join(daemon.TOP_SRC, "contrib", "monitoring")


def promtool(page):
    """What promtool says of the page; None without it."""
    program = os.environ.get("TP_PROMTOOL") or shutil.which("promtool")
    if not program:
        return None
    r = subprocess.run([program, "check", "metrics"], input=page, capture_output=True, text=True, timeout=60)
    return r.returncode, r.stdout + r.stderr


def series(page):
    """{name: [labels, ...]} of every sample."""
    found = {}
    for line in page.splitlines():
        m = re.match(r"([a-z_]+)(?:\{(.*)\})? \S+$", line)
        if m:
            found.setdefault(m[1], []).append(dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[2] or "")))
    return found


def queries():
    with open(os.path.join(MONITORING, "grafana.json")) as f:
        for panel in json.load(f)["panels"]:
            for t in panel["targets"]:
                yield panel["title"], t["expr"]
    with open(os.path.join(MONITORING, "alerts.yaml")) as f:
        for name, expr in re.findall(r"alert: (\w+)\n\s+expr: (.*)", f.read()):
            yield name, expr


class Metrics(unittest.TestCase):
    def setUp(self):
        self.d = daemon.Daemon(start=False)
        daemon.certificate(self.d.dir)
        self.d.write(daemon.DEFAULT.replace("transport: udp", "transport: [ udp, tcp, tls ]") +
                     "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n")
        self.addCleanup(self.d.__exit__, None, None, None)
        self.d.start()

    def traffic(self):
        d = self.d
        with tc.Client(d.server, "alice", "wonderland") as c, daemon.Peer() as p:
            c.allocate()
            c.bind(0x4000, p.addr)
            for i in range(64):          # connectivity checks, both ways; one in eight is looked at
                for up in (True, False):
                    txid = os.urandom(11) + b"\x08"
                    request = struct.pack("!HHI", 1, 0, 0x2112A442) + txid
                    answer = struct.pack("!HHI", 0x101, 0, 0x2112A442) + txid
                    if up:
                        c.channel_data(0x4000, request)
                        p.recv()
                        p.send(answer, c.relayed)
                        c.recv_raw(5)
                    else:
                        p.send(request, c.relayed)
                        c.recv_raw(5)
                        c.channel_data(0x4000, answer)
                        p.recv()
            self.assertEqual(daemon.reach(lambda: d.counter("relay_ports", state="used"), 1), 1)
            self.assertGreater(d.counter("relay_ports", state="free"), 10000)
        with tc.StreamClient(d.server, "alice", "wonderland", tls=daemon.tls_context()) as c:
            c.allocate()
        with tc.Client(d.server, "alice", "wrong") as c:
            with self.assertRaises(tc.TurnError):
                c.allocate()

    def count(self, name, **labels):
        """Of a histogram."""
        total = 0
        for line in self.d.http("/metrics")[1].splitlines():
            if line.startswith("turnpike_%s_count" % name) and all('%s="%s"' % x in line for x in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def test_page(self):
        d = self.d
        self.traffic()
        self.assertTrue(wait_for(lambda: self.count("session_seconds") >= 2))
        self.assertEqual(self.count("allocation_setup_seconds"), 2)
        self.assertEqual(self.count("handshake_seconds"), 1)
        for leg in ("client", "peer"):
            self.assertGreater(self.count("round_trip_seconds", leg=leg), 30)
        self.assertEqual(d.counter("error_responses", method="Allocate", code="401"), 4)
        self.assertEqual(d.counter("refusals", reason="no_credentials"), 3)
        self.assertEqual(d.counter("refusals", reason="wrong_password"), 1)
        for role in ("supervisor", "worker", "tls", "auth", "admin"):
            self.assertTrue(wait_for(lambda: d.counter("process_cpu_seconds", process=role) > 0), role)
            self.assertGreater(d.counter("process_resident_memory_bytes", process=role), 100000)

    def test_reloads(self):
        d = self.d
        self.assertEqual(d.counter("config_last_reload_successful"), 1)
        began = d.counter("config_last_reload_success_timestamp_seconds")
        self.assertGreater(began, 1.7e9)
        with open(d.config) as f:
            text = f.read()
        with open(d.config, "a") as f:
            f.write("bogus: 1\n")
        self.assertEqual(d.ctl("reload", check=False)[0], 1)
        self.assertEqual(d.counter("config_last_reload_successful"), 0)
        self.assertEqual(d.counter("config_reloads", result="failure"), 1)
        with open(d.config, "w") as f:
            f.write(text)
        d.ctl("reload")
        self.assertEqual(d.counter("config_last_reload_successful"), 1)
        self.assertEqual(d.counter("config_reloads", result="success"), 1)

    def test_formats(self):
        """OpenMetrics for a scraper that asks for it, Prometheus' text format for everything else."""
        d = self.d
        self.traffic()
        modern, classic = d.http("/metrics", OPENMETRICS)[1], d.http("/metrics")[1]
        self.assertTrue(modern.endswith("# EOF\n"))
        self.assertNotIn("# EOF", classic)
        self.assertIn("# TYPE turnpike_drops counter\n", modern)
        self.assertIn("# TYPE turnpike_drops_total counter\n", classic)
        self.assertNotIn(" info\n", classic)
        self.assertEqual(set(series(modern)), set(series(classic)))
        self.assertNotIn("turn_total_allocations", classic)
        verdict = promtool(classic)
        if verdict is not None:
            self.assertEqual(verdict[0], 0, verdict[1])
        d.write(open(d.config).read().replace("{", "{{").replace("}", "}}").replace("metrics: {{", "metrics: {{ coturn_names: true, "))
        d.ctl("reload")
        self.assertTrue(wait_for(lambda: "turn_total_traffic_rcvb " in d.http("/metrics")[1]))

    def test_queries(self):
        """No query asks for a series, a label or a value that the page does not have."""
        self.traffic()
        have = series(self.d.http("/metrics")[1])
        seen = 0
        for title, expr in queries():
            for name, selector in re.findall(r"(turnpike_[a-z_]+)(?:\{([^}]*)\})?", expr):
                self.assertIn(name, have, title)
                seen += 1
                for label, op, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector):
                    if label in ("instance", "job"):
                        continue
                    self.assertTrue(all(label in x for x in have[name]), (title, label))
                    if op in ("=", "=~"):
                        pattern = re.escape(value) if op == "=" else value.replace("\\\\", "\\")
                        self.assertTrue(any(re.fullmatch(pattern, x[label]) for x in have[name]), (title, value))
                        for word in pattern.split("|") if op == "=~" else ():
                            self.assertTrue(any(re.fullmatch(word, x[label]) for x in have[name]), (title, word))
            for labels in re.findall(r"by \(([^)]*)\)", expr):
                names = re.findall(r"turnpike_[a-z_]+", expr)
                for label in labels.replace(" ", "").split(","):
                    self.assertTrue(label == "instance" or any(label in x for n in names for x in have[n]), (title, label))
        self.assertGreater(seen, 30)

    def test_rules(self):
        program = os.environ.get("TP_PROMTOOL") or shutil.which("promtool")
        if not program:
            self.skipTest("no promtool")
        r = subprocess.run([program, "check", "rules", os.path.join(MONITORING, "alerts.yaml")], capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertIn("SUCCESS", r.stdout)

    def test_status_page(self):
        """Whole, without anything from elsewhere, under a policy that lets nothing but its own script run; its figures."""
        import urllib.request
        d = self.d
        with urllib.request.urlopen("http://127.0.0.1:%d/" % d.metrics) as r:
            page, policy = r.read().decode(), r.headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotRegex(page, r"https?://|src=|@import|url\(")
        import base64
        import hashlib
        for tag in ("script", "style"):
            body = re.search("<%s>(.*?)</%s>" % (tag, tag), page, re.S)[1]
            self.assertIn("'sha256-%s'" % base64.b64encode(hashlib.sha256(body.encode()).digest()).decode(), policy)
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            self.assertTrue(wait_for(lambda: json.loads(d.http("/status.json")[1])["transports"]["udp"] == 1))
        self.assertEqual(d.http("/status.json", {"Host": "rebound.example"})[0], 403)
        self.assertEqual(d.http("/status.json", {"Host": "localhost:9641"})[0], 200)
        self.assertEqual(d.http("/metrics", {"Host": "turn.example"})[0], 200)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
