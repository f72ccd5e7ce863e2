#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Which ports of this host a relay reaches: its own relay sockets, by the address that their client was told, and no socket
of another program, even in the range of relay ports.  Both hold through kills, reloads, resizes and upgrades."""
import os
import socket
import subprocess
import sys
import time
import unittest

import daemon
import turnclient as tc

HOST4, HOST6, INSIDE, OUTSIDE, OTHER = "45.0.0.1", "2a05:1::1", "10.0.0.5", "45.0.0.77", "45.0.0.78"
LOW, HIGH = 50000, 50059       # so small that no idle socket stays open
FORMS = (HOST4, HOST6, INSIDE, OUTSIDE, "64:ff9b::2d00:1", "64:ff9b::a00:5", "64:ff9b::2d00:4d", "2002:2d00:1::1",
         "::ffff:45.0.0.1", "2a05:2::5efe:2d00:1")
CONFIG = """
auth: {{ realm: example.org, users: {{ alice: wonderland-of-the-tests }} }}
listeners: [ {{ address: 45.0.0.1, port: {port}, transport: udp }} ]
relay:
  addresses: [ {rows} ]
  ports: 50000-50059
peers: {{ allow_private: [ "64:ff9b::/96", "2002::/16", "::ffff:0:0/96", "2a05:2::/32" ] }}
process: {{ workers: {workers} }}
log: {{ level: info, target: stderr }}
"""
FOUR, SIX = tc.attr("REQUESTED_ADDRESS_FAMILY", b"\1\0\0\0"), tc.attr("REQUESTED_ADDRESS_FAMILY", b"\2\0\0\0")


def row(address, external=None):
    return "{ address: \"%s\"%s }" % (address, ", external: \"%s\"" % external if external else "")


def rows(*each):
    return ", ".join(row(*(r if isinstance(r, tuple) else (r,))) for r in each)


def world():
    for a in (HOST4, INSIDE):
        subprocess.run(["ip", "addr", "add", a + "/32", "dev", "lo"], check=True)
    subprocess.run(["ip", "addr", "add", HOST6 + "/128", "dev", "lo", "nodad"], check=True)
    # Whatever address a transition form or an external address has: it would arrive here.
    subprocess.run(["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo"], check=True)
    subprocess.run(["ip", "-6", "route", "add", "local", "::/0", "dev", "lo"], check=True)


class Foreign:
    """Another program's socket on every address of this host, at a port of the range; the port is -1 when all are taken."""

    def __init__(self, port=None):
        for self.port in (port,) if port else range(HIGH, LOW, -1):
            try:
                self.socks = self.bind(self.port)
                return
            except OSError:
                continue
        raise OSError("no port of the range is free")

    @staticmethod
    def bind(port):
        out = []
        try:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                s = socket.socket(family, socket.SOCK_DGRAM)
                out.append(s)
                if family == socket.AF_INET6:
                    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.bind((host, port))
                s.setblocking(False)
        except OSError:
            for s in out:
                s.close()
            raise
        return out

    def got(self):
        time.sleep(0.1)
        out = []
        for s in self.socks:
            try:
                while True:
                    out.append(s.recvfrom(2048))
            except BlockingIOError:
                pass
        return out

    def close(self):
        for s in self.socks:
            s.close()


class Base(unittest.TestCase):
    def begin(self, *each, workers=2):
        self.d = daemon.Daemon(CONFIG, rows=rows(*each), workers=workers)
        self.d.server, self.bound = (HOST4, self.d.port), {}
        self.addCleanup(self.leave)

    def leave(self):
        code, text = self.d.ctl("verify", check=False)
        with self.d:
            pass
        self.assertEqual(code, 0, text)

    def reload(self, *each, **values):
        self.d.values.update(values, **({"rows": rows(*each)} if each else {}))
        self.d.write(CONFIG)
        self.d.ctl("reload")

    def client(self, extra=b""):
        c = tc.Client(self.d.server, "alice", "wonderland-of-the-tests", local=(HOST4, 0))
        self.addCleanup(c.close)
        c.allocate(extra)
        return c

    def code(self, call, *args):
        try:
            call(*args)
        except tc.TurnError as e:
            return e.code
        return 200

    def channel(self, a, b):
        """A's channel to b: bound, or refreshed."""
        number = self.bound.setdefault((a, b), 0x4000 + len(self.bound))
        a.bind(number, b.relayed)
        return number

    def hear(self, b, a, data):
        """It came from a, by the address that a was told."""
        self.assertEqual(b.data()[:2], (self.bound.get((b, a), a.relayed), data))

    def meet(self, a, b):
        """Both ways, by channel one way and by indication the other."""
        number = self.channel(a, b)
        b.permit(a.relayed)
        for _ in range(2):
            a.channel_data(number, b"to b")
            self.hear(b, a, b"to b")
            b.send_indication(a.relayed, b"to a")
            self.hear(a, b, b"to a")

    def events(self):
        """What happens to a daemon in its life."""
        d = self.d

        def kill(role):
            gone = d.children(role)
            daemon.kill_all(gone)
            self.assertTrue(daemon.until(lambda: d.replaced(role, gone) and d.ready()), d.text()[-3000:])

        def kill_supervisor():
            gone = d.supervisor()
            os.kill(gone, 9)
            self.assertTrue(daemon.until(lambda: d.supervisor() not in (0, gone) and d.ready()), d.text()[-3000:])
        return (("nothing", lambda: None), ("kill of the workers", lambda: kill("worker")), ("reload", lambda: d.ctl("reload")),
                ("resize", lambda: self.reload(workers=1)), ("kill of the supervisor", kill_supervisor),
                ("upgrade", lambda: d.ctl("upgrade")), ("kill after it", lambda: kill("worker")),
                ("resize back", lambda: self.reload(workers=2)))


