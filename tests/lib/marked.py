# SPDX-License-Identifier: BSD-3-Clause
"""A daemon whose workers and turnpike-tls processes have crash points (tests/marked), and where they are to die: src/shm/crash.c."""
import mmap
import os
import shutil
import struct

import daemon

ROWS, ROW = 8, 32
PROGRAMS = os.path.join(daemon.TOP_BUILD, "tests", "marked")


class Orders:
    """The n-th passage of a point, by whichever process, is its last."""

    def __init__(self, directory):
        path = os.path.join(directory, "crash-orders")
        with open(path, "wb") as f:
            f.write(b"\0" * ROWS * ROW)
        os.chmod(path, 0o666)           # for any user of the children
        with open(path, "r+b") as f:
            self.rows = mmap.mmap(f.fileno(), ROWS * ROW)

    def arm(self, name, passage=1, row=0):
        at = row * ROW
        self.clear(row)
        self.rows[at + 8:at + ROW] = name.encode().ljust(ROW - 8, b"\0")
        self.rows[at:at + 4] = struct.pack("=I", passage)

    def clear(self, row=0):
        """False: too late, a process died of it."""
        at = row * ROW
        self.rows[at:at + 4] = struct.pack("=I", 0)
        died = self.dead(row) != 0
        self.rows[at + 4:at + 8] = struct.pack("=I", 0)
        return not died

    def dead(self, row=0):
        """The process that died of it, 0: none yet."""
        return struct.unpack_from("=I", self.rows, row * ROW + 4)[0]


def give(d, supervisor=False):
    """A daemon that is not started yet gets these programs, in a directory of its own; its orders."""
    where = os.path.join(d.dir, "bin")
    os.makedirs(where)
    for name in ("worker", "tls", "auth", "admin", "conf"):
        shutil.copy(os.path.join(PROGRAMS if name in ("worker", "tls") else d.libexec, "turnpike-" + name), where)
    shutil.copy(os.path.join(PROGRAMS, "turnpiked") if supervisor else d.turnpiked, where)
    d.turnpiked, d.libexec = os.path.join(where, "turnpiked"), where
    d.orders = Orders(where)
    return d.orders


def built():
    """Not beside an installation (TP_PREFIX), which has none."""
    return not os.environ.get("TP_PREFIX") and os.path.exists(os.path.join(PROGRAMS, "turnpike-worker"))
