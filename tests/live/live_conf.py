#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""turnpike-conf as a program: exit codes, output, and what it hands to the supervisor."""
import array
import fcntl
import os
import pwd
import re
import socket
import struct
import subprocess
import tempfile
import unittest

import daemon

BUILD = os.environ.get("top_builddir", ".")
SRC = os.environ.get("top_srcdir", ".")
PREFIX = os.environ.get("TP_PREFIX")
CONF = os.path.join(PREFIX, "libexec/turnpike/turnpike-conf") if PREFIX else os.path.join(BUILD, "src/prog/turnpike-conf")
ERROR, WARN = 0, 1
LOOPBACK = "listeners: { address: 127.0.0.1 }\nrelay: { addresses: 127.0.0.1 }\n"
SECRET = "uC4mZ0yJx0kQm7mB9fJtq3Yw2s8VdLhRkP"
# F_SEAL_SEAL, SHRINK, GROW, WRITE
SEALS, F_GET_SEALS = 0x1 | 0x2 | 0x4 | 0x8, 1034


def msg_number(name):
    """The number that include/tp/tbl/msgs.def gives a message."""
    with open(os.path.join(SRC, "include/tp/tbl/msgs.def")) as f:
        return 1 + re.findall(r"^MSG\((\w+),", f.read(), re.M).index(name)


TEXT, BLOB, DONE = (msg_number("CONF_" + n) for n in ("TEXT", "BLOB", "DONE"))


