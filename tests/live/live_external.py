#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""External addresses that are host names or `auto`: found at the start, found again while the daemon runs, and no session
is lost by a change."""
import ctypes
import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

import daemon
import turnclient as tc

INSIDE = "10.5.0.2"
CLONE_NEWNS = 0x20000
HOSTS = None
CONFIG = """
auth: {{ realm: example.org, users: {{ alice: 9f8e7d6c5b4a }} }}
listeners: [ {{ address: 127.0.0.1, port: {port} }} ]
relay:
  addresses: [ {{ {external} }} ]
  external_interval: 1s
  {stun}
peers: {{ allow_private: [ 127.0.0.0/8 ] }}
process: {{ workers: 2 }}
log: {{ target: stderr }}
"""


def host():
    """A private address on a default route, and an /etc/hosts of this test's own."""
    global HOSTS
    for args in ("link add near type veth peer name far", "addr add %s/24 dev near" % INSIDE, "link set near up",
                 "link set far up", "route add default via 10.5.0.1 dev near"):
        subprocess.run(["ip", *args.split()], check=True)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    HOSTS = tempfile.NamedTemporaryFile("w", prefix="tp-hosts-")
    os.chmod(HOSTS.name, 0o644)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", HOSTS.name, "/etc/hosts"], check=True)


def name_is(address):
    """What the name turn.test has from now on; None: it is not found."""
    with open("/etc/hosts", "w") as f:
        f.write("127.0.0.1 localhost\n" + ("%s turn.test\n" % address if address else ""))


class StunServer(threading.Thread):
    """Answers Binding requests with the address that it is told; None: it is silent."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((INSIDE, 0))
        self.address, self.asked = None, 0
        self.start()

    def run(self):
        while True:
            data, source = self.sock.recvfrom(2048)
            self.asked += 1
            request = tc.Message(data)
            if self.address and request.method == tc.BINDING:
                seen = tc.attr("XOR_MAPPED_ADDRESS", tc.xor_address((self.address, source[1]), request.txid))
                self.sock.sendto(tc.build(tc.BINDING, tc.SUCCESS, request.txid, seen), source)


class External(unittest.TestCase):
    def daemon(self, external, stun=""):
        d = daemon.Daemon(CONFIG, external=external, stun=stun)
        self.addCleanup(d.stop)
        return d

    def relayed(self, d):
        """The address that a new session is told."""
        with tc.Client(d.server, "alice", "9f8e7d6c5b4a") as c:
            c.allocate()
            return c.relayed[0]

    def test_name_changes(self):
        name_is("198.51.100.40")
        d = self.daemon("external: turn.test")
        with tc.Client(d.server, "alice", "9f8e7d6c5b4a") as c, daemon.Peer() as peer:
            c.allocate()
            self.assertEqual(c.relayed[0], "198.51.100.40")
            c.bind(0x4000, peer.addr)
            name_is("198.51.100.41")
            self.assertTrue(daemon.until(lambda: self.relayed(d) == "198.51.100.41"))
            for _ in range(3):                          # the session goes on, by the address that it was told
                c.channel_data(0x4000, b"there")
                data, source = peer.recv()
                peer.send(data[::-1], source)
                self.assertEqual(c.data(), (0x4000, b"ereht"))
                c.refresh(600)
            name_is(None)                               # what was known stays, at a look and at a reload
            d.ctl("reload")
            self.assertEqual(self.relayed(d), "198.51.100.41")
            c.channel_data(0x4000, b"again")
            self.assertIsNotNone(peer.recv())
        self.assertIn("was 198.51.100.40 and is 198.51.100.41", d.text())

    def test_name_is_not_there_yet(self):
        """No outage: the inside address is told until the name is found."""
        name_is(None)
        d = self.daemon("address: %s, external: turn.test" % INSIDE)
        self.assertEqual(self.relayed(d), INSIDE)
        self.assertIn("turn.test: the name", d.text())
        name_is("198.51.100.42")
        self.assertTrue(daemon.until(lambda: self.relayed(d) == "198.51.100.42"))

    def test_auto_by_stun(self):
        server = StunServer()
        d = self.daemon("external: auto", "external_stun: \"%s:%d\"" % server.sock.getsockname())
        self.assertEqual(self.relayed(d), INSIDE)
        self.assertGreater(server.asked, 0)
        self.assertIn("gives no answer", d.text())
        server.address = "198.51.100.43"
        self.assertTrue(daemon.until(lambda: self.relayed(d) == "198.51.100.43"))
        server.address = "198.51.100.44"
        self.assertTrue(daemon.until(lambda: self.relayed(d) == "198.51.100.44"))

    def test_auto_asks_nobody(self):
        """Unless a STUN server is named."""
        d = self.daemon("external: auto")
        self.assertEqual(self.relayed(d), INSIDE)
        self.assertIn("name a STUN server in relay.external_stun", d.text())

    def test_an_edited_file_waits_for_the_reload(self):
        """A look takes the external addresses and nothing else."""
        name_is("198.51.100.45")
        d = self.daemon("external: turn.test")
        with open(d.config) as f:
            text = f.read()
        with open(d.config, "w") as f:
            f.write(text.replace("example.org", "changed.example"))
        name_is("198.51.100.46")
        self.assertTrue(daemon.until(lambda: self.relayed(d) == "198.51.100.46"))
        with tc.Client(d.server, "alice", "9f8e7d6c5b4a") as c:
            c.allocate()
            self.assertEqual(c.realm, "example.org")


if __name__ == "__main__":
    daemon.isolate()
    if not os.environ.get("TP_NETNS"):
        print("skipped: no network namespace")
        sys.exit(77)
    host()
    unittest.main(verbosity=2)
