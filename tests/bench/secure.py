#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench-secure: TCP, TLS and DTLS to the client, beside coturn (TP_COTURN), alternated.

  secure.py [--turns N] [--seconds S] [--sessions N] [--hold S] [--only relay|handshake|memory] [--out FILE.md]

CPU of all server processes per relayed packet; of a handshake, beside libssl alone in memory; memory of a session with an
allocation.  The server runs on one core, the load on another.  turnpike-load is the client of both."""
import argparse
import json
import os
import statistics
import subprocess
import time

import bench

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
    out("\n## CPU of the server per relayed packet, 120 bytes, 50 flows\n\n| transport | R | direction | "
        + " | ".join(s.name for s in servers) + " |\n|---|---|---|" + "---|" * len(servers))
    for kind in KINDS:
        for length in (1, 16):
            for way in ("up", "down"):
                got = {s.name: [] for s in servers}
                for turn in range(o.turns + 1):
                    for s in servers:
                        j = run(s, kind, ["relay", "-n", "50", "-R", str(length), "-d", way, "-s", str(o.seconds if turn else 0.3),
                                          "--warmup", "0.2"], o.load_cpu)
                        if turn and j.get("steps"):
                            got[s.name].append(j["steps"][0])
                out("| %s | %d | %s | %s |" % (kind, length, way, " | ".join(bench.cell(got[s.name]) for s in servers)))


def handshakes(s, kind, seconds, cpu):
    """Of one server: made a second, CPU us of all its processes each, and which cipher."""
    before = cpu_us(s.process.pid)
    j = run(s, kind, ["connect", "-n", "32", "-s", str(seconds)], cpu)["connections"]
    return j["per_second"], (cpu_us(s.process.pid) - before) / max(1, j["made"]), j.get("cipher", "")


def bare(cpu):
    """{"tls": us, "dtls": us, "what": which handshake}: libssl alone, in memory, the server's calls."""
    r = subprocess.run(["taskset", "-c", cpu, os.path.join(bench.BUILD, "tests", "bench", "bench_tlsd"), "bare"],
                       stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return json.loads(r.stdout)


def group(s, kind):
    """The group that the server of this name takes; what openssl's client offers is what turnpike-load does."""
    r = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % s.secure,
                        "-dtls1_2" if kind == "dtls" else "-tls1_3"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL, text=True, timeout=20, check=False)
    for line in r.stdout.splitlines():
        if line.startswith("Server Temp Key:"):
            return line.split(":", 1)[1].strip()
    return "?"


def handshake_table(servers, o, out):
    out("\n## Handshakes, each with one answered Binding, 32 at once: a second and core, CPU us of all processes\n\n"
        "Medians of %d turns.  libssl: SSL_new, SSL_do_handshake, SSL_free of the server in memory, without sockets, cookies and "
        "Bindings.\n\n| transport | " % o.turns + " | ".join(s.name for s in servers)
        + " | libssl alone | turnpike / libssl | same handshake? |\n|---|" + "---|" * (len(servers) + 3))
    for kind in KINDS[1:]:
        got, alone, what = {s.name: [] for s in servers}, [], set()
        for turn in range(o.turns + 1):
            for s in servers:
                one = handshakes(s, kind, o.seconds if turn else 0.3, o.load_cpu)
                if turn:
                    got[s.name].append(one)
                    what.add("%s %s" % (s.name, one[2]))
            if turn and kind != "tcp":
                alone.append(bare(o.server_cpu))
        us = {name: statistics.median(x[1] for x in rows) for name, rows in got.items()}
        cells = ["%.0f, %.0f us" % (1e6 / us[s.name], us[s.name]) for s in servers]
        if kind == "tcp":
            out("| tcp | %s | - | - | - |" % " | ".join(cells))
            continue
        own = statistics.median(x[kind] for x in alone)
        what = sorted(what) + ["%s %s" % (s.name, group(s, kind)) for s in servers] + ["libssl " + alone[0][kind + "_what"]]
        out("| %s | %s | %.0f, %.0f us | %.0f %% | %s |" % (kind, " | ".join(cells), 1e6 / own, own, 100 * own / us["turnpike"],
                                                       "; ".join(what)))


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
