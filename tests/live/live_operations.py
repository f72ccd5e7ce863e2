#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Operations that cross each other, helpers and children that hang, listeners and relay ranges that a reload removes."""
import base64
import hmac
import itertools
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402
import turnclient as tc          # noqa: E402
from daemon import until         # noqa: E402

SEED = int(os.environ.get("TP_SEED", random.SystemRandom().randrange(1 << 31)))
STEPS = ("reload", "restart-workers", "resize", "upgrade", "drain", "stop")


def is_free(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def end_one(d):
    """Another supervisor, between two looks at what is retired."""
    pid = d.supervisor()
    daemon.kill_all([pid])
    if not until(lambda: d.supervisor() not in (0, pid) and d.ready()):
        raise AssertionError("no supervisor")


class Operations(unittest.TestCase):
    def fire(self, d, step, n):
        """Signals where there are some: turnpikectl takes longer than what is to be met."""
        if step == "upgrade":
            d.process.send_signal(signal.SIGUSR2)
        elif step == "stop":
            d.process.send_signal(signal.SIGTERM)
        elif step == "resize":
            d.write(daemon.DEFAULT.replace("workers: 2", "workers: %d" % (1 + n % 2)))
            d.process.send_signal(signal.SIGHUP)
        elif step == "reload":
            d.process.send_signal(signal.SIGHUP)
        else:
            self.threads.append(threading.Thread(target=d.ctl, args=(step,), kwargs={"check": False}, daemon=True))
            self.threads[-1].start()

    def test_pairs(self):
        """Any two at any distance: the daemon serves afterwards, or has ended."""
        rnd = random.Random(SEED)
        print("seed %d" % SEED, flush=True)
        d, self.threads = None, []
        for n, (a, b) in enumerate(itertools.product(STEPS, STEPS)):
            if a == "stop":
                continue
            d = d or daemon.Daemon()
            with tc.Client(d.server, "alice", "wonderland") as c:
                c.allocate()
                self.fire(d, a, n)
                time.sleep(rnd.uniform(0, 0.03))
                self.fire(d, b, n)
                while b != "stop" and self.threads:     # a drain is not to come after its end
                    self.threads.pop().join(60)
                if b == "stop":
                    self.threads = []
                    self.assertTrue(until(lambda: d.process.poll() is not None), (a, b, d.text()[-3000:]))
                    self.assertEqual(d.process.returncode, 0)
                    d.__exit__(None, None, None)
                    d = None
                    continue
                self.assertTrue(until(lambda: d.ctl("undrain", check=False)[0] == 0 and d.ready()), (a, b, d.text()[-3000:]))
                c.refresh(600)
                self.assertTrue(until(lambda: d.ctl("upgrade", check=False)[0] == 0), (a, b, d.text()[-3000:]))
                self.assertTrue(until(lambda: d.ctl("verify", check=False)[0] == 0), d.text()[-2000:])
        if d is not None:
            d.__exit__(None, None, None)

    def test_stop_during_a_probe(self):
        rnd = random.Random(SEED)
        for _ in range(20):
            with daemon.Daemon() as d:
                d.process.send_signal(signal.SIGUSR2)
                time.sleep(rnd.uniform(0, 0.03))
                self.assertEqual(d.stop(), 0)

    def test_hanging_configuration(self):
        """turnpike-conf waits for a file: the reload fails in time, and the next one is carried out."""
        with daemon.Daemon() as d:
            os.rename(d.config, d.config + ".real")
            os.mkfifo(d.config)
            answer = []
            t = threading.Thread(target=lambda: answer.append(d.ctl("reload", check=False)))
            t.start()
            t.join(100)
            self.assertFalse(t.is_alive())
            self.assertNotEqual(answer[0][0], 0)
            os.rename(d.config + ".real", d.config)
            self.assertTrue(until(lambda: d.ctl("reload", check=False)[0] == 0), d.text()[-2000:])
            d.ctl("upgrade")

    def test_hanging_children(self):
        """turnpike-auth and turnpike-admin stand still: not ready, said, replaced."""
        with daemon.Daemon() as d:
            time.sleep(3.2)             # beats count from then on
            for role in ("auth", "admin"):
                was = list(d.children(role))
                os.kill(was[0], signal.SIGSTOP)
                if role == "auth":
                    self.assertTrue(until(lambda: not d.status()["ready"]))
                self.assertTrue(until(lambda: d.replaced(role, was)), d.text()[-2000:])
                self.assertTrue(until(d.ready))
                self.assertIn("%s 0: no heartbeat for" % role, d.text())
                time.sleep(3.2)

    def test_each_process_has_its_descriptors(self):
        """Of each role nothing but what tbl/descriptors.def says, by the names of the kernel."""
        none = {"turnpike-secret0": 0, "turnpike-cross0": 0, "turnpike-keys": 0, "turnpike-shard": 0, "turnpike-super": 0,
                "turnpike-waiting": 0, "turnpike-users": 0, "turnpike-ledger": 0}
        want = {"worker": {"turnpike-secret0": 1, "turnpike-cross0": 1, "turnpike-keys": 1, "turnpike-shard": 1},
                "auth": {"turnpike-secret0": 1},
                "admin": {"turnpike-cross0": 1, "turnpike-shard": 2, "turnpike-ledger": 1}}
        with daemon.Daemon() as d:
            for pid, (role, _) in d.children().items():
                have = dict(none)
                for fd in os.listdir("/proc/%d/fd" % pid):
                    name = os.readlink("/proc/%d/fd/%s" % (pid, fd)).replace(" (deleted)", "").replace("/memfd:", "")
                    for kind in none:
                        have[kind] += name.rstrip("0123456789") == kind.rstrip("0123456789")
                have.pop("turnpike-users")
                # What is mapped may be closed by then: no more than that.
                self.assertEqual({k: n for k, n in have.items() if n > want[role].get(k, 0)}, {}, role)

    def test_removed_listener_serves_nobody_new(self):
        second = daemon.free_port()
        both = daemon.DEFAULT.replace("relay:\n", "  - {{ address: 127.0.0.1, port: %d, transport: udp }}\nrelay:\n" % second)
        with daemon.Daemon(both) as d:
            with tc.Client(("127.0.0.1", second), "alice", "wonderland") as old:
                old.allocate()
                d.write(daemon.DEFAULT)
                d.ctl("reload")
                self.assertTrue(until(d.ready))
                old.refresh(600)        # its session goes on
                for _ in range(8):
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                        s.settimeout(0.1)
                        s.sendto(b"\0\1\0\0\x21\x12\xa4\x42" + os.urandom(12), ("127.0.0.1", second))
                        with self.assertRaises(TimeoutError):
                            s.recv(100)
                self.assertEqual(d.drops("retired"), 8)
                self.assertEqual([x["retired"] for x in d.status()["listeners"]], [False, True])
                end_one(d)
                victims = d.children("worker")
                daemon.kill_all(victims, signal.SIGTRAP)
                self.assertTrue(until(lambda: not set(victims) & set(d.children("worker")) and d.ready()))
                old.refresh(600)
                old.refresh(0)
            # With the last session it is closed, everywhere, and its number serves another address.
            self.assertTrue(until(lambda: is_free(second)), "the port is still bound")
            self.assertEqual(len(d.status()["listeners"]), 1)
            for n in range(3):
                port = daemon.free_port()
                d.write(both.replace("port: %d" % second, "port: %d" % (port if n < 2 else second)))
                d.ctl("reload")
                with tc.Client(("127.0.0.1", port if n < 2 else second), "alice", "wonderland") as c:
                    c.allocate()
                    name = json.loads(d.ctl("sessions", as_json=True)[1])["sessions"][0]["id"]
                    row = json.loads(d.ctl("sessions", name, as_json=True)[1])["listener"]
                    self.assertEqual(row, 1)
                    c.refresh(0)
                d.write(daemon.DEFAULT)
                d.ctl("reload")
                self.assertTrue(until(lambda: len(d.status()["listeners"]) == 1))

    def test_datagrams_taken_away_from_a_listener(self):
        """Its sessions go on, its connections too, and there is no new session over UDP."""
        both = daemon.DEFAULT.replace("transport: udp", "transport: [ udp, tcp ]")
        with daemon.Daemon(both) as d:
            with tc.Client(d.server, "alice", "wonderland") as old, \
                    tc.StreamClient(d.server, "bob", "builder") as stream:
                old.allocate()
                stream.allocate()
                d.write(daemon.DEFAULT.replace("transport: udp", "transport: tcp"))
                d.ctl("reload")
                self.assertTrue(until(d.ready))
                old.refresh(600)
                stream.refresh(600)
                with tc.StreamClient(d.server, "alice", "wonderland") as c:
                    c.allocate()
                    c.refresh(0)
                with tc.Client(d.server, timeout=0.3) as c:
                    self.assertIsNone(c.binding())
                old.refresh(0)
                self.assertTrue(until(lambda: is_free(d.port)))
                stream.refresh(600)
                with tc.StreamClient(d.server, "alice", "wonderland") as c:
                    c.allocate()

    def test_removed_range_is_not_given_out(self):
        config = daemon.DEFAULT.replace("addresses: [ 127.0.0.1 ]", "addresses: [ 127.0.0.1 ]\n  ports: {ports}")
        with daemon.Daemon(config, ports="31600-31699") as d:
            d.values["ports"] = "31700-31799"
            d.write(config)
            d.ctl("reload")
            self.assertTrue(until(d.ready))
            for _ in range(20):
                with tc.Client(d.server, "alice", "wonderland") as c:
                    c.allocate(tc.attr("EVEN_PORT", b"\0"))
                    self.assertGreaterEqual(c.relayed[1], 31700)
                    c.refresh(0)

    def test_reload_report_names_entries(self):
        with daemon.Daemon(daemon.DEFAULT.replace("peers:\n", "peers:\n  deny: [ {deny} ]\n"),
                           deny=", ".join("10.0.%d.0/24" % i for i in range(200))) as d:
            text = daemon.DEFAULT.replace("peers:\n", "peers:\n  deny: [ {deny} ]\n")
            d.values["deny"] = ", ".join("10.0.%d.0/24" % i for i in range(1, 201))
            d.write(text)
            out = d.ctl("reload")[1]
            self.assertIn("peers.deny: added 10.0.200.0/24\n", out)
            self.assertIn("peers.deny: removed 10.0.0.0/24\n", out)
            self.assertNotIn("10.0.7.0/24", out)
            d.values["deny"] = "10.1.0.0/16"
            d.write(text)
            self.assertIn("peers.deny: and 181 more\n", d.ctl("reload")[1])

    def test_secret_files_are_watched(self):
        config = daemon.DEFAULT.replace('value: "a-secret-of-the-test-suite-0123456789"', "file: {dir}/secret").replace(
            "log:", "tls: {{ watch_interval: 100ms }}\nlog:")
        first, second = "1" * 40, "2" * 40
        with daemon.Daemon(config, files={"secret": first}) as d:
            def works(secret):
                name = "%d:guest" % (time.time() + 600)
                password = base64.b64encode(hmac.digest(secret.encode(), name.encode(), "sha1")).decode()
                with tc.Client(d.server, name, password) as c:
                    try:
                        c.allocate()
                        c.refresh(0)
                        return True
                    except tc.TurnError:
                        return False
            self.assertTrue(works(first))
            self.assertFalse(works(second))
            path = os.path.join(d.dir, "secret")
            with open(path + ".new", "w") as f:
                f.write(second)
            os.chmod(path + ".new", 0o600)
            os.replace(path + ".new", path)
            self.assertTrue(until(lambda: works(second)), d.text()[-2000:])
            self.assertFalse(works(first))
            reloads = d.status()["config"]["reloads"]
            # What cannot be used is tried again, not at each look.
            os.chmod(path, 0o644)
            with open(path, "w") as f:
                f.write("x\ny\n")
            self.assertTrue(until(lambda: d.counter("config_reloads", result="failure") > 0))
            time.sleep(1)
            self.assertLess(d.counter("config_reloads", result="failure"), 8)
            with open(path, "w") as f:
                f.write(first)
            os.chmod(path, 0o600)
            self.assertTrue(until(lambda: works(first)))
            self.assertGreater(d.status()["config"]["reloads"], reloads)

    def test_hanging_file_system_stops_nothing_but_the_look(self):
        """turnpike-conf looks at the files: the supervisor has none of its own calls there."""
        config = daemon.DEFAULT.replace('value: "a-secret-of-the-test-suite-0123456789"', "file: {dir}/secret").replace(
            "log:", "tls: {{ watch_interval: 50ms }}\nlog:")
        with daemon.Daemon(config, files={"secret": "1" * 40}) as d:
            stopped = []

            def stop_one():
                for pid in d.kids():
                    try:
                        with open("/proc/%s/cmdline" % pid) as f:
                            if "--files" in f.read():
                                os.kill(int(pid), signal.SIGSTOP)
                                stopped.append(int(pid))
                    except OSError:
                        pass
                return stopped
            self.assertTrue(until(stop_one))
            victims = d.children("worker")
            daemon.kill_all(victims)
            self.assertTrue(until(lambda: not set(victims) & set(d.children("worker")) and d.ready()))
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            self.assertIn("reloaded", d.ctl("reload")[1])

    def test_failed_reload_is_not_ready_if_so_configured(self):
        for wanted in ("false", "true"):
            config = daemon.DEFAULT.replace("workers: 2", "workers: 2, reload_ready: " + wanted)
            with daemon.Daemon(config) as d:
                d.write(config.replace("realm:", "realmm:"))
                d.process.send_signal(signal.SIGHUP)
                self.assertTrue(until(lambda: any("last reload failed" in w for w in d.status()["warnings"])))
                self.assertEqual(d.status()["ready"], wanted == "false")
                self.assertEqual(d.counter("config_last_reload_successful"), 0)
                with tc.Client(d.server, "alice", "wonderland") as c:
                    c.allocate()
                d.write(config)
                d.process.send_signal(signal.SIGHUP)
                self.assertTrue(until(lambda: not any("reload" in w for w in d.status()["warnings"])))
                self.assertTrue(until(d.ready))


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
