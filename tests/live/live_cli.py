#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What an operator types: command lines, exit codes, files, signals, two daemons at once, turnpikectl."""
import glob
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

import daemon
from daemon import until as wait_for
import turnclient as tc

USAGE, BIND, CONF = 64, 69, 78
# The block of the specification, with nothing adapted: its second relay address is not this host's.
AS_WRITTEN = """
include: [ conf.d/*.yaml ]            # lists append; a scalar set twice is an error that names both places; no match is no error
auth:
  realm: example.org
  users: { alice: wonderland, bob: { key_file: bob.key } }
  secrets: [ { file: new.secret }, { value: "a-long-shared-secret-for-rest-use", until: "2030-01-01T00:00:00Z" } ]   # TURN REST
listeners:
  - { address: 127.0.0.1, port: 3478, transport: udp }
  - { address: "::1", port: 3478, transport: [ udp ] }
relay:
  addresses:                          # plain addresses, or with external address and ports of their own
    - 127.0.0.1
    - { address: 10.0.0.5, external: 203.0.113.7, ports: 50000-59999 }
    - "::1"
  ports: 49152-65535
  default_family: ipv4
  max_lifetime: 1h
peers:
  deny: [ 198.51.100.0/24 ]
  allow_private: [ 127.0.0.0/8, "::1/128" ]
  allow_own: [ "203.0.113.7:10000-20000/udp" ]
limits:
  allocations_per_user: 0             # 0: no limit, here and below
  allocations_per_prefix: 0
  allocations_total: 0
  challenges_per_prefix: 200          # per second
  bindings_per_prefix: 1000
  bandwidth_per_user: 20Mbit
process: { user: turnpike, workers: 2, shutdown_grace: 0s }      # workers: auto is the default
io: { receive_buffer: 8MiB }
log: { level: info, target: stderr, format: text }
metrics: { address: 127.0.0.1, port: 9641 }
"""
FILES = {"bob.key": "0123456789abcdef0123456789abcdef\n", "new.secret": "one-more-secret-of-the-test-suite-012345\n"}


def said(d, *args):
    """Exit code and everything that turnpikectl printed."""
    r = subprocess.run([d.turnpikectl, "--runtime-dir", d.runtime, *args], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=120)
    return r.returncode, r.stdout


class Base(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="tp-cli-")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def write(self, name, text, mode=0o600):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def turnpiked(self, *args, cwd=None, **kw):
        program, _, libexec = daemon.paths()
        return subprocess.run([program, "--libexec-dir", libexec, *args], stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, cwd=cwd, **kw)


