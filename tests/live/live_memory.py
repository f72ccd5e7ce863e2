#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Small limits: with that of a control group allocations are refused before the kernel kills anything; few descriptors serve
each kind of socket."""
import os
import signal
import socket
import time
import unittest

import daemon
import turnclient as tc

MIB = 1 << 20
CONFIG = daemon.DEFAULT + "limits: {{ allocations_per_user: 100000, allocations_per_prefix: 0 }}\n"


class Group:
    """A control group of this test's own, of either version; the test itself is in it only while it starts a daemon."""

    def __init__(self):
        with open("/proc/self/cgroup") as f:
            for line in f:
                number, controllers, path = line.strip().split(":", 2)
                for top, limit, usage in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
                                          ("/sys/fs/cgroup", "memory.max", "memory.current")):
                    if (controllers == "memory") == top.endswith("memory") and controllers in ("memory", ""):
                        self.parent = top + (path if os.path.isdir(top + path) else "")
                        self.path = os.path.join(self.parent, "turnpike-test-%d" % os.getpid())
                        self.limit, self.usage = os.path.join(self.path, limit), os.path.join(self.path, usage)
                        try:
                            os.mkdir(self.path)
                        except OSError:
                            continue
                        if os.access(self.limit, os.W_OK):
                            return
                        os.rmdir(self.path)
        raise unittest.SkipTest("no control group can be made here")

    def start(self, d):
        self.move(self.path)
        try:
            return d.start()
        finally:
            self.move(self.parent)

    def move(self, to):
        with open(os.path.join(to, "cgroup.procs"), "w") as f:
            f.write(str(os.getpid()))

    def set(self, limit):
        with open(self.limit, "w") as f:
            f.write(str(limit))

    def used(self):
        with open(self.usage) as f:
            return int(f.read())


class Memory(unittest.TestCase):
    def test_refused_before_the_limit(self):
        group = Group()
        self.addCleanup(os.rmdir, group.path)
        with group.start(daemon.Daemon(CONFIG, start=False)) as d:
            self.assertNotIn("the control group may have", d.text())
            used = group.used()
        used += 2 * MIB
        limit = max(used + 4 * MIB, used * 8 // 7)
        group.set(limit)
        with group.start(daemon.Daemon(CONFIG, start=False)) as d:
            self.assertIn("memory: the control group may have %d MiB" % (limit >> 20), d.text())
            clients, code = [], 0
            for _ in range(200):
                clients.append(tc.Client(d.server, "alice", "wonderland"))
                clients[-1].allocate()
            # The rest is used up by something else in the group, slower than the daemon looks.
            hog = []
            while code == 0 and group.used() < limit - MIB:
                group.move(group.path)
                hog.append(bytearray(os.urandom(MIB // 4)))
                group.move(group.parent)
                time.sleep(0.6)
                with tc.Client(d.server, "bob", "builder") as c:
                    try:
                        c.allocate()
                        c.refresh(0)
                    except tc.TurnError as e:
                        code = e.code
            self.assertEqual(code, 508)
            self.assertIn("new allocations are refused", d.text())
            self.assertIn("the memory limit is near", d.text())
            victims = d.children("worker")
            daemon.kill_all(victims)            # the next ones know it from their start
            self.assertTrue(daemon.until(lambda: not set(victims) & set(d.children("worker")) and d.ready()))
            with tc.Client(d.server, "bob", "builder") as c:
                with self.assertRaises(tc.TurnError) as e:
                    c.allocate()
                self.assertEqual(e.exception.code, 508)
            for c in clients[::10]:
                c.refresh(600)
            self.assertEqual(d.status()["sessions"], len(clients))
            hog.clear()
            for c in clients:
                c.refresh(0)
            group.set(-1 if "bytes" in group.limit else "max")
            self.assertEqual(d.ctl("verify")[0], 0)
            self.assertEqual(d.counter("child_deaths"), len(victims))


class Descriptors(unittest.TestCase):
    def test_small_descriptor_limit(self):
        """At 400 descriptors neither allocations nor connections can take all of them."""
        config = daemon.DEFAULT.replace("workers: 2", "workers: 1, shards: 1").replace("transport: udp", "transport: [ udp, tcp ]")
        config += "limits: {{ allocations_per_user: 1000, connections_per_prefix: 0 }}\n"
        for first, then in (("allocations", "connections"), ("connections", "allocations")):
            with daemon.Daemon(config, start=False) as d:
                command = d.command()
                d.command = lambda: ["setpriv", "--bounding-set=-sys_resource", "sh", "-c", 'ulimit -n 400; exec "$@"',
                                     "sh", *command]
                d.start()
                self.assertIn("the limit of open files leaves room", d.text())
                held = getattr(self, first)(d)
                more = getattr(self, then)(d)
                print("%s: %d, then %s: %d" % (first, len(held), then, len(more)))
                self.assertGreater(len(held), 100)
                self.assertGreater(len(more), 16)
                for c in held[::5] + more:
                    self.assertTrue(c.refresh(600) if hasattr(c, "relayed") and c.relayed else c.binding())
                self.assertEqual(d.ctl("verify")[0], 0)

    def test_ports_are_free_when_the_pid_file_has_gone(self):
        for _ in range(5):
            with daemon.Daemon(CONFIG) as d:
                clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(300)]
                for c in clients:
                    c.allocate()
                path = os.path.join(d.runtime, "turnpiked.pid")
                d.process.send_signal(signal.SIGTERM)
                while os.path.exists(path):
                    pass
                for port in [d.port] + [c.relayed[1] for c in clients]:
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                        s.bind(("127.0.0.1", port))
                self.assertEqual(d.process.wait(60), 0)
                for c in clients:
                    c.close()

    def allocations(self, d):
        held = []
        while True:
            c = tc.Client(d.server, "alice", "wonderland")
            try:
                c.allocate()
            except tc.TurnError as e:
                self.assertEqual(e.code, 508)
                return held
            held.append(c)

    def connections(self, d):
        held = []
        while True:
            try:
                c = tc.StreamClient(d.server, timeout=3)
                c.relayed = None
                if c.binding() is None:
                    return held
            except OSError:
                return held
            held.append(c)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
