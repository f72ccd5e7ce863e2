#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""64 connections over TCP, 64 over TLS 1.2 and 1.3, and 64 DTLS sessions beside each other while workers and turnpike-tls processes are killed,
at random and at every marked point of a stream, a record, a handshake's hand-over and an adoption: none is broken, no byte of
a stream is lost, doubled or moved, no record of DTLS is accepted twice or sent under a number twice, and what is lost of
datagrams is explained by the batches in hand of the dead processes.  The next death follows when every session has answered.

TP_SECURE_KILLS: processes that are killed (1,000; contrib/run-tests: 100 in the sanitized build; with TP_SOAK=1, make soak,
10,000); TP_SEED: repeats the choices; TP_FLOWS: sessions of each kind (64)."""
import os
import random
import select
import signal
import socket
import ssl
import sys
import threading
import time
import unittest

import daemon
import dtlsclient
import flows as fl
import marked
import tlsclient
import turnclient as tc

FLOWS = int(os.environ.get("TP_FLOWS", 64))
KILLS = int(os.environ.get("TP_SECURE_KILLS", 10000 if os.environ.get("TP_SOAK") else 1000))
SEED = int(os.environ.get("TP_SEED") or random.SystemRandom().randrange(1 << 31))
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CONFIG = daemon.DEFAULT.replace("transport: udp }}", "transport: [ udp, tcp, tls ] }}\n"
                                "  - {{ address: 127.0.0.1, port: {dtls}, transport: [ udp, dtls ] }}") \
    .replace("workers: 2", "workers: {workers}, shards: {shards}, tls_processes: 1") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ connections_per_prefix: 0, challenges_per_prefix: 0, bindings_per_prefix: 0, stream_deadline: 120s,
  handshake_timeout: {patience} }}
"""
BATCH = 128             # datagrams: what a worker has received, and what it has yet to send (UDP_BATCH each)

# Marked points, and among how many passages one is chosen.  Where a connection is only sometimes, new ones come all the time.
HOT = 60
POINTS = {
    # bytes of a stream
    "stream:recv": HOT, "stream:received": HOT, "stream:in_recv": HOT, "stream:send": HOT, "stream:sent": HOT,
    "stream:out_sent": HOT, "conn:commit": HOT, "conn:committed": HOT, "ring:taken": HOT, "ring:linked": HOT,
    # records of TLS, keys that change
    "sealed:opened": HOT, "sealed:sealed": HOT, "sealed:rekeyed": 2, "sealed:updated": 2, "sealed:turned": 2,
    # records of DTLS
    "dtls:taken": HOT, "dtls:sealed": HOT, "dtls:opened": HOT, "dtls:marked": HOT,
    # connections that come and go, and their requests
    "accept:taken": 2, "accept:told": 2, "accept:at": 2, "conn:filling": 3, "conn:filled": 3, "conn:published": 3,
    "conn:marked": 2, "conn:freed": 2, "conn:wiped": 2, "conn:linked": 2, "tx:staged": 2, "tx:committed": 2, "open:applied": 2,
    "close:ending": 2, "close:applied": 2, "slot:filling": 2, "slot:new": 2, "chan:filled": 2,
    # handshakes: from the worker to turnpike-tls and back
    "shake:handed": 2, "shake:done": 3, "shake:keys": 2, "shake:published": 3, "shake:acked": 3, "dtls:passed": 3,
    "assoc:keys": 1, "assoc:published": 1, "assoc:flight": 1,
}
# Of a successor: one has to be killed first.
ADOPTING = {"conn:adopt": 2, "conn:adopt slots": 2, "conn:adopt rings": 2, "adopt:begin": 2, "adopt:slots": 2, "adopt:end": 2,
            "settle:counted": 20, "settle:received": 20, "settle:written": 20, "settle:all": 2, "assoc:adopted": 10}
TLSD = {"tls:begun": 2, "tls:stepped": 2, "tls:fed": 2, "tls:finished": 2, "tls:offered": 2, "tls:acked": 2}


def start(points=True, **values):
    """A daemon with marked workers where they were built."""
    values = dict({"workers": 4, "shards": 4, "patience": "60s"}, **values)
    d = daemon.Daemon(CONFIG, start=False, dtls=daemon.free_port(), **values)
    daemon.certificate(d.dir)
    d.orders = marked.give(d) if points and marked.built() else None
    return d.start()


