#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Tagged packets (flow, sequence, checksum) through many allocations while everything that can end is ended: sessions
lost 0, damaged 0, misdelivered 0; lost packets and the longest gap are printed.

TP_SOAK=1: the long versions (make soak).  TP_SEED: repeats a run.  Figures: doc/survival.md."""
import atexit
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import daemon
from daemon import kill_all, until
import marked
import turnclient as tc

SOAK = bool(os.environ.get("TP_SOAK"))
SEED = int(os.environ.get("TP_SEED", random.SystemRandom().randrange(1 << 31)))
LOAD = os.path.join(os.environ["TP_PREFIX"], "bin", "turnpike-load") if os.environ.get("TP_PREFIX") else \
    os.path.join(daemon.TOP_BUILD, "src", "prog", "turnpike-load")
# One address has 16384 relay ports, and both sides need descriptors.
MOST = min(12000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 3)
FLOWS = int(os.environ.get("TP_FLOWS", MOST if SOAK else min(MOST, 2000)))
RATE = int(os.environ.get("TP_RATE", "20000"))
CONFIG = daemon.DEFAULT.replace("process: {{ workers: 2 }}", "process: {{ workers: {workers}, shards: 4 }}") + \
    "io: {{ cpu_affinity: none }}\n" + \
    "limits: {{ challenges_per_prefix: 0 }}\n"	# thousands of clients of one address, which need processors, too


class Load:
    """turnpike-load hold beside what the test does; finish() returns its report, in which each flow was heard once more
    or has stopped."""

    def __init__(self, d, flows=FLOWS, rate=RATE, linger=5):
        self.p = subprocess.Popen(
            [LOAD, "hold", "--server", "127.0.0.1:%d" % d.port, "--secret", daemon.SECRET, "-n", str(flows), "--rate", str(rate),
             "--setup-window", "32", "-s", "3600", "--stopped-after", "30", "--linger", str(linger), "--json", "-q"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        atexit.register(self.p.kill)
        until(lambda: d.status()["sessions"] >= flows or self.p.poll() is not None, 180)
        if self.p.poll() is not None or d.status()["sessions"] < flows:
            self.p.kill()
            raise RuntimeError("load: %s sessions: %s" % (d.status()["sessions"], self.p.communicate()[1]))
        relayed = d.counter("relayed_packets")
        until(lambda: d.counter("relayed_packets") > relayed + flows)

    def finish(self):
        self.p.terminate()
        out, err = self.p.communicate(timeout=600)
        if not out:
            raise RuntimeError("turnpike-load: %d: %s" % (self.p.returncode, err))
        return json.loads(out)


def wait_for(what, condition):
    if not until(condition):
        raise AssertionError(what)


def private_copy(where):
    """The programs under test in a directory of their own, to be replaced by others."""
    sbin, _, libexec = daemon.paths()
    os.makedirs(where)
    for name in ("worker", "auth", "admin", "conf", "tls"):
        shutil.copy(os.path.join(libexec, "turnpike-" + name), where)
    shutil.copy(sbin, where)


def put_program(path, source):
    """As a package manager does it: a new file takes the name."""
    shutil.copy(source, path + ".new")
    os.rename(path + ".new", path)


BATCH = 128		# datagrams: what a worker has received, and what it has yet to send (UDP_BATCH each)


def full_queues():
    """Datagrams that the kernel dropped here for want of room: in sockets' queues, and on the way to them."""
    with open("/proc/net/snmp") as f:
        udp = [line.split() for line in f if line.startswith("Udp:")]
    with open("/proc/net/softnet_stat") as f:
        return int(dict(zip(*udp))["RcvbufErrors"]) + sum(int(line.split()[1], 16) for line in f)


