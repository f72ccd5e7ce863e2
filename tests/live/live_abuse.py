#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hostile traffic against the real daemon: what it costs is bounded, what it changes is nothing, each datagram is accounted."""
import json
import os
import random
import resource
import select
import socket
import struct
import subprocess
import time
import unittest

import daemon
import turnclient as tc

SEED = int(os.environ.get("TP_SEED", "0")) or random.randrange(1, 1 << 31)
TRANSPORT = tc.attr("REQUESTED_TRANSPORT", b"\x11\0\0\0")


def fds(d):
    return {pid: len(os.listdir("/proc/%d/fd" % pid)) for pid in [d.process.pid, *d.children()]}


def received(d):
    return d.counter("received_packets", side="client")


def drain(sock):
    """(number, bytes) of what has come."""
    n = size = 0
    while select.select([sock], [], [], 0)[0]:
        size += len(sock.recv(65536))
        n += 1
    return n, size


class Abuse(unittest.TestCase):
    def alive(self, d, starts):
        """The probe after each attack: answers, no child was replaced, the books are right."""
        with tc.Client(d.server, local=("127.0.0.9", 0)) as c:
            self.assertIsNotNone(c.binding())
        self.assertEqual(set(d.children()), starts)
        code, text = d.ctl("verify", check=False)
        self.assertEqual(code, 0, text)

    def test_rate_and_size_of_challenges(self):
        """C-02, C-04: from one address a burst of 2,000 and 200 a second; another address does not notice."""
        with daemon.Daemon(daemon.DEFAULT + "limits: {{ challenges_per_prefix: 200, bindings_per_prefix: 1000 }}\n") as d:
            starts = set(d.children())
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
            s.bind(("127.0.0.2", 0))
            s.connect(d.server)
            raw = tc.build(tc.ALLOCATE, tc.REQUEST, b"x" * 12, TRANSPORT)
            began, n, size = time.monotonic(), 0, 0

            def accounted():
                nonlocal n, size
                more = drain(s)
                n, size = n + more[0], size + more[1]
                return n + d.drops("rate_challenge")
            for sent in range(200, 10001, 200):     # few enough for any receive buffer, also of a process without a processor
                for _ in range(200):
                    s.send(raw)
                self.assertEqual(daemon.reach(accounted, sent), sent)
            span = time.monotonic() - began
            self.assertGreaterEqual(n, 2000)
            self.assertLessEqual(n, 2000 + 200 * (span + 1))
            self.assertLessEqual(size + 28 * n, 3 * n * (len(raw) + 28))     # as the network carries it
            with tc.Client(d.server, "alice", "wonderland", local=("127.0.0.3", 0)) as c:
                c.allocate()
            s.close()
            self.alive(d, starts)

    def test_sixty_thousand_ports(self):
        """C-05, C-06: the port is no part of the key, and an unauthenticated client leaves nothing behind."""
        with daemon.Daemon(daemon.DEFAULT.replace("level: info", "level: debug") +
                           "limits: {{ challenges_per_prefix: 200, bindings_per_prefix: 1000 }}\n") as d:
            starts = set(d.children())
            d.ctl("log", "level", "info")
            raw = [tc.build(tc.ALLOCATE, tc.REQUEST, b"x" * 12, TRANSPORT), tc.build(tc.BINDING, tc.REQUEST, b"y" * 12)]

            def flood(host, low, high):
                sent = received(d)
                for port in range(low, high):
                    if port % 400 == 0:             # few enough for any receive buffer
                        daemon.until(lambda: received(d) >= sent)
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                        try:
                            s.bind((host, port))
                        except OSError:
                            continue
                        s.sendto(raw[port & 1], d.server)
                        sent += 1
                self.assertEqual(daemon.reach(lambda: received(d), sent), sent)
            flood("127.0.0.2", 1024, 5000)
            before, descriptors = {p: daemon.memory([p]) for p in starts}, fds(d)
            sent = d.counter("sent_packets", side="client")
            began = time.monotonic()
            flood("127.0.0.2", 5000, 65000)
            span = time.monotonic() - began
            answered = d.counter("sent_packets", side="client") - sent
            self.assertLessEqual(answered, 1.1 * (2000 + 10000 + 1200 * (span + 1)))
            for pid in starts if not daemon.is_sanitized(d.process.pid) else ():
                self.assertLess(daemon.memory([pid]) - before[pid], 2 << 20, "bytes more in %d" % pid)
            # The connection of a scrape may be there or not.
            self.assertTrue(daemon.until(lambda: all(abs(n - descriptors[pid]) <= 2 for pid, n in fds(d).items())),
                            (descriptors, fds(d)))
            self.assertEqual(d.status()["sessions"], 0)
            self.alive(d, starts)

    def test_every_datagram_is_answered_or_counted(self):
        """F: mutations of what clients send.  An answer, a session's change, or exactly one drop; never a crash.
        One message in some hundred thousand becomes a Binding indication, which is neither: RFC 8489 6.3.2."""
        print("TP_SEED=%d" % SEED)
        rnd = random.Random(SEED)
        config = daemon.DEFAULT + "limits: {{ challenges_per_prefix: 0, bindings_per_prefix: 0 }}\n"
        with daemon.Daemon(config) as d:
            starts = set(d.children())
            with tc.Client(d.server, "alice", "wonderland", local=("127.0.0.2", 0)) as c:
                c.allocate()
                txid = b"0123456789ab"
                signed = c.auth_attrs()
                peer = tc.attr("XOR_PEER_ADDRESS", tc.xor_address(("127.0.0.1", 9), txid))
                seeds = [tc.build(m, tc.REQUEST, txid, a + signed, c.key, fp=fp) for m, a in (
                    (tc.REFRESH, b""), (tc.CREATE_PERMISSION, peer), (tc.ALLOCATE, TRANSPORT),
                    (tc.CHANNEL_BIND, tc.attr("CHANNEL_NUMBER", b"\x40\0\0\0") + peer), (99, b"")) for fp in (0, 1)]
                seeds += [tc.build(tc.BINDING, tc.REQUEST, txid, fp=True), tc.build(tc.BINDING, tc.SUCCESS, txid),
                          tc.build(tc.SEND, tc.INDICATION, txid, peer + tc.attr("DATA", b"abc")),
                          b"\x40\0\0\4abcd", b"\x16\xfe\xff" + b"\0" * 30]
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
                s.bind(("127.0.0.3", 0))        # no allocation here: nothing can be relayed
                s.connect(d.server)
                drops = d.counter("drops")
                before = received(d)
                sent = d.counter("sent_packets", side="client")
                answers = total = keepalives = 0

                def counted():
                    nonlocal answers
                    answers += drain(s)[0]
                    return answers + d.counter("drops") - drops
                for i in range(6000):
                    raw = bytearray(rnd.choice(seeds))
                    kind = rnd.randrange(6)
                    if kind == 0:
                        raw = raw[:rnd.randrange(len(raw) + 1)]
                    elif kind == 1:
                        raw += rnd.randbytes(rnd.randrange(1, 9))
                    elif kind == 2:
                        struct.pack_into("!H", raw, 2, rnd.choice((0, 4, 0xfffc, 0xffff, len(raw), max(len(raw) - 20, 0))))
                    else:
                        for _ in range(rnd.randrange(1, 4)):
                            raw[rnd.randrange(len(raw))] = rnd.choice((0, 1, 0x7f, 0x80, 0xff, rnd.randrange(256)))
                    if i % 5 == 0 and len(raw) > 20:        # a right length, so that attributes are looked at
                        raw = raw[:len(raw) & ~3]
                        struct.pack_into("!H", raw, 2, len(raw) - 20)
                    s.send(raw)
                    total += 1
                    keepalives += raw[:2] == b"\x00\x11"       # in good order or not
                    if i % 200 == 199:          # few enough for any receive buffer
                        self.assertEqual(daemon.reach(lambda: received(d) - before, total), total)
                        self.assertLessEqual(counted(), total)
                self.assertTrue(daemon.until(lambda: total - keepalives <= counted() <= total and
                                             d.counter("sent_packets", side="client") - sent == answers),
                                (total, keepalives, counted(), answers))
                c.refresh(600)
                s.close()
            self.alive(d, starts)

    def test_two_servers_do_not_talk_to_each_other(self):
        """C-07, C-08, C-09: datagrams with a forged source, of every class, from one listener to another and to itself."""
        if os.geteuid() != 0:
            self.skipTest("raw sockets need root")
        with daemon.Daemon() as a, daemon.Daemon() as b:
            starts = set(a.children())
            s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            rnd = random.Random(SEED)

            def forge(source, target, payload):
                udp = struct.pack("!HHHH", source[1], target[1], 8 + len(payload), 0) + payload
                ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                                 socket.inet_aton(source[0]), socket.inet_aton(target[0]))
                s.sendto(ip + udp, (target[0], 0))

            n = 0
            for i in range(500):
                method, cls = rnd.choice((0, 1, 3, 4, 6, 7, 8, 9, 0xfff)), i % 4
                raw = tc.build(method, cls, rnd.randbytes(12), rnd.choice((b"", TRANSPORT, b"\0\1\0\4abcd")))
                raw = raw if i % 3 else raw[:rnd.randrange(len(raw))]
                forge(b.server, a.server, raw)
                n += 1
            # What a has answered, b has received; and whatever that was, it said nothing to it.
            self.assertEqual(daemon.reach(lambda: received(a), n), n)
            self.assertTrue(daemon.until(lambda: received(b) == a.counter("sent_packets", side="client")))
            self.assertEqual((received(a), b.counter("sent_packets", side="client")), (n, 0))
            self.assertLessEqual(received(b), n)
            before, sent = a.drops("source"), a.counter("sent_packets", side="client")
            for port in (a.port, 7, 13, 17, 19, 53, 123, 389, 1900, 11211):
                forge(("127.0.0.1", port), a.server, tc.build(tc.BINDING, tc.REQUEST, b"l" * 12))
            self.assertEqual(daemon.reach(lambda: a.drops("source") - before, 10), 10)
            self.assertEqual(a.counter("sent_packets", side="client"), sent)
            s.close()
            self.alive(a, starts)

    def test_churn_leaves_nothing(self):
        """H-01, H-03, D-03: 2,000 allocations come and go while peers of earlier ones keep sending to their old ports;
        nothing is delivered to the wrong client, and descriptors are back where they were."""
        config = daemon.DEFAULT.replace("addresses: [ 127.0.0.1 ]", "addresses: [ 127.0.0.1 ]\n  ports: 50000-50299")
        with daemon.Daemon(config) as d, daemon.Peer() as p:
            starts = set(d.children())

            def round_(number, size=100):
                clients = [tc.Client(d.server, *tc.rest_credentials(daemon.SECRET, "u%d" % i)) for i in range(size)]
                for i, c in enumerate(clients):
                    c.allocate()
                    c.bind(0x4000 + i, p.addr)
                    c.tag = b"%d/%d" % (number, i)
                for c, i in zip(clients, range(size)):
                    c.channel_data(0x4000 + i, c.tag)
                by_port = {c.relayed[1]: c for c in clients}
                for _ in clients:
                    data, src = p.recv()
                    self.assertEqual(by_port[src[1]].tag, data)
                for port in range(50000, 50300):        # live, idle and dead ones alike
                    live = by_port.get(port)
                    p.send(live.tag if live else b"for nobody", ("127.0.0.1", port))
                for i, c in enumerate(clients):
                    self.assertEqual(c.data(), (0x4000 + i, c.tag))
                for c in clients:
                    c.refresh(0)
                    p.send(b"too late", c.relayed)
                for c in clients:
                    c.channel_data(0x4000, b"too late")
                    self.assertEqual(c.inbox, [])
                    c.relayed = None
                    c.close()
            for n in range(3):
                round_(n)

            def filled():               # the pools
                now = fds(d)
                time.sleep(1.0)
                return now == fds(d)
            daemon.until(filled)
            before = fds(d)
            for n in range(3, 20):
                round_(n)
            # Pools may be a little fuller or emptier.
            self.assertTrue(daemon.until(lambda: all(abs(n - before[pid]) < 40 for pid, n in fds(d).items())), (before, fds(d)))
            self.assertEqual(set(before), set(fds(d)))
            self.assertIsNone(p.recv(0.1))
            self.assertEqual(d.status()["sessions"], 0)
            self.alive(d, starts)

    def test_few_descriptors(self):
        """D-18: with a small limit either a sentence at start, or 508 when it is reached; no process spins."""
        for limit in (64, 200, 400):
            d = daemon.Daemon(start=False)
            with d:
                r = subprocess.Popen(d.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     preexec_fn=lambda n=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)))
                d.process = r
                end = time.monotonic() + 60
                while r.poll() is None and not d.ready() and time.monotonic() < end:
                    time.sleep(0.05)
                if r.poll() is not None:
                    self.assertIn(r.returncode, (70, 69))
                    self.assertIn(b"open files", r.stdout.read())
                    continue
                self.assertTrue(d.ready(), limit)
                clients, code = [], 200
                while code == 200 and len(clients) < limit:
                    clients.append(tc.Client(d.server, "alice", "wonderland"))
                    try:
                        clients[-1].allocate()
                    except tc.TurnError as e:
                        code = e.code
                self.assertEqual(code, 508, limit)
                clients[0].refresh(600)
                for c in clients[:-1]:          # numbers belong to shards: the last one's must be among them
                    c.refresh(0)
                clients[-1].allocate()
                for c in clients:
                    c.close()
                self.assertEqual(d.ctl("verify")[0], 0)

    def test_names_cannot_forge_log_lines(self):
        """I-01: one line each, printable, in text and JSON."""
        names = ["a\nERROR root logged in", "\x1b[2J", "%s%n%x", "A" * 508, '"}', "\u202ebidi", "a\rb", "b\\n", "\u2028"]
        for form in ("text", "json"):
            with daemon.Daemon(daemon.DEFAULT.replace("level: info", "level: info, format: %s" % form)) as d:
                for name in names:
                    for password in (None, "wrong"):
                        user, right = tc.rest_credentials(daemon.SECRET, name) if password is None else (name, password)
                        with tc.Client(d.server, user, password or right) as c:
                            try:
                                c.allocate()
                            except tc.TurnError as e:
                                self.assertIn(e.code, (400, 401))
                with tc.Client(d.server, "bob", "builder") as c:    # after its line there are all others
                    c.allocate()
                self.assertTrue(daemon.until(lambda: "user bob" in d.text()))
                raw = d.text()
                raw = raw[:raw.rindex("\n") + 1]
                self.assertTrue(all(c == "\n" or " " <= c <= "~" for c in raw))
                self.assertFalse(any(line.startswith("ERROR root") for line in raw.splitlines()))
                self.assertLess(max(len(x) for x in raw.splitlines()), 1100)
                if form == "json":
                    rows = [json.loads(x) for x in raw.splitlines() if x.startswith("{")]
                    self.assertGreater(len(rows), 10)
                    self.assertTrue(all({"time", "level", "process", "message"} <= set(r) for r in rows))
                    self.assertTrue(any("allocated" in r["message"] for r in rows))

    def test_flood_of_failures_is_a_trickle_of_lines(self):
        """I-03."""
        with daemon.Daemon(daemon.DEFAULT + "limits: {{ challenges_per_prefix: 0 }}\n") as d:
            with tc.Client(d.server, "alice", "wrong") as c:
                try:
                    c.allocate()
                except tc.TurnError:
                    pass
                raw = tc.build(tc.ALLOCATE, tc.REQUEST, b"x" * 12, TRANSPORT + c.auth_attrs(), c.key)
                began = time.monotonic()
                for i in range(5000):
                    c.raw(raw)
                    if i % 50 == 49:
                        time.sleep(0.001)
                        drain(c.sock)

                self.assertTrue(daemon.until(lambda: d.counter("refusals", reason="wrong_password") > 20))
                span = time.monotonic() - began
            lines = [x for x in d.text().splitlines() if "wrong password" in x]
            self.assertGreater(len(lines), 0)
            self.assertLessEqual(len(lines), 2 * (2 + span / 60))        # one a minute and worker
            self.assertEqual(d.counter("log_lines_lost"), 0)

    def test_secrets_stay_where_they_are(self):
        """I-04: not in logs, command lines, environments, metrics, nor in what turnpikectl shows."""
        with daemon.Daemon(daemon.DEFAULT.replace("level: info", "level: debug")) as d:
            user, password = tc.rest_credentials(daemon.SECRET, "carol")
            for u, p in (("alice", "wonderland"), ("alice", "a-wrong-one-4711"), (user, password)):
                with tc.Client(d.server, u, p) as c:
                    try:
                        c.allocate()
                    except tc.TurnError:
                        pass
            d.ctl("reload")
            seen = d.text() + d.http("/metrics")[1]
            for args in (["status"], ["sessions"], ["users"], ["limits"], ["counters", "all"]):
                seen += d.ctl(*args)[1] + d.ctl(*args, as_json=True)[1]
            for pid in [d.process.pid, *d.children()]:
                for name in ("cmdline", "environ"):
                    with open("/proc/%d/%s" % (pid, name), "rb") as f:
                        text = f.read()
                    if pid != d.process.pid and name == "environ":
                        # A build with a sanitizer hands its options down, and nothing else.
                        self.assertEqual([v for v in text.split(b"\0") if v and not v.split(b"=")[0].endswith(b"SAN_OPTIONS")], [])
                    if pid != d.process.pid or name == "cmdline":
                        seen += text.decode(errors="replace")
            for secret in (daemon.SECRET, "wonderland", "builder", password, "a-wrong-one-4711"):
                self.assertNotIn(secret, seen)

    def test_control_socket(self):
        """I-05: rubbish, an endless line and many connections; the relay does not notice."""
        with daemon.Daemon() as d:
            starts = set(d.children())
            path = d.runtime + "/control"
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o660)
            idle = []
            for n in range(300):
                s = socket.socket(socket.AF_UNIX)
                s.settimeout(2)
                try:
                    s.connect(path)
                    idle.append(s)
                except OSError:
                    break
            for payload in (b"x" * (1 << 20), b"\0" * 100 + b"\n", b"status\0hidden\n", b"--json\n", b"\n" * 5000,
                            b"status " + b"a " * 3000 + b"\n", b"\xff\xfe\n"):
                s = socket.socket(socket.AF_UNIX)
                s.settimeout(2)
                try:
                    s.connect(path)
                    s.sendall(payload)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except OSError:
                    pass
                s.close()
            for s in idle:
                s.close()
            self.assertTrue(daemon.until(lambda: d.ctl("status", check=False)[0] == 0))
            self.alive(d, starts)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
