/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * usher: TLS and DTLS handshakes with OpenSSL, and the export of what they agreed on.
 *
 * Errors: 0 or -errno.
 */
#ifndef TP_USHER_H
#define TP_USHER_H

#include "tp/seal.h"

struct ssl_st;
struct ssl_ctx_st;

/* ---- export.c ----------------------------------------------------------------------------- */

/*
 * Watches one handshake.  The caller's memory, at a fixed place until the SSL object is freed or
 * usher_tap_detach() was called; wipe it with usher_tap_fini().
 */
struct usher_tap {
	bool     dtls;
	uint8_t  secrets;		/* bit 0: client's is here, bit 1: server's */
	uint8_t  secret_len[2];
	uint8_t  secret[2][48];		/* TLS 1.3 traffic secrets: client's, server's */
	uint8_t  finished_len;
	uint8_t  finished[SEAL_FINISHED_LEN];	/* DTLS: the Finished that we sent */
	bool     ccs;			/* TLS 1.2: our ChangeCipherSpec went out, records are protected */
	bool     has_nonce;
	uint64_t nonce;			/* 8 bytes after the header of our last protected record */
	uint64_t seq[2];		/* next number in epoch 0 and 1 (TLS 1.2: 1 counts the protected ones) */
	/* the record that is going out: bytes come in any pieces */
	uint8_t  head[SEAL_DTLS_HEAD + 8];
	uint32_t have;			/* bytes of it seen */
	uint32_t len;			/* its length, 0 while the header is not whole */
};

/*
 * Settings without which a session cannot be exported: (D)TLS 1.2 and TLS 1.3, the AEAD ECDHE suites of tp/seal.h
 * in the order of their cost here, no tickets, cache, renegotiation, compression, early data or read-ahead, the key
 * log into the tap.  Certificates, ALPN, SNI, cookies and minimum versions are the caller's.
 * -EINVAL when OpenSSL refuses one.
 */
int  usher_ctx_policy(struct ssl_ctx_st *ctx);

/* Before the first byte of the handshake.  Takes the SSL object's app data (ex data 0) and message callback.
 * -ENOMEM. */
int  usher_tap_attach(struct usher_tap *tap, struct ssl_st *ssl);
/*
 * Every byte that the SSL object writes, in order: from the write function of its BIO or from what was read out of
 * a memory BIO.  Pieces may be of any size.  -EPROTO for bytes that are no records.
 */
int  usher_tap_out(struct usher_tap *tap, const uint8_t *p, size_t n);

/*
 * When SSL_is_init_finished() and everything that it wrote went through usher_tap_out(): the session.  The SSL object
 * must not be used for traffic afterwards.  DTLS starts with an empty replay window: a repeated Finished of the
 * handshake is answered by seal_final_flight().
 * -EAGAIN   the handshake is not done, or its last record is not written out whole
 * -EBUSY    OpenSSL has read bytes beyond the handshake (one record at a time, please)
 * -ENOTSUP  a version, suite or option that cannot be handed over
 * -EPROTO   something that should have been seen was not
 * *out is set only on success; wipe it when it is sent.
 */
int  usher_export(struct seal_session *out, struct ssl_st *ssl, const struct usher_tap *tap);
/* The SSL object no longer refers to the tap. */
void usher_tap_detach(struct ssl_st *ssl);
void usher_tap_fini(struct usher_tap *tap);

#endif
