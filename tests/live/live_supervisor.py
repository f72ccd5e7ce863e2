#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The supervisor dies, alone and with others, at random moments, at marked points and in operations: no session ends, no
packet is lost by it, and the next one serves new allocations.  TP_SUPER_KILLS: how many deaths; TP_SOAK=1: 1,000."""
import itertools
import os
import random
import signal
import statistics
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import daemon                    # noqa: E402
import flows as fl               # noqa: E402
import live_kills                # noqa: E402
import live_survival             # noqa: E402
import marked                    # noqa: E402
import turnclient as tc          # noqa: E402
from daemon import kill_all, until    # noqa: E402

SOAK = bool(os.environ.get("TP_SOAK"))
SEED = int(os.environ.get("TP_SEED", random.SystemRandom().randrange(1 << 31)))
KILLS = int(os.environ.get("TP_SUPER_KILLS", 1000 if SOAK else 200))
FLOWS = int(os.environ.get("TP_FLOWS", 1000))
POINTS = ("super:in_hand", "super:done", "super:offer", "super:offered", "super:spawn", "super:spawned", "super:told",
          "super:death", "super:buried", "super:prepared", "super:taken", "super:adopt", "super:adopted", "super:publish", "super:stream", "super:exec")


def end_one(d):
    """Kills the supervisor; its pid.  Not before it is one that can be told from the process that waits."""
    found = []
    if not until(lambda: found.append(d.supervisor()) or found[-1]):
        raise AssertionError("no supervisor: " + d.text()[-2000:])
    kill_all(found[-1:])
    return found[-1]


def follows(d, pid):
    """Another supervisor is there, and answers."""
    return until(lambda: d.supervisor() not in (0, pid)) and until(d.ready)


class Deaths(unittest.TestCase):
    def sound(self, d, load=None):
        self.assertTrue(until(d.ready), d.text()[-3000:])
        code, text = d.ctl("verify")
        self.assertEqual(code, 0, text)
        self.assertNotIn("refused a", d.text())

    def test_at_random_under_udp(self):
        rnd = random.Random(SEED)
        print("seed %d" % SEED, flush=True)
        check = live_survival.Survival("check")
        check.setUp()
        times = []
        with daemon.Daemon(live_survival.CONFIG, workers=2) as d:
            load = live_survival.Load(d, flows=FLOWS)
            before = d.children()
            for _ in range(KILLS):
                began = end_one(d) and time.monotonic()
                if rnd.random() < 0.1:
                    with tc.Client(d.server, "alice", "wonderland") as c:
                        c.allocate()
                        times.append(1000 * (time.monotonic() - began))
                        c.refresh(0)
                time.sleep(rnd.uniform(0, 0.06))
            self.sound(d)
            self.assertEqual(d.children(), before)
            check.check(d, load.finish(), flows=FLOWS, lossless=True, name="%d deaths" % KILLS)
            print("a new allocation after a death: median %.1f ms, most %.1f ms of %d; in the log: median %d ms" % (
                statistics.median(times), max(times), len(times), statistics.median(
                    int(x.split("after ")[1].split()[0]) for x in d.text().splitlines() if "sessions and processes" in x)))

    def test_at_random_under_connections(self):
        """64 TCP, 64 TLS and 64 DTLS sessions, byte for byte; no other process dies."""
        rnd = random.Random(SEED)
        with live_kills.start(points=False, workers=2) as d:
            play = fl.Play(live_kills.make_flows(d, live_kills.FLOWS))
            play.prove()
            for f in play.flows:
                f.wide = False
            before = d.children()
            for n in range(KILLS):
                end_one(d)
                for _ in range(rnd.randrange(4)):
                    play.step()
                if n % 20 == 0:
                    play.prove()
            play.prove()
            self.assertEqual(d.children(), before)
            play.finish(lossless=True)
            live_kills.Kills("verdict").verdict(d, play)
            self.sound(d)

    def test_with_others(self):
        """In pairs and all together: sessions go on."""
        roles = ("supervisor", "worker", "auth", "tls", "admin")
        sets = [s for n in (2, 5) for s in itertools.combinations(roles, n)]
        with live_kills.start(points=False, workers=2) as d:
            clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(20)]
            clients += [tc.StreamClient(d.server, "bob", "builder", tls=daemon.tls_context()) for _ in range(4)]
            for c in clients:
                c.allocate()
            for those in sets * (10 if SOAK else 2):
                victims = [p for r in those for p in ([d.supervisor()] if r == "supervisor" else d.children(r))]
                kill_all(random.sample(victims, len(victims)))
                self.assertTrue(until(lambda: not set(victims) & {d.supervisor(), *d.children()}))
                self.sound(d)
                for c in clients:
                    c.refresh(600)
                with tc.Client(d.server, "alice", "wonderland") as c:
                    c.allocate()
                    c.refresh(0)
            self.assertEqual(d.status()["sessions"], len(clients))

    def test_terminated_with_its_group(self):
        """`timeout`, stopasgroup: SIGTERM for every process at once is a drain like that for the first one."""
        with daemon.Daemon(daemon.DEFAULT.replace("workers: 2", "workers: 2, shutdown_grace: 60s")) as d:
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
                before = d.children()
                kill_all([*before, d.supervisor(), d.process.pid], signal.SIGTERM)
                self.assertTrue(until(lambda: d.status()["draining"]))
                self.assertEqual(d.children(), before)
                c.refresh(600)
                c.refresh(0)
            self.assertEqual(d.process.wait(60), 0)
            self.assertNotIn("ended (pid", d.text())

    def test_in_operations(self):
        rnd = random.Random(SEED)
        with daemon.Daemon() as d:
            clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(10)]
            for c in clients:
                c.allocate()
            for n in range(100 if SOAK else 20):
                step = ("reload", "restart-workers", "upgrade", "resize", "drain")[n % 5]
                if step == "resize":
                    d.write(daemon.DEFAULT.replace("workers: 2", "workers: %d" % rnd.choice((1, 2))))
                t = threading.Thread(target=lambda s: d.ctl("reload" if s == "resize" else s, check=False), args=(step,))
                t.start()
                time.sleep(rnd.uniform(0, 0.04))
                end_one(d)
                t.join(60)
                self.assertFalse(t.is_alive(), step)
                self.assertTrue(until(lambda: d.ctl("undrain", check=False)[0] == 0))
                self.sound(d)
                for c in clients:
                    c.refresh(600)
            self.assertTrue(until(lambda: d.ctl("upgrade", check=False)[0] == 0), d.text()[-2000:])

    def test_stop_while_none_is_there(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            with daemon.Daemon() as d:
                end_one(d)
                self.assertEqual(d.stop(sig), 0)

    @unittest.skipUnless(marked.built(), "no programs with crash points")
    def test_at_each_point(self):
        with daemon.Daemon(start=False) as d:
            marked.give(d, supervisor=True)
            d.start()
            clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(5)]
            for c in clients:
                c.allocate()
            for name in POINTS * (10 if SOAK else 1):
                if name == "super:stream":
                    continue            # test_new_connection
                d.orders.arm(name)
                for n in range(2000):
                    if d.orders.dead():
                        break
                    self.provoke(d, name, n)
                self.assertTrue(d.orders.dead(), "no process passes " + name)
                d.orders.clear()
                self.sound(d)
                for c in clients:
                    c.refresh(600)
            self.assertEqual(d.status()["sessions"], len(clients))

    @unittest.skipUnless(marked.built(), "no programs with crash points")
    def test_a_signal_is_not_lost(self):
        """The supervisor dies when it has taken a SIGHUP and has begun nothing: the next one reloads."""
        with daemon.Daemon(start=False) as d:
            marked.give(d, supervisor=True)
            d.start()
            for n in range(1, 6):
                d.orders.arm("super:asked")
                d.process.send_signal(signal.SIGHUP)
                self.assertTrue(until(d.orders.dead))
                d.orders.clear()
                self.assertTrue(until(lambda: d.counter("config_reloads", result="success") >= n), d.text()[-2000:])
                self.sound(d)

    def provoke(self, d, name, n):
        with tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            c.refresh(0)
        if name in ("super:spawn", "super:spawned", "super:told", "super:death", "super:buried"):
            kill_all(list(d.children("worker"))[:1])
        elif name in ("super:adopt", "super:adopted"):
            end_one(d)
        elif name in ("super:prepared", "super:taken"):
            d.ctl("restart-workers", check=False)
        elif name == "super:publish":
            d.ctl("reload", check=False)
        elif name == "super:exec":
            d.ctl("upgrade", check=False)
        until(lambda: d.orders.dead() != 0, 0.2)

    def test_crash_loop(self):
        """One that dies by its own doing, soon after each start: the daemon ends, and says why."""
        with daemon.Daemon() as d:
            began, gone = time.monotonic(), 0
            while d.process.poll() is None and time.monotonic() - began < 60:
                pid = d.supervisor()
                if pid not in (0, gone):
                    kill_all([pid], signal.SIGSEGV)
                    gone = pid
                time.sleep(0.005)
            self.assertEqual(d.process.wait(60), 70)
            self.assertGreater(time.monotonic() - began, 1)             # it backed off
            self.assertIn("the supervisor ended 10 times in a row", d.text())
            d.process = None

    def test_the_waiting_process_waits(self):
        """It reads nothing, whatever happens, and leaves no descriptor behind."""
        def read():
            with open("/proc/%d/task/%d/io" % (d.process.pid, d.process.pid)) as f:
                return f.read().split()[1]

        with daemon.Daemon() as d:
            was, fds = read(), len(os.listdir("/proc/%d/fd" % d.process.pid))
            for _ in range(5):
                self.assertTrue(follows(d, end_one(d)))
            d.ctl("reload")
            kill_all(d.children("worker"))
            self.sound(d)
            self.assertEqual(read(), was)
            self.assertTrue(until(lambda: abs(len(os.listdir("/proc/%d/fd" % d.process.pid)) - fds) < 80))
            with open("/proc/%d/wchan" % d.process.pid) as f:
                self.assertIn("sigtimedwait", f.read().replace("0", "sigtimedwait"))


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
