#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Which peers a relay reaches, proved on the wire: every address of a namespace of its own is local, so what is denied
has a sink that must stay empty, and what is allowed has a peer that must answer."""
import os
import socket
import subprocess
import sys
import time
import unittest

import daemon
import turnclient as tc

HOST4, SECOND4, HOST6, INSIDE, OUTSIDE = "45.0.0.1", "45.0.0.2", "2a05:1::1", "10.0.0.5", "45.0.0.77"
DENIED = """127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1
100.127.255.255 169.254.169.254 100.100.100.200 192.0.0.192 168.63.129.16 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1
192.88.99.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:0.0.0.0
::ffff:169.254.169.254 ::ffff:0:7f00:1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::a00:1 2002:7f00:1::1
2002:a9fe:a9fe:: 2001:0:7f00:1::80ff:fffe 2001:db8::5efe:a00:1 fe80::1 fec0::1 fc00::1 fd00:ec2::254 fd20:ce::254 ff02::1
100::1 2001:db8::1 3fff::1 5f00::1 1fff::1 4000::1 fe7f::1 ::ffff:45.0.0.9 64:ff9b::2d00:9""".split()
EDGES = """9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
169.253.255.255 169.255.0.0 223.255.255.255 2000::1 2001:200::1 2001:db7:ffff::1 2001:db9::1 2003::1 2400::1
3fff:1000::1""".split()
CONFIG = """
auth: {{ realm: example.org, users: {{ alice: wonderland-of-the-tests, bob: builder-of-the-tests }} }}
listeners:
  - {{ address: %s, port: {port}, transport: udp }}
  - {{ address: "%s", port: {port}, transport: udp }}
relay:
  addresses: [ %s, "%s" ]
process: {{ workers: 2 }}
log: {{ level: info, target: stderr }}
metrics: {{ address: 127.0.0.1, port: {metrics} }}
""" % (HOST4, HOST6, HOST4, HOST6)
BOTH = tc.attr("ADDITIONAL_ADDRESS_FAMILY", b"\2\0\0\0")


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def world():
    """The host's own addresses, and then every other address there is."""
    for a in (HOST4, SECOND4, INSIDE):
        ip("addr", "add", a + "/32", "dev", "lo")
    ip("addr", "add", HOST6 + "/128", "dev", "lo", "nodad")
    ip("route", "add", "local", "0.0.0.0/0", "dev", "lo")
    ip("-6", "route", "add", "local", "::/0", "dev", "lo")


def bound(host, port=0):
    """A socket on any address; None where the kernel refuses (multicast, unspecified, ...)."""
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(*((socket.IPPROTO_IPV6, 78) if ":" in host else (socket.IPPROTO_IP, 15)), 1)        # FREEBIND
    try:
        s.bind((host, port))
    except OSError:
        s.close()
        return None
    return s


class Sink:
    """Whatever comes to a port, on any address of the host."""

    def __init__(self, port):
        self.socks = []
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            s = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((host, port))
            s.setblocking(False)
            self.socks.append(s)

    def got(self, expected=0):
        """What has come, and at least so many; a peer that expects nothing has a moment's silence for proof."""
        end, out = time.monotonic() + (30 if expected else 0.1), []
        while time.monotonic() < end and (not expected or len(out) < expected):
            out += self.now()
            time.sleep(0.02)
        return out + self.now()

    def now(self):
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
    config, values = CONFIG, {}

    def setUp(self):
        self.d = daemon.Daemon(self.config)
        self.d.server = (HOST4, self.d.port)
        self.addCleanup(self.leave)

    def leave(self):
        code, text = self.d.ctl("verify", check=False)
        with self.d:
            pass
        self.assertEqual(code, 0, text)

    def client(self, user="alice", password="wonderland-of-the-tests", extra=BOTH, local=None, v6=False):
        c = tc.Client((HOST6 if v6 else HOST4, self.d.port), user, password, local=local or (HOST6 if v6 else HOST4, 0))
        self.addCleanup(c.close)
        if extra is not None:
            m = c.allocate(extra)
            c.all = m.addresses("XOR_RELAYED_ADDRESS")
        return c

    def code(self, call, *args):
        try:
            call(*args)
        except tc.TurnError as e:
            return e.code
        return 200


