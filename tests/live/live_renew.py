#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a worker does to kernel objects that its successors share ends with its violent death: filters at listeners,
registrations in the epolls.  The test makes the damage by copies of the supervisor's descriptors (pidfd_getfd)."""
import ctypes
import mmap
import os
import re
import select
import signal
import socket
import struct
import unittest

import daemon
import turnclient as tc

CONFIG = daemon.DEFAULT.replace("workers: 2", "workers: 2, shards: 4").replace(
    "transport: udp", "transport: [ udp, tcp ]") + "limits: {{ allocations_per_user: 100 }}\n"
SO_ATTACH_FILTER = 26
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438
FOREIGN = 900
libc = ctypes.CDLL(None, use_errno=True)


def copies(pid, wanted):
    """Descriptors of a process whose link begins so: (its number, a copy)."""
    pidfd = libc.syscall(SYS_PIDFD_OPEN, pid, 0)
    found = []
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            if not os.readlink("/proc/%d/fd/%s" % (pid, name)).startswith(wanted):
                continue
        except OSError:
            continue
        fd = libc.syscall(SYS_PIDFD_GETFD, pidfd, int(name), 0)
        if fd < 0:
            raise unittest.SkipTest("pidfd_getfd: " + os.strerror(ctypes.get_errno()))
        found.append((int(name), fd))
    os.close(pidfd)
    return found


def registrations(pid, fd):
    """Numbers that an epoll of a process knows."""
    with open("/proc/%d/fdinfo/%d" % (pid, fd)) as f:
        return [int(n) for n in re.findall(r"tfd:\s*(\d+)", f.read())]


def is_shared(d, number):
    """A shard's, which a worker has under the same number; not the supervisor's own."""
    mine = registrations(d.supervisor(), number)
    for pid in d.children("worker"):
        try:
            if mine and registrations(pid, number) == mine:
                return True
        except OSError:
            pass
    return False


def damage(d):
    """Every listener is silenced, every shard's epoll has one of them under a number that no worker has."""
    sup = d.supervisor()
    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(drop))
    listeners = []
    for number, fd in copies(sup, "socket:"):
        s = socket.socket(fileno=fd)
        try:
            if s.family == socket.AF_INET and s.getsockname() == d.server and (
                    s.type == socket.SOCK_DGRAM or s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
                s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
                listeners.append(s)
        except OSError:
            pass
    udp = next(s for s in listeners if s.type == socket.SOCK_DGRAM)
    os.dup2(udp.fileno(), FOREIGN)
    for number, fd in copies(sup, "anon_inode:[eventpoll]"):
        if is_shared(d, number):
            select.epoll.fromfd(fd).register(FOREIGN, select.EPOLLOUT)
    os.close(FOREIGN)
    return len(listeners)


def is_damaged(d):
    sup = d.supervisor()
    numbers = [n for name in os.listdir("/proc/%d/fd" % sup)
               if os.readlink("/proc/%d/fd/%s" % (sup, name)) == "anon_inode:[eventpoll]"
               for n in registrations(sup, int(name))]
    return FOREIGN in numbers


class Renew(unittest.TestCase):
    def works(self, c, p):
        """Both ways; what was lost in the death is sent again."""
        for _ in range(100):
            c.channel_data(0x4000, b"up")
            if p.recv(0.2) is None:
                continue
            p.send(b"down", c.relayed)
            got = c.data(0.2)
            if got is not None and got[1] == b"down":
                return
        self.fail("a session does not relay")

    def test_damage_ends_with_a_violent_death(self):
        with daemon.Daemon(CONFIG) as d:
            flows = []
            for i in range(40):
                c = (tc.StreamClient if i % 4 == 0 else tc.Client)(d.server, "alice", "wonderland")
                p = daemon.Peer()
                c.allocate()
                c.bind(0x4000, p.addr)
                flows.append((c, p))
            rested = tc.Client(d.server, "bob", "builder")
            for _ in range(20):
                rested.allocate()
                rested.refresh(0)
            self.assertEqual(damage(d), 8)
            self.assertTrue(is_damaged(d))
            with tc.Client(d.server, timeout=1) as c:
                self.assertIsNone(c.binding())
            # A plain SIGKILL comes from outside: the sockets stay.  This shows that the damage is one.
            victims = d.children("worker")
            daemon.kill_all(victims)
            self.assertTrue(daemon.until(lambda: not set(victims) & set(d.children("worker")) and d.ready()))
            self.assertTrue(is_damaged(d))
            for sig in (signal.SIGTRAP, signal.SIGABRT):
                victims = d.children("worker")
                daemon.kill_all(victims, sig)
                self.assertTrue(daemon.until(lambda: not set(victims) & set(d.children("worker")) and d.ready()))
                self.assertFalse(is_damaged(d))
                for c, p in flows:
                    self.works(c, p)
                    c.refresh(600)
                for kind in (tc.Client, tc.StreamClient):
                    for _ in range(20):
                        with kind(d.server) as c:
                            self.assertIsNotNone(c.binding())
            for _ in range(20):
                rested.allocate()
                rested.refresh(0)
            self.assertEqual(d.status()["sessions"], len(flows))
            self.assertEqual(d.ctl("verify")[0], 0)

    def test_verify_sees_locks_and_counts(self):
        with daemon.Daemon(CONFIG) as d:
            clients = [tc.Client(d.server, "alice", "wonderland") for _ in range(9)]
            for c in clients:
                c.allocate()
            self.assertEqual(d.ctl("verify")[0], 0)
            page = os.sysconf("SC_PAGESIZE")
            for n, fd in copies(d.supervisor(), "/memfd:turnpike-cross"):
                try:
                    region = mmap.mmap(fd, 2 * page)
                    break
                except OSError:
                    continue
            total = next(at for at in range(0, page, 64) if struct.unpack_from("Q", region, at)[0] == len(clients))
            for value in (8, 16000000):
                struct.pack_into("Q", region, total, value)
                code, text = d.ctl("verify", check=False)
                self.assertNotEqual(code, 0)
                self.assertIn("total", text)
                struct.pack_into("Q", region, total, len(clients))
            self.assertEqual(d.ctl("verify")[0], 0)
            # One of a worker that runs: it is not freed, but it is seen.
            struct.pack_into("I", region, page + 3 * 64, 1)
            code, text = d.ctl("verify", check=False)
            self.assertNotEqual(code, 0)
            self.assertIn("lock word 3 is held by owner 0", text)
            struct.pack_into("I", region, page + 3 * 64, 0)
            self.assertEqual(d.ctl("verify")[0], 0)


if __name__ == "__main__":
    daemon.isolate()
    unittest.main(verbosity=2, warnings="ignore")
