#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make bench-dtls: very many DTLS sessions held by the server, and each answered by the successor of a killed worker.

  dtls.py [--sessions N] [--kills N] [--out FILE.md] [--server-cpu LIST] [--load-cpu LIST]

tests/bench/dtls_crowd makes the handshakes from as many addresses and ports and keeps the keys.  Then every worker is killed at
once (SIGKILL) and one Binding is asked over each session; the answer must name the client's own address.  It fails unless all
are answered, each time.  TP_PREFIX: an installed server.  Memory is the PSS of all its processes."""
import argparse
import os
import signal
import subprocess
import sys
import time

import bench

import daemon

CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: udp }}
  - {{ address: 127.0.0.1, port: {dtls}, transport: dtls }}""").replace("level: info", "level: warn") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ stream_deadline: 60s, handshake_timeout: 60s, handshakes_per_prefix: 0 }}
"""
CROWD = os.path.join(bench.BUILD, "tests", "bench", "dtls_crowd")


class Daemon(daemon.Daemon):
    cpus = None

    def command(self):
        return (["taskset", "-c", self.cpus] if self.cpus else []) + super().command()


class Crowd:
    """dtls_crowd hold: its lines, as dictionaries."""

    def __init__(self, port, sessions, cpus=None):
        self.process = subprocess.Popen([*(["taskset", "-c", cpus] if cpus else []), CROWD, "hold", "127.0.0.1:%d" % port,
                                         str(sessions)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError("dtls_crowd ended with %d" % self.process.wait())
        w = text.replace(",", "").split()
        return {"answered": int(w[1]), "of": int(w[3]), "at_once": int(w[4]), "seconds": int(w[7]) / 1000, "again": int(w[9])}

    def again(self):
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return self.line()

    def end(self):
        self.process.stdin.close()
        return self.process.wait(120)


def by_role(d):
    """KiB of PSS of each process, by role; "" is the supervisor."""
    found = {}
    for pid, role in [(d.process.pid, "")] + [(p, r[0]) for p, r in d.children().items()]:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            found[role] = found.get(role, 0) + sum(int(x.split()[1]) for x in f if x.startswith("Pss:"))
    return found


def kill_workers(d):
    before = d.children("worker")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    return set(before)


def run(o, out):
    d = Daemon(CONFIG, start=False, dtls=daemon.free_port())
    d.cpus = o.server_cpu
    daemon.certificate(d.dir)
    with d:
        d.start()
        warm = Crowd(d.values["dtls"], 500, o.load_cpu)     # what the first handshakes leave is not a session's
        warm.line()
        warm.end()
        daemon.until(lambda: d.counter("connections_opened") == d.counter("connections_closed"))
        time.sleep(2)
        idle = by_role(d)
        c = Crowd(d.values["dtls"], o.sessions, o.load_cpu)
        held = c.line()
        time.sleep(2)
        full = by_role(d)
        out("| | |\n|---|---|")
        out("| sessions with a Binding answered (handshakes that were begun again) | %d of %d (%d) |" % (held["answered"], held["of"],
                                                                                                held["again"]))
        out("| handshakes, each with a Binding, a second | %.0f |" % (held["of"] / held["seconds"]))
        out("| PSS of all processes before, KiB | %d |" % sum(idle.values()))
        out("| PSS with the sessions, KiB | %d |" % sum(full.values()))
        out("| bytes a session | %.0f |" % ((sum(full.values()) - sum(idle.values())) * 1024 / held["of"]))
        for role in sorted(full):
            out("| of which %s | %.0f |" % (role or "supervisor", (full[role] - idle.get(role, 0)) * 1024 / held["of"]))
        good = held["answered"] == o.sessions
        for i in range(o.kills):
            old = kill_workers(d)
            again = c.again()
            assert not old & set(d.children("worker"))
            out("| kill -9 of every worker (%d): answered by a successor, of these without asking again | %d of %d, %d; %.1f s |"
                % (i + 1, again["answered"], again["of"], again["at_once"], again["seconds"]))
            good &= again["answered"] == o.sessions
        full = by_role(d)
        out("| PSS then, KiB; bytes a session | %d; %.0f |" % (sum(full.values()), (sum(full.values()) - sum(idle.values()))
                                                               * 1024 / held["of"]))
        opened, closed = d.counter("connections_opened"), d.counter("connections_closed")
        good &= opened - closed == o.sessions
        out("| associations that the server has | %d |" % (opened - closed))
        good &= c.end() == 0
        daemon.until(lambda: d.counter("connections_opened") == d.counter("connections_closed"), 60)
        out("| and after their close_notify | %d |" % (d.counter("connections_opened") - d.counter("connections_closed")))
    return good


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sessions", type=int, default=100000)
    p.add_argument("--kills", type=int, default=2)
    p.add_argument("--out")
    p.add_argument("--server-cpu", default="0")
    p.add_argument("--load-cpu", default="1")
    o = p.parse_args()
    lines = []

    def out(text):
        print(text, flush=True)
        lines.append(text)
    out("%s\n`make bench-dtls`\n" % bench.machine())
    good = run(o, out)
    if o.out:
        with open(o.out, "w") as f:
            f.write("\n".join(lines) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    daemon.isolate()
    main()
