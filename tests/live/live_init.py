#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""contrib/turnpike.init, as init calls it: exit codes, pid files that are stale or lie, configurations that are wrong."""
import os
import signal
import socket
import subprocess
import tempfile
import unittest

import daemon
import turnclient as tc


class Init(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)
        os.chmod(self.tmp.name, 0o755)
        self.port = daemon.free_port()
        program, ctl, libexec = daemon.paths()
        self.run_dir = self.tmp.name + "/run"
        # TURNPIKE_OPTIONS is split at blanks, and this tree may lie below a name with one.
        os.symlink(libexec, self.tmp.name + "/libexec")
        self.write("etc/turnpike/turnpike.yaml", "listeners: [ { address: 127.0.0.1, port: %d, transport: udp } ]\n"
                   "relay: { addresses: 127.0.0.1 }\nlog: { target: %s/log }\n" % (self.port, self.tmp.name))
        self.write("default", 'TURNPIKE_OPTIONS="--libexec-dir %s --runtime-dir %s --state-dir %s/var/lib%s"\n' % (
            self.tmp.name + "/libexec", self.run_dir, self.tmp.name, " --set process.user=nobody" if os.geteuid() == 0 else ""))
        self.write("bin/turnpikectl", '#!/bin/sh\nexec "%s" --runtime-dir "%s" "$@"\n' % (ctl, self.run_dir), 0o755)
        with open(os.path.join(daemon.TOP_SRC, "contrib", "turnpike.init.in")) as f:
            text = f.read()
        # The prefix is a link, as where several versions lie side by side.
        os.symlink(os.path.dirname(program), self.tmp.name + "/sbin")
        for was, now in (("@sbindir@", self.tmp.name + "/sbin"), ("@bindir@", self.tmp.name + "/bin"),
                         ("@sysconfdir@", self.tmp.name + "/etc"), ("@runtimedir@", self.run_dir),
                         ("/etc/default/turnpike", self.tmp.name + "/default")):
            self.assertIn(was, text)
            text = text.replace(was, now)
        self.script = self.write("turnpike", text, 0o755)
        self.addCleanup(self.init, "stop")

    def write(self, name, text, mode=0o600):
        path = os.path.join(self.tmp.name, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def init(self, action):
        # Pipes, as from ssh: the script must end them.
        return subprocess.run([self.script, action], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120).returncode

    def pid(self):
        with open(self.run_dir + "/turnpiked.pid") as f:
            return int(f.read())

    def answers(self):
        with tc.Client(("127.0.0.1", self.port)) as c:
            return c.binding() is not None

    def test_life(self):
        self.assertEqual(self.init("status"), 3)
        self.assertEqual(self.init("reload"), 7)
        self.assertEqual(self.init("nonsense"), 2)
        self.assertEqual(self.init("start"), 0)
        self.assertTrue(self.answers())
        pid = self.pid()
        self.assertEqual((self.init("start"), self.init("status"), self.init("reload")), (0, 0, 0))
        self.assertEqual(self.pid(), pid)
        self.assertEqual(self.init("restart"), 0)
        self.assertNotEqual(self.pid(), pid)
        self.assertTrue(self.answers())
        # A wrong configuration: neither reload nor restart ends what runs.
        pid = self.pid()
        good = open(self.tmp.name + "/etc/turnpike/turnpike.yaml").read()
        self.write("etc/turnpike/turnpike.yaml", good + "nonsense: 1\n")
        self.assertNotEqual(self.init("reload"), 0)
        self.assertEqual(self.init("restart"), 6)
        self.assertEqual((self.init("status"), self.pid()), (0, pid))
        # A death that leaves the pid file.
        os.kill(pid, signal.SIGKILL)
        self.assertTrue(daemon.until(lambda: daemon.has_ended(pid)))
        self.assertEqual(self.init("status"), 1)
        self.assertEqual(self.init("start"), 78)
        self.write("etc/turnpike/turnpike.yaml", good)
        self.assertEqual((self.init("start"), self.init("status")), (0, 0))
        self.assertTrue(self.answers())
        self.assertEqual((self.init("stop"), self.init("stop"), self.init("status")), (0, 0, 3))
        self.assertEqual(os.listdir(self.run_dir), [])

    def test_restart_keeps_what_runs_when_a_start_would_fail(self):
        self.assertEqual(self.init("start"), 0)
        pid = self.pid()
        path = self.tmp.name + "/etc/turnpike/turnpike.yaml"
        with open(path) as f:
            good = f.read()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            wrong = [good.replace("transport: udp", "transport: [ udp ] }, { address: 127.0.0.1, port: %d, transport: tcp" % port),
                     good + "metrics: { address: 127.0.0.1, port: %d }\n" % port,
                     good.replace(self.tmp.name + "/log", self.tmp.name + "/nowhere/log"),
                     good + "include: nothing.yaml\n"]
            for text in wrong:
                self.write("etc/turnpike/turnpike.yaml", text)
                self.assertEqual(self.init("restart"), 6, text)
                self.assertEqual(self.pid(), pid)
                self.assertTrue(self.answers())
        self.write("etc/turnpike/turnpike.yaml", good)
        self.assertEqual(self.init("restart"), 0)
        self.assertNotEqual(self.pid(), pid)

    def test_pid_file_that_lies(self):
        victim = subprocess.Popen(["sleep", "600"])
        try:
            self.write("run/turnpiked.pid", "%d\n" % victim.pid)
            self.assertEqual((self.init("status"), self.init("stop")), (1, 0))
            self.assertIsNone(victim.poll())
            self.assertEqual(self.init("start"), 0)
            self.assertEqual(self.init("stop"), 0)
            self.assertIsNone(victim.poll())
        finally:
            victim.kill()
            victim.wait()


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
