#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""turnpikectl: every command in text and JSON, its errors in JSON, numbers as numbers; limits, top, passwd, credentials and the
completion of the shell."""
import hashlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import daemon                    # noqa: E402
from daemon import until as wait_for    # noqa: E402
import turnclient as tc          # noqa: E402

READING = (["help"], ["status"], ["sessions"], ["users"], ["limits"], ["top"], ["counters"], ["counters", "all"], ["verify"],
           ["credentials", "joe"])
WRONG = (["status", "x"], ["sessions", "x"], ["close"], ["users", "limit=x"], ["limits", "x"], ["counters", "x"], ["verify", "x"],
         ["drain", "x"], ["log", "level", "loud"], ["credentials"], ["credentials", "joe", "--lifetime", "x"],
         ["credentials", "joe", "--ice-servers", "http://x"], ["credentials", "joe", "--lifetime", "99999d"],
         ["passwd"], ["frobnicate"], [])


class Commands(unittest.TestCase):
    def run_ctl(self, d, *args, runtime=None, **kw):
        return subprocess.run([d.turnpikectl, "--runtime-dir", runtime or d.runtime, *args], capture_output=True, text=True,
                              timeout=120, **kw)

    def test_text_and_json(self):
        with daemon.Daemon() as d, tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            for args in READING:
                r = self.run_ctl(d, *args)
                self.assertEqual((r.returncode, r.stderr), (0, ""), args)
                self.assertGreater(len(r.stdout), 10, args)
                r = self.run_ctl(d, "--json", *args)
                self.assertEqual((r.returncode, r.stderr), (0, ""), args)
                self.assertIsInstance(json.loads(r.stdout), dict, args)
                self.assertNotRegex(r.stdout, r': "\d+"[,\n]', "a number as text: %s" % args)
            for args in WRONG:
                r = self.run_ctl(d, "--json", *args, stdin=subprocess.DEVNULL)
                self.assertEqual((r.returncode, r.stderr), (2, ""), (args, r.stdout))
                self.assertEqual(list(json.loads(r.stdout)), ["error"], args)
                r = self.run_ctl(d, *args, stdin=subprocess.DEVNULL)
                self.assertEqual((r.returncode, r.stdout), (2, ""), args)
            r = self.run_ctl(d, "--json", "status", runtime=d.dir + "/none")
            self.assertEqual(r.returncode, 3)
            self.assertIn("not running", json.loads(r.stdout)["error"])

    def test_limits(self):
        with daemon.Daemon(daemon.DEFAULT + "limits: {{ allocations_per_user: 2, bandwidth_per_user: 20Mbit }}\n") as d, \
                tc.Client(d.server, "alice", "wonderland") as a, tc.Client(d.server, "alice", "wonderland") as b:
            a.allocate()
            b.allocate()
            with tc.Client(d.server, "alice", "wonderland") as c:
                with self.assertRaises(tc.TurnError):
                    c.allocate()
            o = json.loads(d.ctl("limits", as_json=True)[1])
            self.assertEqual(o["limits"]["allocations_per_user"], 2)
            self.assertEqual(o["limits"]["bandwidth_per_user_bits_per_second"], 20000000)
            self.assertEqual(o["users"], [{"user": "alice", "sessions": 2, "limit": 2, "near": True}])
            self.assertEqual(o["prefixes"], [{"prefix": "127.0.0.1", "sessions": 2, "limit": 0, "near": False}])
            self.assertEqual(o["refused"]["limits.allocations_per_user"], 1)
            self.assertEqual((o["ports"][0]["address"], o["ports"][0]["used"]), ("127.0.0.1", 2))
            self.assertEqual(sum(o["ports"][0][k] for k in ("used", "prepared", "free")), 65535 - 49152 + 1)
            text = d.ctl("limits")[1]
            for word in ("user alice: 2 sessions, near the limit", "refused by limits.allocations_per_user: 1", "2 used"):
                self.assertIn(word, text)

    def test_top(self):
        """A screen on a terminal until it is interrupted, which leaves the terminal as it was."""
        with daemon.Daemon() as d, tc.Client(d.server, "alice", "wonderland") as c:
            c.allocate()
            r = self.run_ctl(d, "top")
            self.assertNotIn("\033", r.stdout)
            self.assertIn("alice", r.stdout)
            pid, fd = pty.fork()
            if pid == 0:
                os.execv(d.turnpikectl, [d.turnpikectl, "--runtime-dir", d.runtime, "top"])
            seen = b""

            def more():
                nonlocal seen
                try:
                    seen += os.read(fd, 65536)
                except OSError:
                    return True
                return seen.count(b"\033[H") >= 2
            self.assertTrue(wait_for(more))
            self.assertIn(b"PROCESS", seen)
            os.write(fd, b"\x03")
            self.assertTrue(wait_for(lambda: more() is True and b"\033[?1049l" in seen))
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            os.close(fd)

    def test_passwd(self):
        """The key serves as key_file, and the password does not."""
        with daemon.Daemon(start=False) as d:
            r = self.run_ctl(d, "passwd", "carol", "--realm", "example.org", input="a pass-word\n")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual(r.stdout.strip(), hashlib.sha256(b"carol:example.org:a pass-word").hexdigest())
            md5 = json.loads(self.run_ctl(d, "--json", "passwd", "carol", "--realm", "example.org", "--md5",
                                          input="a pass-word").stdout)["key"]
            with open(d.dir + "/carol.key", "w") as f:
                f.write(md5 + "\n")
            os.chmod(d.dir + "/carol.key", 0o600)
            d.write(daemon.DEFAULT.replace("bob: builder", "carol: {{ key_file: carol.key }}"))
            d.start()
            with tc.Client(d.server, "carol", "a pass-word") as c:
                c.allocate()

    def test_credentials(self):
        """`turns:` by the certificate's name, once; `turn:` by address; they work."""
        with daemon.Daemon(start=False) as d:
            daemon.certificate(d.dir)
            d.write(daemon.DEFAULT.replace("transport: udp", "transport: [ udp, tls ]") +
                    "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n")
            d.start()
            o = json.loads(d.ctl("credentials", "joe", as_json=True)[1])
            self.assertEqual(o["iceServers"][0]["urls"], ["turn:127.0.0.1:%d?transport=udp" % d.port,
                                                          "turns:turn.test:%d?transport=tcp" % d.port])
            with tc.Client(d.server, o["username"], o["password"]) as c:
                c.allocate()
            self.assertIn("printable", d.ctl("credentials", "jo\u00e9", check=False)[1])
        config = re.sub(r"  secrets:.*\n", "", daemon.DEFAULT)
        with daemon.Daemon(config) as d:
            code, text = d.ctl("credentials", "joe", check=False)
            self.assertEqual((code, text), (1, "no credentials: auth.secrets has no secret that is valid now\n"))

    def test_completion(self):
        script = os.path.join(daemon.TOP_SRC, "contrib", "completion", "turnpikectl.bash")
        with daemon.Daemon(start=False) as d:
            def complete(*words):
                line = "source %s; COMP_WORDS=(turnpikectl %s); COMP_CWORD=%d; _turnpikectl; echo ${COMPREPLY[*]}" % (
                    shlex.quote(script), " ".join("'%s'" % w for w in words), len(words))
                env = dict(os.environ, PATH=os.path.dirname(d.turnpikectl) + ":" + os.environ["PATH"])
                return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=env).stdout.split()
            self.assertEqual(complete("sta"), ["status"])
            self.assertEqual(complete("restart"), ["restart-workers"])
            self.assertEqual(complete("sessions", "us"), ["user="])


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
