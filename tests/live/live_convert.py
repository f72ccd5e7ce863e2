#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""turnpike-convert: configurations of coturn as guides and packages write them become ones that turnpiked accepts and
relays by; no option of coturn is unknown to it."""
import ipaddress
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import daemon
import turnclient as tc

PREFIX = os.environ.get("TP_PREFIX")
CONVERT = os.path.join(PREFIX, "bin/turnpike-convert") if PREFIX else os.path.join(daemon.TOP_SRC, "contrib/coturn2turnpike")
SAMPLES = os.path.join(daemon.TOP_SRC, "tests/convert")
INSIDE = "10.5.0.2"


def host():
    """A host of this test's own: one private address on a default route, as behind a NAT."""
    for args in ("link add near type veth peer name far", "addr add %s/24 dev near" % INSIDE, "link set near up",
                 "link set far up", "route add default via 10.5.0.1 dev near"):
        subprocess.run(["ip", *args.split()], check=True)


def table():
    """The name of each row that the converter prints."""
    text = subprocess.run([CONVERT, "--table"], check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\| `([A-Za-z0-9_-]+)`", text, re.M)


class Convert(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="tp-convert-")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir, True)
        daemon.certificate(self.dir)

    def convert(self, *args, code=(0, 1)):
        """(YAML, report)"""
        out = os.path.join(self.dir, "out.yaml")
        with open(os.devnull) as nothing:
            r = subprocess.run([CONVERT, "-o", out, *args], stdin=nothing, capture_output=True, text=True, timeout=60)
        self.assertIn(r.returncode, code, r.stderr)
        with open(out) as f:
            return f.read(), r.stderr

    def text(self, text):
        path = os.path.join(self.dir, "turnserver.conf")
        with open(path, "w") as f:
            f.write(text)
        return self.convert(path)

    def sample(self, name):
        with open(os.path.join(SAMPLES, name)) as f:
            text = f.read().replace("{dir}", self.dir)
        return self.convert("--", *text.split()) if name.endswith(".args") else self.text(text)

    def check(self):
        """The converted file passes; what turnpiked says of it."""
        r = subprocess.run([daemon.paths()[0], "--check", "--config", os.path.join(self.dir, "out.yaml"), "--libexec-dir",
                            daemon.paths()[2]], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stderr

    def again(self):
        for name in os.listdir(self.dir):
            if name.startswith(("out.", "user-", "tls-")):
                os.unlink(os.path.join(self.dir, name))

    def test_samples_pass_the_check(self):
        for name in sorted(os.listdir(SAMPLES)):
            with self.subTest(name):
                self.sample(name)
                self.check()
                self.again()

    def test_every_option(self):
        """coturn 4.17.1 has 125; each is known, and a file with all of them passes."""
        names = table()
        self.assertEqual(len(names), 125)
        self.assertEqual(len(set(names)), 125)
        values = {
            "listening-port": "3478", "tls-listening-port": "5349", "listening-ip": INSIDE, "relay-ip": INSIDE,
            "aux-server": INSIDE + ":3480", "external-ip": "198.51.100.9/" + INSIDE, "min-port": "20000", "max-port": "30000",
            "cert": self.dir + "/cert.pem", "pkey": self.dir + "/key.pem", "user": "u:uU8s9dkq", "realm": "example.org",
            "static-auth-secret": "o9Kd8sJw7Qa6Zx5Cv4Bn3Mm2Ll1Kk0Jj", "denied-peer-ip": "9.0.0.0-9.0.0.255",
            "allowed-peer-ip": "10.5.0.77", "allocation-default-address-family": "ipv4", "log-file": "stdout",
            "stale-nonce": "600", "tcp-proxy-port": "3490", "prometheus-port": "9641", "log-min-level": "info",
            "max-allocate-lifetime": "3600", "relay-threads": "2", "sock-buf-size": "300000", "acme-redirect": "http://x/",
        }
        flags = {"no-udp", "no-tcp", "no-tls", "no-dtls", "pkey-pwd"}      # these would leave nothing to convert
        text = "".join("%s=%s\n" % (n, values.get(n, "1")) for n in names if n not in flags)
        kept, report = self.text(text)
        self.check()
        self.assertNotIn("not an option of coturn", report)
        said = re.findall(r"^  - ([A-Za-z0-9_-]+)", report, re.M)
        for name in names:
            if name not in flags:
                self.assertTrue(name in said or name in kept, name + " is neither carried over nor reported")

    def test_counterparts_exist(self):
        """What the table names as a counterpart is an option of this version."""
        text = subprocess.run([CONVERT, "--table"], check=True, capture_output=True, text=True).stdout
        with open(os.path.join(daemon.TOP_SRC, "include/tp/tbl/options.def")) as f:
            known = set(re.findall(r'^(?:OPT|LIST)\("([a-z0-9_.]+)"', f.read(), re.M))
        named = {name for cell in re.findall(r"^\| [^|]*\| ([^|]*) \|", text, re.M) for name in re.findall(r"`([^`]+)`", cell)}
        self.assertGreater(len(named), 20)
        self.assertEqual(named - known, set())

    def test_every_port_takes_every_transport(self):
        text, report = self.sample("synapse.conf")
        self.assertIn('{ address: "10.5.0.2", port: 3478, transport: [ udp, tcp, tls, dtls ] }', text)
        self.assertIn('{ address: "10.5.0.2", port: 5349, transport: [ udp, tcp, tls, dtls ] }', text)
        self.assertIn("SIGUSR2", report)
        self.again()
        text, _ = self.sample("jitsi.conf")                         # no-tcp: 3478 takes datagrams alone
        self.assertIn('port: 3478, transport: [ udp, dtls ] }', text)
        self.assertIn('port: 5349, transport: [ udp, tls, dtls ] }', text)

    def test_exceptions_are_cut_out(self):
        """allowed-peer-ip wins over denied-peer-ip there and loses here."""
        text, _ = self.sample("synapse.conf")
        deny = [ipaddress.ip_network(x) for x in re.findall(r'- "([0-9a-f:./]+)"', text.split("deny:")[1].split("allow")[0])]
        def denied(a):
            return any(ipaddress.ip_address(a) in n for n in deny)
        self.assertEqual([denied(a) for a in ("9.9.9.8", "9.9.9.9", "9.9.9.10", "9.255.255.255", "10.5.0.9", "8.255.255.255")],
                         [True, False, True, True, False, False])
        self.assertIn('allow_private:\n    - "10.5.0.9"\n', text)
        self.assertNotIn("  allow:", text)                          # it is no list of all that is allowed

    def test_bytes_become_bits(self):
        self.assertIn("bandwidth_per_allocation: 24000000bit\n", self.sample("synapse.conf")[0])

    def test_external_address(self):
        self.assertIn('- { address: "10.5.0.2", external: "198.51.100.20" }', self.sample("synapse.conf")[0])
        self.again()
        self.assertIn('- { address: "10.5.0.2", external: "198.51.100.21" }', self.sample("bigbluebutton.conf")[0])
        self.again()
        self.assertIn('- { external: "198.51.100.22" }', self.sample("matrix-playbook.conf")[0])
        self.again()
        _, report = self.text("relay-ip=10.5.0.2\nrelay-ip=10.5.0.3\nexternal-ip=198.51.100.1\n")
        self.assertIn("external-ip=198.51.100.1: it fits 2 relay addresses: write PUBLIC/PRIVATE", report)

    def test_listener_inside_the_relay_ports(self):
        self.assertIn("ports: 5350-65535", self.text("min-port=1024\nmax-port=65535\ncert=%s/cert.pem\npkey=%s/key.pem\n"
                                                     % (self.dir, self.dir))[0])
        self.check()

    def test_values_of_documents_are_not_taken(self):
        text, report = self.text("static-auth-secret=north\nuser=a:logen\n")
        self.assertNotIn("north", text + report)
        self.assertIn("its value is in public documents", report)
        self.check()

    def test_databases(self):
        """Connection strings are carried over as they are, in files that others cannot read."""
        said = "host=127.0.0.1 dbname=coturn user=turn password=pw1234 connect_timeout=30"
        text, report = self.text('psql-userdb="%s"\nredis-userdb="ip=127.0.0.1 dbname=2 password=pw5678"\nuserdb=/nowhere/turndb\n'
                                 % said)
        path = self.dir + "/postgresql.connection"
        self.assertIn('{ name: postgresql, type: postgresql, connection_file: "%s" }' % path, text)
        self.assertIn('{ name: sqlite, type: sqlite, connection: "/nowhere/turndb" }', text)
        with open(path) as f:
            self.assertEqual(f.read(), said + "\n")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertNotIn("pw1234", text + report)
        self.assertNotIn("pw5678", text + report)

    def test_secrets_stay_out_of_the_report(self):
        text, report = self.sample("freepbx.conf")
        self.assertIn('"phone": "Rr5-tG8-yH1_uJ4:with-colon"', text)
        for secret in ("Rr5-tG8", "9a3f1c5e"):
            self.assertNotIn(secret, report)
        self.assertEqual(os.stat(os.path.join(self.dir, "out.yaml")).st_mode & 0o777, 0o600)
        with open(os.path.join(self.dir, "user-2.key")) as f:
            self.assertEqual(f.read(), "9a3f1c5e7b2d4f6081a2b3c4d5e6f708\n")

    def test_what_has_no_counterpart_is_said(self):
        _, report = self.text("rest-api-separator=.\nno-auth\nmobility\nfrobnicate=7\nstatic-auth-secert=hush\n")
        self.assertNotIn("hush", report)                            # a misspelled secret stays one
        lost = report.split("NOT carried over:")[1].split("\n\n")[0]
        for name in ("rest-api-separator", "no-auth", "mobility", "frobnicate"):
            self.assertIn("- " + name, lost)

    def test_usage(self):
        for args, code in (([], 64), (["--nonsense"], 64), (["/nowhere/turnserver.conf"], 66)):
            r = subprocess.run([CONVERT, *args], capture_output=True, text=True)
            self.assertEqual((r.returncode, r.stdout), (code, ""), args)
        self.sample("freepbx.conf")
        r = subprocess.run([CONVERT, "-o", self.dir + "/out.yaml", SAMPLES + "/freepbx.conf"], capture_output=True, text=True)
        self.assertEqual(r.returncode, 73)                          # nothing is overwritten

    def open_own(self):
        """The peer of these tests is on the relay's own host."""
        path = os.path.join(self.dir, "out.yaml")
        with open(path) as f:
            text = f.read()
        self.assertIn("\npeers:\n", text)
        with open(path, "w") as f:
            f.write(text.replace("\npeers:\n", '\npeers:\n  allow_own: [ "%s:1-65535/udp" ]\n' % INSIDE))

    def relays(self, server, user, password):
        """An allocation of the converted configuration carries data to a peer and back."""
        with open(os.path.join(self.dir, "out.yaml")) as f:
            yaml = f.read().replace("{", "{{").replace("}", "}}")
        yaml = re.sub(r"(?m)^log:\n(?:  .*\n)*", "", yaml) + "log: {{ target: stderr }}\n"
        with daemon.Daemon(yaml) as d:
            with tc.Client(server, user, password) as c, daemon.Peer(INSIDE) as peer:
                c.allocate()
                c.bind(0x4000, peer.addr)
                c.channel_data(0x4000, b"there")
                data, source = peer.recv()
                self.assertEqual(data, b"there")
                peer.send(b"back", source)
                self.assertEqual(c.data(), (0x4000, b"back"))
            self.assertEqual(d.stop(), 0)
        return c.relayed

    def test_synapse_relays(self):
        self.sample("synapse.conf")
        user, password = tc.rest_credentials("pL9xWq2zVb7nMk4jHg6fDs1aQw3eRt5y", "joe")
        self.open_own()
        relayed = self.relays((INSIDE, 3478), user, password)
        self.assertEqual(relayed[0], "198.51.100.20")

    def test_command_line_relays(self):
        self.sample("kubernetes.args")
        with open(os.path.join(self.dir, "out.yaml")) as f:
            text = f.read()
        self.assertIn('workers: 4', text)
        self.assertIn('coturn_names: true', text)
        self.open_own()
        self.relays((INSIDE, 3478), "edge", "nS3Fj7Kd9Lq2Wp4X")


if __name__ == "__main__":
    daemon.isolate()
    if not os.environ.get("TP_NETNS"):
        print("skipped: no network namespace")
        sys.exit(77)
    host()
    unittest.main(verbosity=2)
