#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The life of contrib/container/Containerfile's image, where there is no builder and no registry: what `make install`
installs, with the libraries that it is linked with and nothing else, below a read-only root, as user 3478, first process of
a process namespace of its own, by the file's own ENTRYPOINT and HEALTHCHECK."""
import glob
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import daemon
import turnclient as tc

FILE = os.path.join(daemon.TOP_SRC, "contrib/container/Containerfile")
UID = 3478
CONFIG = """
auth: { users: { alice: 9f8e7d6c5b4a } }
listeners: [ { address: 127.0.0.1, port: 3478, transport: [ udp, tcp ] } ]
relay: { addresses: [ 127.0.0.1 ] }
peers: { allow_private: [ 127.0.0.0/8 ] }
process: { workers: 2, shutdown_grace: 0s }
"""
INSIDE = """
set -e
mount --make-rprivate /
mount --bind {root} {root}
mount -t proc proc {root}/proc
mount --bind /dev {root}/dev
mount -t tmpfs -o mode=0755,uid={uid},gid={uid} tmpfs {root}/run/turnpike
mount -o remount,bind,ro {root}
exec setpriv --no-new-privs chroot --userspec={uid}:{uid} {root} {entry}
"""


def instruction(name):
    """The list of a JSON instruction of the last stage."""
    with open(FILE) as f:
        text = f.read().split("\nFROM ")[-1]
    return json.loads(re.search(r"^%s\b.*?(\[.*\])$" % name, text, re.M).group(1))


def make_root(root):
    """What the image holds."""
    subprocess.run(["make", "-s", "install", "DESTDIR=" + root], cwd=daemon.TOP_BUILD, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    prefix = os.path.dirname(os.path.dirname(glob.glob(root + "/**/sbin/turnpiked", recursive=True)[0]))[len(root):]
    programs = [p for d in ("bin", "sbin", "libexec/turnpike") for p in glob.glob("%s%s/%s/turnpike*" % (root, prefix, d))]
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout
    for library in sorted(set(re.findall(r"(/\S+\.so\S*) \(", said))):
        os.makedirs(root + os.path.dirname(library), exist_ok=True)
        shutil.copy2(os.path.realpath(library), root + library)
    for d in ("proc", "dev", "etc/turnpike", "run/turnpike", "tmp"):
        os.makedirs(os.path.join(root, d), exist_ok=True)
    with open(root + "/etc/passwd", "w") as f:
        f.write("turnpike:x:%d:%d::/nonexistent:/usr/sbin/nologin\n" % (UID, UID))
    with open(root + "/etc/group", "w") as f:
        f.write("turnpike:x:%d:\n" % UID)
    path = root + "/etc/turnpike/turnpike.yaml"
    with open(path, "w") as f:
        f.write(CONFIG)
    os.chown(path, UID, UID)
    os.chmod(path, 0o400)
    return prefix


class Container(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="tp-container-")
        os.chmod(cls.root, 0o755)
        cls.prefix = make_root(cls.root)
        # The image has prefix /usr, this build the one that it was configured with; the configuration is /etc in both.
        entry = [re.sub(r"^/usr(?=/)", cls.prefix, word) for word in instruction("ENTRYPOINT")]
        script = INSIDE.format(root=cls.root, uid=UID, entry=shlex.join(entry))
        cls.log = open(cls.root + ".log", "w+")
        cls.outer = subprocess.Popen(["unshare", "-m", "-p", "-f", "--kill-child", "sh", "-c", script], stdout=cls.log,
                                     stderr=cls.log, stdin=subprocess.DEVNULL)
        assert daemon.until(lambda: cls.health().returncode == 0), open(cls.root + ".log").read()

    @classmethod
    def tearDownClass(cls):
        if cls.outer.poll() is None:
            cls.outer.kill()
            cls.outer.wait()
        cls.log.close()
        shutil.rmtree(cls.root, ignore_errors=True)
        os.unlink(cls.root + ".log")

    @classmethod
    def first(cls):
        """The container's first process, as this namespace numbers it; 0: none yet."""
        with open("/proc/%d/task/%d/children" % (cls.outer.pid, cls.outer.pid)) as f:
            kids = f.read().split()
        return int(kids[0]) if kids else 0

    @classmethod
    def health(cls):
        """What the HEALTHCHECK says."""
        command = [re.sub(r"^/usr(?=/)", cls.prefix, word) for word in instruction("HEALTHCHECK")]
        return subprocess.run(["nsenter", "-t", str(cls.first()), "-m", "-p", "chroot", "--userspec=%d:%d" % (UID, UID),
                               cls.root, *command], capture_output=True, text=True, timeout=60)

    def workers(self):
        """Process numbers, as this namespace has them."""
        found = []
        for status in glob.glob("/proc/[0-9]*/status"):
            try:
                with open(status) as f:
                    text = f.read()
            except OSError:
                continue
            if re.search(r"^PPid:\t%d$" % self.first(), text, re.M) and text.startswith("Name:\tturnpike-worker"):
                found.append(int(status.split("/")[2]))
        return found

    def test_1_no_privilege(self):
        for pid in [self.first(), *self.workers()]:
            with open("/proc/%d/status" % pid) as f:
                text = f.read()
            self.assertIn("Uid:\t%d\t%d\t%d\t%d\n" % (UID, UID, UID, UID), text)
            self.assertRegex(text, r"CapEff:\t0+\n")
        self.assertNotEqual(subprocess.run(["nsenter", "-t", str(self.first()), "-m", "sh", "-c", "echo x >%s/etc/x" % self.root],
                                           stderr=subprocess.DEVNULL).returncode, 0)

    def test_2_relays_over_deaths(self):
        with tc.Client(("127.0.0.1", 3478), "alice", "9f8e7d6c5b4a") as c, daemon.Peer() as peer:
            c.allocate()
            c.bind(0x4000, peer.addr)
            for n in range(2):
                old = self.workers()
                self.assertEqual(len(old), 2)
                os.kill(old[n], signal.SIGKILL)

                def answered():
                    c.channel_data(0x4000, b"there")
                    return peer.recv(0.2) is not None
                self.assertTrue(daemon.until(answered))
                self.assertTrue(daemon.until(lambda: len(self.workers()) == 2 and old[n] not in self.workers()))

    def test_3_reload_and_stop(self):
        command = [self.prefix + "/bin/turnpikectl", "--runtime-dir", "/run/turnpike", "reload"]
        r = subprocess.run(["nsenter", "-t", str(self.first()), "-m", "-p", "chroot", "--userspec=%d:%d" % (UID, UID), self.root,
                            *command], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        os.kill(self.first(), signal.SIGTERM)
        self.assertEqual(self.outer.wait(60), 0)


if __name__ == "__main__":
    daemon.isolate()
    if not os.environ.get("TP_NETNS") or os.geteuid() != 0 or os.environ.get("TP_PREFIX") or not shutil.which("setpriv"):
        print("skipped: root, a network namespace and a build tree are needed")
        sys.exit(77)
    unittest.main(verbosity=2)
