#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench: Turnpike against a bare forwarder and coturn, alternated, CPU time per relayed packet.

  bench.py [--quick] [--pairs N] [--seconds S] [--servers turnpike,coturn,forwarder,forwarder-gso] [--out FILE.md]
           [--only TEXT] [--skip-setup]

Every server runs on one core (--server-cpu), the load on another (--load-cpu).  For each row of the matrix the servers
take turns (A B C A B C ...); the first turn is thrown away; the table has medians.  coturn is looked for in TP_COTURN: a
directory with Debian's package unpacked (apt-get download coturn; dpkg -x coturn_*.deb DIR), never installed.  Load and
servers come from the build tree (top_builddir).  Loopback only."""
import argparse
import datetime
import glob
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SRC = os.path.abspath(os.environ.get("top_srcdir", os.path.join(HERE, "..", "..")))
BUILD = os.path.abspath(os.environ.get("top_builddir", "."))
LOAD = os.path.join(BUILD, "src", "prog", "turnpike-load")
CREDENTIALS = ["--user", "alice", "--password", "wonderland"]


def tree(pid):
    """pid and all its descendants."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as f:
                text = f.read()
        except OSError:
            continue
        parents[int(path.split("/")[2])] = int(text.rsplit(")", 1)[1].split()[1])
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += [p for p, up in parents.items() if up == one]
    return found


def pss_kib(pid):
    total = 0
    for one in tree(pid):
        try:
            with open("/proc/%d/smaps_rollup" % one) as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        except OSError:
            pass
    return total


def slab_kib():
    with open("/proc/meminfo") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Slab:"))


def free_port():
    """Below the relay ports of all of them."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """A server process on its own core; args are what the load needs to talk to it."""
    def __init__(self, name, cpu):
        self.name, self.cpu, self.process, self.args = name, cpu, None, list(CREDENTIALS)
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="tp-bench-")

    def spawn(self, command, env=None):
        with open(os.path.join(self.dir, "out"), "ab") as log:
            self.process = subprocess.Popen(["taskset", "-c", self.cpu, *command], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=env, cwd=self.dir)

    def ready(self):
        """Answers a set-up."""
        end = time.monotonic() + 15
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            r = subprocess.run([LOAD, "relay", "-S", "127.0.0.1:%d" % self.port, *self.args, "-s", "0.1", "--warmup", "0",
                                "--packets", "1", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            if r.returncode == 0:
                return self
            time.sleep(0.2)
        with open(os.path.join(self.dir, "out"), errors="replace") as f:
            sys.exit("%s does not start:\n%s" % (self.name, f.read()[-2000:]))

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


class Forwarder(Server):
    def start(self):
        self.args = ["--bare"]
        gso = ["--gso"] if self.name.endswith("gso") else []
        self.spawn([os.path.join(BUILD, "tests", "bench", "forwarder"), *gso, "127.0.0.1:%d" % self.port])
        return self.ready()


class Coturn(Server):
    def start(self):
        root = os.environ["TP_COTURN"]
        libs = glob.glob(root + "/usr/lib/*-linux-gnu")
        env = dict(os.environ, LD_LIBRARY_PATH=":".join(libs))
        self.spawn([root + "/usr/bin/turnserver", "-n", "-u", "alice:wonderland", "-a", "-r", "x", "-L", "127.0.0.1",
                    "-E", "127.0.0.1", "-p", str(self.port), "--allow-loopback-peers", "--cli-password=x", "--no-tls",
                    "--no-dtls", "--no-cli", "--log-file=" + self.dir + "/log", "--simple-log",
                    "--pidfile=" + self.dir + "/pid", "--db=" + self.dir + "/db"], env)
        return self.ready()


CONFIG = """
auth:
  realm: example.org
  users: {{ alice: wonderland }}
listeners:
  - {{ address: 127.0.0.1, port: {port}, transport: udp }}
relay:
  addresses: [ 127.0.0.1 ]
peers:
  allow_private: [ 127.0.0.0/8 ]
