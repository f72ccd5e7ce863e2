#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The table of doc/ipv6.md: which relay address a client gets by its family, its wish and the configuration."""
import itertools
import os
import unittest

import daemon
import turnclient as tc

HOST = {"IPv4": "127.0.0.1", "IPv6": "::1"}
FAMILY = {"IPv4": b"\1\0\0\0", "IPv6": b"\2\0\0\0"}
RELAYS = {"both": '127.0.0.1, "::1"', "IPv4": "127.0.0.1", "IPv6": '"::1"'}
WISH = {"nothing": b"", "IPv4": tc.attr("REQUESTED_ADDRESS_FAMILY", FAMILY["IPv4"]),
        "IPv6": tc.attr("REQUESTED_ADDRESS_FAMILY", FAMILY["IPv6"]),
        "IPv6 in addition": tc.attr("ADDITIONAL_ADDRESS_FAMILY", FAMILY["IPv6"])}


def table():
    """{(relays, default family): [(wish, result over IPv4, result over IPv6)]}"""
    rows = {}
    with open(os.path.join(daemon.TOP_SRC, "doc/ipv6.md")) as f:
        for line in f:
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if len(cells) == 5 and cells[0] in RELAYS:
                rows.setdefault((cells[0], cells[1]), []).append((cells[2], *cells[3:]))
    return rows


def config(relays, default):
    return daemon.DEFAULT.replace("addresses: [ 127.0.0.1 ]", "addresses: [ %s ]\n  default_family: %s" %
                                  (RELAYS[relays], default)).replace("transport: udp }}", """transport: [ udp, tcp ] }}
  - {{ address: "::1", port: {port}, transport: [ udp, tcp ] }}""")


def granted(client, wish):
    """What the client is told: IPv4, IPv6, both, or the error; and its relay addresses."""
    try:
        m = client.allocate(WISH[wish])
    except tc.TurnError as e:
        return str(e.code), []
    got = m.addresses("XOR_RELAYED_ADDRESS")
    families = ["IPv6" if ":" in a[0] else "IPv4" for a in got]
    return "both" if sorted(families) == ["IPv4", "IPv6"] else families[0], got


class Families(unittest.TestCase):
    def both_ways(self, client, relayed):
        """Data to a peer of the relay address's family, and back."""
        with daemon.Peer("::1" if ":" in relayed[0] else "127.0.0.1") as peer:
            client.permit(peer.addr)
            client.send_indication(peer.addr, b"there")
            self.assertEqual(peer.recv(), (b"there", relayed))
            peer.send(b"back", relayed)
            self.assertEqual(client.data()[:2], (peer.addr, b"back"))

    def row(self, d, wish, over, expected):
        for kind in (tc.Client, tc.StreamClient):
            with kind((HOST[over], d.port), "alice", "wonderland") as client:
                result, relayed = granted(client, wish)
                self.assertEqual(result, expected, kind.__name__)
                for address in relayed:
                    self.both_ways(client, address)

    def test_table(self):
        rows = table()
        self.assertGreater(sum(map(len, rows.values())), 12)
        for (relays, default), wishes in rows.items():
            with daemon.Daemon(config(relays, default)) as d:
                for (wish, *expected), over in itertools.product(wishes, HOST):
                    with self.subTest(relays=relays, default=default, wish=wish, over=over):
                        self.row(d, wish, over, expected[over == "IPv6"])


if __name__ == "__main__":
    daemon.isolate()
    unittest.main()