def user(n):
    return tc.rest_credentials(daemon.SECRET, "u%s" % n)


def dtls_server(d):
    return ("127.0.0.1", d.values["dtls"])


def make_flows(d, n):
    """n of each kind; every sixteenth stream is wide; a quarter of the TLS connections changes its keys."""
    rnd = random.Random(SEED)
    tls = [daemon.tls_context(V12), daemon.tls_context(V13), daemon.tls_context(V12), tlsclient.Context()]
    out = []
    for i in range(n):
        c = tc.StreamClient(d.server, *user("tcp%d" % i), timeout=30)
        out.append(fl.StreamFlow(len(out), c, rnd.random(), wide=i % 16 == 0))
        c = tc.StreamClient(d.server, *user("tls%d" % i), timeout=30, tls=tls[i % 4], connect_timeout=30)
        out.append(fl.StreamFlow(len(out), c, rnd.random(), wide=i % 16 == 3, update=i % 4 == 3))
        c = dtlsclient.DtlsClient(dtls_server(d), *user("dtls%d" % i), timeout=2)
        out.append(fl.DtlsFlow(len(out), c, rnd.random()))
    for f in out:
        if getattr(f, "wide", False):
            f.c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return out


def the_worker(d):
    """Of one that has one; one that is just being executed has no name yet."""
    assert daemon.until(lambda: len(d.children("worker")) == 1)
    pid, = d.children("worker")
    return pid


def leave(c, **more):
    """Done, and its worker dead before it could say so, it is 437: RFC 8656 7.3 has the client take that for success."""
    m = c.request(tc.REFRESH, tc.attr("LIFETIME", b"\0\0\0\0"), **more)
    if m is None or (m.cls != tc.SUCCESS and m.code != 437):
        raise OSError("Refresh: %s" % (m and m.code))


class GaveUp(Exception):
    """A turnpike-tls died, and this handshake may have been in it."""


class Visitors(threading.Thread):
    """Come, make a handshake, an allocation and a channel, and go, again and again.  A handshake survives its worker; only the
    death of a turnpike-tls costs the handshakes in it; and a connection that was taken from the kernel's queue but had not been
    handed to the supervisor when its worker died is closed before a byte of it is read."""

    def __init__(self, d, kinds):
        super().__init__(daemon=True)
        self.d, self.kinds, self.stopping, self.error = d, kinds, False, None
        self.wanted = threading.Semaphore(0)
        self.tlsd_deaths = self.done = self.given_up = self.cut = 0
        self.order = None               # by which a turnpike-tls is to die: true before anybody can see what it costs

    def run(self):
        n = 0
        while not self.stopping and self.error is None:
            kind = self.kinds[n % len(self.kinds)]
            n += 1
            self.wanted.acquire()
            if self.stopping:
                break
            try:
                self.visit(kind, "v%s%d" % (kind, n % 50))
                self.done += 1
            except GaveUp:
                self.given_up += 1
            except ConnectionAbortedError:
                self.cut += 1
            except Exception as e:      # noqa: B902: the main thread tells it
                self.error = "a %s visitor: %s: %s" % (kind, type(e).__name__, e)

    def come(self):
        if self.wanted._value < 3:      # they come as fast as they are served
            self.wanted.release()

    def stop(self):
        self.stopping = True
        self.wanted.release()

    def vain(self, deaths):
        return lambda: (self.tlsd_deaths != deaths or self.stopping or
                        (self.order is not None and self.d.orders.dead(self.order) != 0))

    def visit(self, kind, name):
        vain = self.vain(self.tlsd_deaths)
        if kind == "dtls":
            c, more = self.dtls(name, vain), dict(timeout=0.5, resend=100)
        else:
            c, more = self.stream(kind, name, vain), {}
        try:
            if c.binding(**more) is None:
                raise TimeoutError("no answer")
            c.vain = lambda: False      # it is established: now nothing may cost it
            c.allocate(**more)
            c.bind(fl.CHANNEL, ("127.0.0.1", 9), **more)
            leave(c, **more)
        finally:
            c.relayed = None
            c.close()

    def dtls(self, name, vain):
        c = dtlsclient.DtlsClient(dtls_server(self.d), *user(name), handshake=False)
        try:
            c.handshake(within=120, vain=vain)
        except OSError:                 # also of messages of two turnpike-tls processes that do not fit together
            c.sock.close()
            c.dtls.free()
            if vain():
                raise GaveUp
            raise
        return c

    def stream(self, kind, name, vain):
        context = {"tls12": V12, "tls13": V13}.get(kind)
        wrap = Patient(daemon.tls_context(context), vain) if context else None
        try:
            c = Visitor(self.d.server, *user(name), timeout=120, tls=wrap, connect_timeout=30)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError) as e:
            if vain():
                raise GaveUp
            if wrap and wrap.heard:
                raise OSError("a handshake is broken that had been answered: %s" % e)
            raise ConnectionAbortedError
        c.vain, c.fresh = vain, context is None
        return c


