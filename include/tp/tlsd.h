/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tlsd.h: TLS and DTLS handshakes with OpenSSL, and the export of what they agreed on.
 *
 * turnpike-tls is told by the supervisor like turnpike-auth: START (conf_fd, certs_fd, stat_fd, peer_fd[]
 * by shard), GO, answered by READY; later CONF, then CERTS (contexts are made with the last CONF; the old
 * certificates stay where the new ones are refused; a handshake in progress keeps those that it began
 * with) and STOP (goes on for up to 2 s while handshakes are in progress).  Between each shard and each
 * turnpike-tls is one SOCK_SEQPACKET pair whose ends the supervisor keeps: what is queued survives the
 * death of either side, and comes to the next owner of the shard, whichever worker that is.  With several
 * turnpike-tls processes the worker chooses by a hash of the client's address, so that all datagrams of a
 * client come to one.
 *
 *	W -> U  HS_STREAM + fd			W -> U  HS_DATAGRAM hello = 1
 *	   |						   |
 *	   v	      records, one at a time		   v	   <-- HS_DATAGRAM hello = 0
 *	 HALF-OPEN -- flights written by turnpike-tls	 HALF-OPEN --> HS_REPLY, also again after a timeout
 *	   |  |							 |  |
 *	   |  +--- error, deadline, cap, HS_CANCEL --------------+  |     alert (if due), HS_FAIL, forgotten
 *	   |							    |
 *	   v	finished: SSL object freed, our copy of fd closed   v
 *	 UNTAKEN --> HS_DONE, again every 0.5 s, for 60 s at most; no HS_FAIL from here
 *	   |
 *	   v	<-- HS_ACK (or HS_CANCEL)
 *	 forgotten
 *
 * Rules for the worker
 * - HS_STREAM: `who` with request, shard, row, client; number 0, dtls 0.  The descriptor is a duplicate
 *   of an accepted, non-blocking connection that the supervisor stores and of which nothing was read.
 *   From then on the worker neither reads nor writes it until HS_DONE or HS_FAIL.  Sent again for a
 *   request that turnpike-tls has: ignored, or answered by HS_DONE; so a successor that is in doubt may
 *   send it again.
 * - HS_DONE: publish the session first, then send the flight (TLS 1.2: our ChangeCipherSpec and Finished
 *   as they are; TLS 1.3: nothing is left to send), then HS_ACK with the same `who`, number included.  It
 *   may come several times and after the worker's death to its successor: a session that is published
 *   already is only acknowledged; of the flight, TCP's own counters tell what went out.  Every byte that
 *   the client sent behind its Finished is still in the socket.  DTLS: send each piece as one datagram; a
 *   lost one is repeated with seal_final_flight().  again = 1: the session may have been in use already,
 *   so a DTLS one that is not there begins with numbers far ahead.
 * - A request that the worker does not know (closed meanwhile): HS_ACK, and wipe the message.  Wipe it in
 *   any case.
 * - HS_FAIL: the alert, if any, is written; close the connection.
 * - HS_CANCEL when it closes a connection that turnpike-tls has.  No answer.
 * - DTLS: the worker answers a hello without a cookie itself (seal_hello_judge) and keeps nothing.
 *   SEAL_V_PASS: the 5-tuple is proved; an HS_DATAGRAM with hello = 1 for each fragment, `who` with
 *   request = a name for this hello.  SEAL_V_PART of a proved 5-tuple: the same with request 0.
 *   Datagrams of class SEAL_D_HANDSHAKE, and of SEAL_D_SESSION from a client without a session, if the
 *   5-tuple is proved: hello = 0, request 0.  Messages of turnpike-tls have the name of the hello that
 *   began the handshake; only with one that was passed on does HS_DONE make a session, once, and HS_REPLY
 *   goes to proved 5-tuples only.  A hello with another random replaces a half-open handshake of the same
 *   5-tuple; beside an untaken one it is dropped.  A full queue is a lost datagram.
 * - The death of a turnpike-tls costs the handshakes in it, and nothing says so: the worker's own
 *   deadline for a stream in turnpike-tls's hands is limits.handshake_timeout and a few seconds.
 *   `number` tells an HS_ACK for a predecessor.
 *
 * Errors: 0 or -errno.
 */