class Defaults(Base):
    def test_denied_by_every_way(self):
        """V01 to V47 and the edges of what is denied: A-01, A-02, A-03."""
        sink = Sink(80)
        self.addCleanup(sink.close)
        both = self.client()
        four, six = self.client(extra=tc.attr("REQUESTED_ADDRESS_FAMILY", b"\1\0\0\0")), \
            self.client(extra=tc.attr("REQUESTED_ADDRESS_FAMILY", b"\2\0\0\0"))
        for c in (both, four, six):
            families = {":" in a[0] for a in c.all}
            if False in families:
                c.permit(("45.0.0.9", 80))
            if True in families:
                c.permit(("2a05:1::9", 80))
            for n, host in enumerate(DENIED):
                want = {403} if (":" in host) in families else {403, 443}
                self.assertIn(self.code(c.permit, (host, 80)), want, host)
                self.assertIn(self.code(c.bind, 0x4000, (host, 80)), want, host)
                c.send_indication((host, 80), b"leak " + host.encode())
                c.channel_data(0x4000, b"leak " + host.encode())
            self.assertEqual(sink.got(), [])
        # The sink is one: what is permitted arrives.
        both.send_indication(("45.0.0.9", 80), b"1")
        both.send_indication(("2a05:1::9", 80), b"2")
        self.assertEqual(sorted(d for d, _ in sink.got(2)), [b"1", b"2"])

    def test_denied_as_sources(self):
        """A-05: nothing comes in from them, permission or not."""
        c = self.client()
        sent = 0
        for host in DENIED:
            s = bound(host)
            if s is None:
                continue
            with s:
                for a in c.all:
                    try:
                        s.sendto(b"from " + host.encode(), a)
                        sent += 1
                    except OSError:
                        pass
        self.assertGreater(sent, 20)
        self.assertIsNone(c.data(0.2))

    def test_all_or_nothing(self):
        """A-06."""
        c, sink = self.client(), Sink(80)
        self.addCleanup(sink.close)
        for peers in ((("45.0.0.9", 80), ("10.0.0.1", 80)), (("10.0.0.1", 80), ("45.0.0.9", 80))):
            self.assertEqual(self.code(c.permit, *peers), 403)
            c.send_indication(("45.0.0.9", 80), b"no")
            self.assertEqual(sink.got(), [])

    def test_edges_are_open(self):
        """A-07: nothing is denied that is not in the list, in both directions."""
        c = self.client()
        for n, host in enumerate(EDGES):
            with bound(host) as p:
                p.settimeout(20)
                peer = p.getsockname()[:2]
                c.bind(0x4000 + n, peer)
                c.channel_data(0x4000 + n, host.encode())
                data, src = p.recvfrom(2048)
                self.assertEqual(data, host.encode())
                self.assertIn(src[:2], c.all)
                p.sendto(b"back", src)
                self.assertEqual(c.data(), (0x4000 + n, b"back"), host)

    def test_own_host(self):
        """A-10: listeners, metrics and every other service of this host, on every path."""
        c, ssh = self.client(), Sink(2222)
        self.addCleanup(ssh.close)
        c.permit(c.all[0], c.all[1])        # the relay range must be open to hairpin
        drops = self.d.drops("peer_denied") + self.d.drops("no_permission")
        for n, peer in enumerate(((HOST4, self.d.port), (HOST6, self.d.port), (HOST4, 2222), (SECOND4, 2222), (HOST6, 2222),
                                  ("127.0.0.1", self.d.metrics), (INSIDE, 2222))):
            self.assertEqual(self.code(c.bind, 0x4000, peer), 403, peer)
            c.send_indication(peer, tc.build(tc.BINDING, tc.REQUEST, b"x" * 12))
        self.assertEqual(daemon.reach(lambda: self.d.drops("peer_denied") + self.d.drops("no_permission") - drops, 7), 7)
        self.assertEqual(ssh.got(), [])
        self.assertIsNone(c.data(0.1))
        self.assertEqual(self.code(c.permit, (SECOND4, 2222)), 403)

    def test_hairpin_and_self(self):
        """A-11: one allocation reaches another, and itself without a loop."""
        a, b = self.client(), self.client("bob", "builder-of-the-tests")
        for i in (0, 1):
            a.permit(b.all[i])
            b.permit(a.all[i])
            a.send_indication(b.all[i], b"across")
            self.assertEqual(b.data()[:2], (a.all[i], b"across"))
            a.permit(a.all[i])
            a.send_indication(a.all[i], b"self")
            self.assertEqual(a.data()[:2], (a.all[i], b"self"))
            self.assertIsNone(a.data(0.1))

    def test_port_zero(self):
        """A-13; RFC 8656 10.2 has CreatePermission ignore the port."""
        c = self.client()
        self.assertEqual(self.code(c.permit, ("45.0.0.9", 0)), 200)
        self.assertIn(self.code(c.bind, 0x4000, ("45.0.0.9", 0)), (400, 403))
        before = self.d.drops("peer_port")
        c.send_indication(("45.0.0.9", 0), b"x")
        self.assertEqual(daemon.reach(lambda: self.d.drops("peer_port") - before, 1), 1)
        self.assertIsNone(c.data(0.1))

    def test_clients_behind_transition_addresses(self):
        """A-21: RFC 8656 21.4, a server must not accept Teredo or 6to4 addresses in Allocate."""
        for host in ("2002:2d00:9::1", "2001:0:2d00:9::1"):
            ip("addr", "add", host + "/128", "dev", "lo", "nodad")
            c = self.client(extra=None, local=(host, 0), v6=True)
            self.assertEqual(self.code(c.allocate), 403, host)

    def test_reload_cuts(self):
        """A-15: what a reload newly denies stops both ways, at the next packet."""
        c = self.client()
        with bound("45.0.0.9") as p, bound("45.0.0.10") as q:
            for s, n in ((p, 0x4000), (q, 0x4001)):
                s.settimeout(20)
                c.bind(n, s.getsockname())
                c.channel_data(n, b"on")
                self.assertEqual(s.recvfrom(100)[0], b"on")
            self.d.write(self.config + "peers: {{ deny: [ 45.0.0.9 ] }}\n")
            self.d.ctl("reload")
            # The answer may be faster than the message to the worker of this client.
            self.assertTrue(daemon.until(lambda: self.code(c.permit, p.getsockname()) == 403))
            c.channel_data(0x4000, b"off")
            c.send_indication(p.getsockname(), b"off")
            p.sendto(b"off", c.all[0])
            c.channel_data(0x4001, b"live")
            self.assertEqual(q.recvfrom(100)[0], b"live")
            q.sendto(b"live", c.all[0])
            self.assertEqual(c.data(), (0x4001, b"live"))
            self.assertIsNone(c.data(0.1))
            p.settimeout(0.1)
            self.assertRaises(socket.timeout, p.recvfrom, 100)
            self.assertEqual(self.code(c.permit, p.getsockname()), 403)
            self.assertEqual(self.code(c.bind, 0x4000, p.getsockname()), 403)

    def test_a_denial_says_what_to_do(self):
        c = self.client()
        self.code(c.permit, ("10.9.8.7", 80))

        def lines():
            text = self.d.text()
            return [x for x in text[:text.rfind("\n") + 1].splitlines() if "10.9.8.7" in x]
        daemon.until(lines)
        line = lines()
        self.assertEqual(len(line), 1)
        for word in ("session ", "user alice", "client %s:%d" % c.sock.getsockname()[:2], "relay %s:%d" % c.all[0],
                     "allow_private: [ 10.9.8.7 ]"):
            self.assertIn(word, line[0])


