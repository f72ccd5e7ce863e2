# SPDX-License-Identifier: BSD-3-Clause
"""A TLS 1.3 client socket over libssl through ctypes: what Python's ssl does not offer is KeyUpdate."""
import ctypes
import select
import socket

import dtlsclient as dc

_method = dc._declare(dc._ssl, "TLS_client_method", ctypes.c_void_p)
_set_fd = dc._declare(dc._ssl, "SSL_set_fd", ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_key_update = dc._declare(dc._ssl, "SSL_key_update", ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_pending = dc._declare(dc._ssl, "SSL_pending", ctypes.c_int, ctypes.c_void_p)
_MODE, _PARTIAL_AND_MOVING, _MIN_PROTO, _TLS13 = 33, 3, 123, 0x0304
_WANT_READ, _WANT_WRITE, _ZERO_RETURN = 2, 3, 6
_context = dc._ctx_new(_method())


class Socket:
    """As ssl.SSLSocket, as far as turnclient.StreamClient and flows.py go."""

    def __init__(self, sock):
        self.sock, self.timeout = sock, sock.gettimeout()
        self.sock.setblocking(False)
        self.ssl = dc._new(_context)
        dc._ctrl(self.ssl, _MODE, _PARTIAL_AND_MOVING, None)
        dc._ctrl(self.ssl, _MIN_PROTO, _TLS13, None)
        _set_fd(self.ssl, sock.fileno())
        dc._connect_state(self.ssl)
        self.buffer = ctypes.create_string_buffer(65536)
        self._call(lambda: dc._handshake(self.ssl))

    def _call(self, what):
        while True:
            dc._clear()
            n = what()
            if n > 0:
                return n
            e = dc._get_error(self.ssl, n)
            if e == _ZERO_RETURN:
                return 0
            if e not in (_WANT_READ, _WANT_WRITE):
                raise OSError("TLS: error %d" % e)
            if self.timeout == 0:
                raise BlockingIOError
            if not any(select.select(*([self.sock], []) if e == _WANT_READ else ([], [self.sock]), [], self.timeout)):
                raise socket.timeout("TLS")

    def recv(self, size):
        n = self._call(lambda: dc._read(self.ssl, self.buffer, min(size, len(self.buffer))))
        return self.buffer.raw[:n]

    def send(self, data):
        return self._call(lambda: dc._write(self.ssl, data, len(data)))

    def sendall(self, data):
        while data:
            data = data[self.send(data):]

    def update(self, answer):
        """A KeyUpdate goes out with what is sent next; `answer`: the server's is asked for."""
        return _key_update(self.ssl, 1 if answer else 0) == 1

    def pending(self):
        return _pending(self.ssl)

    def settimeout(self, timeout):
        self.timeout = timeout

    def setblocking(self, on):
        self.timeout = None if on else 0

    def setsockopt(self, *args):
        self.sock.setsockopt(*args)

    def fileno(self):
        return self.sock.fileno()

    def getsockname(self):
        return self.sock.getsockname()

    def close(self):
        if self.ssl:
            dc._free(self.ssl)
            self.ssl = None
        self.sock.close()


class Context:
    def wrap_socket(self, sock, server_hostname=None):
        return Socket(sock)