class CommandLine(Base):
    def test_usage(self):
        for args in (["-x"], ["extra"], ["--set", "novalue"], ["--config"], ["--check", "--config", ""]):
            r = self.turnpiked(*args)
            self.assertEqual((r.returncode, r.stdout), (USAGE, ""), args)
            self.assertIn("usage:", r.stderr)
        r = self.turnpiked("-V")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertRegex(r.stdout, r"^turnpiked \d+\.\d+\.\d+\n$")
        r = self.turnpiked("--help")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        for word in ("--check", "--dump-config", "limits.challenges_per_prefix", "78 configuration"):
            self.assertIn(word, r.stdout)

    def test_configuration_as_specified(self):
        for name, text in FILES.items():
            self.write(name, text)
        path = self.write("turnpike.yaml", AS_WRITTEN)
        r = self.turnpiked("--check", "--config", "turnpike.yaml", cwd=self.dir)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(r.stdout, path + ": configuration ok\n")
        dump = self.turnpiked("-T", "-c", path)
        self.assertEqual(dump.returncode, 0)
        for secret in ("wonderland", "a-long-shared-secret", *FILES.values()):
            self.assertNotIn(secret.strip(), dump.stdout + dump.stderr)
        # Files are found beside the file that names them, and their absence is an error with a place.
        os.unlink(os.path.join(self.dir, "bob.key"))
        r = self.turnpiked("-t", "-c", path, cwd="/")
        self.assertEqual(r.returncode, CONF)
        self.assertRegex(r.stderr, r"turnpike\.yaml:5:\d+: .*bob\.key")

    def test_includes(self):
        self.write("conf.d/a.yaml", "peers: { deny: [ 192.0.2.0/24 ] }\nauth: { users: { eve: from-an-include-9 } }\n")
        self.write("conf.d/b.yaml", "auth: { secrets: [ { file: s } ] }\n")
        self.write("conf.d/s", "beside-the-included-file-0123456789abcdef")
        path = self.write("turnpike.yaml", "include: [ conf.d/*.yaml ]\npeers: { deny: [ 198.51.100.0/24 ] }\n"
                          "listeners: [ { address: 127.0.0.1, port: 3478, transport: udp } ]\nrelay: { addresses: 127.0.0.1 }\n")
        r = self.turnpiked("-T", "-c", path)
        self.assertEqual(r.returncode, 0, r.stderr)
        for word in ("192.0.2.0/24", "198.51.100.0/24", "1 users", "1 secrets"):
            self.assertIn(word, r.stdout)
        self.write("conf.d/c.yaml", "log: { level: debug }\n")
        self.write("conf.d/d.yaml", "log: { level: warn }\n")
        r = self.turnpiked("-t", "-c", path)
        self.assertEqual(r.returncode, CONF)
        self.assertIn("c.yaml:1", r.stderr)
        self.assertIn("d.yaml:1", r.stderr)

    def test_errors_have_a_place(self):
        head = "listeners: [ { address: 127.0.0.1, port: 3478, transport: udp } ]\nrelay: { addresses: 127.0.0.1 }\n"
        for text, place in (("limits: { bandwidth_per_user: 20 }", "3:31"), ("peers: { deny: [ 10.0.0.1/8 ] }", "3:18"),
                            ("metrics: { port: 010 }", "3:18"), ("auth: { realm: a, realm: b }", "3:19"),
                            ("log: { level: loud }", "3:15"), ("lisseners: []", "3:1"), ("a: *x", "3:4")):
            path = self.write("t.yaml", head + text + "\n")
            for mode in (["-t"], ["-f", "--runtime-dir", self.dir + "/run"]):
                r = self.turnpiked(*mode, "-c", path)
                self.assertEqual(r.returncode, CONF, (text, r.stderr))
                self.assertIn("t.yaml:" + place, r.stderr, text)
        path = self.write("t.yaml", head.replace("udp", "tls"))
        self.assertIn("t.yaml:1:12: tls.certificates: the listener at", self.turnpiked("-t", "-c", path).stderr)
        r = self.turnpiked("-t", "-c", self.dir + "/none.yaml")
        self.assertEqual(r.returncode, CONF)
        self.assertIn("none.yaml", r.stderr)

    def test_world_readable_secret(self):
        self.write("s", "a-secret-that-all-users-can-read-01234567", mode=0o644)
        path = self.write("t.yaml", "listeners: [ { address: 127.0.0.1, port: 3478, transport: udp } ]\n"
                          "relay: { addresses: 127.0.0.1 }\nauth: { secrets: [ { file: s } ] }\n")
        r = self.turnpiked("-t", "-c", path)
        self.assertEqual(r.returncode, CONF)
        self.assertIn("all users may read", r.stderr)


