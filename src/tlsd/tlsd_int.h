/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tlsd_int.h: what the files of the room share.  Each floor calls those below it only:
 *
 *	tlsd			the process: messages, time
 *	hs_dgram  hs_stream	what came in
 *	hs_finish  hello_part	beginnings and ends
 *	hs_flight  hs_table  tls_contexts  key_export
 *	worker_box
 */
#ifndef TP_TLSD_INT_H
#define TP_TLSD_INT_H

#include <openssl/ssl.h>

#include "tp/child.h"
#include "tp/tlsd.h"

#define MTU        1200  /* of a datagram's content; safe on every path that carries QUIC */
#define RESEND_MS  500   /* HS_DONE that was not acknowledged */
#define UNTAKEN_MS 60000 /* longer than a worker's back-off */
#define BUCKETS    8192
#define CROWD      32 /* handshakes at a time that swell the process */

/* ---- tls_contexts.c ---------------------------------------------------------------------------------- */

/* What CERTS held, as contexts.  Counted: each handshake keeps the set that it began with. */
struct cert_set;
int cert_set_new(struct cert_set **out, const struct certs *c, enum conf_tls least);
struct cert_set *cert_set_take(struct cert_set *s);
void cert_set_give(struct cert_set *s); /* NULL allowed */
unsigned cert_set_count(const struct cert_set *s);
/* NULL when the set is empty. */
SSL *cert_set_ssl(struct cert_set *s, bool dtls);
unsigned cert_alpn(const SSL *ssl); /* enum hs_alpn */

/* ---- one handshake ----------------------------------------------------------------------------- */

/* Bytes on their way out; DTLS: pieces[i] bytes are one datagram. */
#define FLIGHT_MAX    65536
#define FLIGHT_PIECES 64
struct flight {
	uint8_t *p;
	uint32_t len, room;
	uint32_t pieces;
	uint16_t piece[FLIGHT_PIECES];
};
bool flight_add(struct flight *f, const uint8_t *p, size_t n); /* false: too much */
void flight_reset(struct flight *f);                           /* keeps the memory */
void flight_fini(struct flight *f);
struct hs;
/* DTLS: what is in u->out goes to the client through the worker. */
void flight_reply(struct hs *h);
/* Stream: what the handshake wrote and the socket takes.  0, or -errno. */
int flight_flush(struct hs *h);

struct tlsd;
struct prefix;
struct link {
	struct hs *older, *newer;
};
struct line {
	struct hs *oldest, *newest;
	uint32_t count;
};

enum hs_state {
	HS_HALF,
	HS_UNTAKEN,
	HS_WAITING /* until there is room: it has no SSL object */
};
struct hs {
	struct hs *chain; /* same bucket */
	struct link age;  /* in u->line[state] */
	struct link kin;  /* in prefix->line while half-open, in prefix->waits while it waits */
	struct prefix *prefix;
	struct tlsd *u;
	uint8_t state;             /* enum hs_state */
	bool dtls, closed, broken; /* stream: the client closed it, or it sent too much */
	struct hs_who who;
	tp_ms began;
	tp_ms moved; /* half-open: when the client was last heard, or answered */
	tp_ms until; /* half-open, waiting: deadline; untaken: given up */
	tp_ms wake;  /* DTLS: retransmission; untaken: resend; 0: never */
	struct cert_set *certs;
	SSL *ssl;
	struct tlsd_tap tap;
	/* stream */
	int fd;
	uint8_t head[5];     /* of the record that is being read */
	uint32_t have, left; /* bytes of the header; of the content still to come */
	uint32_t total;      /* bytes read */
	uint32_t used;       /* of what was looked at, and still in the socket */
	uint32_t events;     /* that the loop waits for */
	bool looked;         /* in this step */
	struct flight out;
	/* DTLS */
	const uint8_t *in; /* the current datagram */
	size_t in_len;
	uint8_t random[32], cookie[SEAL_COOKIE_LEN];
	uint8_t *hello; /* waiting: hello_len bytes, the hello as one record */
	size_t hello_len;
	struct msg_hs_done *done; /* untaken */
};

/* Of an SSL object, by its app data. */
static inline struct hs *
hs_of(const SSL *ssl)
{
	struct tlsd_tap *tap = SSL_get_app_data(ssl);

	return (struct hs *)(void *)((char *)tap - offsetof(struct hs, tap));
}

/* ---- hs_table.c: which handshakes there are, and the caps -------------------------------------------- */

struct table {
	struct hs *bucket[BUCKETS];
	struct prefix *prefixes[BUCKETS];
	struct prefix *next, *last; /* those that wait and have room, in turn */
	struct line line[3];        /* by enum hs_state */
	uint8_t key[16];            /* clients cannot choose buckets */
};
void table_init(struct table *t);
struct hs *table_find(const struct table *t, const struct hs_who *who);
/* Half-open or waiting, the newest.  false: no memory. */
bool table_add(struct table *t, struct hs *h, enum hs_state state, uint64_t per_prefix);
/* Is there room for one more of this client's prefix, and does none of that prefix wait? */
bool table_has_room(struct table *t, const struct addr *client, uint64_t per_prefix, uint64_t total);
/* Of those that wait the one whose turn it is, prefix after prefix: it is half-open then.  NULL: none, or
 * no room. */
