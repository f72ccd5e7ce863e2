# SPDX-License-Identifier: BSD-3-Clause
"""A TURN client over DTLS 1.2: libssl through ctypes, with memory BIOs, so that a test sees and may change each datagram."""
import ctypes
import ctypes.util
import time

import turnclient as tc

_path = ctypes.util.find_library("ssl") or "libssl.so.3"
_ssl, _crypto = ctypes.CDLL(_path), ctypes.CDLL(_path.replace("ssl", "crypto"))


class _Timeval(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("usec", ctypes.c_long)]


def _declare(lib, name, result, *args):
    f = getattr(lib, name)
    f.restype, f.argtypes = result, args
    return f


_p, _i, _l = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
_method = _declare(_ssl, "DTLS_client_method", _p)
_ctx_new = _declare(_ssl, "SSL_CTX_new", _p, _p)
_new = _declare(_ssl, "SSL_new", _p, _p)
_free = _declare(_ssl, "SSL_free", None, _p)
_set_bio = _declare(_ssl, "SSL_set_bio", None, _p, _p, _p)
_connect_state = _declare(_ssl, "SSL_set_connect_state", None, _p)
_handshake = _declare(_ssl, "SSL_do_handshake", _i, _p)
_read = _declare(_ssl, "SSL_read", _i, _p, ctypes.c_char_p, _i)
_write = _declare(_ssl, "SSL_write", _i, _p, ctypes.c_char_p, _i)
_shutdown = _declare(_ssl, "SSL_shutdown", _i, _p)
_get_shutdown = _declare(_ssl, "SSL_get_shutdown", _i, _p)
_get_error = _declare(_ssl, "SSL_get_error", _i, _p, _i)
_ctrl = _declare(_ssl, "SSL_ctrl", _l, _p, _i, _l, _p)
_ciphers = _declare(_ssl, "SSL_set_cipher_list", _i, _p, ctypes.c_char_p)
_options = _declare(_ssl, "SSL_set_options", ctypes.c_uint64, _p, ctypes.c_uint64)
_bio_new = _declare(_crypto, "BIO_new", _p, _p)
_mem = _declare(_crypto, "BIO_s_mem", _p)
_bio_read = _declare(_crypto, "BIO_read", _i, _p, ctypes.c_char_p, _i)
_bio_write = _declare(_crypto, "BIO_write", _i, _p, ctypes.c_char_p, _i)
_clear = _declare(_crypto, "ERR_clear_error", None)
_NO_QUERY_MTU, _SET_MTU, _GET_TIMEOUT, _HANDLE_TIMEOUT = 1 << 12, 17, 73, 74
_context = _ctx_new(_method())


class Dtls:
    """The session without a socket: datagrams in, datagrams out."""

    def __init__(self, ciphers=None):
        self.ssl, self.into, self.out = _new(_context), _bio_new(_mem()), _bio_new(_mem())
        _set_bio(self.ssl, self.into, self.out)
        _options(self.ssl, _NO_QUERY_MTU)
        _ctrl(self.ssl, _SET_MTU, 1400, None)
        if ciphers:
            assert _ciphers(self.ssl, ciphers.encode()) == 1
        _connect_state(self.ssl)
        self.done = False

    def free(self):
        if self.ssl:
            _free(self.ssl)
            self.ssl = None

    def drain(self):
        """The records that are to be sent, one each: libssl's memory BIO joins datagrams."""
        buf, raw = ctypes.create_string_buffer(65536), b""
        while (n := _bio_read(self.out, buf, len(buf))) > 0:
            raw += buf.raw[:n]
        records = []
        while raw:
            n = 13 + int.from_bytes(raw[11:13], "big")
            records.append(raw[:n])
            raw = raw[n:]
        return records

    def step(self, datagram=None):
        if datagram is not None:
            _bio_write(self.into, datagram, len(datagram))
        _clear()
        r = _handshake(self.ssl)
        if r == 1:
            self.done = True
        elif _get_error(self.ssl, r) not in (2, 3):
            raise OSError("DTLS handshake failed")
        return self.drain()

    def timeout(self):
        """Seconds until something must be sent again, None: nothing."""
        t = _Timeval()
        return t.sec + t.usec / 1e6 if _ctrl(self.ssl, _GET_TIMEOUT, 0, ctypes.addressof(t)) == 1 else None

    def again(self):
        _clear()
        _ctrl(self.ssl, _HANDLE_TIMEOUT, 0, None)
        return self.drain()

    def seal(self, data):
        _clear()
        assert _write(self.ssl, data, len(data)) == len(data)
        return b"".join(self.drain())

    def open(self, datagram=None):
        """The content of a datagram (or of what is left of one before), or None."""
        if datagram is not None:
            _bio_write(self.into, datagram, len(datagram))
        buf = ctypes.create_string_buffer(20000)
        _clear()
        n = _read(self.ssl, buf, len(buf))
        return buf.raw[:n] if n > 0 else None

    def closed(self):
        return (_get_shutdown(self.ssl) & 2) != 0

    def close(self):
        _clear()
        _shutdown(self.ssl)
        return b"".join(self.drain())


class DtlsClient(tc.Client):
    def __init__(self, server, user=None, password=None, local=None, timeout=20.0, within=60.0, ciphers=None, handshake=True):
        super().__init__(server, user, password, local, timeout)
        self.dtls = Dtls(ciphers)
        if handshake:
            self.handshake(within)

    def handshake(self, within=60.0, lose=lambda n: False, vain=lambda: False):
        """`lose`: of the n-th datagram sent or received, whether it is lost.  `vain`: true when it is to be given up."""
        end, count = time.monotonic() + within, 0

        def send(records):
            nonlocal count
            for r in records:
                count += 1
                if not lose(count):
                    super(DtlsClient, self).raw(r)
        send(self.dtls.step())
        while not self.dtls.done:
            left = end - time.monotonic()
            if left <= 0 or vain():
                raise TimeoutError("DTLS handshake")
            due = self.dtls.timeout()
            got = super().recv_raw(max(0.001, min(left, due if due is not None else 0.2)))
            if got is None:
                due = self.dtls.timeout()
                if due is not None and due <= 0:
                    send(self.dtls.again())
                continue
            count += 1
            if not lose(count):
                send(self.dtls.step(got))

    def over(self):
        return self.dtls.closed()

    def raw(self, data):
        self.sock.send(self.dtls.seal(data))

    def datagram(self, data):
        self.sock.send(data)

    def recv_raw(self, timeout=None):
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        data = self.dtls.open()
        while data is None and not self.dtls.closed():
            left = end - time.monotonic()
            got = super().recv_raw(left) if left > 0 else None
            if got is None:
                return None
            data = self.dtls.open(got)
        return data

    def close(self):
        if self.sock.fileno() >= 0 and self.dtls.done and not self.dtls.closed():
            try:
                self.sock.send(self.dtls.close())
            except OSError:
                pass
        self.sock.close()
        self.dtls.free()