class Survival(unittest.TestCase):
    def check(self, d, report, flows=FLOWS, lossless=False, name=""):
        up, down = report["up"], report["down"]
        lost, full = up["lost"] + down["lost"], 0
        if lost > 0:		# explained: no room, a drop with a name, or the batches in hand of the dead processes
            full, drops, deaths = full_queues() - self.full, int(d.counter("drops")), int(d.counter("child_deaths"))
            print("%d lost: at most %d in full queues, %d drops with a name, the batches of %d dead" % (lost, full, drops, deaths))
            self.assertLessEqual(lost - full - drops, deaths * BATCH)
        print("%s: %d flows, %d packets, lost %d, longest wait of a packet %.1f ms, longest gap of a flow %.1f ms" % (
            name or self.id().rsplit(".", 1)[-1], flows, up["sent"] + down["sent"], lost,
            max(s["latency"]["max_us"] for s in (up, down)) / 1000, report["longest_gap_ms"]), flush=True)
        self.assertEqual(report["stopped"], 0, "sessions stopped relaying")
        for side in (up, down):
            self.assertGreater(side["delivered"], 0)
            self.assertEqual((side["damaged"], side["misdelivered"]), (0, 0))
        if lossless:		# but for what the kernel dropped because no worker got a processor in time
            self.assertLessEqual(lost - full, 0)
        code, text = d.ctl("verify")
        self.assertEqual(code, 0, text)

    def setUp(self):
        self.full = full_queues()

    def daemon(self, **kw):
        return daemon.Daemon(CONFIG, workers=kw.pop("workers", 2), **kw)

    def test_kills(self):
        """One worker or all of them, at random moments about 200 ms apart."""
        kills = int(os.environ.get("TP_LIVE_KILLS", "10000" if SOAK else "60"))	# run-tests: 200
        rnd = random.Random(SEED)
        print("seed %d" % SEED, flush=True)
        killed = set()
        with self.daemon() as d:
            while len(killed) < kills:
                n = min(len(killed) + 200, kills)
                load = Load(d, linger=0.5)
                while len(killed) < n:
                    workers = list(d.children("worker"))
                    killed.update(kill_all(workers if rnd.random() < 0.2 else rnd.sample(workers, min(1, len(workers)))))
                    time.sleep(rnd.uniform(0.06, 0.25))
                self.check(d, load.finish(), name="%d kills" % len(killed))
            self.assertGreaterEqual(daemon.reach(lambda: d.counter("child_deaths"), len(killed)), len(killed))

    def test_authd_and_admin(self):
        with self.daemon() as d:
            load = Load(d)
            for _ in range(5):
                kill_all(d.children("auth"))
                kill_all(d.children("admin"))
                with tc.Client(d.server, "alice", "wonderland") as c:	# waits for turnpike-auth, is not refused
                    c.allocate()
                    c.refresh(0)
                time.sleep(0.3)
            report = load.finish()
            wait_for("ready", d.ready)
            self.check(d, report, lossless=True)

    def test_reload_resize_and_rolling_restart(self):
        with self.daemon() as d:
            load = Load(d)
            wait_for("all sessions", lambda: sum(self.owners(d).values()) == FLOWS)
            shards = self.owners(d)
            for workers in (4, 1, 3, 2):
                d.values["workers"] = workers
                d.write(CONFIG)
                text = d.ctl("reload")[1]
                self.assertIn("process.workers: was", text)
                self.assertIn("applied by new workers", text)
                wait_for("%d workers" % workers, lambda: d.ready() and len(d.children("worker")) == workers)
                # A look passes over a session that is being changed at that moment.
                wait_for("no session moved", lambda: self.owners(d) == shards)
            for _ in range(3):
                d.ctl("restart-workers")
            for _ in range(1000):
                d.process.send_signal(signal.SIGHUP)
            wait_for("a reload among many", lambda: d.ctl("reload", check=False)[0] == 0)
            self.check(d, load.finish(), lossless=True)
            self.assertLess(d.status().get("reloads", 0), 100)

    def owners(self, d):
        """Sessions by shard: none moves."""
        found = {}
        for s in json.loads(d.ctl("sessions", "limit=100000", as_json=True)[1])["sessions"]:
            found[s["id"].split(".")[0]] = found.get(s["id"].split(".")[0], 0) + 1
        return found

    def test_more_workers_than_shards(self):
        with self.daemon() as d:
            d.values["workers"] = 5
            d.write(CONFIG.replace("shards: 4", "shards: auto"))
            code, text = d.ctl("reload", check=False)
            self.assertNotEqual(code, 0)
            self.assertIn("4 shards", text)
            self.assertEqual(len(d.children("worker")), 2)

    def test_upgrade(self):
        with self.daemon() as d:
            load = Load(d)
            before = d.children()
            for i in range(3):
                if i == 2:
                    d.process.send_signal(signal.SIGUSR2)
                    wait_for("a third upgrade", lambda: d.text().count("every process is of version") == 3)
                else:
                    self.assertIn("upgraded", d.ctl("upgrade")[1])
                wait_for("ready", d.ready)
                time.sleep(0.2)
            self.assertFalse(set(before) & set(d.children()))
            self.assertIsNone(d.process.poll())
            self.check(d, load.finish(), lossless=True)
            t = time.monotonic()
            self.assertEqual(d.stop(), 0)
            print("stop: %.0f ms" % (1000 * (time.monotonic() - t)), flush=True)
            self.assertEqual(os.listdir(d.runtime), ["secret"] if os.path.exists(d.runtime + "/secret") else [])

    def test_upgrades_under_kills(self):
        """Any child may die at any moment of an upgrade, too."""
        rnd = random.Random(SEED)
        print("seed %d" % SEED, flush=True)
        rounds = 100 if SOAK else 8
        with self.daemon() as d:
            load = Load(d, flows=200, rate=2000, linger=0.5)
            stop = threading.Event()

            def killer():
                while not stop.wait(rnd.uniform(0.005, 0.15)):
                    kids = list(d.children())
                    kill_all(rnd.sample(kids, min(1, len(kids))))
            t = threading.Thread(target=killer)
            t.start()
            try:
                for _ in range(rounds):
                    d.process.send_signal(signal.SIGUSR2)
                    time.sleep(0.4)
                    self.assertIsNone(d.process.poll())
            finally:
                stop.set()
                t.join()
            wait_for("ready", d.ready)
            wait_for("the last upgrade ends", lambda: "upgraded" in d.ctl("upgrade", check=False)[1])
            wait_for("ready", d.ready)
            print("%d upgrades" % d.text().count("has taken over"), flush=True)
            self.check(d, load.finish(), flows=200)

    def test_upgrade_from_another_build(self):
        """TP_OTHER_BUILD: the build directory of another version (CI: of the previous commit); there and back."""
        other = os.environ.get("TP_OTHER_BUILD")
        if not other:
            self.skipTest("TP_OTHER_BUILD is not set")
        with self.daemon(start=False) as d:
            builds = [os.path.join(other, "src", "prog"), os.path.dirname(d.turnpiked)]
            private_copy(d.dir + "/bin")
            d.turnpiked, d.libexec = d.dir + "/bin/turnpiked", d.dir + "/bin"
            d.start()
            load = Load(d)
            with daemon.Peer() as p, tc.Client(d.server, "alice", "wonderland") as c, \
                    tc.Client(d.server, "alice", "wonderland") as other_end:
                c.allocate()
                c.bind(0x4000, p.addr)
                # A call between two clients of this server: each is a peer at one of its own relay sockets.
                other_end.allocate()
                c.bind(0x4001, other_end.relayed)
                other_end.bind(0x4001, c.relayed)
                packets = d.counter("relayed_packets")
                for n, build in enumerate(builds * 2):
                    for name in ("turnpiked", *("turnpike-" + n for n in ("worker", "auth", "admin", "conf", "tls"))):
                        if not os.path.exists(os.path.join(build, name)):
                            continue
                        put_program(os.path.join(d.dir, "bin", name), os.path.join(build, name))
                    d.ctl("upgrade", check=False)	# a turnpike-admin of another build cannot pass the answer on
                    wait_for("upgrade %d" % n, lambda: d.text().count("every process is of version") == n + 1)
                    wait_for("ready", d.ready)
                    c.channel_data(0x4000, b"payload")
                    self.assertEqual(p.recv()[0], b"payload")
                    c.channel_data(0x4001, b"hello")
                    self.assertEqual(other_end.data(), (0x4001, b"hello"))
                    other_end.channel_data(0x4001, b"yes?")
                    self.assertEqual(c.data(), (0x4001, b"yes?"))
                    self.assertGreaterEqual(d.counter("relayed_packets"), packets)
                    packets = d.counter("relayed_packets")
            self.assertNotIn("going back", d.text())
            self.check(d, load.finish(), lossless=True)

    def test_upgrade_that_is_refused(self):
        with self.daemon(start=False) as d:
            private_copy(d.dir + "/bin")
            d.turnpiked, d.libexec = d.dir + "/bin/turnpiked", d.dir + "/bin"
            d.start()
            with tc.Client(d.server, "alice", "wonderland") as c, daemon.Peer() as p:
                c.allocate()
                c.bind(0x4000, p.addr)
                before = d.children()
                for other, word in (("/bin/true", "does not answer"), ("/bin/false", "is it turnpiked?")):
                    put_program(d.dir + "/bin/turnpiked", other)
                    code, text = d.ctl("upgrade", check=False)
                    self.assertNotEqual(code, 0)
                    self.assertIn(word, text)
                    self.assertIn("everything stays as it is", text)
                put_program(d.dir + "/bin/turnpiked", daemon.paths()[0])
                os.rename(d.dir + "/bin/turnpike-auth", d.dir + "/bin/away")
                code, text = d.ctl("upgrade", check=False)
                self.assertIn("turnpike-auth is not an executable program", text)
                self.assertEqual(d.children(), before)
                # A worker that is killed now is replaced by one of the running version, whatever lies on the disk.
                put_program(d.dir + "/bin/turnpike-worker", "/bin/false")
                kill_all(d.children("worker"))
                wait_for("ready", lambda: d.ready() and len(d.children("worker")) == 2)
                c.channel_data(0x4000, b"still here")
                self.assertEqual(p.recv()[0], b"still here")

    def test_upgrade_that_fails_later(self):
        """The new version's workers do not come up: the old version takes over again."""
        with self.daemon(start=False) as d:
            private_copy(d.dir + "/bin")
            d.turnpiked, d.libexec = d.dir + "/bin/turnpiked", d.dir + "/bin"
            d.start()
            load = Load(d, flows=200, rate=2000)
            held = self.held(d)
            for name in ("worker", "auth"):
                put_program(d.dir + "/bin/turnpike-" + name, "/bin/false")
                code, text = d.ctl("upgrade", check=False)
                self.assertNotEqual(code, 0, text)
                self.assertIn("%s 0 of the new version does not start" % name, text)
                wait_for("ready", d.ready)
                put_program(d.dir + "/bin/turnpike-" + name, os.path.join(daemon.paths()[2], "turnpike-" + name))
                wait_for("no descriptor left behind", lambda: self.held(d) == held)
            self.assertIn("upgraded", d.ctl("upgrade")[1])
            wait_for("ready", d.ready)
            self.check(d, load.finish(), flows=200)

    def held(self, d):
        """Descriptors of the daemon that are no sockets: how many of each name."""
        count = {}
        for fd in os.listdir("/proc/%d/fd" % d.process.pid):
            with contextlib.suppress(OSError):
                name = os.readlink("/proc/%d/fd/%s" % (d.process.pid, fd)).replace(" (deleted)", "")
                if not name.startswith(("socket:", "/proc/")):
                    count[name] = count.get(name, 0) + 1
        return count

    def test_upgrade_with_tlsds_that_fail(self):
        """turnpike-tls processes are told last but one; their failure leads back, too, and TLS is served again."""
        tls = daemon.free_port(kind=socket.SOCK_STREAM)
        text = CONFIG.replace("transport: udp }}", "transport: udp }}\n  - {{ address: 127.0.0.1, port: {tls}, transport: tls }}") + \
            "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def connect():
            return tc.StreamClient(("127.0.0.1", tls), "alice", "wonderland", tls=context)
        with daemon.Daemon(text, start=False, workers=2, tls=tls) as d:
            daemon.certificate(d.dir)
            private_copy(d.dir + "/bin")
            d.turnpiked, d.libexec = d.dir + "/bin/turnpiked", d.dir + "/bin"
            d.start()
            with connect() as c, daemon.Peer() as p:
                c.allocate()
                c.bind(0x4000, p.addr)
                put_program(d.dir + "/bin/turnpike-tls", "/bin/false")
                code, text = d.ctl("upgrade", check=False)
                self.assertNotEqual(code, 0, text)
                self.assertIn("of the new version does not start", text)
                wait_for("ready", d.ready)
                put_program(d.dir + "/bin/turnpike-tls", os.path.join(daemon.paths()[2], "turnpike-tls"))
                for _ in range(2):
                    with connect() as other:
                        other.allocate()
                    c.channel_data(0x4000, b"still here")
                    self.assertEqual(p.recv()[0], b"still here")
                    p.send(b"and back", c.relayed)
                    self.assertEqual(c.data(), (0x4000, b"and back"))
                    self.assertIn("upgraded", d.ctl("upgrade")[1])
                    wait_for("ready", d.ready)

    def test_hung_worker(self):
        with self.daemon() as d:
            load = Load(d, flows=200, rate=2000, linger=0.5)
            pid = random.choice(list(d.children("worker")))
            os.kill(pid, signal.SIGSTOP)
            wait_for("the hung worker is replaced", lambda: d.replaced("worker", [pid], 2) and d.ready())
            self.check(d, load.finish(), flows=200)
            self.assertIn("no heartbeat", d.text())
            self.assertNotIn("poison", d.text())

    def test_paused_machine(self):
        with self.daemon() as d:
            before = d.children()
            everything = [d.process.pid, d.supervisor(), *before]
            kill_all(everything, signal.SIGSTOP)
            time.sleep(5)
            random.Random(SEED).shuffle(everything)
            kill_all(everything, signal.SIGCONT)
            time.sleep(4)
            self.assertEqual(d.children(), before)

    def test_supervisor_dies(self):
        with self.daemon() as d:
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
                kids = list(d.children())
                d.process.kill()
                d.process.wait()
                d.start()		# at once: it waits for what is left of the first one
                wait_for("children end", lambda: all(map(daemon.has_ended, kids)))
                c.relayed = None
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()