class Foreigners(Base):
    def test_a_foreign_socket(self):
        self.begin(HOST4, HOST6, (INSIDE, OUTSIDE))
        four = [self.client(FOUR) for _ in range(8)]      # on both rows
        six, other6 = self.client(SIX), self.client(SIX)
        told = {c.relayed[0]: c for c in four}
        self.assertEqual(set(told), {HOST4, OUTSIDE})
        sink = Foreign()
        self.addCleanup(sink.close)
        for what, happen in self.events():
            happen()
            for form in FORMS:
                a = six if ":" in form else four[0]
                peer = (form, sink.port)
                with self.subTest(after=what, form=form):
                    self.assertEqual(self.code(a.permit, (form, 0)), 200)
                    a.send_indication(peer, b"foreign")
                    self.assertEqual(self.code(a.bind, 0x4fff, peer), 403)
                    a.channel_data(0x4fff, b"foreign")
            self.assertEqual(sink.got(), [], what)
            # ... while clients of this server meet on every one of its addresses.
            for b in (told[HOST4], told[OUTSIDE]):
                self.meet(four[0] if b is not four[0] else four[1], b)
            self.meet(six, other6)

    def steal(self, a):
        """A has a channel to a port that is another program's now; that program."""
        while True:
            b = self.client()
            self.meet(a, b)
            b.refresh(0)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                try:
                    return b, Foreign(b.relayed[1])
                except OSError:                     # it may be in a pool again
                    time.sleep(0.02)

    def test_a_port_that_was_ours(self):
        self.begin(HOST4, (INSIDE, OUTSIDE))
        for what, happen in self.events():
            a = self.client()
            b, thief = self.steal(a)
            happen()
            a.channel_data(self.bound[a, b], b"stolen")
            a.send_indication(b.relayed, b"stolen")
            self.assertEqual(thief.got(), [], what)
            thief.close()


class Mappings(Base):
    def test_external_changes(self):
        """Sessions keep what they were told; old and new ones meet, over every pair."""
        self.begin(INSIDE)
        old = [self.client(), self.client()]
        for happen, address in (
                (lambda: self.reload((INSIDE, OUTSIDE)), OUTSIDE), (lambda: self.reload((INSIDE, OTHER)), OTHER),
                (lambda: self.reload((INSIDE, OUTSIDE), HOST4), None), (lambda: self.reload(HOST4), HOST4),
                (lambda: self.reload((INSIDE, OTHER)), OTHER), (lambda: self.d.ctl("upgrade"), OTHER),
                (lambda: self.reload(INSIDE), INSIDE), (lambda: self.d.ctl("restart-workers"), INSIDE)):
            pairs = [(a, b) for a in old for b in old if a is not b]
            for a, b in pairs:
                self.channel(a, b)
            happen()
            for a, b in pairs:                      # nothing bound or permitted again
                a.channel_data(self.bound[a, b], b"on")
                self.hear(b, a, b"on")
            new = self.client()
            self.assertIn(new.relayed[0], [address] if address else [OUTSIDE, HOST4])
            for c in old:
                self.meet(c, new)
                self.meet(new, c)
            old.append(new)


if __name__ == "__main__":
    daemon.isolate()
    if not os.environ.get("TP_NETNS"):
        print("no network namespace to be had: skipped")
        sys.exit(77)
    world()
    unittest.main(verbosity=2, warnings="ignore")
