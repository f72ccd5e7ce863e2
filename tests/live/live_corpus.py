#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Configurations, good and bad: turnpiked --check gives each of tests/corpus the verdict and the first line that
tests/corpus/verdicts names.  With --update it writes that file: read the difference before you commit it."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import daemon

CORPUS = os.path.join(daemon.TOP_SRC, "tests/corpus")
VERDICTS = os.path.join(CORPUS, "verdicts")
SECRET = "uC4mZ0yJx0kQm7mB9fJtq3Yw2s8VdLhRkP"


def folder(top):
    """The files that the configurations name, readable as they must be."""
    os.umask(0o077)
    for name in os.listdir(CORPUS):
        if name.endswith(".yaml"):
            shutil.copyfile(os.path.join(CORPUS, name), os.path.join(top, name))
    for name, text, mode in (("secret", SECRET, 0o600), ("open", SECRET, 0o644), ("empty", "", 0o600)):
        path = os.path.join(top, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", "key.pem", "-out", "cert.pem", "-days", "400", "-subj", "/CN=turn.example.org"],
                   cwd=top, check=True, capture_output=True)
    subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", "other.pem"],
                   cwd=top, check=True, capture_output=True)


def verdict(top, name):
    """Exit status, and the first line about the configuration, without the folder's path."""
    turnpiked, _, libexec = daemon.paths()
    r = subprocess.run([turnpiked, "--libexec-dir", libexec, "--state-dir", top, "--check", "-c", os.path.join(top, name)],
                       capture_output=True, text=True, errors="replace", timeout=60)
    lines = (r.stderr + r.stdout).replace(top + "/", "").splitlines()
    return "%d %s" % (r.returncode, lines[0] if lines else "")


def verdicts():
    with tempfile.TemporaryDirectory() as top:
        folder(top)
        return {name[:-5]: verdict(top, name) for name in sorted(os.listdir(top)) if name.endswith(".yaml")}


class Corpus(unittest.TestCase):
    maxDiff = None

    def test_verdicts(self):
        with open(VERDICTS) as f:
            expected = dict(line.rstrip("\n").split(" ", 1) for line in f)
        found = verdicts()
        self.assertGreater(len(found), 200)
        for name in sorted(expected.keys() | found.keys()):
            with self.subTest(name):
                self.assertEqual(found.get(name), expected.get(name))
                self.assertEqual(found[name].split(" ")[0], "0" if name.startswith("good-") else "78")


if __name__ == "__main__":
    daemon.isolate()
    if "--update" in sys.argv:
        with open(VERDICTS, "w") as out:
            out.writelines("%s %s\n" % pair for pair in verdicts().items())
    else:
        daemon.other_user()
        unittest.main()