class Drain(unittest.TestCase):
    def refused(self, d, code):
        with tc.Client(d.server, "bob", "builder") as extra:
            with self.assertRaises(tc.TurnError) as e:
                extra.allocate()
            self.assertEqual(e.exception.code, code)
            return e.exception.message

    def test_drain_and_undrain(self):
        with daemon.Daemon(daemon.DEFAULT + "drain: {{ alternate: \"192.0.2.9:3479\" }}\n") as d:
            c = tc.Client(d.server, "alice", "wonderland")
            c.allocate()
            d.ctl("drain")
            self.assertEqual(d.http("/readyz")[0], 503)
            self.assertEqual(d.http("/healthz")[0], 200)
            kill_all(d.children("worker"))		# the successor drains, too
            wait_for("workers", lambda: len(d.children("worker")) == 2)
            self.assertEqual(self.refused(d, 300).get("ALTERNATE_SERVER"), b"\0\1" + struct.pack("!H", 3479) + bytes([192, 0, 2, 9]))
            c.refresh(600)
            d.ctl("upgrade")				# and so does another image
            wait_for("upgraded", lambda: "every process is of version" in d.text())
            self.refused(d, 300)
            d.ctl("undrain")
            with tc.Client(d.server, "bob", "builder") as other:
                other.allocate()
            wait_for("ready", lambda: d.http("/readyz")[0] == 200)
            d.ctl("drain")
            c.refresh(0)
            self.assertEqual(d.process.wait(60), 0)	# empty: it ends

    def test_deadline(self):
        with daemon.Daemon() as d:
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
                d.ctl("drain", "--deadline", "1s")
                self.refused(d, 508)
                self.assertEqual(d.process.wait(60), 0)
                c.relayed = None

    def test_grace_and_second_signal(self):
        with daemon.Daemon(daemon.DEFAULT.replace("workers: 2", "workers: 2, shutdown_grace: 1h")) as d:
            c = tc.Client(d.server, "alice", "wonderland")
            c.allocate()
            d.process.send_signal(signal.SIGTERM)
            wait_for("draining", lambda: d.http("/readyz")[0] == 503)
            self.refused(d, 508)
            c.refresh(600)
            self.assertIsNone(d.process.poll())
            d.process.send_signal(signal.SIGTERM)
            self.assertEqual(d.process.wait(60), 0)
            c.relayed = None

    def denied(self, c, peer):
        try:
            c.permit(peer)
        except tc.TurnError as e:
            self.assertEqual(e.code, 403)
            return True
        return False

    def test_denied_peer_is_cut_at_its_next_packet(self):
        with daemon.Daemon() as d, daemon.Peer() as p:
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
                c.bind(0x4000, p.addr)
                c.channel_data(0x4000, b"before")
                self.assertEqual(p.recv()[0], b"before")
                d.write(daemon.DEFAULT.replace("peers:", "peers:\n  deny: [ 127.0.0.1/32 ]"))
                self.assertIn("peers.deny: added 127.0.0.1/32", d.ctl("reload")[1])
                wait_for("the worker knows it", lambda: self.denied(c, p.addr))
                c.channel_data(0x4000, b"after")
                self.assertIsNone(p.recv(0.5))
                p.send(b"back", c.relayed)
                self.assertIsNone(c.data(0.5))


