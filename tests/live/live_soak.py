#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Load with churn for a while, over every transport: in the end memory, descriptors and ports are back where they began, and
not one packet came to another, twice, or changed.

Relayed traffic at 60 % of what this machine does at present, and beside it allocations, connections and handshakes that
come and go, clients that vanish without a word (soak only), a reload every few seconds.

TP_SOAK=1 (make soak): ten minutes; TP_SOAK_SECONDS: another time.  Otherwise a few seconds."""
import glob
import json
import os
import socket
import subprocess
import time
import unittest

import daemon

SOAK = bool(os.environ.get("TP_SOAK"))
SECONDS = float(os.environ.get("TP_SOAK_SECONDS", 600 if SOAK else 5))
LOAD = os.path.join(os.environ["TP_PREFIX"], "bin", "turnpike-load") if os.environ.get("TP_PREFIX") else \
    os.path.join(daemon.TOP_BUILD, "src", "prog", "turnpike-load")
PORTS = (50000, 59999)
CONFIG = daemon.DEFAULT.replace("transport: udp }}", """transport: [ udp, tcp ] }}
  - {{ address: 127.0.0.1, port: {tls}, transport: [ tls, dtls ] }}""").replace("relay:\n", """relay:
  ports: 50000-59999
  default_lifetime: 60s
  max_lifetime: 60s