#ifndef TP_TLSD_H
#define TP_TLSD_H

#include "tp/msg.h"
#include "tp/seal.h"

_Static_assert(MSG_SESSION_LEN == sizeof(struct seal_session), "a session fits its message exactly");

struct ssl_st;
struct ssl_ctx_st;

/* ---- key_export.c ----------------------------------------------------------------------------- */

/*
 * Watches one handshake.  The caller's memory, at a fixed place until the SSL object is freed or
 * tlsd_tap_detach() was called; wipe it with tlsd_tap_fini().
 */
struct tlsd_tap {
	bool dtls;
	uint8_t secrets; /* bit 0: client's is here, bit 1: server's */
	uint8_t secret_len[2];
	uint8_t secret[2][48]; /* TLS 1.3 traffic secrets: client's, server's */
	uint8_t finished_len;
	uint8_t finished[SEAL_FINISHED_LEN]; /* DTLS: the Finished that we sent */
	bool ccs; /* TLS 1.2: our ChangeCipherSpec went out, records are protected */
	bool has_nonce;
	uint64_t nonce;  /* 8 bytes after the header of our last protected record */
	uint64_t seq[2]; /* next number in epoch 0 and 1 (TLS 1.2: 1 counts the protected ones) */
	/* the record that is going out: bytes come in any pieces */
	uint8_t head[SEAL_DTLS_HEAD + 8];
	uint32_t have; /* bytes of it seen */
	uint32_t len;  /* its length, 0 while the header is not whole */
};

/*
 * Settings without which a session cannot be exported: (D)TLS 1.2 and TLS 1.3, the AEAD ECDHE suites of
 * tp/seal.h in the order of their cost here, no tickets, cache, renegotiation, compression, early data or
 * read-ahead, the key log into the tap (in a server the context's callback comes and goes).
 * Certificates, ALPN, SNI, cookies and minimum versions are the caller's.  -EINVAL when OpenSSL refuses
 * one.
 */
int tlsd_ctx_policy(struct ssl_ctx_st *ctx);

/* Before the first byte of the handshake, on a context with tlsd_ctx_policy().  Takes the SSL object's
 * app data (ex data 0) and message callback.  -ENOMEM. */
int tlsd_tap_attach(struct tlsd_tap *tap, struct ssl_st *ssl);
/*
 * Every byte that the SSL object writes, in order: from the write function of its BIO or from what was
 * read out of a memory BIO.  Pieces may be of any size.  -EPROTO for bytes that are no records.
 */
int tlsd_tap_out(struct tlsd_tap *tap, const uint8_t *p, size_t n);

/*
 * When SSL_is_init_finished() and everything that it wrote went through tlsd_tap_out(): the session.  The
 * SSL object must not be used for traffic afterwards.  DTLS starts with an empty replay window: a
 * repeated Finished of the handshake is answered by seal_final_flight().
 * -EAGAIN   the handshake is not done, or its last record is not written out whole
 * -EBUSY    OpenSSL has read bytes beyond the handshake (one record at a time, please)
 * -ENOTSUP  a version, suite or option that cannot be handed over
 * -EPROTO   something that should have been seen was not
 * *out is set only on success; wipe it when it is sent.
 */
int tlsd_export(struct seal_session *out, struct ssl_st *ssl, const struct tlsd_tap *tap);
/* The SSL object no longer refers to the tap. */
void tlsd_tap_detach(struct ssl_st *ssl);
void tlsd_tap_fini(struct tlsd_tap *tap);

/* ---- tlsd.c: the process --------------------------------------------------------------------- */

/* turnpike-tls INDEX; returns the exit code. */
int tlsd_main(int argc, char **argv);

#endif
