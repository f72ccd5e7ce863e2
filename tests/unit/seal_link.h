/* SPDX-License-Identifier: BSD-3-Clause */
/* seal_link.h: a libssl client and server in memory, one of which hands its session to room seal. */
#ifndef TP_TEST_SEAL_LINK_H
#define TP_TEST_SEAL_LINK_H

#include <openssl/ssl.h>

#include "tp/seal.h"
#include "tp/tlsd.h"

/* One row of what is tried. */
struct link_case {
	enum seal_proto proto;
	unsigned suite;      /* enum seal_suite */
	bool rsa;            /* certificate: RSA, otherwise ECDSA P-256 */
	enum seal_role role; /* ours; the peer is libssl */
};
extern const struct link_case link_cases[];
extern const unsigned link_case_count;

struct link {
	struct link_case k;
	SSL_CTX *ctx[2]; /* by enum seal_role */
	SSL *ssl[2];     /* ours is NULL once it was taken over */
	SSL *peer;
	struct tlsd_tap tap[2];
	struct seal_session s; /* ours, as turnpike-tls would send it; s.pos is the committed one */
	struct seal_ctx *c;
	uint8_t tail[61]; /* the last bytes of our handshake: a whole DTLS Finished with GCM */
};

/* Before check forks: keys are made once, RSA is slow. */
void link_keys(void);
/* Contexts and SSL objects, nothing sent yet.  Fails the test on any error. */
void link_init(struct link *l, const struct link_case *k, struct seal_ctx *c);
/* Moves bytes both ways until the handshake is done; hold_last: the server's last flight is kept from
 * the client. */
void link_handshake(struct link *l, bool hold_last);
/* What this side wrote goes to the other, past its tap. */
void link_move(struct link *l, enum seal_role from);
/* Exports our side and frees its SSL object. */
void link_take_over(struct link *l);
/* The three above. */
void link_open(struct link *l, const struct link_case *k, struct seal_ctx *c);
void link_fini(struct link *l);

/* What the peer has written and was not taken yet. */
size_t link_from_peer(struct link *l, uint8_t *buf, size_t room);
void link_to_peer(struct link *l, const uint8_t *buf, size_t n);
/* The peer writes data; its records come out raw. */
size_t link_peer_writes(struct link *l, const void *data, size_t n, uint8_t *raw, size_t room);
/* The peer reads exactly this. */
void link_peer_reads(struct link *l, const void *want, size_t n);

/* Ours: seals, commits and delivers; opens one record and commits.  Both fail the test on a fault. */
void link_send(struct link *l, uint8_t type, const void *data, size_t n);
void link_recv(struct link *l, const uint8_t *rec, size_t n, struct seal_in *in, uint8_t *out, size_t room);
/* Length of the record at p, of either kind. */
size_t link_record_len(const struct link *l, const uint8_t *p, size_t n);
/* Data goes there and back in one record each. */
void link_echo(struct link *l, const void *data, size_t n);

/* Seed of random tests: from the environment's TP_SEED or the clock; printed. */
uint64_t test_seed(const char *name);
uint64_t test_random(uint64_t *state);

#endif
