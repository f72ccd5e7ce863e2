#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The Debian package on a copy of this host (an overlay that ends with the test): install, start by the init script, an upgrade
with a session that goes on, remove, purge.  Needs root, debhelper and lintian; `make deb` builds the package."""
import glob
import os
import shutil
import subprocess
import sys
import unittest

import daemon
import turnclient as tc

CONFIG = """auth: { realm: example.org, secrets: [ { file: secret } ] }
listeners: [ { address: 127.0.0.1, port: 3478, transport: udp } ]
relay: { addresses: [ 127.0.0.1 ] }
peers: { allow_private: [ 127.0.0.0/8 ] }
log: { target: /var/log/turnpike/turnpike.log }
"""
SECRET = "a-secret-of-the-test-suite-0123456789"
ROOT = "/mnt/turnpike-package"


def run(*command, check=True, **kw):
    r = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, **kw)
    if check and r.returncode != 0:
        raise AssertionError("%s: %d\n%s%s" % (" ".join(command), r.returncode, r.stdout, r.stderr))
    return r


def inside(*command, **kw):
    """A command on the copy of the host."""
    return run("chroot", ROOT, *command, env=dict(os.environ, PATH="/usr/sbin:/usr/bin:/sbin:/bin", DEBIAN_FRONTEND="noninteractive",
                                                 LC_ALL="C"), **kw)


def built():
    """The package of this tree, made by make deb."""
    if not os.environ.get("TP_DEB_BUILT"):
        run("make", "-C", daemon.TOP_BUILD, "deb")
    return glob.glob(os.path.join(daemon.TOP_BUILD, "deb/turnpike_*.deb"))[0]


def newer(package, where):
    """The same package as the next revision: dpkg takes it for an upgrade."""
    top = os.path.join(where, "newer")
    run("dpkg-deb", "-R", package, top)
    control = os.path.join(top, "DEBIAN/control")
    with open(control) as f:
        text = f.read()
    with open(control, "w") as f:
        f.write(text.replace("-1\n", "-2\n", 1))
    run("dpkg-deb", "-b", "--root-owner-group", top, os.path.join(where, "newer.deb"))


def copy_of_host():
    """An overlay over / in this test's mount namespace: what is installed there ends with the namespace."""
    os.makedirs(ROOT, exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", ROOT)
    for name in ("upper", "work", "root"):
        os.mkdir(os.path.join(ROOT, name))
    run("mount", "-t", "overlay", "overlay", "-o", "lowerdir=/,upperdir=%s/upper,workdir=%s/work" % (ROOT, ROOT), ROOT + "/root")
    run("mount", "--move", ROOT + "/root", ROOT)
    for name in ("proc", "dev", "sys"):
        run("mount", "--rbind", "/" + name, "%s/%s" % (ROOT, name))
    for name in ("run", "tmp"):
        run("mount", "-t", "tmpfs", "tmpfs", "%s/%s" % (ROOT, name))
    # Images of containers forbid to start services; a host does not.
    run("rm", "-f", ROOT + "/usr/sbin/policy-rc.d")


class Package(unittest.TestCase):
    def setUp(self):
        try:
            copy_of_host()
        except AssertionError as e:
            self.skipTest("no overlay can be mounted here: %s" % e)
        self.package = built()
        self.addCleanup(self.end)

    def end(self):
        inside("/etc/init.d/turnpike", "stop", check=False) if os.path.exists(ROOT + "/etc/init.d/turnpike") else None

    def put(self, path):
        shutil.copy(path, ROOT + "/tmp/")
        return "/tmp/" + os.path.basename(path)

    def configure(self):
        for name, text in (("turnpike.yaml", CONFIG), ("secret", SECRET)):
            path = ROOT + "/etc/turnpike/" + name
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o640), "w") as f:
                f.write(text)

    def pid(self):
        with open(ROOT + "/run/turnpike/turnpiked.pid") as f:
            return int(f.read())

    def relays(self, client, peer):
        client.send_indication(peer.addr, b"there")
        self.assertEqual(peer.recv()[0], b"there")
        peer.send(b"back", client.relayed)
        self.assertEqual(client.data()[1], b"back")

    def test_life(self):
        run("lintian", "--allow-root", "--fail-on", "error,warning", self.package)
        inside("dpkg", "-i", self.put(self.package))
        for path in ("/etc/logrotate.d/turnpike", "/usr/share/doc/turnpike/examples/monitoring/alerts.yaml",
                     "/usr/share/bash-completion/completions/turnpikectl", "/usr/share/man/man8/turnpiked.8.gz"):
            self.assertTrue(os.path.exists(ROOT + path), path)
        inside("id", "turnpike")
        self.assertEqual(os.stat(ROOT + "/etc/turnpike/turnpike.yaml").st_mode & 0o777, 0o640)
        self.configure()
        inside("turnpiked", "--check")
        inside("/etc/init.d/turnpike", "restart")     # there is no runlevel here in which dpkg would start it
        user, password = tc.rest_credentials(SECRET, "alice")
        with tc.Client(("127.0.0.1", 3478), user, password) as client, daemon.Peer() as peer:
            client.allocate()
            client.permit(peer.addr)
            self.relays(client, peer)
            before = self.pid()
            newer(self.package, ROOT + "/tmp")
            inside("dpkg", "-i", "/tmp/newer.deb")
            self.assertEqual(self.pid(), before)
            self.relays(client, peer)
            self.assertIn("upgrade", inside("cat", "/var/log/turnpike/turnpike.log").stdout)
        with open(ROOT + "/etc/turnpike/turnpike.yaml") as f:
            self.assertEqual(f.read(), CONFIG)              # an upgrade leaves the operator's file alone
        inside("logrotate", "-f", "/etc/logrotate.d/turnpike") if shutil.which("logrotate") else None
        inside("dpkg", "-r", "turnpike")
        self.assertFalse(os.path.exists("/proc/%d" % before))
        self.assertTrue(os.path.exists(ROOT + "/etc/turnpike/turnpike.yaml"))
        inside("dpkg", "-P", "turnpike")
        for path in ("/etc/turnpike/turnpike.yaml", "/var/lib/turnpike", "/var/log/turnpike", "/etc/init.d/turnpike"):
            self.assertFalse(os.path.exists(ROOT + path), path)
        self.assertNotEqual(inside("id", "turnpike", check=False).returncode, 0)


if __name__ == "__main__":
    if os.environ.get("TP_PREFIX") or os.geteuid() != 0 or not all(map(shutil.which, ("dpkg-buildpackage", "dh", "lintian"))):
        print("skipped: needs root, the build tree, debhelper and lintian")
        sys.exit(77)
    if not os.environ.get("TP_MOUNTS"):
        os.execvpe("unshare", ["unshare", "-m", sys.executable, *sys.argv], dict(os.environ, TP_MOUNTS="1"))
    daemon.isolate()
    unittest.main()
