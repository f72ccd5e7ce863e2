#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The peer policy a second time, from its description, with ipaddress; judges what policy_print printed.

Usage: policy_print SEED COUNT | policy_oracle.py SEED
"""
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

NEVER = [ip_network(n) for n in ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")]
PRIVATE4 = [ip_network(n) for n in (
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24")]
GLOBAL6 = ip_network("2000::/3")
NOT_GLOBAL6 = [ip_network(n) for n in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
LAST32 = [ip_network(n) for n in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")]


def within(a, nets):
    return any(a.version == n.version and a in n for n in nets)


def inside(a):
    """Every IPv4 address that an IPv6 address carries."""
    if a.version == 4 or a == IPv6Address("::1"):
        return []
    found = []
    v = int(a)
    if within(a, LAST32) or (v >> 32) & 0xfdffffff == 0x5efe:
        found.append(IPv4Address(v & 0xffffffff))
    if a.sixtofour is not None:
        found.append(a.sixtofour)
    if a.teredo is not None:
        found.extend(a.teredo)
    return found


class Rules:
    def __init__(self, words):
        self.deny, self.allow, self.private, self.host, self.own, self.listener, self.relay = [], [], [], [], [], [], []
        for word in words:
            key, value = word.split("=")
            v = value.split(",")
            if key in ("deny", "allow", "private"):
                getattr(self, key).append(ip_network(value))
            elif key == "host":
                self.host.append(ip_address(value))
            elif key == "own":
                self.own.append((ip_address(v[0]), int(v[1]), int(v[2])))
            elif key == "listener":
                self.listener.append((ip_address(v[0]), int(v[1])))
            elif key == "relay":
                out = None if v[1] == "-" else ip_address(v[1])
                self.relay.append((ip_address(v[0]), out, int(v[2]), int(v[3])))

    def is_mine(self, a):
        return a in self.host or any(a in r[:2] for r in self.relay) or any(a == l[0] for l in self.listener)

    def is_listener(self, a, port):
        names = {a} | {r[0] for r in self.relay if r[1] == a}
        for ip, p in self.listener:
            if p == port and (ip in names or (int(ip) == 0 and self.is_mine(a))):
                return True
        return False

    def ok(self, a, port):
        if within(a, NEVER) or (port != 0 and self.is_listener(a, port)) or within(a, self.deny):
            return False
        for ip, out, low, high in self.relay:
            if a in (ip, out) and (port == 0 or low <= port <= high):
                return True
        for ip, low, high in self.own:
            if a == ip and (port == 0 or low <= port <= high):
                return True
        opened = within(a, self.private)
        if self.is_mine(a) and not opened:
            return False
        carried = inside(a)
        if not all(self.ok(c, port) for c in carried):
            return False
        if opened:
            return True
        if a.version == 4 and within(a, PRIVATE4):
            return False
        if a.version == 6 and (carried or a not in GLOBAL6 or within(a, NOT_GLOBAL6)):
            return False
        return not self.allow or within(a, self.allow)


def main():
    rules, judged, allowed = None, 0, 0
    for line in sys.stdin:
        words = line.split()
        if words[0] == "S":
            rules, shown = Rules(words[1:]), line
            continue
        want = rules.ok(ip_address(words[1]), int(words[2]))
        judged += 1
        allowed += want
        if want != (words[3] == "ok"):
            sys.exit("seed %s: %s\nin %soracle says %s" % (sys.argv[1], line.strip(), shown, "ok" if want else "no"))
    # A test that never sees one of the two answers tests nothing.
    if judged == 0 or not 0 < allowed < judged:
        sys.exit("nothing was judged")
    print("%d verdicts, %d allowed, seed %s" % (judged, allowed, sys.argv[1]))


main()
