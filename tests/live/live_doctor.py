#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""turnpikectl doctor: beside a running daemon, and before a start."""
import json
import os
import socket
import subprocess
import unittest

import daemon

CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: [ udp, tcp ] }}
  - {{ address: 127.0.0.1, port: {tls}, transport: tls }}""") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
"""
WANTED = ("io.receive_buffer", "net.core.rmem_max", "net.core.wmem_max", "net.core.netdev_max_backlog", "net.core.somaxconn",
          "UdpRcvbufErrors", "RLIMIT_NOFILE", "fs.nr_open", "fs.file-max", "io.engine", "io.cpu_affinity", "clock",
          "SO_REUSEPORT", "net.netfilter.nf_conntrack_max", "net.ipv4.ip_local_port_range", "firewall", "listeners",
          "relay.addresses", "IPv6", "tls.certificates")


class Doctor(unittest.TestCase):
    def setUp(self):
        self.d = daemon.Daemon(CONFIG, start=False, tls=daemon.free_port(kind=socket.SOCK_STREAM))
        daemon.certificate(self.d.dir)

    def run_it(self, *args):
        """(exit code, {name: [finding]}), and the counts and the code agree."""
        code, text = self.d.ctl("doctor", *args, as_json=True, check=False)
        o = json.loads(text)
        found = {}
        for f in o["findings"]:
            found.setdefault(f["name"], []).append(f)
        levels = [f["level"] for f in o["findings"]]
        self.assertEqual((levels.count("ok"), levels.count("note"), levels.count("warning"), levels.count("bad")),
                         (o["ok"], o["notes"], o["warnings"], o["bad"]))
        self.assertEqual(code, 2 if o["bad"] else 1 if o["warnings"] else 0)
        return code, found

    def test_beside_a_daemon(self):
        with self.d.start():
            found = self.run_it()[1]
            for name in WANTED + ("turnpiked", "listener_drops"):
                self.assertIn(name, found)
            self.assertIn("pid %d, ready" % self.d.process.pid, found["turnpiked"][0]["is"])
            engine = next(p["engine"] for p in self.d.status()["processes"] if p["process"] == "worker")
            self.assertIn("uses " + engine, found["io.engine"][0]["is"])
            self.assertEqual(found["tls.certificates"][0]["level"], "ok")
            self.assertIn("the key fits", found["tls.certificates"][0]["is"])
            self.assertIn("turn.test", found["tls.certificates"][0]["is"])
            self.assertEqual([f["level"] for f in found["listeners"]], ["ok", "ok"])
            ports = " ".join(f["is"] for f in found["firewall"])
            self.assertIn("udp and tcp to 127.0.0.1 port %d" % self.d.port, ports)
            self.assertIn("let in tcp to 127.0.0.1 port %d" % self.d.values["tls"], ports)
            # Another pair on disk than the daemon's is seen; the key of another one is bad.
            os.rename(os.path.join(self.d.dir, "key.pem"), os.path.join(self.d.dir, "old.pem"))
            daemon.certificate(self.d.dir)
            os.replace(os.path.join(self.d.dir, "old.pem"), os.path.join(self.d.dir, "key.pem"))
            code, found = self.run_it()
            self.assertEqual((code, found["tls.certificates"][0]["level"]), (2, "bad"))
            # turnpike-admin's own answer is for this program only.
            self.assertEqual(subprocess.run([self.d.turnpikectl, "--runtime-dir", self.d.runtime, "doctor", "x"],
                                            stderr=subprocess.DEVNULL).returncode, 2)

    def test_before_a_start(self):
        self.assertEqual(self.d.ctl("doctor", check=False)[0], 3)
        found = self.run_it("--config", self.d.config)[1]
        for name in WANTED:
            self.assertIn(name, found)
        self.assertNotIn("turnpiked", found)
        self.assertEqual([f["level"] for f in found["listeners"]], ["ok", "ok"])
        self.assertEqual(found["relay.addresses"][0]["level"], "warning")       # loopback
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("127.0.0.1", self.d.port))
            code, found = self.run_it("--config", self.d.config)
            self.assertEqual((code, found["listeners"][0]["level"]), (2, "bad"))
        found = self.run_it("--config", self.d.config, "--rate", "1000000", "--stall", "1s")[1]
        self.assertEqual(found["io.receive_buffer"][0]["level"], "warning")
        self.assertIn("= 1024000000", found["io.receive_buffer"][0]["should"])
        self.assertEqual(found["io.receive_buffer"][0]["set"], "io: { receive_buffer: 977MiB }")
        code, text = self.d.ctl("doctor", "--config", self.d.config, check=False)
        self.assertIn("\nok       SO_REUSEPORT: there\n", text)
        self.assertEqual(self.d.ctl("doctor", "--stall", "1h", check=False)[0], 2)

    def test_a_configuration_with_errors(self):
        self.d.write(CONFIG + "nonsense: 1\n")
        code, found = self.run_it("--config", self.d.config)
        self.assertEqual((code, list(found)), (2, ["configuration"]))


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
