#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What leaves relay sockets, seen from the other end of a veth pair: headers, fragments, source addresses, routes, ICMP
errors, full queues, devices that cannot segment."""
import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import unittest

import daemon
import turnclient as tc
from daemon import until

UDP_SEGMENT, SO_TIMESTAMPNS = 103, 35
HERE, SECOND, THERE = "10.77.0.1", "10.77.0.3", "10.77.0.2"
HERE6, THERE6 = "fd00:77::1", "fd00:77::2"
LONG = 20.0                      # the longest wait; it ends early
CONFIG = """
auth:
  realm: example.org
  users: {{ alice: the-password-of-live-path }}
listeners:
  - {{ address: %s, port: {port}, transport: udp }}
relay:
  addresses: [ %s, %s, "%s" ]
peers:
  allow_private: [ 10.77.0.0/24, "fd00:77::/64" ]
process: {{ workers: 1 }}
log: {{ level: info, target: stderr }}
metrics: {{ address: 127.0.0.1, port: {metrics} }}
""" % (HERE, HERE, SECOND, HERE6)


def run(*words):
    subprocess.run(words, check=True)


class Space:
    """A second network namespace with the other ends of two veth pairs: v0-v1 to all addresses, w0-w1 for routes by rule."""

    def __init__(self):
        self.process = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 100000"], stdout=subprocess.PIPE)
        self.process.stdout.readline()          # it is in its namespace
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.away = os.open("/proc/%d/ns/net" % self.process.pid, os.O_RDONLY | os.O_CLOEXEC)
        for a, b in (("v0", "v1"), ("w0", "w1")):
            run("ip", "link", "add", a, "type", "veth", "peer", "name", b, "netns", str(self.process.pid))
        for name in ("all", "default", "v0", "w0"):
            self.rp_filter(name)
        for words in ("addr add %s/24 dev v0" % HERE, "addr add %s/24 dev v0" % SECOND, "addr add %s/64 dev v0 nodad" % HERE6,
                      "link set v0 up", "link set w0 up"):
            run("ip", *words.split())
        self.do(self.other_end)

    @staticmethod
    def rp_filter(name):
        path = "/proc/sys/net/ipv4/conf/%s/rp_filter" % name
        with open(path) as f:
            if f.read().strip() == "0":
                return
        with open(path, "w") as f:
            f.write("0")

    def other_end(self):
        for name in ("all", "default", "v1", "w1"):
            self.rp_filter(name)
        for words in ("link set lo up", "addr add %s/24 dev v1" % THERE, "addr add %s/64 dev v1 nodad" % THERE6, "link set v1 up",
                      "link set w1 up"):
            run("ip", *words.split())
        self.sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))

    def enter(self, fd):
        if self.libc.setns(fd, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def do(self, what, *args):
        """what() in that namespace; sockets made there stay there."""
        self.enter(self.away)
        try:
            return what(*args)
        finally:
            self.enter(self.home)

    def look(self):
        """What came since the last look: {UDP port there: [(device, version, TTL, TOS, DF, bytes, MF, offset)]}."""
        found, whose = {}, {}
        self.sniffer.setblocking(False)
        while True:
            try:
                data, where = self.sniffer.recvfrom(70000)
            except BlockingIOError:
                return found
            if data[0] >> 4 == 4 and data[9] == 17:
                total, ident, frag = struct.unpack("!HHH", data[2:8])
                offset = (frag & 0x1fff) * 8
                if offset == 0:
                    whose[data[12:20], ident] = struct.unpack("!H", data[22:24])[0]
                if (data[12:20], ident) in whose:
                    found.setdefault(whose[data[12:20], ident], []).append(
                        (where[0], 4, data[8], data[1], bool(frag & 0x4000), total - 20, bool(frag & 0x2000), offset))
            elif data[0] >> 4 == 6 and data[6] in (17, 44):
                length, fragment = struct.unpack("!H", data[4:6])[0], data[6] == 44
                at, offset, more, ident = 40, 0, False, None
                if fragment:
                    frag, ident = struct.unpack("!HI", data[42:48])
                    at, offset, more = 48, frag & 0xfff8, bool(frag & 1)
                key = data[8:40], ident
                if offset == 0:
                    whose[key] = struct.unpack("!H", data[at + 2:at + 4])[0]
                if key in whose:
                    found.setdefault(whose[key], []).append((where[0], 6, data[7], data[0] & 15, False, length, more, offset))

    def close(self):
        self.sniffer.close()
        self.process.kill()
        self.process.wait()
        os.close(self.home)
        os.close(self.away)


def feature(device, name, on):
    """ethtool -K; False: there is no such feature."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        def call(data):
            buf = ctypes.create_string_buffer(bytes(data), len(data))
            fcntl.ioctl(s, 0x8946, struct.pack("16sP", device.encode(), ctypes.addressof(buf)) + bytes(8))
            return buf.raw
        count = struct.unpack("I", call(struct.pack("IIQI", 0x37, 0, 1 << 4, 0))[16:20])[0]
        strings = call(struct.pack("III", 0x1b, 4, count) + bytes(32 * count))[12:]
        names = [strings[i * 32:i * 32 + 32].split(b"\0")[0].decode() for i in range(count)]
        if name not in names:
            return False
        blocks = [[0, 0] for _ in range((count + 31) // 32)]
        at = names.index(name)
        blocks[at // 32][0] = 1 << at % 32
        blocks[at // 32][1] = int(on) << at % 32
        call(struct.pack("II", 0x3b, len(blocks)) + b"".join(struct.pack("II", *b) for b in blocks))
        return True


class Call:
    """A client, a peer of its own beyond the pair, and a channel between them."""

    def __init__(self, test, family=4):
        self.family = family
        self.client = tc.Client(test.d.server, "alice", "the-password-of-live-path", timeout=LONG)
        self.peer = test.space.do(daemon.Peer, THERE if family == 4 else THERE6)
        self.client.allocate(extra=b"" if family == 4 else tc.attr("REQUESTED_ADDRESS_FAMILY", b"\2\0\0\0"))
        self.client.bind(0x4001, self.peer.addr)

    def send(self, payload):
        self.client.channel_data(0x4001, payload)

    def close(self):
        self.client.close()
        self.peer.close()


class Path(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            cls.space = Space()
        except (subprocess.CalledProcessError, OSError) as e:
            raise unittest.SkipTest("no second network namespace: %s" % e)

    @classmethod
    def tearDownClass(cls):
        cls.space.close()

    def setUp(self):
        self.d = daemon.Daemon(CONFIG)
        self.d.server = (HERE, self.d.port)
        self.addCleanup(self.d.stop)

    def calls(self, n, family=4):
        made = [Call(self, family) for _ in range(n)]
        for c in made:
            self.addCleanup(c.close)
        return made

    def at_once(self, what):
        """What is sent while the worker stands still is one batch for it."""
        (pid,) = self.d.children("worker")
        os.kill(pid, signal.SIGSTOP)
        try:
            self.assertTrue(until(lambda: open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0] == "T"))
            what()
        finally:
            os.kill(pid, signal.SIGCONT)

    def round(self, calls, payload):
        def send():
            for i, c in enumerate(calls):
                c.send(payload + bytes([i]))
        self.at_once(send)
        for i, c in enumerate(calls):
            self.assertEqual(c.peer.recv(LONG), (payload + bytes([i]), c.client.relayed))

    def test_headers_and_fragments(self):
        """TTL, TOS and flags of what leaves; fragments where it is longer than the device takes, never DF."""
        for family in (4, 6):
            calls = self.calls(6, family)
            for size in (0, 1, 118, 1399, 1451, 1452, 1471, 1472, 2959, 9000):
                self.space.look()
                self.round(calls, b"p" * size)
                found = self.space.look()
                room = 1500 - (20 if family == 4 else 40)
                for c in calls:
                    pieces = found[c.peer.addr[1]]
                    self.assertEqual({x[:5] for x in pieces}, {("v1", family, 64, 0, False)})
                    self.assertEqual(len(pieces) > 1, size + 1 + 8 > room)
                    self.assertEqual([x[6] for x in pieces], [True] * (len(pieces) - 1) + [False])
        self.assertEqual(self.d.drops("send_error"), 0)

    def test_dont_fragment(self):
        calls = self.calls(4)
        self.space.look()

        def send():
            for c in calls:
                c.send(b"before")
                c.client.send_indication(c.peer.addr, b"whole" * 200, tc.attr("DONT_FRAGMENT"))
                c.send(b"after")
        self.at_once(send)
        for c in calls:
            self.assertEqual([c.peer.recv(LONG)[0] for _ in range(3)], [b"before", b"whole" * 200, b"after"])
        found = self.space.look()
        for c in calls:
            self.assertEqual([f[4] for f in found[c.peer.addr[1]]], [False, True, False])

    def test_dead_peers(self):
        """Each client whose peer is gone is told so; the others lose nothing."""
        calls = self.calls(10)
        dead, alive = calls[:3], calls[3:]
        for c in dead:
            c.peer.close()

        def send():
            for i in range(max(len(dead), len(alive))):
                for group in (dead, alive):
                    if i < len(group):
                        group[i].send(b"x")
        self.at_once(send)
        for c in alive:
            self.assertEqual(c.peer.recv(LONG), (b"x", c.client.relayed))
        for c in dead:
            self.assertEqual(c.client.data(LONG), (c.peer.addr, None, b"\0\0\6\3\0\0\0\0"))
        self.assertEqual(self.d.counter("icmp_errors"), 3)
        self.round(alive, b"again")
        self.assertEqual(self.d.drops("send_error"), 0)

    def test_routes_by_source(self):
        """A rule for one relay address sends its datagrams over the other device, and no others."""
        run("ip", "rule", "add", "from", SECOND, "lookup", "77")
        run("ip", "route", "add", THERE + "/32", "dev", "w0", "table", "77")
        self.addCleanup(run, "ip", "rule", "del", "from", SECOND, "lookup", "77")
        calls = []
        while len({c.client.relayed[0] for c in calls}) < 2 or len(calls) < 8:
            self.assertLess(len(calls), 100)
            calls += self.calls(1)
        self.space.look()
        self.round(calls, b"route")
        found = self.space.look()
        for c in calls:
            self.assertEqual({f[0] for f in found[c.peer.addr[1]]}, {"w1" if c.client.relayed[0] == SECOND else "v1"})

    def test_no_segmentation(self):
        """Runs of one flow in both directions over a device whose offloads are off."""
        calls = self.calls(2)
        for name in ("tx-udp-segmentation", "tx-checksum-ip-generic"):
            self.assertTrue(feature("v0", name, False))
            self.addCleanup(feature, "v0", name, True)
        run("ip", "route", "flush", "cache")
        for c in calls:
            payloads = [bytes([i]) * (200 if i < 29 else 31) for i in range(30)]
            frames = [struct.pack(">HH", 0x4001, len(x)) + x for x in payloads]
            c.client.sock.sendmsg([b"".join(frames)], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", len(frames[0])))])
            for x in payloads:
                self.assertEqual(c.peer.recv(LONG), (x, c.client.relayed))
        self.assertEqual(self.d.drops("send_error"), 0)

    def test_full_queue(self):
        """A device queue that is full costs what does not fit, counted, and no other client's datagrams."""
        calls = self.calls(40)
        run("tc", "qdisc", "add", "dev", "v0", "root", "tbf", "rate", "8mbit", "burst", "1600", "limit", "3000")
        try:
            self.at_once(lambda: [c.send(b"q" * 1000) for c in calls])
            self.assertTrue(until(lambda: self.d.counter("sent_packets", side="peer") + self.d.drops("send_error") == 40))
        finally:
            run("tc", "qdisc", "del", "dev", "v0", "root")
        arrived = sum(c.peer.recv(0.05) is not None for c in calls)
        lost = self.d.drops("send_error")
        self.assertGreater(lost, 0)
        self.assertGreater(self.d.counter("send_no_buffer"), 0)
        self.assertLessEqual(arrived, 40 - lost)
        self.round(calls, b"after")

    def test_full_buffer(self):
        """One flow over a slow device fills its socket: what does not fit is counted, and the other flows have all theirs."""
        if int(re.search(r"buffers: (\d+) bytes", self.d.text()).group(1)) < 2 << 20:
            self.skipTest("the listener's own buffer is too small for this")
        busy, *calls = self.calls(9)
        run("tc", "qdisc", "add", "dev", "v0", "root", "tbf", "rate", "20mbit", "burst", "3000", "limit", "20000000")
        try:
            def send():
                for i in range(400):
                    busy.send(struct.pack("!H", i) + b"f" * 1398)
                for c in calls:
                    c.send(b"other")
            self.at_once(send)
            for c in calls:
                self.assertEqual(c.peer.recv(LONG), (b"other", c.client.relayed))
        finally:
            run("tc", "qdisc", "del", "dev", "v0", "root")
        self.assertTrue(until(lambda: self.d.counter("sent_packets", side="peer") + self.d.drops("send_full") == 400 + len(calls)))
        self.assertGreater(self.d.drops("send_full"), 0)
        self.assertEqual(self.d.drops("send_full"), self.d.counter("send_would_block"))
        self.assertEqual(self.d.drops("send_error"), 0)

    def test_a_flood_waits_for_its_turn(self):
        """No relay socket is read more than 32 times before the others are."""
        loud, quiet = self.calls(2)
        for c in (loud, quiet):
            c.client.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

        def send():
            for i in range(200):
                loud.peer.send(b"%d" % i, loud.client.relayed)
            quiet.peer.send(b"quiet", quiet.client.relayed)
        self.at_once(send)

        def stamps(c, n):
            c.client.sock.settimeout(LONG)
            found = []
            for _ in range(n):
                _, control, _, _ = c.client.sock.recvmsg(2048, 64)
                found.append(struct.unpack("ll", control[0][2][:16]))
            return found
        when, others = stamps(quiet, 1)[0], stamps(loud, 200)
        self.assertEqual(others, sorted(others))
        self.assertLessEqual(sum(x < when for x in others), 32)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