class Starting(Base):
    def test_port_in_use(self):
        with daemon.Daemon(start=False) as d:
            other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            other.bind(d.server)
            r = subprocess.run(d.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
            self.assertEqual(r.returncode, BIND)
            self.assertIn("127.0.0.1:%d" % d.port, r.stderr)
            self.assertIn("(pid %d)" % os.getpid(), r.stderr)
            other.close()
            tcp = socket.socket()
            tcp.bind(("127.0.0.1", d.metrics))
            tcp.listen()
            r = subprocess.run(d.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
            self.assertEqual(r.returncode, BIND)
            self.assertIn("TCP 127.0.0.1:%d" % d.metrics, r.stderr)
            self.assertIn("(pid %d)" % os.getpid(), r.stderr)
            tcp.close()
            self.assertEqual(glob.glob(d.runtime + "/*"), [])
            d.start()

    def test_second_on_the_same_directory(self):
        with daemon.Daemon() as d:
            r = subprocess.run(d.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
            self.assertEqual(r.returncode, BIND)
            self.assertIn("(pid %d)" % d.process.pid, r.stderr)
            self.assertEqual(d.ctl("status")[0], 0)
            self.assertTrue(os.path.exists(d.runtime + "/turnpiked.pid"))

    def test_user_that_is_not_there(self):
        """A fresh tree started by root needs no account; a configured name must exist."""
        if os.geteuid() != 0 or "TP_USER" in os.environ:
            self.skipTest("only root gives up privileges")
        try:
            pwd.getpwnam("turnpike")
            self.skipTest("this host has the user")
        except KeyError:
            pass
        with daemon.Daemon(start=False, args=["--set", "process.user=no-such-user"]) as d:
            r = subprocess.run(d.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
            self.assertEqual(r.returncode, CONF)
            self.assertIn("there is no user no-such-user", r.stderr)
        with daemon.Daemon(args=["--set", "process.user=turnpike"]) as d:
            for pid in d.children():
                with open("/proc/%d/status" % pid) as f:
                    uids = re.search(r"^Uid:\s+(.*)$", f.read(), re.M).group(1).split()
                self.assertEqual(set(uids), {str(pwd.getpwnam("nobody").pw_uid)})
            self.assertIn("nobody, which other programs may use, too, stands in", d.text())
            self.assertTrue(wait_for(lambda: "user nobody" in d.text()))

    def test_side_by_side(self):
        with daemon.Daemon() as a, daemon.Daemon() as b:
            for d in (a, b):
                with tc.Client(d.server, "alice", "wonderland") as c:
                    c.allocate()
                    self.assertEqual(d.status()["sessions"], 1)
                    c.refresh(0)
            a.stop()
            with tc.Client(b.server) as c:
                self.assertIsNotNone(c.binding())

    def test_stale_pid_file(self):
        with daemon.Daemon(start=False) as d:
            os.mkdir(d.runtime)
            with open(d.runtime + "/turnpiked.pid", "w") as f:
                f.write("1\n")
            d.start()
            with open(d.runtime + "/turnpiked.pid") as f:
                self.assertEqual(int(f.read()), d.process.pid)
            os.kill(d.process.pid, signal.SIGKILL)
            d.process.wait()
            self.assertTrue(os.path.exists(d.runtime + "/turnpiked.pid"))
            self.assertEqual(d.ctl("status", check=False)[0], 3)
            d.start()
            self.assertEqual(d.stop(), 0)
            self.assertEqual(glob.glob(d.runtime + "/*"), [])

    def test_pid_file_is_no_link(self):
        with daemon.Daemon(start=False) as d:
            os.mkdir(d.runtime)
            victim = self.write("victim", "untouched")
            os.symlink(victim, d.runtime + "/turnpiked.pid")
            r = subprocess.run(d.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
            self.assertNotEqual(r.returncode, 0)
            with open(victim) as f:
                self.assertEqual(f.read(), "untouched")

    def test_background(self):
        """Returns when it is ready, or with the reason and the exit code when it cannot be."""
        with daemon.Daemon(start=False) as d:
            command = [a for a in d.command() if a != "-f"]
            d.write(daemon.DEFAULT.replace("target: stderr", "target: {dir}/file.log"))
            r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
            self.assertEqual(r.returncode, 0, r.stderr)
            with open(d.runtime + "/turnpiked.pid") as f:
                pid = int(f.read())
            try:
                self.assertEqual(os.readlink("/proc/%d/cwd" % pid), "/")
                self.assertEqual(os.getsid(pid), pid)
                for fd in (0, 1, 2):
                    self.assertEqual(os.readlink("/proc/%d/fd/%d" % (pid, fd)), "/dev/null")
                with tc.Client(d.server, "alice", "wonderland") as c:
                    c.allocate()
                self.assertTrue(wait_for(lambda: "allocated: user alice" in open(d.dir + "/file.log").read()))
                again = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
                self.assertEqual(again.returncode, BIND)
                self.assertIn("pid %d" % pid, again.stderr)
            finally:
                os.kill(pid, signal.SIGTERM)
            self.assertTrue(wait_for(lambda: daemon.has_ended(pid)))
            self.assertEqual(glob.glob(d.runtime + "/*"), [])

    def test_first_start_makes_a_secret(self):
        config = re.sub(r"  users:.*\n  secrets:.*\n", "", daemon.DEFAULT)
        with daemon.Daemon(config, start=False) as d:
            # A state directory that does not exist yet.
            d.args += ["--state-dir", d.dir + "/var/lib/turnpike"]
            d.start()
            secret_file = d.dir + "/var/lib/turnpike/secret"
            with open(secret_file) as f:
                secret = f.read().strip()
            self.assertEqual(os.stat(secret_file).st_mode & 0o777, 0o600)
            self.assertGreaterEqual(len(secret), 32)
            self.assertIn(secret_file, d.text())
            self.assertNotIn(secret, d.text())
            with tc.Client(d.server, *tc.rest_credentials(secret, "x")) as c:
                c.allocate()
            with tc.Client(d.server, *tc.rest_credentials("another-secret-0123456789abcdefghijkl", "x")) as c:
                with self.assertRaises(tc.TurnError) as e:
                    c.allocate()
                self.assertEqual(e.exception.code, 401)
            made = json.loads(d.ctl("credentials", "joe", as_json=True)[1])
            pair = [v for v in made.values() if isinstance(v, str)]
            self.assertTrue(any(v.endswith(":joe") for v in pair), made)
            d.stop()
            d.start()
            with open(secret_file) as f:
                self.assertEqual(f.read().strip(), secret)

    def test_ordinary_user(self):
        if os.geteuid() != 0:
            self.skipTest("every other test is one, then")
        nobody = pwd.getpwnam("nobody")
        with daemon.Daemon(start=False, args=["--set", "process.user=nobody"]) as d:
            os.chown(d.dir, nobody.pw_uid, nobody.pw_gid)
            os.chown(d.config, nobody.pw_uid, nobody.pw_gid)
            d.copy_programs()
            d.log = open(d.logfile, "ab")
            d.process = subprocess.Popen(d.command(), user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
                                         stdin=subprocess.DEVNULL, stdout=d.log, stderr=d.log)
            self.assertTrue(wait_for(d.ready), d.text())
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
                self.assertEqual(d.ctl("verify")[0], 0)
            self.assertEqual(self.as_user(d, nobody.pw_uid, nobody.pw_gid), 0)
            self.assertEqual(d.stop(), 0)

    def as_user(self, d, uid, gid, groups=()):
        """Exit code of `turnpikectl status` as another user."""
        return subprocess.run([d.turnpikectl, "--runtime-dir", d.runtime, "status"], user=uid, group=gid, extra_groups=list(groups),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode

    def test_control_socket_is_for_whom_the_manual_names(self):
        if os.geteuid() != 0:
            self.skipTest("needs other users")
        nobody = pwd.getpwnam("nobody")
        with daemon.Daemon(args=["--set", "process.user=nobody"]) as d:
            os.chmod(d.dir, 0o755)
            d.copy_programs()
            self.assertEqual(self.as_user(d, 0, 0), 0)
            self.assertEqual(self.as_user(d, nobody.pw_uid, nobody.pw_gid), 0)
            self.assertEqual(self.as_user(d, 12345, nobody.pw_gid), 0)
            self.assertEqual(self.as_user(d, 12345, 12345, [nobody.pw_gid]), 0)
            self.assertNotEqual(self.as_user(d, 12345, 12345), 0)


class Containers(Base):
    """What a container takes away is named, with what to do."""

    @unittest.skipIf(os.geteuid() != 0, "needs root")
    def test_missing_capabilities_are_named(self):
        for gone in ("setuid", "setgid", "setpcap", "kill"):
            with daemon.Daemon(start=False) as d:
                r = subprocess.run(["setpriv", "--bounding-set", "-" + gone, "--inh-caps", "-" + gone, *d.command()],
                                   stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
                self.assertEqual(r.returncode, BIND, r.stderr)
                self.assertIn("CAP_" + gone.upper(), r.stderr)

    def test_limited_file_size_is_said(self):
        with daemon.Daemon(start=False) as d:
            r = subprocess.run(["prlimit", "--fsize=65536", *d.command()], stdin=subprocess.DEVNULL, capture_output=True,
                               text=True, timeout=120)
            self.assertGreater(r.returncode, 0, r.stderr)
            self.assertIn("LimitFSIZE", r.stderr)

    @unittest.skipIf(os.geteuid() != 0, "needs another user")
    def test_nobody_else_can_hold_the_lock(self):
        with daemon.Daemon() as d:
            self.assertEqual(os.stat(d.runtime + "/turnpiked.pid").st_mode & 0o777, 0o600)

    def test_children_go_first_when_memory_ends(self):
        def score(pid):
            with open("/proc/%d/oom_score_adj" % pid) as f:
                return int(f.read())
        with daemon.Daemon() as d:
            for pid in d.children():
                self.assertGreater(score(pid), score(d.process.pid))

    def test_a_reload_that_failed_is_a_warning(self):
        with daemon.Daemon() as d:
            with open(d.config) as f:
                good = f.read()
            with open(d.config, "a") as f:
                f.write("bogus: 1\n")
            d.process.send_signal(signal.SIGHUP)
            self.assertTrue(wait_for(lambda: any("reload failed" in w for w in d.status()["warnings"])))
            with open(d.config, "w") as f:
                f.write(good)
            d.ctl("reload")
            self.assertFalse(any("reload failed" in w for w in d.status()["warnings"]))


class Signals(Base):
    def test_term_ends_soon_and_cleanly(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            with daemon.Daemon() as d:
                clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(20)]
                for c in clients:
                    c.allocate()
                kids = d.children()
                self.assertGreaterEqual(len(kids), 4)
                self.assertEqual(d.stop(sig, wait=60), 0)
                for pid in kids:
                    self.assertFalse(os.path.exists("/proc/%d" % pid))
                self.assertEqual(glob.glob(d.runtime + "/*"), [])
                for c in clients:
                    c.close()

    def test_grace(self):
        with daemon.Daemon(daemon.DEFAULT.replace("workers: 2", "workers: 2, shutdown_grace: 1m")) as d:
            with tc.Client(d.server, "alice", "wonderland") as c, tc.Client(d.server, "alice", "wonderland") as late:
                c.allocate()
                self.assertEqual(d.http("/readyz")[0], 200)
                d.process.send_signal(signal.SIGTERM)
                self.assertTrue(wait_for(lambda: d.http("/readyz")[0] == 503))
                self.assertEqual(d.http("/healthz")[0], 200)
                with self.assertRaises(tc.TurnError) as e:
                    late.allocate()
                self.assertEqual(e.exception.code, 508)
                c.refresh(600)
                self.assertIsNone(d.process.poll())
                c.refresh(0)
                self.assertEqual(d.process.wait(60), 0)

    def test_second_term_ends_at_once(self):
        with daemon.Daemon(daemon.DEFAULT.replace("workers: 2", "workers: 2, shutdown_grace: 1h")) as d:
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
                d.process.send_signal(signal.SIGTERM)
                self.assertTrue(wait_for(lambda: "draining" in d.text()))
                d.process.send_signal(signal.SIGTERM)
                self.assertEqual(d.process.wait(60), 0)

    def test_bad_reload_changes_nothing(self):
        with daemon.Daemon() as d, daemon.Peer() as p, tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            c.bind(0x4000, p.addr)
            was = d.status()
            taken = socket.socket()
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            cases = [daemon.DEFAULT + "limits: {{ allocations_per_user: -1 }}\n", daemon.DEFAULT[:-40], "auth: [",
                     daemon.DEFAULT.replace("process: {{ workers: 2 }}", "process: {{ workers: 100 }}"),
                     daemon.DEFAULT.replace("\nrelay:", "\n  - {{ address: 127.0.0.1, port: 1235 }}\nrelay:").replace(
                         "{metrics}", str(taken.getsockname()[1]))]
            for text in cases:
                d.write(text)
                code, out = said(d, "reload")
                self.assertEqual(code, 1, (text, out))
                self.assertIn("stays as it was", out)
                d.process.send_signal(signal.SIGHUP)
            os.unlink(d.config)
            self.assertEqual(d.ctl("reload", check=False)[0], 1)
            self.assertTrue(wait_for(lambda: d.text().count("stays as it was") > len(cases)))
            self.assertEqual(d.ctl("reload", check=False)[0], 1)        # behind those that the signals asked for
            self.assertEqual(d.status()["config"]["generation"], was["config"]["generation"])
            # Nothing that was bound on the way is left.
            with open("/proc/net/udp") as f:
                self.assertNotIn(":%04X " % 1235, f.read())
            c.channel_data(0x4000, b"still here")
            self.assertEqual(p.recv(), (b"still here", c.relayed))
            d.write(daemon.DEFAULT)
            self.assertEqual(d.ctl("reload")[0], 0)
            c.channel_data(0x4000, b"and now")
            self.assertEqual(p.recv(), (b"and now", c.relayed))
            taken.close()

    def test_rows_become_one_and_two(self):
        """UDP and TCP of one address as two listeners, then as one, then as two: no client is cut off, new ones may come."""
        two = daemon.DEFAULT.replace("transport: udp }}", "transport: udp }}\n  - {{ address: 127.0.0.1, port: {port}, transport: tcp }}")
        one = daemon.DEFAULT.replace("transport: udp }}", "transport: [ tcp, udp ] }}")
        with daemon.Daemon(two) as d, daemon.Peer() as p, tc.Client(d.server, "alice", "wonderland") as u, \
                tc.StreamClient(d.server, "bob", "builder", timeout=20) as t:
            for c in (u, t):
                c.allocate()
                c.bind(0x4000, p.addr)
            for text in (one, two, one.replace("[ tcp, udp ]", "[ udp, tcp ]"), two):
                d.write(text)
                self.assertEqual(said(d, "reload")[0], 0)
                self.assertTrue(wait_for(d.ready, 20))
                with tc.Client(d.server, "alice", "wonderland") as nu, tc.StreamClient(d.server, "bob", "builder", timeout=20) as nt:
                    for c in (u, t, nu, nt):
                        if c in (nu, nt):
                            c.allocate()
                            c.bind(0x4000, p.addr)
                        c.channel_data(0x4000, b"here")
                        self.assertEqual(p.recv(20), (b"here", c.relayed))
                        p.send(b"back", c.relayed)
                        self.assertEqual(c.data(20), (0x4000, b"back"))
            self.assertEqual(d.ctl("verify")[0], 0)

    def test_warnings_stay_in_status_and_come_as_json(self):
        """What turnpike-conf warned of is in the log in its own format, from the first line on, and in `status`."""
        text = daemon.DEFAULT.replace("target: stderr", "target: stderr, format: json").replace(
            "secrets: [", "secrets: [ {{ value: \"another-secret-of-the-test-suite-0123\", until: \"2001-01-01T00:00:00Z\" }},")
        with daemon.Daemon(text) as d:
            said = [json.loads(x) for x in d.text().splitlines()]
            self.assertEqual(len([x for x in said if "has ended" in json.dumps(x)]), 1)
            self.assertTrue([x for x in d.status()["warnings"] if "has ended" in x and "turnpike.yaml:" in x])
            self.assertIn("warning: " + d.config, d.ctl("status")[1])
            d.ctl("upgrade")
            self.assertTrue(wait_for(lambda: "every process is of version" in d.text() and d.ready(), 20))
            self.assertTrue([x for x in d.status()["warnings"] if "has ended" in x])
            d.write(daemon.DEFAULT)
            d.ctl("reload")
            self.assertEqual([x for x in d.status()["warnings"] if "has ended" in x], [])

    def test_hangup_reads_credential_files_again(self):
        """Rotation: the YAML names files and stays as it is; what the files hold has changed."""
        old, new = "the-old-secret-of-the-rotation-01234567", "the-new-secret-of-the-rotation-01234567"
        config = daemon.DEFAULT.replace('{{ value: "%s" }}' % daemon.SECRET, "{{ file: s }}").replace(
            "alice: wonderland", "alice: {{ password_file: p }}")
        with daemon.Daemon(config, files={"s": old + "\n", "p": "wonderland\n"}) as d:
            def code(*credentials):
                with tc.Client(d.server, *credentials) as c:
                    try:
                        c.allocate()
                    except tc.TurnError as e:
                        return e.code
                    c.refresh(0)
                    return 200
            self.assertEqual([code("alice", "wonderland"), code(*tc.rest_credentials(old, "x"))], [200, 200])
            for name, text in (("s", new), ("p", "through the glass")):
                with open(os.path.join(d.dir, name), "w") as f:
                    f.write(text + "\n")
            d.process.send_signal(signal.SIGHUP)
            self.assertTrue(wait_for(lambda: code(*tc.rest_credentials(new, "x")) == 200))
            self.assertTrue(wait_for(lambda: code("alice", "through the glass") == 200))
            self.assertTrue(wait_for(lambda: code("alice", "wonderland") == 401))
            self.assertTrue(wait_for(lambda: code(*tc.rest_credentials(old, "x")) == 401))

    def test_hangup_storm(self):
        with daemon.Daemon() as d, tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            before = len(os.listdir("/proc/%d/fd" % d.process.pid))
            for _ in range(300):
                d.process.send_signal(signal.SIGHUP)
            self.assertTrue(wait_for(lambda: d.ctl("reload", check=False)[0] == 0))
            c.refresh(600)
            self.assertTrue(wait_for(lambda: len(os.listdir("/proc/%d/fd" % d.process.pid)) <= before + 2))


class Ctl(Base):
    def test_codes_and_json(self):
        with daemon.Daemon() as d, tc.Client(d.server, "alice", "wonderland") as c, \
                tc.Client(d.server, "bob", "builder") as b:
            c.allocate()
            b.allocate()
            c.permit(("127.0.0.1", 9))
            c.bind(0x4000, ("127.0.0.1", 10))
            sid = next(s["id"] for s in json.loads(d.ctl("sessions", as_json=True)[1])["sessions"] if s["user"] == "alice")
            for args in (["help"], ["status"], ["sessions"], ["sessions", "user=alice"], ["sessions", sid], ["users"],
                         ["limits"], ["counters"], ["counters", "all"], ["verify"], ["log", "level", "debug"],
                         ["credentials", "carol"], ["credentials", "carol", "--sha256", "--lifetime", "1h"],
                         ["credentials", "carol", "--ice-servers", "turn:turn.example.org"], ["reload"], ["drain"],
                         ["undrain"], ["restart-workers"]):
                code, out = d.ctl(*args, as_json=True)
                self.assertEqual(code, 0, args)
                self.assertIsInstance(json.loads(out), dict, args)
                code, out = d.ctl(*args)
                self.assertEqual(code, 0, args)
                self.assertTrue(out.strip(), args)
                self.assertNotIn(daemon.SECRET, out)
            one = json.loads(d.ctl("sessions", sid, as_json=True)[1])
            self.assertIn("127.0.0.1", json.dumps(one))
            self.assertEqual(d.ctl("close", "user=bob")[0], 0)
            self.assertEqual(d.ctl("close", sid)[0], 0)
            self.assertTrue(wait_for(lambda: d.status()["sessions"] == 0))
            for args, want in ((["close", sid], 1), (["close", "user=nobody"], 1), (["sessions", "no-id"], 2),
                               (["nonsense"], 2), (["log", "level", "loud"], 2), (["close"], 2), (["credentials"], 2)):
                code, out = d.ctl(*args, check=False)
                self.assertEqual(code, want, (args, out))
                code, out = d.ctl(*args, as_json=True, check=False)
                self.assertEqual(code, want, (args, out))
            r = subprocess.run([d.turnpikectl, "nonsense"], capture_output=True, timeout=120, text=True)
            self.assertEqual((r.returncode, r.stdout), (2, ""))
            self.assertIn("unknown command nonsense", r.stderr)
            self.assertEqual(d.ctl("sessions")[1], "no sessions\n")
            self.assertEqual(d.ctl("users")[1], "no users\n")
            for args in ([], ["--runtime-dir"], ["--nonsense", "status"]):
                r = subprocess.run([d.turnpikectl, *args], capture_output=True, timeout=120)
                self.assertEqual(r.returncode, 2, args)
            self.assertEqual(d.ctl("stop")[0], 0)
            self.assertEqual(d.process.wait(60), 0)
            self.assertEqual(d.ctl("status", check=False)[0], 3)


if __name__ == "__main__":
    daemon.isolate()
    daemon.other_user()
    unittest.main(verbosity=2, warnings="ignore")