class Patient:
    """TLS handshakes that can be given up."""

    def __init__(self, context, vain):
        self.context, self.vain, self.heard = context, vain, False

    def wrap_socket(self, sock, server_hostname=None):
        sock.setblocking(False)
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(into, out, server_hostname=server_hostname)
        end = time.monotonic() + 120
        try:
            while True:
                try:
                    tls.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    done = False
                if out.pending:
                    sock.sendall(out.read())
                if done:
                    return BioSocket(sock, tls, into, out)
                while not select.select([sock], [], [], 0.1)[0]:
                    if self.vain() or time.monotonic() > end:
                        raise ConnectionResetError("not answered")
                got = sock.recv(65536)
                if not got:
                    raise ConnectionResetError("closed")
                self.heard = True
                into.write(got)
        except Exception:
            sock.close()
            raise


class BioSocket:
    """A socket over what Patient made."""

    def __init__(self, sock, tls, into, out):
        self.sock, self.tls, self.into, self.out = sock, tls, into, out

    def settimeout(self, timeout):
        self.sock.settimeout(timeout)

    def sendall(self, data):
        self.tls.write(data)
        self.sock.sendall(self.out.read())

    def recv(self, size):
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                got = self.sock.recv(65536)
                if not got:
                    return b""
                self.into.write(got)

    def close(self):
        self.sock.close()


class Visitor(tc.StreamClient):
    vain, fresh = staticmethod(lambda: False), False

    def raw(self, data):
        try:
            super().raw(data)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = True           # recv_raw tells what that means

    def recv_raw(self, timeout=None):
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            frame = super().recv_raw(min(0.1, max(0.001, end - time.monotonic())))
            if frame is not None:
                self.fresh = False
            if self.ended and frame is None:
                if self.vain():
                    raise GaveUp
                if self.fresh:          # nothing was ever read of it
                    raise ConnectionAbortedError
                raise OSError("closed by the server")
            if frame is not None or time.monotonic() >= end:
                return frame
            if self.vain():
                raise GaveUp


def late(d):
    """How many a crowded machine kept from their heartbeat or from ending in time: the supervisor killed them."""
    return sum("ended (pid" in line and ("no heartbeat" in line or "killed by the supervisor" in line)
               for line in d.text().splitlines())


def full_queues():
    """Datagrams that the kernel dropped here for want of room."""
    with open("/proc/net/snmp") as f:
        udp = [line.split() for line in f if line.startswith("Udp:")]
    with open("/proc/net/softnet_stat") as f:
        return int(dict(zip(*udp))["RcvbufErrors"]) + sum(int(line.split()[1], 16) for line in f)


def count_drops(d):
    """Without those that the flows' own repetitions are."""
    return int(d.counter("drops") - d.drops("dtls_replay"))


