#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The manifests of contrib/kubernetes render, their configuration passes the check, and they agree with the image."""
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

import daemon

MANIFESTS = os.path.join(daemon.TOP_SRC, "contrib/kubernetes")
CONTAINERFILE = os.path.join(daemon.TOP_SRC, "contrib/container/Containerfile")
SECRET = "b7f0c6f1c3a94d0e8a57f2b1d6e9c4a3"


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="tp-manifests-")
        cls.addClassCleanup(shutil.rmtree, cls.dir, True)
        shutil.copytree(MANIFESTS, cls.dir + "/k")
        with open(cls.dir + "/k/secret", "w") as f:
            f.write(SECRET)
        cls.text = subprocess.run(["kubectl", "kustomize", cls.dir + "/k"], check=True, capture_output=True, text=True,
                                  timeout=60).stdout
        with open(CONTAINERFILE) as f:
            cls.image = f.read().split("\nFROM ")[-1]

    def document(self, kind):
        found = [d for d in self.text.split("\n---\n") if re.search(r"^kind: %s$" % kind, d, re.M)]
        self.assertEqual(len(found), 1, kind)
        return found[0]

    def configuration(self):
        block = re.search(r"^  turnpike.yaml: \|\n((?:    .*\n|\n)+)", self.document("ConfigMap"), re.M).group(1)
        return textwrap.dedent(block)

    def test_configuration_passes(self):
        config, secret = os.path.join(self.dir, "turnpike.yaml"), os.path.join(self.dir, "secret")
        value = re.search(r"^  secret: (\S+)$", self.document("Secret"), re.M).group(1)
        with open(secret, "wb") as f:
            f.write(base64.b64decode(value))
        os.chmod(secret, 0o440)
        with open(config, "w") as f:
            f.write(self.configuration().replace("/etc/turnpike/secret/secret", secret))
        args = json.loads(re.search(r"args: (\[.*\])", open_text(MANIFESTS + "/daemonset.yaml")).group(1))
        args = [a.replace("$(NODE_ADDRESS)", "127.0.0.1") for a in args]
        r = subprocess.run([daemon.paths()[0], "--check", "--config", config, "--libexec-dir", daemon.paths()[2], *args,
                            "--set", "relay.addresses=127.0.0.1"], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertNotIn("no effect", r.stderr)

    def test_agrees_with_the_image(self):
        pods = self.document("DaemonSet")
        entry = json.loads(re.search(r"^ENTRYPOINT (\[.*\])$", self.image, re.M).group(1))
        user = re.search(r"^USER (\d+):(\d+)$", self.image, re.M)
        self.assertIn("runAsUser: %s\n" % user.group(1), pods)
        self.assertIn("runAsGroup: %s\n" % user.group(2), pods)
        for option in ("--config", "--runtime-dir"):
            self.assertIn("mountPath: %s\n" % entry[entry.index(option) + 1], pods)

    def test_drain_ends_before_the_kill(self):
        minutes = int(re.search(r"shutdown_grace: (\d+)m", self.configuration()).group(1))
        self.assertLess(minutes * 60, int(re.search(r"terminationGracePeriodSeconds: (\d+)", self.document("DaemonSet")).group(1)))

    def test_no_privilege(self):
        pods = self.document("DaemonSet")
        for line in ("allowPrivilegeEscalation: false", "readOnlyRootFilesystem: true", "runAsNonRoot: true", "- ALL",
                     "automountServiceAccountToken: false"):
            self.assertIn(line, pods)


def open_text(path):
    with open(path) as f:
        return f.read()


if __name__ == "__main__":
    if not shutil.which("kubectl"):
        print("skipped: no kubectl (Debian package kubernetes-client)")
        sys.exit(77)
    unittest.main(verbosity=2)