class Rules(Base):
    config = CONFIG + """
peers:
  deny: [ 45.1.0.0/16, 10.1.0.0/16 ]
  allow_private: [ 10.0.0.0/8, 45.1.2.3, "fd00::/8" ]
  allow_own: [ "%s:10000-20000/udp" ]
""" % SECOND4

    def test_deny_wins(self):
        """A-17."""
        c = self.client()
        for host, want in (("45.1.2.3", 403), ("10.1.1.1", 403), ("10.2.1.1", 200), ("fd00::9", 200), ("192.168.1.1", 403),
                           ("::ffff:10.2.1.1", 403)):
            self.assertEqual(self.code(c.permit, (host, 80)), want, host)

    def test_allow_own(self):
        c = self.client()
        with bound(SECOND4, 15000) as inside, bound(SECOND4, 9999) as outside:
            inside.settimeout(20)
            outside.settimeout(0.2)
            c.bind(0x4000, (SECOND4, 15000))
            c.channel_data(0x4000, b"sfu")
            data, src = inside.recvfrom(100)
            self.assertEqual(data, b"sfu")
            inside.sendto(b"back", src)
            self.assertEqual(c.data(), (0x4000, b"back"))
            self.assertEqual(self.code(c.bind, 0x4001, (SECOND4, 9999)), 403)
            c.send_indication((SECOND4, 9999), b"no")
            self.assertRaises(socket.timeout, outside.recvfrom, 100)
            outside.sendto(b"no", src)
            self.assertIsNone(c.data(0.1))
            self.assertEqual(self.code(c.bind, 0x4002, (HOST4, 15000)), 403)


