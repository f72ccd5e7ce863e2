#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench: Turnpike against a bare forwarder and coturn, alternated, CPU time per relayed packet.

  bench.py [--quick] [--pairs N] [--seconds S] [--servers NAME,...] [--nets lo,veth] [--only TEXT] [--out FILE.md]
           [--plots DIR] [--plots-from FILE.md ...] [--skip-packets] [--skip-setup] [--skip-memory] [--skip-workers]
           [--skip-start]

Servers: turnpike (io.engine: auto), turnpike-plain, turnpike-mmsg, turnpike-gso, forwarder, forwarder-gso,
forwarder-connected, forwarder-raw, coturn.  Every server runs on one core (--server-cpu), the load on another
(--load-cpu).  For each row of the matrix the servers take turns (A B C A B C ...); the first turn is thrown away; the table
has medians.  With `veth` (root) the server and the load have a network namespace each.  coturn is looked for in TP_COTURN: a
directory with Debian's package unpacked (apt-get download coturn; dpkg -x coturn_*.deb DIR), never installed.  Load and
servers come from the build tree (top_builddir).  The whole matrix is 144 rows, by servers, turns and nets: 45 minutes with --nets lo
--pairs 3 --seconds 0.25, and hours with more.  --plots-from draws tables that earlier runs wrote, and measures nothing."""
import argparse
import datetime
import glob
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

import record

HERE = os.path.dirname(os.path.abspath(__file__))
SRC = os.path.abspath(os.environ.get("top_srcdir", os.path.join(HERE, "..", "..")))
BUILD = os.path.abspath(os.environ.get("top_builddir", "."))
LOAD = os.path.join(BUILD, "src", "prog", "turnpike-load")
PASSWORD = "of-make-bench-and-nobody-else-7d41"      # a documented one is refused off loopback
CREDENTIALS = ["--user", "alice", "--password", PASSWORD]


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


class Group:
    """A memory cgroup for a server: what the kernel keeps for it alone."""
    def __init__(self):
        self.path = self.file = None
        for base, name in (("/sys/fs/cgroup/memory", "memory.kmem.usage_in_bytes"), ("/sys/fs/cgroup", "memory.stat")):
            path = "%s/tp-bench-%d" % (base, os.getpid())
            try:
                os.mkdir(path)
            except OSError:
                continue
            if os.path.exists(os.path.join(path, name)):
                self.path, self.file = path, os.path.join(path, name)
                return
            os.rmdir(path)

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as f:
            f.write(str(os.getpid()))

    def kernel_bytes(self):
        if self.path is None:
            return None
        with open(self.file) as f:
            text = f.read()
        rows = dict(line.split() for line in text.splitlines()) if self.file.endswith("stat") else {"slab": text}
        return int(rows["slab"])

    def close(self):
        if self.path is not None:
            os.rmdir(self.path)


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


class Net:
    """Where the server listens, and how a command gets to its side."""
    def __init__(self, name):
        self.name, self.address, self.server_side, self.load_side = name, "127.0.0.1", [], []
        self.spaces = []
        if name == "veth":
            self.make_veth()

    def make_veth(self):
        self.address = "10.255.83.1"
        self.spaces = ["tpb%ds" % os.getpid(), "tpb%dc" % os.getpid()]
        server, load_ = self.spaces
        self.server_side, self.load_side = (["ip", "netns", "exec", x] for x in self.spaces)
        for command in (["netns", "add", server], ["netns", "add", load_],
                        ["-n", server, "link", "add", "tpb0", "type", "veth", "peer", "name", "tpb1", "netns", load_],
                        ["-n", server, "addr", "add", "10.255.83.1/30", "dev", "tpb0"],
                        ["-n", load_, "addr", "add", "10.255.83.2/30", "dev", "tpb1"],
                        ["-n", server, "link", "set", "lo", "up"], ["-n", load_, "link", "set", "lo", "up"],
                        ["-n", server, "link", "set", "tpb0", "up"], ["-n", load_, "link", "set", "tpb1", "up"]):
            subprocess.run(["ip", *command], check=True)

    def close(self):
        for name in self.spaces:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)
        self.spaces = []


class Server:
    """A server process on its own core; args are what the load needs to talk to it."""
    def __init__(self, name, cpu, net):
        self.name, self.cpu, self.net, self.process, self.args = name, cpu, net, None, list(CREDENTIALS)
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="tp-bench-")
        self.group = None

    def spawn(self, command, env=None):
        with open(os.path.join(self.dir, "out"), "ab") as log:
            self.process = subprocess.Popen([*self.net.server_side, "taskset", "-c", self.cpu, *command], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=env, cwd=self.dir,
                                            preexec_fn=self.group.enter if self.group and self.group.path else None)

    def start(self):
        self.launch()
        return self.ready()

    def where(self):
        return "%s:%d" % (self.net.address, self.port)

    def ready(self):
        """Answers a set-up."""
        end = time.monotonic() + 15
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            r = subprocess.run([*self.net.load_side, LOAD, "relay", "-S", self.where(), *self.args, "-s", "0.1", "--warmup", "0",
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
        shutil.rmtree(self.dir, ignore_errors=True)


class Forwarder(Server):
    def launch(self):
        self.args = ["--bare"]
        way = ["--" + self.name.split("-")[1]] if "-" in self.name else []
        self.spawn([os.path.join(BUILD, "tests", "bench", "forwarder"), *way, self.where()])


class Coturn(Server):
    def launch(self):
        root = os.environ["TP_COTURN"]
        libs = glob.glob(root + "/usr/lib/*-linux-gnu")
        env = dict(os.environ, LD_LIBRARY_PATH=":".join(libs))
        self.spawn([root + "/usr/bin/turnserver", "-n", "-u", "alice:" + PASSWORD, "-a", "-r", "x", "-L", self.net.address,
                    "-E", self.net.address, "-p", str(self.port), "--allow-loopback-peers", "--cli-password=x", "--no-tls",
                    "--no-dtls", "--no-cli", "--log-file=" + self.dir + "/log", "--simple-log",
                    "--pidfile=" + self.dir + "/pid", "--db=" + self.dir + "/db"], env)


CONFIG = """
auth:
  realm: example.org
  users: {{ alice: '{password}' }}
