# SPDX-License-Identifier: BSD-3-Clause
"""Starts the real daemon (installed or from the build tree) for a test and ends exactly what it started."""
import contextlib
import faulthandler
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

TOP_BUILD = os.path.abspath(os.environ.get("top_builddir", "."))
TOP_SRC = os.path.abspath(os.environ.get("top_srcdir", os.path.join(os.path.dirname(__file__), "..", "..")))


def isolate():
    """Re-executes the test in a network namespace of its own (root, or an unprivileged user namespace), with loopback
    up; without either it runs on the host's loopback."""
    if os.environ.get("TP_SKIP_LIVE"):
        print("skipped: TP_SKIP_LIVE is set")
        sys.exit(77)
    if os.environ.get("TP_NETNS") or os.environ.get("TP_NO_NETNS"):
        if os.environ.get("TP_NETNS"):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
            keep_ports_apart()
        if not os.environ.get("TP_SOAK"):       # a test that hangs says where, and ends
            faulthandler.dump_traceback_later(1800, exit=True)
        return
    env = dict(os.environ, TP_NETNS="1")
    flags = ["-n"] if os.geteuid() == 0 else ["-rn"]
    if shutil.which("unshare") and shutil.which("ip") and \
            subprocess.run(["unshare", *flags, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.execvpe("unshare", ["unshare", *flags, sys.executable, *sys.argv], env)


def other_user():
    """A process of another user, while this one lives: without any, a container may have files that all may read."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "sleep", "infinity"], user=65533, stdin=subprocess.DEVNULL)


def keep_ports_apart():
    """The kernel gives clients no port of a relay range (49152 on, or of a test's own): a test that needs every port of
    such a range would fail by chance.  Nor one that free_port() gives."""
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv4/ip_local_port_range", "w") as f:
        f.write("12000 32767")


# A child that its system call filter killed: a row is missing in syscalls.def.
FORBIDDEN = "(Bad system call)"
SANITIZER = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error: ")
failures = []
given = set()


def tell_more_on_failure():
    """A failed case prints what the daemons of this program logged last: on another machine nothing else is left."""
    def wrapped(method):
        def record(self, test, err):
            failures.append(str(test))
            return method(self, test, err)
        return record
    unittest.TextTestResult.addFailure = wrapped(unittest.TextTestResult.addFailure)
    unittest.TextTestResult.addError = wrapped(unittest.TextTestResult.addError)


tell_more_on_failure()


def free_port(host="127.0.0.1", kind=socket.SOCK_DGRAM):
    # Not the kernel's choice: that is often inside the default relay range, which the configuration check refuses.
    # None twice: a daemon's listeners are not bound yet when the next is chosen.
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as s:
            try:
                s.bind((host, random.randrange(10000, 12000)))
            except OSError:
                continue
            port = s.getsockname()[1]
            if port not in given:
                given.add(port)
                return port


def paths():
    """(turnpiked, turnpikectl, libexec directory): TP_PREFIX names an installation, else the build tree."""
    prefix = os.environ.get("TP_PREFIX")
    if prefix:
        return prefix + "/sbin/turnpiked", prefix + "/bin/turnpikectl", prefix + "/libexec/turnpike"
    prog = os.path.join(TOP_BUILD, "src", "prog")
    return os.path.join(prog, "turnpiked"), os.path.join(prog, "turnpikectl"), prog


DEFAULT = """
auth:
  realm: example.org
  users: {{ alice: wonderland, bob: builder }}
  secrets: [ {{ value: "a-secret-of-the-test-suite-0123456789" }} ]
listeners:
  - {{ address: 127.0.0.1, port: {port}, transport: udp }}
relay:
  addresses: [ 127.0.0.1 ]
peers:
  allow_private: [ 127.0.0.0/8, "::1/128" ]
process: {{ workers: 2 }}
log: {{ level: info, target: stderr }}
metrics: {{ address: 127.0.0.1, port: {metrics} }}
"""
SECRET = "a-secret-of-the-test-suite-0123456789"


def certificate(directory):
    """A self-signed one, made by openssl; its paths."""
    crt, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90",
                    "-subj", "/CN=turn.test", "-addext", "subjectAltName=DNS:turn.test", "-out", crt, "-keyout", key],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.chmod(key, 0o600)


def until(condition, within=60.0):
    """The last value of condition(): true as soon as it is, asked once a look.  For what must come: a slow machine is
    no failure, and on none is it waited for longer than it takes."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def reach(read, value, within=60.0):
    """What read() says once it is `value` or more, or at last: assertEqual(reach(...), value) waits for what is on its
    way and then finds what came too often, too."""
    until(lambda: read() >= value, within)
    return read()


def memory(pids):
    """Bytes that the processes hold, shared ones counted once.  Not of files: what of a library counts as whose changes
    with every other process that maps it."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError), open("/proc/%d/smaps_rollup" % pid) as f:
            total += sum(int(x.split()[1]) << 10 for x in f if x.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total


def is_sanitized(pid):
    """By AddressSanitizer, which keeps what was freed, and calls what it likes."""
    with open("/proc/%d/maps" % pid) as f:
        return "libasan" in f.read()


def has_ended(pid):
    """And let go of what it held: its locks and ports outlive its name and memory."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def kill_all(pids, sig=signal.SIGKILL):
    """Those that were still there."""
    hit = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)
            hit.append(pid)
    return hit


def tls_context(version=None):
    """Of a client that trusts every certificate; version: only that one."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    if version:
        c.minimum_version = c.maximum_version = version
    return c


class Daemon:
    def __init__(self, config=None, args=(), start=True, files=None, **values):
        self.dir = tempfile.mkdtemp(prefix="tp-live-")
        os.chmod(self.dir, 0o755)
        self.port = values.pop("port", None) or free_port()
        self.metrics = values.pop("metrics", None) or free_port(kind=socket.SOCK_STREAM)
        self.server = ("127.0.0.1", self.port)
        self.config = os.path.join(self.dir, "turnpike.yaml")
        self.runtime = os.path.join(self.dir, "run")
        self.logfile = os.path.join(self.dir, "log")
        self.values = dict(values, port=self.port, metrics=self.metrics, dir=self.dir)
        for name, text in (files or {}).items():
            with open(os.path.join(self.dir, name), "w") as f:
                f.write(text)
            os.chmod(os.path.join(self.dir, name), 0o600)
        self.write(config or DEFAULT)
        self.turnpiked, self.turnpikectl, self.libexec = paths()
        self.args = list(args)
        if os.geteuid() == 0 and "process.user" not in " ".join(self.args):
            # Root of a test has no `turnpike` user; the children become this one.
            self.args += ["--set", "process.user=" + os.environ.get("TP_USER", "nobody")]
            os.chmod(self.dir, 0o755)
        # make check-engines: every live test on another engine than `auto` would take, but for those that choose one.
        if os.environ.get("TP_ENGINE") and "engine:" not in (config or ""):
            self.args += ["--set", "io.engine=" + os.environ["TP_ENGINE"]]
        self.process = None
        if start:
            self.start()

    def copy_programs(self):
        """Programs that every user may run, in a directory of this daemon: a build below /root can be run by root only."""
        where = os.path.join(self.dir, "bin")
        os.mkdir(where)
        os.chmod(where, 0o755)
        for path in (self.turnpiked, self.turnpikectl,
                     *(os.path.join(self.libexec, n) for n in os.listdir(self.libexec) if n.startswith("turnpike-"))):
            if os.path.isfile(path) and os.access(path, os.X_OK):
                shutil.copy(path, where)
        self.turnpiked, self.turnpikectl = os.path.join(where, "turnpiked"), os.path.join(where, "turnpikectl")
        self.libexec = where

    def write(self, text):
        """As an editor does it: a reload that runs finds the old file or the new one, not half of it."""
        with open(self.config + ".new", "w") as f:
            f.write(text.format(**self.values))
        os.replace(self.config + ".new", self.config)

    def command(self):
        return [self.turnpiked, "-f", "--config", self.config, "--runtime-dir", self.runtime,
                "--libexec-dir", self.libexec, *self.args]

    def start(self, wait=120):
        self.log = open(self.logfile, "ab")
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError("turnpiked ended with %d:\n%s" % (self.process.returncode, self.text()))
            if self.ready():
                return self
            time.sleep(0.02)
        raise RuntimeError("turnpiked is not ready:\n" + self.text())

    def ready(self):
        try:
            return json.loads(self.ctl("status", as_json=True, check=False)[1] or "{}").get("ready", False)
        except (ValueError, OSError):
            return False

    def ctl(self, *args, as_json=False, check=True):
        r = subprocess.run([self.turnpikectl, "--runtime-dir", self.runtime, *(["--json"] if as_json else []), *args],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        if check and r.returncode != 0:
            raise RuntimeError("turnpikectl %s: %d: %s%s" % (" ".join(args), r.returncode, r.stdout, r.stderr))
        return r.returncode, r.stdout if as_json or r.returncode == 0 else r.stdout + r.stderr

    def status(self):
        return json.loads(self.ctl("status", as_json=True)[1])

    def http(self, path, headers=()):
        try:
            url = "http://127.0.0.1:%d%s" % (self.metrics, path)
            with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=60) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def counter(self, name, **labels):
        """Sum over all rows of a metric that carry these labels."""
        total = 0.0
        for line in self.http("/metrics")[1].splitlines():
            if line.startswith("#") or not line.startswith("turnpike_" + name):
                continue
            head, value = line.rsplit(" ", 1)
            base = head.split("{")[0]
            if base not in ("turnpike_" + name, "turnpike_" + name + "_total"):
                continue
            if all('%s="%s"' % (k, v) in head for k, v in labels.items()):
                total += float(value)
        return total

    def drops(self, reason):
        return self.counter("drops", reason=reason)

    def kids(self):
        """The kernel leaves one out when another ends while it makes this list: read until two say the same."""
        pid, last = self.process.pid, None
        while True:
            try:
                with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
                    now = f.read().split()
            except OSError:
                return []
            if now == last:
                return now
            last = now

    def children(self, role=None):
        """{pid: (role, index)} of living children, by command line; turnpike-conf, which comes and goes, only by name."""
        found = {}
        for kid in self.kids():
            try:
                with open("/proc/%s/cmdline" % kid) as f:
                    argv = f.read().split("\0")
                with open("/proc/%s/stat" % kid) as f:
                    state = f.read().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            name = os.path.basename(argv[0])
            if state != "Z" and name.startswith("turnpike-"):
                kind = name[len("turnpike-"):]
                if role == kind or (role is None and kind != "conf"):
                    found[int(kid)] = (kind, argv[1] if len(argv) > 1 else "")
        return found

    def supervisor(self):
        """The process that works, 0: none at this moment.  The one that was started waits for it."""
        for kid in self.kids():
            try:
                with open("/proc/%s/comm" % kid) as f, open("/proc/%s/stat" % kid) as g:
                    if f.read() == "turnpike-super\n" and g.read().rsplit(")", 1)[1].split()[0] != "Z":
                        return int(kid)
            except OSError:
                continue
        return 0

    def replaced(self, role, gone, count=None):
        """All of `gone` have successors, or there are `count`: by one look, because two see two different lists."""
        now = self.children(role)
        return len(now) >= (len(gone) if count is None else count) and not set(now) & set(gone)

    def text(self):
        try:
            with open(self.logfile, errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def stop(self, sig=signal.SIGTERM, wait=60):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(wait)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError("turnpiked did not end:\n" + self.text())
        self.judge_log()
        return self.process.returncode if self.process else None

    def judge_log(self):
        """What a sanitizer found in any child fails the test, though the child may have gone on or been replaced."""
        text = self.text()
        for mark in SANITIZER:
            at = text.find(mark)
            if at >= 0:
                raise RuntimeError("a sanitizer's finding:\n" + text[max(0, at - 300):at + 4000])
        if FORBIDDEN in text:
            at = text.find(FORBIDDEN)
            raise RuntimeError("a child made a system call that syscalls.def does not permit:\n" + text[max(0, at - 2000):at + 100])
        if failures:
            failures.clear()
            sys.stderr.write("--- log of turnpiked, its end ---\n%s\n---\n" % text[-4000:])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.stop()
        finally:
            if kind is not None:
                sys.stderr.write("--- log of turnpiked ---\n%s\n---\n" % self.text()[-8000:])
            if not os.environ.get("TP_KEEP"):
                shutil.rmtree(self.dir, ignore_errors=True)


class Peer:
    """A UDP peer that can echo."""

    def __init__(self, host="127.0.0.1"):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind((host, 0))
        self.addr = self.sock.getsockname()[:2]

    def recv(self, timeout=20.0):
        self.sock.settimeout(timeout)
        try:
            data, src = self.sock.recvfrom(65536)
            return data, src[:2]
        except socket.timeout:
            return None

    def send(self, data, to):
        self.sock.sendto(data, to)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
