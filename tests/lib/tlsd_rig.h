/* SPDX-License-Identifier: BSD-3-Clause */
/* tlsd_rig.h: a real turnpike-tls, and a program that plays its supervisor and its worker 0. */
#ifndef TP_TEST_TLSD_RIG_H
#define TP_TEST_TLSD_RIG_H

#include <openssl/ssl.h>

#include "tp/conf.h"
#include "tp/io.h"
#include "tp/shm.h"
#include "tp/tlsd.h"

#define RIG_ASSERT(c)                                                                                      \
	do {                                                                                               \
		if (!(c))                                                                                  \
			rig_die(#c, __FILE__, __LINE__);                                                   \
	} while (0)
void rig_die(const char *what, const char *file, int line) __attribute__((noreturn));

/* Certificates: ecdsa.test, rsa.test, both.test twice, *.wild.test (ECDSA), in this order; `tag` is
 * their organization. */
struct rig {
	pid_t pid;
	uint32_t generation;
	int control, link, tlsd_link, log[2], conf_fd, certs_fd, stat_fd;
	struct stats *stat;
	struct conf conf; /* changed before rig_start() */
	struct seal_ctx seal;
	struct seal_cookie_keys cookies;
};
void rig_keys(void);           /* before tests fork: otherwise each makes its own, in a second or more */
void rig_init(struct rig *r);  /* defaults; nothing runs */
void rig_start(struct rig *r); /* again after rig_kill(): same queues */
void rig_kill(struct rig *r);
void rig_fini(struct rig *r);                   /* STOP; the exit code must be 0 */
void rig_certs(struct rig *r, const char *tag); /* new ones at run time, or before the start */
void rig_say(struct rig *r);                    /* what it logged, to stderr */
uint64_t rig_count(const struct rig *r, enum stat_counter c);
/* Waits until the counter has this value; false after a minute. */
bool rig_until(const struct rig *r, enum stat_counter c, uint64_t value);
void rig_send(struct rig *r, const void *msg, int fd);
/* The next message of turnpike-tls; false when none comes in time. */
bool rig_recv(struct rig *r, union msg *m, int ms);
/* The same, past others, which are ignored. */
bool rig_recv_type(struct rig *r, union msg *m, uint32_t type, int ms);

/* One client and its place at the worker. */
struct party {
	struct rig *r;
	struct hs_who who;
	SSL_CTX *ctx;
	SSL *client;
	int fd[2]; /* client's end, server's end */
	bool done, failed, no_ack, hold_replies;
	uint8_t reason;
	int client_error; /* SSL_R_... of the client */
	union msg last;   /* HS_DONE */
	struct seal_session s;
	unsigned replies, verifies;
	uint8_t first[2048], hello[2048]; /* DTLS: the last that was answered; the last that passed */
	size_t first_len, hello_len;
};
/* version: TLS1_2_VERSION ...; suites NULL: all; sni NULL: none. */
void party_init(
    struct party *p, struct rig *r, int version, const char *suites, const char *sni, uint64_t request);
void party_start(struct party *p); /* HS_STREAM; DTLS: nothing */
/* Moves everything both ways until the client and turnpike-tls are done, one failed, or a reply is held
 * back. */
void party_run(struct party *p, int ms);
void party_pump(struct party *p); /* one round, DTLS: datagrams to where they belong */
void party_handle(struct party *p, const union msg *m);
/* Client to server and back, through room seal. */
void party_echo(struct party *p, const char *text);
void party_fini(struct party *p);
/* The server's side of the above: one record or datagram in; its content in out.  0: nothing there. */
size_t party_read(struct party *p, uint8_t *out, size_t room);
void party_write(struct party *p, const void *data, size_t n);

#endif
