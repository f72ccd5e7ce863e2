#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench-secure: TCP, TLS and DTLS to the client, beside coturn (TP_COTURN), alternated.

  secure.py [--turns N] [--seconds S] [--sessions N] [--hold S] [--only relay|handshake|memory] [--out FILE.md]

CPU of all server processes per relayed packet, client to peer; handshakes a second and their CPU; memory of a session with an
allocation.  The server runs on one core, the load on another.  turnpike-load is the client of both."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import bench

sys.path.insert(0, os.path.join(bench.HERE, "..", "lib"))
import daemon                    # noqa: E402  (the certificate)

KINDS = ("udp", "tcp", "tls", "dtls")
FEW = 20


class Turnpike(bench.Turnpike):
    def start(self):
        daemon.certificate(self.dir)
        self.secure = bench.free_port()
        self.more = "  - {{ address: {a}, port: {p}, transport: tcp }}\n  - {{ address: {a}, port: {s}, transport: tls }}\n" \
            "  - {{ address: {a}, port: {s}, transport: dtls }}\n" \
            "tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}\n".format(
                a=self.net.address, p=self.port, s=self.secure)
        return super().start()


class Coturn(bench.Coturn):
    def start(self):
        daemon.certificate(self.dir)
        self.secure = bench.free_port()
        root = os.environ["TP_COTURN"]
        libs = bench.glob.glob(root + "/usr/lib/*-linux-gnu")
        env = dict(os.environ, LD_LIBRARY_PATH=":".join(libs))
        self.spawn([root + "/usr/bin/turnserver", "-n", "-u", "alice:" + bench.PASSWORD, "-a", "-r", "x", "-L", self.net.address,
                    "-E", self.net.address, "-p", str(self.port), "--tls-listening-port", str(self.secure),
                    "--cert", self.dir + "/cert.pem", "--pkey", self.dir + "/key.pem", "--allow-loopback-peers",
                    "--cli-password=x", "--no-cli", "--log-file=" + self.dir + "/log", "--simple-log",
                    "--pidfile=" + self.dir + "/pid", "--db=" + self.dir + "/db"], env)
        return self.ready()


def run(server, kind, args, cpu):
    plain, server.port = server.port, server.secure if kind in ("tls", "dtls") else server.port
    try:
        return bench.load(server, [*args, "-T", kind], cpu)
    finally:
        server.port = plain


def cpu_us(pid):
    ticks = 0
    for one in bench.tree(pid):
        try:
            with open("/proc/%d/stat" % one) as f:
                ticks += sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:13])
        except OSError:
            pass
    return ticks * 1e6 / os.sysconf("SC_CLK_TCK")


def relay_table(servers, o, out):
    out("\n## CPU of the server per relayed packet, 120 bytes, client to peer, 50 flows\n\n| transport | R | "
        + " | ".join(s.name for s in servers) + " |\n|---|---|" + "---|" * len(servers))
    for kind in KINDS:
        for length in (1, 16):
            got = {s.name: [] for s in servers}
            for turn in range(o.turns + 1):
                for s in servers:
                    j = run(s, kind, ["relay", "-n", "50", "-R", str(length), "-s", str(o.seconds if turn else 0.3),
                                      "--warmup", "0.2"], o.load_cpu)
                    if turn and j.get("steps"):
                        got[s.name].append(j["steps"][0])
            out("| %s | %d | %s |" % (kind, length, " | ".join(bench.cell(got[s.name]) for s in servers)))


def handshake_table(servers, o, out):
    out("\n## Connections with handshake and one answer, 32 at once\n\n"
        "| transport | " + " | ".join("%s: a second, CPU us each" % s.name for s in servers) + " |\n|---|"
        + "---|" * len(servers))
    for kind in KINDS[1:]:
        cells = []
        for s in servers:
            before = cpu_us(s.process.pid)
            j = run(s, kind, ["connect", "-n", "32", "-s", str(o.seconds)], o.load_cpu)["connections"]
            cells.append("%.0f, %.0f" % (j["per_second"], (cpu_us(s.process.pid) - before) / max(1, j["made"])))
        out("| %s | %s |" % (kind, " | ".join(cells)))


def settled(pid):
    """PSS, when it has stopped changing for a second."""
    seen = []
    for _ in range(60):
        seen.append(bench.pss_kib(pid))
        if len(seen) >= 6 and max(seen[-6:]) - min(seen[-6:]) < 40:
            break
        time.sleep(0.2)
    return seen[-1]


def memory_table(o, servers, out):
    out("\n## PSS per session with an allocation, %d sessions more than %d\n\n| transport | " % (o.sessions - FEW, FEW)
        + " | ".join(s.name for s in servers) + " |\n|---|" + "---|" * len(servers))
    for kind in KINDS:
        cells = []
        for s in servers:
            one = type(s)(s.name, o.server_cpu, s.net).start()
            port, pss, ready = one.secure if kind in ("tls", "dtls") else one.port, [], []
            for count in (FEW, o.sessions):
                hold = subprocess.Popen(["taskset", "-c", o.load_cpu, bench.LOAD, "hold", "-S", "127.0.0.1:%d" % port, "-T", kind,
                                         *one.args, "-n", str(count), "-r", "200", "-s", "%d" % o.hold, "--json"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                time.sleep(o.hold * 0.6)
                pss.append(settled(one.process.pid))
                ready.append(json.loads(hold.communicate(timeout=120)[0])["setup"]["ready"])
                time.sleep(1)
            cells.append("%.0f" % ((pss[1] - pss[0]) * 1024 / max(1, ready[1] - ready[0])) +
                         ("" if ready[1] == o.sessions else " (only %d ready)" % ready[1]))
            one.stop()
        out("| %s | %s |" % (kind, " | ".join(cells)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--sessions", type=int, default=1000)
    p.add_argument("--hold", type=float, default=8.0, help="seconds that sessions are held, most of it to set them up")
    p.add_argument("--only", choices=("relay", "handshake", "memory"))
    p.add_argument("--out")
    p.add_argument("--server-cpu", default="0")
    p.add_argument("--load-cpu", default="1")
    o = p.parse_args()
    lines = []

    def out(text):
        print(text, flush=True)
        lines.append(text)
    net = bench.Net("lo")
    kinds = [Turnpike] + ([Coturn] if os.path.exists(os.environ.get("TP_COTURN", "") + "/usr/bin/turnserver") else [])
    servers = [k("turnpike" if k is Turnpike else "coturn", o.server_cpu, net) for k in kinds]
    out("%s\n`make bench-secure`" % bench.machine())
    try:
        for s in servers:
            s.start()
        if o.only in (None, "relay"):
            relay_table(servers, o, out)
        if o.only in (None, "handshake"):
            handshake_table(servers, o, out)
        if o.only in (None, "memory"):
            memory_table(o, servers, out)
    finally:
        for s in servers:
            s.stop()
    if o.out:
        with open(o.out, "w") as f:
            f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