listeners:
  - {{ address: {address}, port: {port}, transport: udp }}
{more}relay:
  addresses: [ {address} ]
peers:
  allow_private: [ 127.0.0.0/8, 10.255.83.0/30 ]
io: {{ engine: {engine}, cpu_affinity: "{affinity}" }}
process: {{ workers: {workers} }}
log: {{ level: warn, target: stderr }}
# the load is one address: its requests are not to be counted
limits: {{ challenges_per_prefix: 0, bindings_per_prefix: 0, connections_per_prefix: 0, half_open_per_prefix: 10000,
  handshakes_per_prefix: 0 }}
"""


class Turnpike(Server):
    workers, more, affinity = 1, "", "auto"

    def __init__(self, name, cpu, net):
        super().__init__(name, cpu, net)
        self.engine = name.split("-")[1] if "-" in name else "auto"

    def launch(self):
        prog = os.path.join(BUILD, "src", "prog")
        config = os.path.join(self.dir, "turnpike.yaml")
        with open(config, "w") as f:
            f.write(CONFIG.format(port=self.port, password=PASSWORD, address=self.net.address, workers=self.workers, more=self.more,
                                  engine=self.engine, affinity=self.affinity))
        os.chmod(self.dir, 0o755)
        user = ["--set", "process.user=nobody"] if os.geteuid() == 0 else []
        self.spawn([os.path.join(prog, "turnpiked"), "-f", "--config", config, "--runtime-dir",
                    os.path.join(self.dir, "run"), "--libexec-dir", prog, *user])


def make(name, cpu, net):
    kind = Forwarder if name.startswith("forwarder") else Coturn if name == "coturn" else Turnpike
    return kind(name, cpu, net)


def available(wanted):
    """Says what is left out, so that no table looks complete by mistake."""
    names = []
    for name in wanted:
        if name == "coturn" and not os.path.exists(os.environ.get("TP_COTURN", "") + "/usr/bin/turnserver"):
            print("coturn left out: TP_COTURN does not name an unpacked package", file=sys.stderr)
        elif name.startswith("turnpike") and not os.path.exists(os.path.join(BUILD, "src", "prog", "turnpiked")):
            print("turnpike left out: no turnpiked in the build tree", file=sys.stderr)
        else:
            names.append(name)
    return names


def load(server, args, cpu, timeout=120):
    command = [*server.net.load_side, "taskset", "-c", cpu, LOAD, *args, "-S", server.where(), *server.args, "--pid-tree",
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


def data_table(servers, rows, title, o, out):
    """Prints it, and returns {row: {name: CPU microseconds}} for the plots."""
    out("\n## %s\n\nCPU of all server processes per relayed packet, relayed packets a second, loss where there was any (CPU of "
        "the load per packet). Closed loop, window 128.\n" % title)
    out("| payload | flows | R | direction | mode | " + " | ".join(s.name for s in servers) + " |")
    out("|---|---|---|---|---|" + "---|" * len(servers))
    found = {}
    for row in rows:
        if o.only and not re.search(o.only, " ".join(map(str, row))):
            continue
        r = measure_row(servers, row, o)
        out("| " + " | ".join(map(str, row)) + " | " + " | ".join(cell(r[s.name]) for s in servers) + " |")
        found[row] = {name: statistics.median(x["server_cpu_us"] for x in steps) for name, steps in r.items() if steps}
    return found


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


def hold(s, n, seconds, o):
    return subprocess.Popen([*s.net.load_side, "taskset", "-c", o.load_cpu, LOAD, "hold", "-n", str(n), "-S", s.where(), *s.args,
                             "--rate", str(n), "-s", str(seconds), "--json"], stdout=subprocess.PIPE, text=True)


def memory_table(make_server, names, o, out):
    """What n allocations cost beside some that are there: what is touched once is not theirs."""
    n = 1000 if o.quick else 5000
    out("\n## Memory of %d allocations, beside %d\n" % (n, n // 5))
    out("| server | idle PSS KiB | with the few | with all | bytes each, server | bytes each, kernel slab (the load's sockets "
        "included) | bytes each, kernel memory of the server's cgroup |\n|---|---|---|---|---|---|---|")
    for name in names:
        s = make_server(name)
        s.group = Group()
        s.start()
        time.sleep(1)
        idle = pss_kib(s.process.pid)
        few = hold(s, n // 5, 16, o)
        time.sleep(4)
        before, slab, own = pss_kib(s.process.pid), slab_kib(), s.group.kernel_bytes()
        many = hold(s, n, 6, o)
        time.sleep(5)
        after, slab_after, own_after = pss_kib(s.process.pid), slab_kib(), s.group.kernel_bytes()
        ready = json.loads(many.communicate(timeout=60)[0])["setup"]["ready"]
        few.communicate(timeout=60)
        out("| %s | %d | %d | %d | %.0f | %.0f | %s |%s" % (
            name, idle, before, after, (after - before) * 1024 / max(ready, 1), (slab_after - slab) * 1024 / max(ready, 1),
            "-" if own is None else "%.0f" % ((own_after - own) / max(ready, 1)), "" if ready == n else " only %d ready" % ready))
        s.stop()
        s.group.close()


def first_answer(s):
    """Milliseconds from the start of the program to its first answer to a Binding request."""
    request = bytes.fromhex("000100002112a442") + b"start-to-here"[:12]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.connect((s.net.address, s.port))
        c.settimeout(0.001)
        began = time.monotonic()
        s.launch()
        while time.monotonic() < began + 15:
            try:
                c.send(request)
                if c.recv(500):
                    return (time.monotonic() - began) * 1000
            except OSError:             # the server is not up yet, or it takes its time
                time.sleep(0.0005)
    sys.exit("%s does not answer" % s.name)


def start_table(make_server, names, o, out):
    out("\n## Start to first answer (a Binding request each millisecond), milliseconds\n\n| server | median | worst | of |\n"
        "|---|---|---|---|")
    times = {name: [] for name in names}
    for turn in range(2 * o.pairs + 1):
        for name in names:
            s = make_server(name)
            ms = first_answer(s)
            s.stop()
            if turn:
                times[name].append(ms)
    for name in names:
        out("| %s | %.0f | %.0f | %d |" % (name, statistics.median(times[name]), max(times[name]), len(times[name])))


def idle_table(o, net, out):
    """PSS of each process, two workers, all regions and files shared among them counted once."""
    s = make("turnpike", o.server_cpu, net)
    s.workers = 2
    s.start()
    time.sleep(1)
    out("\n## Idle, two workers: PSS KiB\n\n| process | PSS | anonymous | files | shared memory |\n|---|---|---|---|---|")
    total = [0] * 4
    for pid in tree(s.process.pid):
        with open("/proc/%d/smaps_rollup" % pid) as f:
            kib = {line.split(":")[0]: int(line.split()[1]) for line in f if line.startswith("Pss")}
        with open("/proc/%d/comm" % pid) as f:
            name = f.read().strip()
        row = [kib[k] for k in ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")]
        total = [a + b for a, b in zip(total, row)]
        out("| %s | %s |" % (name, " | ".join(map(str, row))))
    out("| **all** | %s |" % " | ".join(map(str, total)))
    s.stop()


def stream_clients(s, port, secure, n):
    import turnclient as tc     # of tests/lib
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    clients = []
    for _ in range(n):
        c = tc.StreamClient((s.net.address, port), "alice", PASSWORD, timeout=10, tls=context if secure else None)
        c.allocate()
        clients.append(c)
    return clients


def stream_memory_table(o, net, out):
    """Sessions over TCP and TLS with an allocation each, idle; the clients are of this process."""
    import daemon               # of tests/lib: the certificate
    n = 200 if o.quick else 1000
    out("\n## Memory of %d stream sessions (an allocation each, idle), fresh server\n\n| transport | PSS KiB before | after | "
        "bytes each, server | bytes each, kernel slab (the clients' sockets included) |\n|---|---|---|---|---|" % n)
    for kind in ("tcp", "tls"):
        s = make("turnpike", o.server_cpu, net)
        port = free_port()
        s.more = "  - { address: %s, port: %d, transport: %s }\n" % (net.address, port, kind)
        if kind == "tls":
            daemon.certificate(s.dir)
            s.more += "tls: { certificates: [ { certificate: cert.pem, key: key.pem } ] }\n"
        s.start()
        for c in stream_clients(s, port, kind == "tls", 20):     # what is made once
            c.close()
        time.sleep(2)
        before, slab = pss_kib(s.process.pid), slab_kib()
        clients = stream_clients(s, port, kind == "tls", n)
        time.sleep(2)
        after, slab_after = pss_kib(s.process.pid), slab_kib()
        out("| %s | %d | %d | %.0f | %.0f |" % (kind, before, after, (after - before) * 1024 / n, (slab_after - slab) * 1024 / n))
        for c in clients:
            c.close()
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
    p.add_argument("--quick", action="store_true", help="a few minutes: fewer rows, two turns, loopback")
    p.add_argument("--pairs", type=int, help="turns that count (5; quick: 2)")
    p.add_argument("--seconds", type=float, help="length of one measurement (1; quick: 0.8)")
    p.add_argument("--servers", help="turnpike-plain,turnpike-mmsg,turnpike-gso,forwarder,forwarder-gso,coturn; quick: "
                   "turnpike,forwarder,forwarder-gso,coturn")
    p.add_argument("--nets", help="lo,veth (quick, or not root: lo)")
    p.add_argument("--only", help="rows that match this expression, e.g. '^120 (200|1000) 1 both'")
    for part in ("packets", "setup", "memory", "workers", "start"):
        p.add_argument("--skip-" + part, action="store_true")
    p.add_argument("--server-cpu", default="0")
    p.add_argument("--load-cpu", default="1")
    p.add_argument("--workers-cpus", default="0,1", help="of the two workers of workers.py")
    p.add_argument("--out", help="Markdown is written here too")
    p.add_argument("--plots", help="directory for the charts of record.py")
    p.add_argument("--plots-from", nargs="+", metavar="FILE", help="draw the tables of these files into --plots, measure nothing")
    o = p.parse_args()
    o.pairs = o.pairs or (2 if o.quick else 5)
    o.seconds = o.seconds or (0.8 if o.quick else 1)
    o.servers = o.servers or ("turnpike,forwarder,forwarder-gso,coturn" if o.quick else
                              "turnpike-plain,turnpike-mmsg,turnpike-gso,forwarder,forwarder-gso,coturn")
    o.nets = o.nets or ("lo" if o.quick or os.geteuid() != 0 else "lo,veth")
    return o


def one_net(net, names, o, out):
    servers = [make(n, o.server_cpu, net) for n in names]
    try:
        for s in servers:
            s.start()
        if not o.skip_packets:
            found = data_table(servers, matrix(o.quick), "Relayed packets, " + net.name, o, out)
            if o.plots:
                record.draw({net.name: found}, o.plots)
        turn = [s for s in servers if not s.name.startswith("forwarder")]
        if not o.skip_setup and turn and net.name == "lo":
            setup_table(turn, o, out)
    finally:
        for s in servers:
            s.stop()


def main():
    o = options()
    if o.plots_from:
        record.draw(record.read(o.plots_from), o.plots or ".")
        return
    lines, nets, extra, loopback = [], [], [], Net("lo")

    def out(text):
        print(text, flush=True)
        lines.append(text)

    def fresh(name):
        extra.append(make(name, o.server_cpu, loopback))
        return extra[-1]
    names = available(o.servers.split(","))
    try:
        out("# Bench\n\n%s\n\n`%s`" % (machine(), " ".join(["bench.py", *sys.argv[1:]])))
        for name in o.nets.split(","):
            nets.append(Net(name))
            one_net(nets[-1], names, o, out)
        tp = [n for n in names if n.startswith("turnpike")]
        whole = tp[:1] + [n for n in names if n == "coturn"]
        if whole and not o.skip_start:
            start_table(fresh, whole, o, out)
        if tp and not o.skip_workers:
            import workers      # it stands on this file
            workers.table(argparse.Namespace(pairs=o.pairs, seconds=max(o.seconds, 2), cpus=o.workers_cpus), out)
        if not o.skip_memory:
            memory_table(fresh, whole, o, out)
            if tp:
                idle_table(o, loopback, out)
                stream_memory_table(o, loopback, out)
    finally:
        for s in extra:
            s.stop()
        for net in nets:
            net.close()
        if o.out:
            with open(o.out, "w") as f:
                f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
