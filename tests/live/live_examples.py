#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Examples in documents work: each configuration in README and each ```yaml block of doc/*.md passes turnpiked --check, and
each ```sh block ends with 0.  Commands of this tree run beside a daemon; for a command that would change
the host (apt, systemctl, make install) a stand-in of HOST runs."""
import glob
import os
import re
import shlex
import shutil
import subprocess
import unittest

import daemon

HOST = ("apt adduser autoreconf ./configure make systemctl certbot ufw firewall-cmd nft buildah podman kubectl helm docker "
        "redis-cli psql turnpike-convert").split()
ADDRESSES = ("10.0.0.5/24", "10.0.0.6/24", "192.168.1.5/24", "2001:db8:7::5/64")
SECRET = "uC4mZ0yJx0kQm7mB9fJtq3Yw2s8VdLhRkP"


def quoted(*words):
    return tuple(shlex.quote(w) for w in words)


def blocks(kind):
    """[(document and line, text)]"""
    found = []
    for path in sorted(glob.glob(os.path.join(daemon.TOP_SRC, "doc/*.md"))):
        with open(path) as f:
            text = f.read()
        for m in re.finditer(r"^```%s\n(.*?)^```$" % kind, text, re.M | re.S):
            found.append(("%s:%d" % (os.path.basename(path), text.count("\n", 0, m.start()) + 1), m.group(1)))
    return found


def readme():
    """The configurations of README: indented by a tab, and beginning with a section."""
    with open(os.path.join(daemon.TOP_SRC, "README")) as f:
        text = f.read()
    return [("README:%d" % (text.count("\n", 0, m.start()) + 1), re.sub(r"^\t", "", m.group(0), flags=re.M))
            for m in re.finditer(r"^\t(auth|listeners|tls|relay|metrics):.*\n(\t.*\n)*", text, re.M)]


def script(path, text):
    with open(path, "w") as f:
        f.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)


class Examples(unittest.TestCase):
    def setUp(self):
        self.d = daemon.Daemon(daemon.DEFAULT.replace("port: {metrics}", "port: 9641") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
""", start=False)
        daemon.certificate(self.d.dir)
        self.addCleanup(self.d.stop)
        subprocess.run(["ip", "link", "add", "tpx0", "type", "veth", "peer", "name", "tpx1"], check=True)
        self.addCleanup(subprocess.run, ["ip", "link", "del", "tpx0"], check=True)
        for a in ADDRESSES:
            subprocess.run(["ip", "addr", "add", a, "dev", "tpx0", *(["nodad"] if ":" in a else [])], check=True)
        for link in ("tpx0", "tpx1"):
            subprocess.run(["ip", "link", "set", link, "up"], check=True)
        subprocess.run(["ip", "route", "add", "default", "via", "10.0.0.1"], check=True)
        self.etc = os.path.join(self.d.dir, "etc")
        os.makedirs(self.etc)
        for name in ("secret", "secret.old", "redis.conn", "alice.password"):
            with open(os.open(os.path.join(self.etc, name), os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
                f.write("host=127.0.0.1" if name == "redis.conn" else SECRET)
        for name, source in (("fullchain.pem", "cert.pem"), ("privkey.pem", "key.pem")):
            shutil.copy(os.path.join(self.d.dir, source), os.path.join(self.etc, name))

    def here(self, text):
        """The text with its folders in the test's own."""
        for folder in ("/etc/turnpike", "/etc/letsencrypt/live/turn.example.org", "/etc/letsencrypt/renewal-hooks/deploy",
                       "/var/log/turnpike"):
            text = text.replace(folder + "/", self.etc + "/")
        return text

    def test_configurations(self):
        turnpiked, _, libexec = daemon.paths()
        found = blocks("yaml") + readme()
        self.assertGreater(len(found), 17)
        for where, text in found:
            with self.subTest(where):
                path = os.path.join(self.etc, "t.yaml")
                user = "" if "process:" in text else "process: { user: nobody }\n"
                with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as f:
                    f.write(self.here(text) + user)
                r = subprocess.run([turnpiked, "--libexec-dir", libexec, "--state-dir", self.etc, "--check", "-c", path],
                                   capture_output=True, text=True, timeout=60)
                self.assertEqual(r.returncode, 0, r.stderr + text)

    def commands(self):
        """A folder for PATH: this tree's programs with the daemon's folders, and stand-ins for HOST."""
        turnpiked, ctl, libexec = daemon.paths()
        folder = os.path.join(self.d.dir, "bin")
        os.makedirs(folder)
        for name in HOST:
            if "/" not in name and (name != "nft" or not shutil.which("nft")):
                script(os.path.join(folder, name), "exit 0\n")
        script(os.path.join(folder, "turnpikectl"), "exec %s --runtime-dir %s \"$@\"\n" % quoted(ctl, self.d.runtime))
        script(os.path.join(folder, "turnpiked"), "exec %s --runtime-dir %s --libexec-dir %s -c %s \"$@\"\n" %
               quoted(turnpiked, self.d.runtime, libexec, self.d.config))
        # Names of the examples: this test's own certificate stands for theirs.
        script(os.path.join(folder, "openssl"), "case $1 in s_client) exit 0 ;; esac\nexec %s \"$@\"\n" %
               shutil.which("openssl"))
        return folder

    def test_commands(self):
        self.d.start()
        found = blocks("sh")
        self.assertGreater(len(found), 10)
        folder = self.commands()
        for where, text in found:
            with self.subTest(where):
                self.assertTrue(daemon.until(self.d.ready))     # the block before may have replaced processes
                lines = ["true" if line.split(" ")[0] in ("./configure", "autoreconf") else line
                         for line in self.here(text).splitlines()]
                r = subprocess.run(["sh", "-eu", "-c", "\n".join(lines)], cwd=daemon.TOP_SRC, capture_output=True, text=True,
                                   timeout=120, env=dict(os.environ, PATH=folder + ":" + os.environ["PATH"]))
                self.assertEqual(r.returncode, 0, r.stderr + r.stdout + text)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main()