class Poison(unittest.TestCase):
    """Workers that have crash points (tests/marked) die of a certain payload."""

    def daemon(self, text=daemon.DEFAULT):
        if not marked.built():
            self.skipTest("an installation has no crash points")
        d = daemon.Daemon(text, start=False)
        marked.give(d)
        return d.start()

    def flow(self, d, user="alice", password="wonderland"):
        c, p = tc.Client(d.server, user, password), daemon.Peer()
        c.allocate()
        c.bind(0x4000, p.addr)
        return c, p

    def works(self, flow):
        c, p = flow
        for _ in range(20):
            c.channel_data(0x4000, b"payload")
            if p.recv(0.3) is not None:
                return True
        return False

    def die(self, d, send, times):
        for _ in range(times):
            before = d.counter("child_deaths")
            send()
            wait_for("a death", lambda: d.counter("child_deaths") > before)
            wait_for("ready", d.ready)

    def test_session(self):
        with self.daemon(daemon.DEFAULT.replace("workers: 2", "workers: 1, shards: 1")) as d:
            good, bad = self.flow(d), self.flow(d, "bob", "builder")
            self.die(d, lambda: bad[0].channel_data(0x4000, b"turnpike-crash-here"), 2)
            wait_for("one session is closed", lambda: d.status()["sessions"] == 1)
            self.assertTrue(self.works(good))
            self.assertIn("poison: death 2 on the session of", d.text())
            self.assertIn(b"turnpike-crash".hex()[:20], d.text())
            other = self.flow(d, "bob", "builder")	# from a peer, too
            self.die(d, lambda: other[1].send(b"turnpike-crash-here", other[0].relayed), 2)
            wait_for("it is closed, too", lambda: d.status()["sessions"] == 1)
            self.assertTrue(self.works(good))
            self.assertEqual(d.ctl("verify")[0], 0)

    def test_source(self):
        with self.daemon() as d:
            good = self.flow(d)
            evil = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            evil.bind(("127.0.0.66", 0))
            self.die(d, lambda: evil.sendto(b"\0\1\0\0turnpike-crash-here", d.server), 2)
            evil.sendto(b"\0\1\0\0turnpike-crash-here", d.server)
            wait_for("it is dropped", lambda: d.drops("poisoned") > 0)
            self.assertEqual(d.counter("child_deaths"), 2)
            self.assertTrue(self.works(good))

    def test_endless_loop(self):
        with self.daemon(daemon.DEFAULT.replace("workers: 2", "workers: 1, shards: 1")) as d:
            good, bad = self.flow(d), self.flow(d, "bob", "builder")
            self.die(d, lambda: bad[0].channel_data(0x4000, b"turnpike-hang-here"), 2)
            wait_for("one session is closed", lambda: d.status()["sessions"] == 1)
            self.assertTrue(self.works(good))

    def test_cold_shard(self):
        """A shard that no worker can adopt is given up, alone."""
        with daemon.Daemon(daemon.DEFAULT.replace("workers: 2", "workers: 2, shards: 2") +
                           "limits: {{ allocations_per_user: 40 }}\n") as d:
            flows = [self.flow(d) for _ in range(40)]
            mine = {tuple(s["client"].rsplit(":", 1))[1]: s["id"].split(".")[0] for s in
                    json.loads(d.ctl("sessions", as_json=True)[1])["sessions"]}
            self.assertEqual(set(mine.values()), {"00", "01"})
            for fd in os.listdir("/proc/%d/fd" % d.process.pid):
                path = "/proc/%d/fd/%s" % (d.process.pid, fd)
                if os.readlink(path).startswith("/memfd:turnpike-shard0"):
                    try:
                        with open(path, "r+b", buffering=0) as f:
                            f.write(struct.pack("I", 0x42424242))
                    except OSError:
                        continue
            kill_all(d.children("worker"))
            wait_for("shard 0 starts cold", lambda: "starts cold" in d.text() and d.ready())
            for c, p in flows:
                port = str(c.sock.getsockname()[1])
                if mine[port] == "01":
                    self.assertTrue(self.works((c, p)))
                    c.refresh(600)
                else:
                    c.relayed = None
            left = d.status()["sessions"]
            self.assertEqual(left, list(mine.values()).count("01"))
            self.assertEqual(d.ctl("verify")[0], 0, d.ctl("verify", check=False)[1])
            again = [self.flow(d) for _ in range(40 - left)]	# the quota is what lives
            self.assertEqual(d.status()["sessions"], 40)
            del again


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
