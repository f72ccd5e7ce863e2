#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What an operator watches: the processes' confinement, metrics, readiness, logs."""
import contextlib
import glob
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import unittest

import daemon
from daemon import is_sanitized, until as wait_for
import turnclient as tc

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*",?)*\})? (\S+)$')
SUFFIXES = {"counter": ("_total", "_created"), "gauge": ("",), "info": ("_info",), "histogram": ("_bucket", "_count", "_sum"),
            "unknown": ("",), "stateset": ("",), "summary": ("", "_count", "_sum")}


def status_of(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def links(pid):
    found = {}
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            found[int(fd)] = os.readlink("/proc/%d/fd/%s" % (pid, fd))
        except OSError:
            pass
    return found


def regions(pid):
    return {re.sub(r"^/memfd:turnpike-(.*?)( \(deleted\))?$", r"\1", x) for x in links(pid).values() if "memfd" in x}


class Confinement(unittest.TestCase):
    def test_rights(self):
        """L-02: no capability, no way to new ones, another user; a system call filter where strangers' bytes go."""
        if os.geteuid() != 0:
            self.skipTest("nothing to give up")
        with daemon.Daemon() as d:
            user = pwd.getpwnam(os.environ.get("TP_USER", "nobody"))
            for pid, (role, _) in d.children().items():
                s = status_of(pid)
                for cap in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                    self.assertEqual(int(s[cap], 16), 0, (role, cap))
                self.assertEqual(s["NoNewPrivs"], "1", role)
                self.assertEqual(set(s["Uid"].split()), {str(user.pw_uid)}, role)
                self.assertEqual(set(s["Gid"].split()), {str(user.pw_gid)}, role)
                self.assertEqual(s.get("Groups", "").split(), [], role)
                with open("/proc/%d/limits" % pid) as f:
                    self.assertRegex(f.read(), r"Max core file size\s+0\s+0", role)
                if not is_sanitized(pid):                # whose run-time calls what it likes
                    self.assertEqual(s["Seccomp"], "2", role)
                # Not dumpable: no process of the same user can look into it.
                self.assertEqual(os.stat("/proc/%d/mem" % pid).st_uid, 0, role)
                self.assertEqual(os.readlink("/proc/%d/exe" % pid), d.libexec + "/turnpike-" + role)
            kept = int(status_of(d.process.pid)["CapEff"], 16)
            # CHOWN, DAC_OVERRIDE, SYS_ADMIN, SYS_PTRACE are gone from the supervisor, too.
            for bit in (0, 1, 19, 21):
                self.assertFalse(kept >> bit & 1, bit)

    def test_descriptors(self):
        """L-05: each process has the regions of its duty and no file, but for turnpike-admin's counters of the host."""
        with daemon.Daemon(daemon.DEFAULT.replace("workers: 2", "workers: 2, shards: 4")) as d:
            def check():
                for pid, (role, index) in d.children().items():
                    if role == "conf":
                        continue        # the last reload's: it is ending
                    have, i = regions(pid), int(index)
                    if role == "worker":
                        own = {"%s%d" % (k, s) for s in (2 * i, 2 * i + 1) for k in ("shard", "keys")}
                        self.assertEqual(have, own | {"secret0", "conf", "cross0", "ports0", "stat-worker%d" % i})
                    elif role == "auth":
                        self.assertFalse({r for r in have if r.startswith(("shard", "keys"))}, have)
                    elif role == "admin":
                        self.assertFalse({r for r in have if r.startswith(("keys", "secret", "users"))}, have)
                    for fd, to in links(pid).items():
                        if role == "admin" and re.fullmatch(r"/proc/%d/net/(snmp6?|softnet_stat)" % pid, to):
                            continue
                        if to == "/proc/%d/statm" % pid:        # what it uses itself
                            continue
                        if to.startswith("/") and not to.startswith("/memfd:"):
                            self.assertIn(to, ("/dev/null", d.logfile), (role, fd))
            check()
            # Nothing stays behind.  (One look may see a log line's or a question's connection, or a pool being filled.)
            before = {pid: len(links(pid)) for pid in [d.process.pid, *d.children()]}
            for _ in range(30):
                d.ctl("reload")
            check()
            for pid, n in before.items():       # the last turnpike-conf ends
                self.assertTrue(wait_for(lambda: abs(len(links(pid)) - n) <= 1), (pid, n, links(pid)))
            # What they may see of the others' regions, they may not write.
            for pid, (role, _) in d.children().items():
                if role == "admin":
                    for fd, to in links(pid).items():
                        if "shard" in to or "cross" in to or "ledger" in to:
                            with open("/proc/%d/fdinfo/%d" % (pid, fd)) as f:
                                flags = int(re.search(r"flags:\s*(\d+)", f.read()).group(1), 8)
                            self.assertEqual(flags & 3, os.O_RDONLY, to)


OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"}


class Metrics(unittest.TestCase):
    def parse(self, text):
        self.assertTrue(text.endswith("# EOF\n"))
        kinds, seen, order, current = {}, set(), [], None
        for line in text.splitlines()[:-1]:
            if line.startswith("# "):
                word, name, rest = line[2:].split(" ", 2)
                self.assertIn(word, ("TYPE", "HELP", "UNIT"), line)
                if name != current:
                    self.assertNotIn(name, order, "rows of a family are not together")
                    order.append(name)
                    current = name
                if word == "TYPE":
                    self.assertNotIn(name, kinds)
                    kinds[name] = rest
                continue
            m = SAMPLE.match(line)
            self.assertIsNotNone(m, line)
            self.assertIn(m.group(1), [current + s for s in SUFFIXES[kinds[current]]], line)
            self.assertNotIn(m.group(1) + (m.group(2) or ""), seen, line)
            seen.add(m.group(1) + (m.group(2) or ""))
            float(m.group(3))
        return kinds, seen

    def test_openmetrics(self):
        with daemon.Daemon() as d, tc.Client(d.server, "alice", "wonderland") as c, daemon.Peer() as p:
            c.allocate()
            c.bind(0x4000, p.addr)
            c.channel_data(0x4000, b"x" * 100)
            p.recv()
            c.raw(b"\xff" * 20)
            kinds, seen = self.parse(d.http("/metrics", OPENMETRICS)[1])
            for name, labels in (("drops", "reason"), ("relayed_packets", "direction"), ("requests", "method"),
                                 ("sessions", "transport"), ("error_responses", "code")):
                self.assertIn("turnpike_" + name, kinds)
                self.assertTrue(any(x.startswith("turnpike_" + name) and labels + "=" in x for x in seen), name)
            # Counters keep counting through a death: a rate over it is right.
            before = daemon.reach(lambda: d.counter("relayed_packets", direction="up", form="channel"), 1)
            self.assertEqual(before, 1)
            for pid in d.children("worker"):
                os.kill(pid, signal.SIGKILL)
            self.assertTrue(wait_for(lambda: len(d.children("worker")) == 2 and d.http("/readyz")[0] == 200))
            self.assertGreaterEqual(d.counter("relayed_packets", direction="up", form="channel"), before)
            self.assertTrue(wait_for(lambda: d.counter("sessions", transport="udp", family="ipv4") == 1))
            self.assertEqual(d.http("/nonsense")[0], 404)

    def test_readiness(self):
        with daemon.Daemon() as d, tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()                # a draining daemon without sessions ends
            self.assertEqual((d.http("/healthz")[0], d.http("/readyz")[0]), (200, 200))
            d.ctl("drain")
            self.assertTrue(wait_for(lambda: d.http("/readyz")[0] == 503))
            self.assertEqual(d.http("/healthz")[0], 200)
            d.ctl("undrain")
            self.assertTrue(wait_for(lambda: d.http("/readyz")[0] == 200))
            d.ctl("restart-workers")
            self.assertEqual(d.http("/readyz")[0], 200)


class Crowds(unittest.TestCase):
    """Connections that are idle or slow cost the others nothing."""

    def test_idle_http_clients(self):
        with daemon.Daemon() as d, contextlib.ExitStack() as crowd:
            for i in range(200):
                s = crowd.enter_context(socket.create_connection(("127.0.0.1", d.metrics), timeout=60))
                s.send((b"", b"G", b"GET /metrics HTTP/1.1\r\nHost: x\r\n")[i % 3])
                if i % 20 == 0:
                    self.assertEqual(d.http("/healthz")[0], 200)
            for path in ("/healthz", "/readyz", "/metrics"):
                self.assertEqual(d.http(path)[0], 200)
            # One that never reads its answer.
            for _ in range(100):
                s = crowd.enter_context(socket.create_connection(("127.0.0.1", d.metrics), timeout=60))
                s.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(d.http("/healthz")[0], 200)
            self.assertEqual(d.stop(), 0)

    def test_idle_control_clients(self):
        with daemon.Daemon() as d, contextlib.ExitStack() as crowd:
            for i in range(100):
                s = crowd.enter_context(socket.socket(socket.AF_UNIX))
                s.connect(d.runtime + "/control")
                s.send((b"", b"stat", b"sessions\nsessions\n")[i % 3])
            self.assertEqual(d.ctl("status")[0], 0)
            self.assertEqual(d.ctl("reload")[0], 0)
            self.assertEqual(d.stop(), 0)


class Answers(unittest.TestCase):
    def test_a_reload_that_replaces_turnpike_admin_is_answered(self):
        """Workers and the log's target change at once: the answer comes, and says that it was applied."""
        with daemon.Daemon() as d:
            with open(d.config) as f:
                text = f.read()
            for i in range(4):
                with open(d.config, "w") as f:
                    f.write(text.replace("target: stderr", "target: %s/log%d" % (d.dir, i)).replace(
                        "relay: {", "relay: { ports: %d-60999," % (40000 + i) if "ports:" not in text else "relay: {").replace(
                            "workers: 2", "workers: %d" % (1 + i % 2)))
                admin = list(d.children("admin"))
                code, said = d.ctl("reload", check=False)
                self.assertEqual(code, 0, said)
                self.assertTrue(wait_for(lambda: d.replaced("admin", admin)))
            self.assertEqual(d.stop(), 0)


class Logs(unittest.TestCase):
    def test_every_line_of_a_session(self):
        with daemon.Daemon() as d, tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            sid = json.loads(d.ctl("sessions", as_json=True)[1])["sessions"][0]["id"]
            try:
                c.permit(("10.0.0.1", 80))
            except tc.TurnError as e:
                self.assertEqual(e.code, 403)
            for pid in d.children("worker"):
                os.kill(pid, signal.SIGKILL)
            self.assertTrue(wait_for(lambda: len(d.children("worker")) == 2))
            c.refresh(0)

            def lines_of():
                text = d.text()
                return [x for x in text[:text.rfind("\n") + 1].splitlines() if "session " + sid in x]
            self.assertTrue(wait_for(lambda: len(lines_of()) >= 3), d.text())
            lines = lines_of()
            for line in lines:
                for word in ("user alice", "client 127.0.0.1:%d" % c.sock.getsockname()[1],
                             "relay 127.0.0.1:%d" % c.relayed[1]):
                    self.assertIn(word, line)
            c.relayed = None

    def test_file_is_opened_anew(self):
        """As logrotate does it: moved, reload, a new file; the descriptor of the old one is let go."""
        for form, owned in (("text", True), ("json", True), ("text", False)):
            config = daemon.DEFAULT.replace("level: info, target: stderr",
                                            "level: info, target: {dir}/logs/t.log, format: %s" % form)
            with daemon.Daemon(config, start=False) as d:
                os.mkdir(d.dir + "/logs")
                if os.geteuid() == 0 and owned:
                    user = pwd.getpwnam(os.environ.get("TP_USER", "nobody"))
                    os.chown(d.dir + "/logs", user.pw_uid, user.pw_gid)
                d.start()
                path = d.dir + "/logs/t.log"
                self.assertTrue(wait_for(lambda: os.path.exists(path) and "ready" in open(path).read()))
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o640 if owned or os.geteuid() != 0 else 0o660)
                d.ctl("reload")
                self.assertNotIn("cannot open", d.text() + open(path).read())
                os.rename(path, path + ".1")
                d.process.send_signal(signal.SIGHUP)
                self.assertTrue(wait_for(lambda: os.path.exists(path)), glob.glob(d.dir + "/logs/*"))
                # In root's own directory another turnpike-admin has made it; the old one ends.
                self.assertTrue(wait_for(lambda: all(path + ".1" not in links(pid).values() for pid in d.children("admin"))))
                self.assertTrue(wait_for(d.ready))
                size = os.stat(path + ".1").st_size
                with tc.Client(d.server, "alice", "wonderland") as c:
                    c.allocate()
                    c.refresh(0)
                self.assertTrue(wait_for(lambda: "by its client" in open(path).read()))
                self.assertEqual(os.stat(path + ".1").st_size, size)
                for pid in d.children("admin"):
                    self.assertNotIn(path + ".1", links(pid).values())
                if form == "json":
                    for x in open(path).read().splitlines():
                        json.loads(x)

    def test_a_full_pipe_stalls_nobody(self):
        """The reader of stderr has stopped reading: relaying goes on, lines are counted as lost."""
        with daemon.Daemon(start=False) as d:
            d.write(daemon.DEFAULT.replace("level: info", "level: debug"))
            d.process = subprocess.Popen(d.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT)
            self.assertTrue(wait_for(d.ready))
            with daemon.Peer() as p:
                for i in range(600):
                    with tc.Client(d.server, "alice", "wonderland") as c:
                        c.allocate()
                        if i % 50 == 0:
                            c.bind(0x4000, p.addr)
                            c.channel_data(0x4000, b"on")
                            self.assertIsNotNone(p.recv())
            self.assertEqual(d.http("/healthz")[0], 200)
            self.assertEqual(d.stop(), 0)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