class Killer:
    """Ends processes of one daemon while one play goes on, and waits for what comes of it."""

    def __init__(self, d, play, visitors):
        self.d, self.play, self.visitors, self.rnd = d, play, visitors, random.Random(SEED)
        self.workers = len(d.children("worker"))
        self.killed = {"worker": 0, "tls": 0}
        self.died_at = {}

    def count(self):
        return sum(self.killed.values())

    def until(self, condition, what):
        def look():
            for v in self.visitors:
                if v.error:
                    raise AssertionError(v.error)
                v.come()
            return condition()
        self.play.until(look, what)

    def warn(self, role):
        """Before and after, so that no handshake which one that dies was in counts too few."""
        for v in self.visitors if role == "tls" else ():
            v.tlsd_deaths += 1

    def shoot(self, role, pids):
        self.warn(role)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            self.killed[role] += 1
        self.gone(role, pids)
        self.warn(role)

    def gone(self, role, pids):
        """Replaced."""
        n = self.workers if role == "worker" else 1
        self.play.rest()                # the starting process has the processor
        self.until(lambda: len(now := self.d.children(role)) == n and not set(now) & set(pids), "a %s is not replaced" % role)

    def at_random(self):
        pids = sorted(self.d.children("worker"))
        n = self.rnd.choice((1, 1, 2)) if self.rnd.random() < 0.8 else self.workers
        self.shoot("worker", self.rnd.sample(pids, min(n, len(pids))))

    def successor_too(self):
        """One that has just begun, wherever it is."""
        pids = sorted(self.d.children("worker"))
        self.shoot("worker", pids)
        self.shoot("worker", set(self.d.children("worker")) - set(pids))

    def arm(self, name, most, role="worker", row=0):
        self.warn(role)
        for v in self.visitors if role == "tls" else ():
            v.order = row
        self.d.orders.arm(name, self.rnd.randint(1, most), row)

    def died(self, name, role="worker", row=0):
        self.until(lambda: self.d.orders.dead(row), "no process dies at " + name)
        self.killed[role] += 1
        self.died_at[name] = self.died_at.get(name, 0) + 1
        self.gone(role, [self.d.orders.dead(row)])
        self.warn(role)
        for v in self.visitors:
            v.order = None
        self.d.orders.clear(row)

    def marked(self, name):
        if name in ADOPTING:
            self.arm(name, ADOPTING[name])
            pids = sorted(self.d.children("worker"))
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                self.killed["worker"] += 1
            self.died(name)
            self.gone("worker", pids)
        elif name in TLSD:
            self.arm(name, TLSD[name], "tls")
            self.died(name, "tls")
        else:
            self.arm(name, POINTS[name])
            self.died(name)

    def run(self, kills):
        names = list(POINTS) + list(ADOPTING) + list(TLSD) if self.d.orders else []
        left = []
        while self.count() < kills:
            if not left:
                left = self.rnd.sample(names, len(names))
            x = self.rnd.random()
            if left and x < 0.6:
                self.marked(left.pop())
            elif x < 0.65:
                self.shoot("tls", list(self.d.children("tls")))
            elif x < 0.7:
                self.successor_too()
            else:
                self.at_random()
            self.play.prove()
            for _ in range(self.rnd.randrange(5)):
                self.play.step()