struct hs *table_next(struct table *t, uint64_t per_prefix, uint64_t total);
void table_untaken(struct table *t, struct hs *h, uint64_t per_prefix); /* from half-open to untaken */
void table_del(struct table *t, struct hs *h, uint64_t per_prefix);
bool table_prefix_is_full(const struct hs *h, uint64_t per_prefix);

/* ---- hello_part.c: DTLS hellos in fragments -------------------------------------------------- */

#define PARTS 256
struct hello_part {
	struct hs_who who; /* request: of the fragment that had one */
	tp_ms until;
	uint8_t *bytes; /* NULL: free */
	struct seal_gather gather;
};
/* The whole hello that this fragment completes, to be freed; NULL: there is more to come, or no memory. */
struct hello_part *part_take(struct tlsd *u, const struct hs_who *who, const struct seal_frag *f);
void part_free(struct hello_part *p);

/* ---- the process -------------------------------------------------------------------------------- */

/* Messages that leave together; each begins at a multiple of 16. */
#define MSG_OUT_STEP ((sizeof(union msg) + 15) & ~(size_t)15)
struct msgs_out {
	uint8_t *bytes;
	uint32_t len, count;
	uint16_t step[16];
};
struct peer {
	struct tlsd *u;
	unsigned shard;
	struct msgs_out out;
};
struct tlsd {
	struct child_proc proc;
	struct table table;
	struct hello_part parts[PARTS];
	uint8_t hello[SEAL_FRAG_HEAD + SEAL_HELLO_MAX]; /* the current one, as a record */
	struct cert_set *certs;
	BIO_METHOD *stream_bio, *dgram_bio;
	struct flight out; /* of the current DTLS handshake */
	/* of the current stream: what is in its socket; a flight is a quarter of it */
	uint8_t ahead[16384];
	uint32_t ahead_len, ahead_at; /* looked at; given to OpenSSL */
	uint64_t numbers;             /* given to handshakes */
	unsigned gathered;            /* messages to workers in this round */
	uint64_t per_prefix, total;
	tp_ms timeout;
	enum conf_tls least;
	/* A handshake has come or gone: the tick, and what waits for room (tlsd.c). */
	void (*changed)(struct tlsd *u);
	unsigned tick; /* timer */
	bool fast, stopping;
	bool begins;  /* those that wait are looked at when this round ends */
	bool swollen; /* there were many handshakes at a time */
	tp_ms stop_at;
	struct peer peer[SHARDS_MAX];
	struct log_class bad, dropped, internal;
};

/* ---- hs_stream.c, hs_dgram.c: what came in --------------------------------------------------- */

/* NULL: no memory. */
BIO_METHOD *hs_bio_method(const char *name, int (*read)(BIO *b, char *buf, int len),
    int (*write)(BIO *b, const char *buf, int len), long (*ctrl)(BIO *b, int cmd, long num, void *ptr));
BIO_METHOD *stream_bio_method(void);
BIO_METHOD *dgram_bio_method(void);
/* Begins or waits.  Takes fd. */
void stream_start(struct tlsd *u, const struct hs_who *who, int fd);
/* h has waited, and there is room.  h may be gone afterwards. */
void stream_begin(struct hs *h);
void dgram_take(struct tlsd *u, const struct msg_hs_datagram *m);
void dgram_begin(struct hs *h); /* as stream_begin() */
void dgram_timeout(struct hs *h);

/* ---- hs_finish.c: beginnings and ends ------------------------------------------------------------- */

/* A handshake of one of the first two states; takes fd.  NULL: no memory (answered by HS_FAIL). */
struct hs *hs_new(struct tlsd *u, const struct hs_who *who, bool dtls, int fd, enum hs_state state);
/* Its SSL object and tap.  False: it cannot be, and is over (answered by HS_FAIL). */
bool hs_begin(struct hs *h);
void hs_free(struct hs *h);
void hs_fail(struct hs *h, enum hs_reason why);
/* The same for what SSL_do_handshake() returned; false: it wants to go on. */
bool hs_judge(struct hs *h, int ret);
void hs_offer(struct hs *h); /* HS_DONE, (again) */
void hs_ack(struct tlsd *u, const struct hs_who *who);
void hs_cancel(struct tlsd *u, const struct hs_who *who);

/* ---- worker_box.c: messages to workers ------------------------------------------------------- */

/* To the owner of this shard, without a descriptor; at the end of the round at the latest. */
void toworker(struct tlsd *u, unsigned shard, const void *msg);
void toworker_flush(struct tlsd *u);

#endif