class Program(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.addCleanup(self.tmp.cleanup)

    def write(self, text, name="t.yaml", mode=0o600):
        path = os.path.join(self.tmp.name, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def run_conf(self, *args):
        return subprocess.run([CONF, *args], capture_output=True, text=True, env={}, timeout=30)

    def test_check(self):
        path = self.write(LOOPBACK + "auth: { secrets: %s }\n" % SECRET)
        r = self.run_conf("--check", path)
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, path + ": configuration ok\n", ""))
        path = self.write(LOOPBACK + "metrics: { port: 010 }\nauth: { relm: x }\n")
        r = self.run_conf("--check", path)
        self.assertEqual((r.returncode, r.stdout), (78, ""))
        self.assertEqual([line.rsplit("t.yaml", 1)[1][:6] for line in r.stderr.splitlines()], [":3:18:", ":4:9: "])

    def test_check_makes_no_secret(self):
        r = self.run_conf("--state-dir", self.tmp.name, "--check", self.write(LOOPBACK))
        self.assertEqual(r.returncode, 0)
        self.assertIn(self.tmp.name + "/secret", r.stderr)
        self.assertEqual(os.listdir(self.tmp.name), ["t.yaml"])

    def check(self, text, *args):
        """Exit code and what --check says of a configuration."""
        r = self.run_conf(*args, "--check", self.write(text))
        return r.returncode, r.stderr

    def refuses(self, text, *said, code=78, args=()):
        got, err = self.check(text, *args)
        self.assertEqual(got, code, err)
        for part in said:
            self.assertIn(part, err)

    def test_what_is_easily_got_wrong(self):
        credentials = "auth: { secrets: %s }\n" % SECRET
        self.refuses(LOOPBACK + "include: nothing.yaml\n", "nothing.yaml", "no such file")
        self.assertEqual(self.check(LOOPBACK + credentials + "include: [ 'nothing*.yaml' ]\n")[0], 0)
        self.refuses(LOOPBACK + "auth: { secrets: [ '${TURN_SECRET}' ] }\n", "not expanded")
        self.refuses(LOOPBACK + "auth: { users: { a: '${PASSWORD}' } }\n", "not expanded")
        self.refuses(LOOPBACK + 'auth:\n  realm: "example.org\n  users: {}\n', ":4:10: ", "quote that begins here")
        self.refuses("listening-port=3478\nfingerprint\nuser=a:b\nrealm=x.org\n# x\nlt-cred-mech\n", "coturn2turnpike")
        self.refuses(LOOPBACK + credentials + "log: { target: /nowhere/at/all/log }\n", "log.target", "make it")
        self.refuses(LOOPBACK + credentials + "log: { target: %s }\n" % self.tmp.name, "a directory")
        os.symlink("/dev/stderr", os.path.join(self.tmp.name, "link"))
        self.refuses(LOOPBACK + credentials + "log: { target: ./link }\n", "symbolic link")

    @unittest.skipIf(os.geteuid() != 0, "needs users")
    def test_user_that_a_start_would_refuse(self):
        credentials = "auth: { secrets: %s }\n" % SECRET
        self.refuses(LOOPBACK + credentials + "process: { user: nosuchuser }\n", "no user nosuchuser")
        self.refuses(LOOPBACK + credentials + "process: { user: root }\n", "is root")

    def test_ports_that_are_taken(self):
        udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
        with udp, tcp:
            udp.bind(("127.0.0.1", 0))
            tcp.bind(("127.0.0.1", 0))
            tcp.listen()
            free = ("--runtime-dir", self.tmp.name)
            base = "relay: { addresses: 127.0.0.1, ports: 60100-60200 }\nauth: { secrets: %s }\n" % SECRET
            at = "listeners: { address: 127.0.0.1, port: %d, transport: %s }\n"
            u, t = udp.getsockname()[1], tcp.getsockname()[1]
            self.refuses(base + at % (u, "udp"), "that port", code=69, args=free)
            self.refuses(base + at % (t, "tcp"), "that port", code=69, args=free)
            self.assertEqual(self.check(base + at % (t, "udp") if t != u else base, *free)[0], 0)
            self.refuses(base + "listeners: { address: 127.0.0.1 }\nmetrics: { address: 127.0.0.1, port: %d }\n" % t,
                         "metrics", code=69, args=free)
            # The very daemon that a start would follow has them.
            with open(os.path.join(self.tmp.name, "turnpiked.pid"), "w") as f:
                f.write("%d\n" % os.getpid())
            self.assertEqual(self.check(base + at % (u, "udp"), *free)[0], 0)

    @unittest.skipIf(os.geteuid() != 0, "needs users")
    def test_check_and_start_read_by_the_same_rights(self):
        nobody = pwd.getpwnam("nobody")
        os.chmod(self.tmp.name, 0o755)
        text = LOOPBACK + "auth: { secrets: { file: s } }\nprocess: { user: nobody }\n"

        def both(uid, gid, mode, directory=0o755):
            path = self.write(SECRET + "\n", "s", 0o600)
            os.chown(path, uid, gid)
            os.chmod(path, mode)
            os.chmod(self.tmp.name, directory)
            code, err = self.check(text)
            started, _ = self.supervise("--config", self.write(text))
            self.assertEqual(code, started)
            return code, err

        self.assertEqual(both(0, 0, 0o600), (0, ""))
        self.assertEqual(both(0, nobody.pw_gid, 0o640), (0, ""))
        self.assertEqual(both(nobody.pw_uid, nobody.pw_gid, 0o600), (0, ""))
        self.assertEqual(both(nobody.pw_uid, nobody.pw_gid, 0o400, 0o700), (0, ""))
        code, err = both(12345, nobody.pw_gid, 0o040)
        self.assertEqual((code, "user without a name (12345)" in err), (0, True))
        code, err = both(12345, 12345, 0o600)
        self.assertEqual((code, "chown root" in err), (0, True))
        # Root reads this by a power that a start does not have.
        self.assertEqual(both(0, 0, 0o000)[0], 78)
        # The configuration itself may be the service user's.
        path = self.write(LOOPBACK + "auth: { secrets: %s }\nprocess: { user: nobody }\n" % SECRET)
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
        r = self.run_conf("--check", path)
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    @unittest.skipIf(os.geteuid() != 0, "needs namespaces")
    def test_mounted_secrets_of_a_container(self):
        text = LOOPBACK + "auth: { secrets: { file: s } }\nprocess: { user: nobody }\n"
        self.write(SECRET + "\n", "s", 0o444)
        self.refuses(text, "all users may read")
        r = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", CONF, "--check", self.write(text)],
                           capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, timeout=30)
        if "unshare" in r.stderr:
            self.skipTest(r.stderr)
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    def test_usage(self):
        for args in ([], ["--check"], ["--sample", "--man"], ["--sample", "x"], ["--nonsense"], ["--fd", "x"]):
            self.assertEqual(self.run_conf(*args).returncode, 64, args)

    def test_dump_loads(self):
        first = self.run_conf("--dump", self.write(LOOPBACK + "auth: { secrets: %s }\n" % SECRET))
        self.assertEqual(first.returncode, 0)
        self.assertNotIn(SECRET, first.stdout)
        second = self.run_conf("--dump", self.write(first.stdout))
        self.assertEqual(second.stdout, first.stdout.replace("1 secrets", "0 secrets"))

    def test_set(self):
        r = self.run_conf("--set", "metrics.port=99", "--foreground", "--dump", self.write(LOOPBACK))
        self.assertIn("  port: 99\n", r.stdout)
        self.assertIn("  target: stderr\n", r.stdout)

    def supervise(self, *args):
        """Plays the supervisor; the exit code and every message as (type, generation, bytes, descriptor)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(30)
        child = subprocess.Popen([CONF, *args, "--generation", "7", "--fd", str(theirs.fileno())],
                                 pass_fds=[theirs.fileno()], env={})
        theirs.close()
        messages = []
        while True:
            data, anc, _, _ = ours.recvmsg(65536, socket.CMSG_SPACE(16))
            if not data:
                break
            fds = array.array("i")
            for _, _, raw in anc:
                fds.frombytes(raw)
            kind, generation = struct.unpack("II", data[:8])
            messages.append((kind, generation, data[8:], fds[0] if fds else None))
            if fds:
                self.addCleanup(os.close, fds[0])
        ours.close()
        return child.wait(30), messages

    def test_supervised(self):
        code, messages = self.supervise("--config", self.write(LOOPBACK + "auth: { secrets: %s }\n" % SECRET))
        self.assertEqual(code, 0)
        self.assertEqual([m[0] for m in messages], [BLOB, BLOB, BLOB, DONE])
        self.assertEqual(struct.unpack("IIII", messages[3][2]), (1, 0, 0, 0))
        for i, (_, generation, body, fd) in enumerate(messages[:3]):
            blob, _, size = struct.unpack("IIQ", body)
            self.assertEqual((blob, generation), (i, 7))
            self.assertEqual(os.fstat(fd).st_size, size)
            self.assertEqual(os.fstat(fd).st_mode & 0o7777, 0o600)
            self.assertEqual(fcntl.fcntl(fd, F_GET_SEALS) & SEALS, SEALS)
            self.assertEqual(SECRET.encode() in os.pread(fd, size, 0), i == 1)

    def test_supervised_errors(self):
        code, messages = self.supervise("--config", self.write("metrics: { port: 0 }\nauth: { relm: x }\n" + LOOPBACK))
        self.assertEqual(code, 78)
        self.assertEqual([m[0] for m in messages], [TEXT, TEXT, DONE])
        self.assertEqual(struct.unpack("I", messages[0][2][:4]), (ERROR,))
        self.assertIn(b"t.yaml:1:18: metrics.port", messages[0][2])
        self.assertEqual(struct.unpack("IIII", messages[2][2]), (0, 2, 0, 0))

    def test_first_secret(self):
        path = self.write(LOOPBACK)
        state = os.path.join(self.tmp.name, "state")
        os.mkdir(state)
        blobs = []
        for said in (b"was made", b"is used"):
            code, messages = self.supervise("--config", path, "--state-dir", state)
            self.assertEqual((code, [m[0] for m in messages]), (0, [TEXT, BLOB, BLOB, BLOB, DONE]))
            self.assertEqual(struct.unpack("I", messages[0][2][:4]), (WARN,))
            self.assertIn(said, messages[0][2])
            blobs.append(os.pread(messages[2][3], 1 << 20, 0))
        self.assertEqual(blobs[0], blobs[1])
        with open(os.path.join(state, "secret"), "rb") as f:
            secret = f.read().strip()
        self.assertEqual(len(secret), 43)
        self.assertIn(secret, blobs[0])
        self.assertEqual(os.listdir(state), ["secret"])


if __name__ == "__main__":
    daemon.other_user()
    unittest.main()