@unittest.skipUnless(hasattr(select, "epoll"), "Linux")
class Kills(unittest.TestCase):
    def verdict(self, d, play, killer=None, lost_before=0, full_before=0):
        kinds = {}
        for f in play.flows:
            kind = "DTLS" if isinstance(f, fl.DtlsFlow) else "TLS" if not isinstance(f.c.sock, socket.socket) or \
                isinstance(f.c.sock, ssl.SSLSocket) else "TCP"
            kinds.setdefault(kind, []).append(f)
            self.assertIsNone(f.error)
            self.assertGreater(f.echoed.count, 0)
        lost = sum(f.lost() + f.lost_data() for f in play.flows)
        for kind, those in kinds.items():
            print("%s: %d sessions, %d requests, %d answered; %d data sent, %d heard, %d echoed; broken 0" % (
                kind, len(those), sum(f.asked for f in those), sum(f.answered.count for f in those),
                sum(f.sent for f in those), sum(f.heard.count for f in those), sum(f.echoed.count for f in those)), flush=True)
        full, drops = full_queues() - full_before, count_drops(d) - lost_before
        deaths = (killer.killed["worker"] if killer else 0) + late(d)
        print("%d datagrams lost: at most %d in full queues, %d drops with a name, %d workers killed (%.2f each)" % (
            lost, full, drops, deaths, lost / max(1, deaths)), flush=True)
        self.assertLessEqual(lost - full, deaths * BATCH)
        self.assertEqual(d.ctl("verify")[0], 0, d.ctl("verify", check=False)[1])
        self.assertNotIn("cannot be taken over", d.text())

    def end(self, d, play):
        """All are still there, and go."""
        sessions = d.status()["sessions"]
        self.assertGreaterEqual(sessions, len(play.flows))
        for f in play.flows:
            f.c.sock.setblocking(True)
            f.c.inbox = []
            f.c.buffer = getattr(f, "buffer", b"")
            f.c.refresh(0)
            f.c.close()
            f.p.close()
        self.assertTrue(daemon.until(lambda: d.status()["sessions"] == sessions - len(play.flows)))
        return sessions - len(play.flows)

    def test_kills(self):
        print("TP_SEED=%d" % SEED, flush=True)
        began, full = time.monotonic(), full_queues()
        with start() as d:
            play = fl.Play(make_flows(d, FLOWS))
            play.prove()
            drops = count_drops(d)
            visitors = [Visitors(d, ("tcp", "tls12", "tls13")), Visitors(d, ("dtls",))]
            killer = Killer(d, play, visitors)
            for v in visitors:
                v.start()
            try:
                killer.run(KILLS)
            finally:
                for v in visitors:
                    v.stop()
            play.until(lambda: not any(v.is_alive() for v in visitors), "a visitor does not end", 130)
            self.assertEqual([v.error for v in visitors if v.error], [])
            play.finish()
            self.assertTrue(daemon.until(lambda: d.counter("child_deaths") >= killer.count()))
            print("%d workers and %d turnpike-tls processes killed in %d s, %d of them at %d marked points; visitors: %s" % (
                killer.killed["worker"], killer.killed["tls"], time.monotonic() - began, sum(killer.died_at.values()),
                len(killer.died_at), ["%d served, %d given up with a turnpike-tls, %d cut off before they were read" % (
                    v.done, v.given_up, v.cut) for v in visitors]), flush=True)
            self.assertEqual(d.counter("child_deaths"), killer.count() + late(d), "a process died by itself")
            self.verdict(d, play, killer, drops, full)
            taken = killer.died_at.get("accept:taken", 0)
            print("%d died between accept() and the hand-over, by order" % taken, flush=True)
            self.assertLessEqual(sum(v.cut for v in visitors), taken + 2 + KILLS // 50)
            self.assertTrue(all(v.done > 0 for v in visitors))
            self.assertEqual(self.end(d, play), 0)

    def test_whatever_an_operator_does(self):
        """No process is killed: nothing is lost, not even a datagram."""
        print("TP_SEED=%d" % SEED, flush=True)
        with start(points=False, workers=2) as d:
            play = fl.Play(make_flows(d, FLOWS))
            play.prove()
            for f in play.flows:
                f.wide = False          # a client that does not read is not sent everything
            before, ready = d.children(), d.ready
            for step in ("reload", 4, "upgrade", 1, "restart-workers", 2, "upgrade", "reload"):
                if isinstance(step, int):
                    d.values["workers"] = step
                    d.write(CONFIG)
                said, text = [], step if isinstance(step, str) else "reload"

                def say():              # what is under way may refuse the next
                    daemon.until(lambda: said.append(d.ctl(text, check=False)) or said[-1][0] == 0)
                t = threading.Thread(target=say, daemon=True)
                t.start()
                play.until(lambda: not t.is_alive(), step)
                self.assertEqual(said[-1][0], 0, said)
                want = d.values["workers"]
                play.until(lambda: len(d.children("worker")) == want and ready(), step)
                play.prove(str(step))
            self.assertFalse(set(before) & set(d.children()))
            self.assertTrue(daemon.until(lambda: d.counter("child_deaths") == late(d)))
            play.finish(lossless=late(d) == 0)
            self.verdict(d, play)
            self.assertEqual(self.end(d, play), 0)


class Handshakes(unittest.TestCase):
    """One at a time, its processes killed at a given moment."""

    def kill(self, d, role):
        n = d.values["workers"] if role == "worker" else 1
        # One that is just being executed has no name yet.
        self.assertTrue(daemon.until(lambda: len(d.children(role)) == n))
        pids = set(d.children(role))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.assertTrue(daemon.until(lambda: len(now := d.children(role)) == n and not set(now) & pids))

    def works(self, c):
        with daemon.Peer() as p:
            more = dict(timeout=1, resend=30) if isinstance(c, dtlsclient.DtlsClient) else {}
            c.allocate(**more)
            c.bind(fl.CHANNEL, p.addr, **more)
            for _ in range(30):
                c.channel_data(fl.CHANNEL, b"payload")
                got = p.recv(1)
                if got is not None:
                    break
            self.assertEqual(got, (b"payload", c.relayed))
            leave(c, **more)
            c.relayed = None
        c.close()

    def connect(self, d, kind, between=lambda n: None, within=60):
        """between(n): before the n-th message of the server is read, in DTLS a HelloVerifyRequest first."""
        if kind == "dtls":
            c = dtlsclient.DtlsClient(dtls_server(d), "alice", "wonderland", handshake=False)
            try:
                c.handshake(within=within, lose=lambda n: n % 2 == 0 and between(n // 2))
            except TimeoutError:
                c.sock.close()
                c.dtls.free()
                raise
            return c
        version = {"tls12": V12, "tls13": V13}.get(kind)
        wrap = Stepped(daemon.tls_context(version), between) if version else None
        return tc.StreamClient(d.server, "alice", "wonderland", tls=wrap, timeout=60)

    def test_between_any_two_messages_the_worker_dies(self):
        with start(points=False, workers=2) as d:
            for kind in ("tls12", "tls13", "dtls"):
                times = []

                def between(n):
                    times.append(n)
                    self.kill(d, "worker")
                self.works(self.connect(d, kind, between))
                self.assertGreater(len(times), 1, kind)
                print("%s: all workers killed %d times in one handshake" % (kind, len(times)), flush=True)
            self.assertEqual(d.ctl("verify")[0], 0)

    def test_the_worker_dies_at_each_point_of_the_hand_over(self):
        if not marked.built():
            self.skipTest("beside an installation there are no marked programs")
        stream = ("accept:told", "accept:at", "conn:filling", "conn:filled", "conn:published", "shake:handed", "shake:done",
                  "shake:keys", "conn:commit", "conn:committed", "shake:published", "shake:acked")
        dtls = ("dtls:passed", "shake:done", "conn:filling", "assoc:keys", "conn:filled", "conn:published", "assoc:published",
                "assoc:flight", "shake:published", "shake:acked")
        with start(workers=1, shards=1) as d:
            for kind in ("tls12", "tls13", "dtls"):
                for name in dtls if kind == "dtls" else stream:
                    for passage in (1, 2) if name.startswith(("conn:", "dtls:")) else (1,):
                        with self.subTest(kind=kind, point=name, passage=passage):
                            before = [the_worker(d)]
                            d.orders.arm(name, passage)
                            c = self.connect(d, kind)
                            self.works(c)
                            if passage == 1:
                                self.assertTrue(daemon.until(d.orders.dead), "no process died")
                            if d.orders.dead():
                                self.assertEqual(set(before), {d.orders.dead()})
                                self.assertTrue(daemon.until(lambda: d.replaced("worker", before)))
                            d.orders.clear()
            self.assertEqual(d.ctl("verify")[0], 0)

    def test_a_tls_process_that_dies_costs_only_its_handshakes(self):
        with start(workers=2, patience="2s") as d:
            play = fl.Play(make_flows(d, 4))
            play.prove()
            for kind in ("tls12", "tls13", "dtls"):
                died = []

                def between(n):
                    if not died and n > (kind == "dtls"):
                        died.append(n)
                        self.kill(d, "tls")
                # What it was in the middle of: closed when its time is up, or, of datagrams, never answered again.
                with self.assertRaises(OSError):
                    self.works(self.connect(d, kind, between, within=5))
                self.assertTrue(died)
                play.prove()
                self.works(self.connect(d, kind))       # the next one is made by its successor
            if d.orders:
                # Said before it died: the worker has what it needs.
                for kind in ("tls12", "tls13", "dtls"):
                    d.orders.arm("tls:offered")
                    self.works(self.connect(d, kind))
                    self.assertTrue(daemon.until(d.orders.dead))
                    self.assertTrue(daemon.until(lambda: len(d.children("tls")) == 1))
                    d.orders.clear()
            play.finish(lossless=late(d) == 0)


class Stepped(Patient):
    """Calls between() whenever bytes of the server have come, before they are read."""

    def __init__(self, context, between):
        super().__init__(context, lambda: False)
        self.between = between

    def wrap_socket(self, sock, server_hostname=None):
        return super().wrap_socket(Watched(sock, self.between), server_hostname)


class Watched:
    def __init__(self, sock, between):
        self.sock, self.between, self.count = sock, between, 0

    def recv(self, size):
        self.count += 1
        self.between(self.count)
        return self.sock.recv(size)

    def __getattr__(self, name):
        return getattr(self.sock, name)


class DtlsPoints(unittest.TestCase):
    """A batch of requests on one session, and a worker that dies at the k-th passage of a point in it."""
    BURST = 20

    def burst(self, d, c, name, k):
        """What came of it: (answers, answers to repetitions, how far our numbers went on)."""
        before = self.once(c, b"before")
        worker = the_worker(d)
        os.kill(worker, signal.SIGSTOP)         # so that all of them are one batch, as far as the engine takes them so
        records = [c.dtls.seal(tc.build(tc.BINDING, tc.REQUEST, b"burst%07d" % i)) for i in range(self.BURST)]
        for r in records:
            c.datagram(r)
        d.orders.arm(name, k)
        os.kill(worker, signal.SIGCONT)
        self.assertTrue(daemon.until(d.orders.dead), "no process dies at " + name)
        d.orders.clear()
        self.assertTrue(daemon.until(lambda: d.ready() and worker not in d.children("worker")))
        first, numbers = self.answers(c)
        for r in records:                       # the very same records: those that were marked are refused
            c.datagram(r)
        after = self.once(c, b"after ")
        second, more = self.answers(c, done=True)
        numbers = numbers + more
        self.assertEqual(len(set(numbers)), len(numbers), "a number comes twice")
        self.assertFalse(first & second)
        self.assertTrue(all(n > before for n in numbers))
        return first, second, min([n for n in more + [after]]) - before - 1

    def once(self, c, text):
        """The record number of the answer to one more request; its answers to others are kept."""
        self.kept = []
        txid = text.ljust(12, b"!")
        c.datagram(c.dtls.seal(tc.build(tc.BINDING, tc.REQUEST, txid)))
        while True:
            got = tc.Client.recv_raw(c, 20)
            self.assertIsNotNone(got, "the session is broken")
            number, text = int.from_bytes(got[5:11], "big"), c.dtls.open(got)
            self.assertIsNotNone(text)
            if tc.Message(text).txid == txid:
                return number
            self.kept.append((number, tc.Message(text).txid))

    def answers(self, c, done=False):
        """Those that came; done: kept by once(), behind which none can come."""
        out = self.kept if done else []
        while not done:
            got = tc.Client.recv_raw(c, 0.2)
            if got is None:
                break
            text = c.dtls.open(got)
            self.assertIsNotNone(text)
            out.append((int.from_bytes(got[5:11], "big"), tc.Message(text).txid))
        self.assertEqual(len({t for _, t in out}), len(out))
        return {t for _, t in out}, [n for n, _ in out]

    def test_each_point(self):
        if not marked.built():
            self.skipTest("beside an installation there are no marked programs")
        with start(workers=1, shards=1) as d:
            for suite in ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"):
                c = dtlsclient.DtlsClient(dtls_server(d), "alice", "wonderland", ciphers=suite)
                c.allocate()
                for name in ("dtls:taken", "dtls:sealed", "dtls:opened", "dtls:marked"):
                    for k in (1, 7, self.BURST):
                        with self.subTest(suite=suite, point=name, passage=k):
                            first, second, went = self.burst(d, c, name, k)
                            # Marked before it is acted on: what had been opened only may be taken again, nothing else.
                            self.assertEqual(len(second), self.BURST - k + (1 if name == "dtls:opened" else 0))
                            # Stored before use: the successor goes on behind all numbers that were taken.
                            self.assertEqual(went, k if name in ("dtls:taken", "dtls:sealed") else k - 1)
                            self.assertLess(len(first), k + 1)
                # A successor that dies while it adopts leaves all of it to the next.
                d.orders.arm("assoc:adopted", 1, row=1)
                first, second, went = self.burst(d, c, "dtls:marked", 5)
                self.assertTrue(d.orders.dead(1))
                d.orders.clear(1)
                self.assertEqual((len(second), went), (self.BURST - 5, 4))
                c.refresh(0)
                c.relayed = None
                c.close()
            self.assertEqual(d.ctl("verify")[0], 0)


if __name__ == "__main__":
    sys.setswitchinterval(0.001)
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
