#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An office of 5,000 clients behind one address comes in over each transport, with the default limits, and each client of it
relays.  A server with a limit that refuses some of them says so once in the log and in `turnpikectl limits`."""
import json
import os
import socket
import subprocess
import unittest

import daemon

LOAD = os.path.join(daemon.TOP_BUILD, "src", "prog", "turnpike-load")
CLIENTS = int(os.environ.get("TP_OFFICE", 5000))
WORKERS = 2
CONFIG = """
auth: {{ realm: example.org, users: {{ alice: wonderland }} }}
listeners:
  - {{ address: 127.0.0.1, port: {port}, transport: [ udp, tcp ] }}
  - {{ address: 127.0.0.1, port: {tls}, transport: [ tls, dtls ] }}
tls: {{ certificates: [ {{ certificate: {dir}/cert.pem, key: {dir}/key.pem }} ] }}
relay: {{ addresses: [ 127.0.0.1 ] }}
peers: {{ allow_private: [ 127.0.0.0/8 ] }}
process: {{ workers: 2 }}
log: {{ target: stderr }}
metrics: {{ address: 127.0.0.1, port: {metrics} }}
"""


class Office(unittest.TestCase):
    def start(self, extra=""):
        tls = daemon.free_port(kind=socket.SOCK_STREAM)
        d = daemon.Daemon(CONFIG + extra, start=False, tls=tls)
        daemon.certificate(d.dir)
        d.start()
        self.addCleanup(d.stop)
        return d, tls

    def clients(self, port, transport, count, fails=False):
        command = [LOAD, "hold", "--server", "127.0.0.1:%d" % port, "--transport", transport, "--json", "-n", str(count),
                   "-u", "alice", "-w", "wonderland", "--setup-window", str(count), "-d", "up", "-r", "2000", "-s", "4",
                   "--linger", "10", "--stopped-after", "4"]
        r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
        if fails:
            self.assertNotEqual(r.returncode, 0)
            return None
        self.assertTrue(r.stdout, r.stderr)
        return json.loads(r.stdout)

    def test_each_transport(self):
        for transport in ("udp", "tcp", "tls", "dtls"):
            with self.subTest(transport=transport):
                d, tls = self.start()
                report = self.clients(tls if transport in ("tls", "dtls") else d.port, transport, CLIENTS)
                self.assertEqual((report["allocations"], report["stopped"]), (CLIENTS, 0))
                self.assertGreater(report["up"]["sent"], CLIENTS)
                self.assertEqual(report["up"]["delivered"], report["up"]["sent"])
                refused = json.loads(d.ctl("limits", as_json=True)[1])["refused"]
                self.assertEqual({k: n for k, n in refused.items() if n}, {})
                self.assertEqual(d.counter("allocations_made"), CLIENTS)

    def test_a_limit_that_refuses_says_so(self):
        for transport, option, limit in (
                ("udp", "limits.allocations_per_prefix", 12), ("tcp", "limits.connections_per_prefix", 10),
                ("tls", "limits.connections_per_prefix", 10), ("dtls", "limits.connections_per_prefix", 10)):
            with self.subTest(transport=transport):
                d, tls = self.start("limits: {{ allocations_per_prefix: 12, connections_per_prefix: 10 }}\n")
                self.clients(tls if transport in ("tls", "dtls") else d.port, transport, 30, fails=True)
                refused = json.loads(d.ctl("limits", as_json=True)[1])["refused"]
                self.assertGreaterEqual(refused[option], 18, refused)
                said = [x for x in d.text().splitlines() if "%s is reached (%d)" % (option, limit) in x]
                self.assertIn(len(said), (1, WORKERS), [x for x in d.text().splitlines() if "refused" in x])       # by each worker once
                for line in said:
                    self.assertEqual(line.count("client 127.0.0.1:"), 1)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