""") + """
tls: {{ certificates: [ {{ certificate: cert.pem, key: key.pem }} ] }}
limits: {{ connections_per_prefix: 0, challenges_per_prefix: 0, bindings_per_prefix: 0 }}
"""
TRANSPORTS = {"udp": 120, "tcp": 30, "tls": 20, "dtls": 30}     # and allocations that relay all the time
SHARE = 0.6
IDLE = 600                  # seconds, IDLE_SECONDS of src/worker/accept.c
LEFT = 8                    # DTLS associations whose farewell was lost: they end after IDLE
# What a process may have more at the end than after the rehearsal, KiB: a worker's arena for datagrams is touched by the
# first bursts, which a short rehearsal need not have brought; a sanitizer keeps what was freed.
KIB_MORE = 1 << 20 if os.environ.get("ASAN_OPTIONS") else 1024 if SOAK else 16384


class Soak(unittest.TestCase):
    def setUp(self):
        self.d = daemon.Daemon(CONFIG, start=False, tls=daemon.free_port(kind=socket.SOCK_STREAM))
        daemon.certificate(self.d.dir)
        self.d.start()
        self.addCleanup(self.d.stop)
        self.running = []
        self.addCleanup(self.end_loads)

    # ---- loads ----

    def spawn(self, transport, *args):
        port = self.d.values["tls"] if transport in ("tls", "dtls") else self.d.port
        p = subprocess.Popen([LOAD, *map(str, args), "-S", "127.0.0.1:%d" % port, "-T", transport, "-u", "alice", "-w", "wonderland",
                              "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.running.append(p)
        return p

    def end_loads(self):
        for p in self.running:
            if p.poll() is None:
                p.kill()
                p.communicate()

    def report(self, p, within):
        out, err = p.communicate(timeout=within + 120)
        self.running.remove(p)
        self.assertTrue(out, err)
        return json.loads(out)

    def nothing_wrong(self, name, report):
        """Lost packets are a figure: this machine has other things to do; so are reordered ones, which it makes by moving a
        sender to another processor."""
        for direction in ("up", "down"):
            wrong = {k: report[direction][k] for k in ("duplicated", "damaged", "misdelivered")}
            self.assertEqual(set(wrong.values()), {0}, (name, direction, wrong))
        self.assertEqual(report["other"]["strange_source"], 0, name)

    def capacity(self):
        r = self.report(self.spawn("udp", "relay", "-n", 200, "-R", 4, "-d", "both", "-s", 2 if SOAK else 0.5, "--warmup", 0.3), 5)
        self.nothing_wrong("capacity", r)
        return r["steps"][0]["delivered_pps"]

    def all_of_it(self, seconds, pps):
        """Every transport relays, and sessions come and go."""
        relays = {t: self.spawn(t, "relay", "-n", n, "-R", 4, "-d", "both", "-s", seconds, "--warmup", 0, "-l", 160 + n, "-r",
                                pps * n / sum(TRANSPORTS.values()), *(["-i"] if t == "tls" else []))
                  for t, n in TRANSPORTS.items()}
        churn = {t: self.spawn(t, "setup", "-n", 16, "-s", seconds, "-r", 40 if t in ("tls", "dtls") else 100)
                 for t in TRANSPORTS}
        churn["connections"] = self.spawn("tls", "connect", "-n", 16, "-s", seconds, "-r", 20)
        self.meanwhile(seconds)
        totals = {"sent": 0, "lost": 0, "setups": 0, "failed": 0}
        for name, p in relays.items():
            r = self.report(p, seconds)
            # A machine that has no processor for a worker for long lets set-ups run out of time.
            self.assertGreater(r["setup"]["ready"], TRANSPORTS[name] / 2, (name, r["setup"], self.d.ctl("counters")[1]))
            totals["failed"] += r["setup"]["failed"]
            self.nothing_wrong(name, r)
            for direction in ("up", "down"):
                totals["sent"] += r[direction]["sent"]
                totals["lost"] += r[direction]["lost"]
        for name, p in churn.items():
            r = self.report(p, seconds)
            self.assertGreater(r["setup"]["ready"], 0, (name, r["setup"]))
            totals["setups"] += r["setup"]["ready"]
            totals["failed"] += r["setup"]["failed"]
        return totals

    def meanwhile(self, seconds):
        """A reload now and then; clients that vanish without a word, whose allocations and connections the server ends: a
        DTLS association after ten minutes of silence, so those are killed in the first half minute."""
        began, turn = time.monotonic(), 0
        end = began + seconds
        while time.monotonic() < end:
            time.sleep(max(0, min(2, end - time.monotonic())))
            self.d.ctl("reload")
            turn += 1
            transport = list(TRANSPORTS)[turn // 3 % len(TRANSPORTS)]
            if transport == "dtls" and (seconds < IDLE or time.monotonic() > began + 30):
                continue
            if SOAK and seconds > 60 and turn % 3 == 0 and time.monotonic() < end - 30:
                p = self.spawn(transport, "hold", "-n", 30, "-s", 60)
                time.sleep(1)
                p.kill()
                p.communicate()
                self.running.remove(p)

    # ---- what is held ----

    def idle(self):
        o = self.d.status()
        return o["sessions"] == 0 and o["ready"] and self.d.counter("half_open_handshakes") == 0 and self.open_now() <= LEFT

    def open_now(self):
        return self.d.counter("connections_opened") - self.d.counter("connections_closed")

    def processes(self):
        return {self.d.process.pid: ("supervisor", ""), **self.d.children()}

    def held(self):
        """{process: (KiB of its own, files not counted, descriptors)}, relay sockets bound."""
        found = {}
        for pid, name in self.processes().items():
            try:
                with open("/proc/%d/smaps_rollup" % pid) as f:
                    kib = sum(int(line.split()[1]) for line in f if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
                found[" ".join(name).strip()] = kib, len(glob.glob("/proc/%d/fd/*" % pid))
            except OSError:
                pass                # of another user, and we are not root
        bound = 0
        for path in ("/proc/net/udp", "/proc/net/udp6"):
            try:
                with open(path) as f:
                    ports = [int(line.split()[1].rsplit(":", 1)[1], 16) for line in f.readlines()[1:]]
            except OSError:
                continue
            bound += sum(PORTS[0] <= p <= PORTS[1] for p in ports)
        return found, bound

    def beside_relays(self, held, bound):
        """Descriptors but for the relay sockets, each of which the supervisor and one worker have."""
        kinds = {}
        for name, (_, n) in held.items():
            kinds[name.split()[0]] = kinds.get(name.split()[0], 0) + n
        for kind in ("supervisor", "worker"):
            if kind in kinds:
                kinds[kind] -= bound
        return kinds

    def settled(self):
        """All sessions have ended, and the pools are what they are for two looks in a row."""
        self.assertTrue(daemon.until(self.idle, 120), (self.open_now(), self.d.status()))
        last = []

        def quiet():
            time.sleep(1)
            last.append((self.held()[1], {k: v[1] for k, v in self.held()[0].items()}))
            return len(last) > 1 and last[-1] == last[-2]
        self.assertTrue(daemon.until(quiet, 60), last[-3:])
        found, bound = self.held()
        # No port is bound that the supervisor does not know of, and each is in a pool: there are no sessions.
        sockets = self.d.status()["sockets"]
        self.assertEqual((bound, bound), (sockets["relay"], sockets["pool"]), sockets)
        return found, bound

    def test_back_where_it_began(self):
        pps = self.capacity() * SHARE
        self.all_of_it(20 if SOAK else 2, pps)          # what is made once, is made
        before, bound = self.settled()
        self.assertGreater(bound, 0)
        totals = self.all_of_it(SECONDS, pps)
        print("%g s at %.0f packets/s: %d packets, %d lost; %d allocations and connections came and went, %d failed" % (
            SECONDS, pps, totals["sent"], totals["lost"], totals["setups"], totals["failed"]), flush=True)
        after, bound_after = self.settled()
        deaths, starved = self.d.counter("child_deaths"), self.d.text().count("no heartbeat for 3 s: killed")
        for name in before:
            print("%-14s %6d KiB -> %6d KiB, %4d -> %4d descriptors" % (name, before[name][0], after[name][0], before[name][1],
                                                                      after[name][1]))
        print("relay sockets bound %d -> %d; %d connections left; %d workers were given no processor for 3 s" % (
            bound, bound_after, self.open_now(), starved))
        self.assertEqual(deaths, starved)
        self.assertEqual(set(before), set(after))
        # The pools of sockets made ahead are anything from half full to full: the rest is compared.
        self.assertEqual(self.beside_relays(before, bound), self.beside_relays(after, bound_after))
        for name in before:
            self.assertLess(after[name][0] - before[name][0], KIB_MORE, name)
        self.assertEqual(self.d.ctl("verify")[0], 0)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