process: {{ workers: {workers} }}
log: {{ level: warn, target: stderr }}
# the load is one address: its challenges are not to be counted
limits: {{ challenges_per_prefix: 0 }}
"""


class Turnpike(Server):
    def start(self):
        prog = os.path.join(BUILD, "src", "prog")
        config = os.path.join(self.dir, "turnpike.yaml")
        with open(config, "w") as f:
            f.write(CONFIG.format(port=self.port, workers=1))
        os.chmod(self.dir, 0o755)
        user = ["--set", "process.user=nobody"] if os.geteuid() == 0 else []
        self.spawn([os.path.join(prog, "turnpiked"), "-f", "--config", config, "--runtime-dir",
                    os.path.join(self.dir, "run"), "--libexec-dir", prog, *user])
        return self.ready()


def make(name, cpu):
    if name.startswith("forwarder"):
        return Forwarder(name, cpu)
    return Coturn(name, cpu) if name == "coturn" else Turnpike(name, cpu)


def available(wanted):
    """Says what is left out, so that no table looks complete by mistake."""
    names = []
    for name in wanted:
        if name == "coturn" and not os.path.exists(os.environ.get("TP_COTURN", "") + "/usr/bin/turnserver"):
            print("coturn left out: TP_COTURN does not name an unpacked package", file=sys.stderr)
        elif name == "turnpike" and not os.path.exists(os.path.join(BUILD, "src", "prog", "turnpiked")):
            print("turnpike left out: no turnpiked in the build tree", file=sys.stderr)
        else:
            names.append(name)
    return names


def load(server, args, cpu, timeout=120):
    command = ["taskset", "-c", cpu, LOAD, *args, "-S", "127.0.0.1:%d" % server.port, *server.args, "--pid-tree",
               str(server.process.pid), "--json"]
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, check=False)
    try:
        return json.loads(r.stdout)
    except ValueError:
        sys.exit("%s: %s" % (" ".join(command), r.stderr or r.stdout))


def matrix(quick):
    """(title, arguments of turnpike-load, channels?)"""
    rows = []
    flows = (1, 200, 1000) if quick else (1, 16, 200, 1000)
    runs = (1, 16) if quick else (1, 8, 16)
    for payload in ((120,) if quick else (120, 1000)):
        for n in flows:
            for run in runs:
                for direction in (("both",) if quick else ("up", "down", "both")):
                    for mode in (("channels",) if quick else ("channels", "indications")):
                        rows.append((payload, n, run, direction, mode))
    if quick:
        rows.append((120, 200, 1, "both", "indications"))
    return rows


def row_args(row, seconds):
    payload, n, run, direction, mode = row
    return ["relay", "-l", str(payload), "-n", str(n), "-R", str(run), "-d", direction, "-s", str(seconds), "--warmup", "0.2",
            "--window", str(max(128, 4 * run))] + (["-i"] if mode == "indications" else [])


def measure_row(servers, row, o):
    """{name: list of step results}; the servers take turns, the first turn does not count."""
    results = {s.name: [] for s in servers}
    for turn in range(o.pairs + 1):
        for s in servers:
            if row[4] == "indications" and s.name.startswith("forwarder"):
                continue
            j = load(s, row_args(row, o.seconds if turn else min(o.seconds, 0.3)), o.load_cpu)
            if turn and j["steps"]:
                results[s.name].append(j["steps"][0])
    return results


def cell(steps):
    if not steps:
        return "-"
    def m(key):
        return statistics.median(s[key] for s in steps)
    loss = m("loss")
    return "%.2f us, %.0fk%s (load %.1f)" % (m("server_cpu_us"), m("delivered_pps") / 1e3,
                                             ", loss %.2g %%" % (loss * 100) if loss else "", m("load_cpu_us"))


def data_table(servers, o, out):
    out("\n## Relayed packets\n\nCPU of all server processes per relayed packet, relayed packets a second, loss where there "
        "was any (CPU of the load per packet). Closed loop, window 128.\n")
    out("| payload | flows | R | direction | mode | " + " | ".join(s.name for s in servers) + " |")
    out("|---|---|---|---|---|" + "---|" * len(servers))
    for row in matrix(o.quick):
        if o.only and o.only not in " ".join(map(str, row)):
            continue
        r = measure_row(servers, row, o)
        out("| " + " | ".join(map(str, row)) + " | " + " | ".join(cell(r[s.name]) for s in servers) + " |")


def setup_table(servers, o, out):
    out("\n## Set-ups (401, Allocate, ChannelBind, Refresh 0; 64 under way)\n")
    out("| server | a second | server CPU us | load CPU us | p50 us | p99 us | failed |\n|---|---|---|---|---|---|---|")
    results = {s.name: [] for s in servers}
    for turn in range(o.pairs + 1):
        for s in servers:
            j = load(s, ["setup", "-n", "64", "-s", str(o.seconds if turn else 0.3)], o.load_cpu)["setup"]
            if turn:
                results[s.name].append(j)
    for name, js in results.items():
        med = lambda get: statistics.median(get(j) for j in js)
        out("| %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |" % (
            name, med(lambda j: j["per_second"]), med(lambda j: j.get("server_cpu_us", 0)), med(lambda j: j.get("load_cpu_us", 0)),
            med(lambda j: j["latency"]["p50_us"]), med(lambda j: j["latency"]["p99_us"]), med(lambda j: j["failed"])))


def memory_table(make_server, names, o, out):
    n = 1000 if o.quick else 5000
    out("\n## Memory of %d allocations, fresh server\n" % n)
    out("| server | idle PSS KiB | with allocations | bytes each, server | bytes each, kernel slab (the load's sockets "
        "included) |\n|---|---|---|---|---|")
    for name in names:
        s = make_server(name).start()
        time.sleep(1)
        before, slab = pss_kib(s.process.pid), slab_kib()
        p = subprocess.Popen(["taskset", "-c", o.load_cpu, LOAD, "hold", "-n", str(n), "-S", "127.0.0.1:%d" % s.port, *s.args,
                              "--rate", str(n), "-s", "6", "--json"], stdout=subprocess.PIPE, text=True)
        time.sleep(5)
        after, slab_after = pss_kib(s.process.pid), slab_kib()
        j = json.loads(p.communicate(timeout=60)[0])
        ready = j["setup"]["ready"]
        out("| %s | %d | %d | %.0f | %.0f |%s" % (name, before, after, (after - before) * 1024 / max(ready, 1),
                                                 (slab_after - slab) * 1024 / max(ready, 1),
                                                 "" if ready == n else " only %d ready" % ready))
        s.stop()


def machine():
    model = ""
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
    commit = subprocess.run(["git", "-C", SRC, "describe", "--always", "--dirty"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, check=False).stdout.strip()
    return "%s, %d CPUs, Linux %s; commit %s; %s" % (model, os.cpu_count(), platform.release(), commit or "unknown",
                                                     datetime.date.today())


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="under two minutes: fewer rows, three turns")
    p.add_argument("--pairs", type=int, help="turns that count (5; quick: 2)")
    p.add_argument("--seconds", type=float, help="length of one measurement (3; quick: 0.8)")
    p.add_argument("--servers", default="turnpike,forwarder,forwarder-gso,coturn")
    p.add_argument("--only", help="rows that contain this text, e.g. '120 200 1 both'")
    p.add_argument("--skip-setup", action="store_true", help="packets only")
    p.add_argument("--server-cpu", default="0")
    p.add_argument("--load-cpu", default="1")
    p.add_argument("--out", help="Markdown is written here too")
    o = p.parse_args()
    o.pairs = o.pairs or (2 if o.quick else 5)
    o.seconds = o.seconds or (0.8 if o.quick else 3)
    return o


def main():
    o = options()
    lines = []

    def out(text):
        print(text, flush=True)
        lines.append(text)
    names = available(o.servers.split(","))
    servers = [make(n, o.server_cpu) for n in names]
    try:
        out("# Bench\n\n%s\n\n`%s`" % (machine(), " ".join(["bench.py", *sys.argv[1:]])))
        for s in servers:
            s.start()
        data_table(servers, o, out)
        turn = [s for s in servers if not s.name.startswith("forwarder")]
        if not o.skip_setup and turn:
            setup_table(turn, o, out)
        for s in servers:
            s.stop()
        if not o.skip_setup and turn:
            memory_table(lambda n: servers.append(make(n, o.server_cpu)) or servers[-1], [s.name for s in turn], o, out)
    finally:
        for s in servers:
            s.stop()
        if o.out:
            with open(o.out, "w") as f:
                f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