class NewAddresses(Base):
    """An address that the host gets later is its own from then on; one that it loses is anybody's."""

    def test_later(self):
        c = self.client()
        other = bound("45.0.0.88")
        self.addCleanup(other.close)
        other.settimeout(20)
        c.bind(0x4000, other.getsockname())
        c.channel_data(0x4000, b"of another program")
        data, relay = other.recvfrom(100)
        self.assertEqual(data, b"of another program")
        ip("addr", "add", "45.0.0.88/32", "dev", "lo")
        try:
            self.assertTrue(daemon.until(lambda: "45.0.0.88 is this host's now" in self.d.text()))
            self.assertTrue(daemon.until(lambda: self.code(c.permit, ("45.0.0.88", 80)) == 403))
            self.assertEqual(self.code(c.bind, 0x4001, ("45.0.0.88", 80)), 403)
            other.settimeout(0.3)
            c.channel_data(0x4000, b"cut")		# the channel that there was, at its next packet
            self.assertRaises(socket.timeout, other.recvfrom, 100)
            self.assertGreater(self.d.status()["sessions"], 0)
        finally:
            ip("addr", "del", "45.0.0.88/32", "dev", "lo")
        self.assertTrue(daemon.until(lambda: self.code(c.permit, ("45.0.0.88", 80)) == 200))
        self.assertEqual(self.d.ctl("reload")[0], 0)
        self.assertEqual(self.code(c.permit, (SECOND4, 80)), 403)

    def test_after_an_upgrade(self):
        c = self.client()
        self.assertEqual(self.d.ctl("upgrade")[0], 0)
        self.assertTrue(daemon.until(lambda: "every process is of version" in self.d.text()))
        ip("addr", "add", "45.0.0.99/32", "dev", "lo")
        try:
            self.assertTrue(daemon.until(lambda: self.code(c.permit, ("45.0.0.99", 80)) == 403))
        finally:
            ip("addr", "del", "45.0.0.99/32", "dev", "lo")


class External(Base):
    """Behind 1:1 NAT two clients of one server meet by their external addresses; no NAT here would turn them back."""
    config = CONFIG.replace("addresses: [ %s, \"%s\" ]" % (HOST4, HOST6),
                            "addresses: [ {{ address: %s, external: %s }} ]" % (INSIDE, OUTSIDE))

    def test_they_meet(self):
        a, b = self.client(extra=b""), self.client("bob", "builder-of-the-tests", extra=b"")
        self.assertEqual({a.relayed[0], b.relayed[0]}, {OUTSIDE})
        a.bind(0x4000, b.relayed)
        b.permit(a.relayed)
        for _ in range(3):
            a.channel_data(0x4000, b"to b")
            self.assertEqual(b.data()[:2], (a.relayed, b"to b"))
            b.send_indication(a.relayed, b"to a")
            self.assertEqual(a.data(), (0x4000, b"to a"))
        with bound("45.0.0.9") as p:
            p.settimeout(20)
            a.bind(0x4002, p.getsockname())
            a.channel_data(0x4002, b"out")
            self.assertEqual(p.recvfrom(100), (b"out", (INSIDE, a.relayed[1])))


if __name__ == "__main__":
    daemon.isolate()
    if not os.environ.get("TP_NETNS"):
        print("no network namespace to be had: skipped")
        sys.exit(77)
    world()
    unittest.main(verbosity=2, warnings="ignore")
