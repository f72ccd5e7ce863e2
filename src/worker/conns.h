/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conns.h: connections of clients: streams (TCP, TLS) and DTLS associations.
 *
 * Calls go one way.  A function that finds that a connection must end marks it (conn_mark_end()) and
 * returns; the event loop ends it when the event in hand is over.  A function that finds no room, no ring
 * or a full queue stalls the connection (conn_stall()); the loop resumes it when there is room.
 */
#ifndef TP_WORKER_CONNS_H
#define TP_WORKER_CONNS_H

#include "lane.h"
#include "tp/seal.h"

struct pending_entry;

/* Why a connection ends.  The number stands in shared memory: a successor ends what its predecessor has
 * marked. */
enum end_why {
	END_NOT,
	END_GONE,           /* the client closed or reset it, or the kernel gave it up */
	END_GOODBYE,        /* the client sent close_notify */
	END_ALERT,          /* the client sent a fatal alert */
	END_DEADLINE,       /* nothing valid came in time, or half a message held a ring too long */
	END_IDLE,           /* no allocation and no message for a long time */
	END_LIMIT,          /* over limits.connections_* */
	END_HANDSHAKE_RATE, /* over limits.handshakes_per_prefix */
	END_REPLACED,       /* a newer connection of the same 5-tuple */
	END_POISONED,
	END_DESYNC,    /* what came is no frame */
	END_PROXY,     /* a PROXY header was malformed */
	END_NOT_TLS,   /* the listener takes TLS only */
	END_RECORD,    /* a TLS record was wrong; conn.alert says how */
	END_MAC,       /* too many DTLS records with a wrong tag */
	END_KEYS,      /* the keys were used as often as they may be */
	END_HANDSHAKE, /* the TLS handshake failed; turnpike-tls has sent the alert */
	END_LOST,      /* it cannot be taken over from a predecessor */
	END_WHYS
};
/* What is counted when a connection is marked, and the alert that its client gets over TLS and DTLS
 * (-1: none). */
struct end_rule {
	enum drop drop;
	int alert;
};

/* What a stalled connection waits for. */
enum stall {
	STALL_NONE,
	STALL_RING,
	STALL_RING_SESSION /* the same, with an allocation */,
	STALL_TLSD,
	STALL_PENDING,
	STALLS
};

struct conn_name {
	uint32_t lane, slot, gen;
};
struct conn_list {
	struct conn_name *at;
	size_t first, count, max;
};
struct conn_marks {
	struct conn_list touched; /* to be flushed at the end of the batch */
	struct conn_list again;   /* to be parsed at the end of the round */
	struct conn_list ending;
	struct conn_list stalled[STALLS];
};

/* Bits of conn.touched: in which lists it stands. */
enum conn_mark { MARK_TOUCHED = 1, MARK_AGAIN = 2 };

/*
 * What differs between the transports of clients.  worker.client[] has one for each enum transport but
 * UDP, whose data path calls its functions directly.  `c` is always open and not marked, but in
 * goodbye().
 */
struct client_ops {
	/* Relayed data, or a Data indication, for the client of o->conn. */
	void (*relayed)(struct worker *w, struct lane *l, const struct turn_out *o);
	/* Fills *in for a request that waited.  False: its client is gone, or stalled: the request is
	 * forgotten. */
	bool (*waited)(struct worker *w, struct lane *l, struct pending_entry *e, struct turn_in *in);
	/* What the core made of that request. */
	void (*answer)(struct worker *w, struct lane *l, const struct turn_in *in, enum turn_act act);
	/* Nothing came for it in time. */
	void (*expired)(struct worker *w, struct lane *l, const struct pending_entry *e);
	/* Has a well-formed message come? */
	bool (*is_valid)(const struct conn *c);
	/* At the end of a batch in which it was touched. */
	void (*flush)(struct worker *w, struct lane *l, struct conn *c);
	/* Sends what waits, and the alert (-1: none). */
	void (*goodbye)(struct worker *w, struct lane *l, struct conn *c, int alert);
};

/* ---- conn_mark.c ---------------------------------------------------------------------------------- */

extern const struct end_rule conn_end_rules[END_WHYS];
/* It ends when the event in hand is over; the first reason counts. */
void conn_mark_end(struct worker *w, const struct lane *l, struct conn *c, enum end_why why);
/* A predecessor has marked, and counted, it. */
void conn_mark_again(struct worker *w, const struct lane *l, struct conn *c, enum end_why why);
/* The same with END_RECORD and this alert; -1: none. */
void conn_mark_bad(struct worker *w, const struct lane *l, struct conn *c, int alert);
static inline bool
conn_ends(const struct conn *c)
{
	return c->ending != END_NOT;
}
/* It is flushed at the end of the batch. */
void conn_touch(struct worker *w, const struct lane *l, struct conn *c);
/* Its input is looked at again at the end of the round. */
void conn_again(struct worker *w, const struct lane *l, struct conn *c);
/* Nothing is read from it until what it waits for is there. */
void conn_stall(struct worker *w, struct lane *l, struct conn *c, enum stall what);
/* It was stalled and has to wait on. */
void conn_stall_on(struct worker *w, const struct lane *l, struct conn *c);
/* Takes the first of a list that is still there; NULL: the list is empty. */
struct conn *conn_list_next(struct worker *w, struct conn_list *list, struct lane **l);
void conn_marks_free(struct conn_marks *m);

/* ---- conn_resume.c -------------------------------------------------------------------------------- */

/* Lets those stalled connections go on that there is room for now. */
void conn_resume(struct worker *w);

/* ---- conn_tx.c ------------------------------------------------------------------------------------ */

/*
 * A change of a stream's record, rings included, which takes effect whole or not at all:
 *
 *	tx_begin -> tx_room, changes of t.next -> tx_commit, or tx_abort
 *
 * Rings that the change no longer names are given back after the commit, those that it took by the abort.
 */
enum tx_ring { TX_IN, TX_PLAIN, TX_OUT, TX_RINGS };
struct conn_tx {
	struct worker *w;
	struct lane *l;
	struct conn *c;
	struct conn_rec *next;
	uint32_t old[TX_RINGS], fresh[TX_RINGS];
};
void tx_begin(struct conn_tx *t, struct worker *w, struct lane *l, struct conn *c);
/* Room for `want` bytes behind what the ring holds; NULL: none, stall the connection or drop the data. */
uint8_t *tx_room(struct conn_tx *t, enum tx_ring which, size_t want);
/* The ring is empty and given back. */
void tx_empty(struct conn_tx *t, enum tx_ring which);
void tx_commit(struct conn_tx *t);
void tx_abort(struct conn_tx *t);
/* Would tx_room() find room? */
bool tx_fits(struct lane *l, const struct conn *c, enum tx_ring which, size_t want);
/* How many free rings are there for connections without (0) and with (1) an allocation? */
uint32_t tx_rings_left(const struct lane *l, bool session);

/* ---- conn_admit.c --------------------------------------------------------------------------------- */

/* Is this the address of a proxy of the listener? */
bool conn_from_proxy(const struct worker *w, unsigned row, const struct addr *peer);
/* A slot for a connection that was accepted, published and in no epoll yet.  NULL: no room, fd is
 * closed. */
struct conn *conn_open(struct worker *w, struct lane *l, int fd, unsigned row, const struct addr *peer);
/* Counts it for the client that it is of; over a limit it is marked to end.  False: it was. */
bool conn_admit(struct worker *w, struct lane *l, struct conn *c, const struct addr *client);
/* Under limits.handshakes_per_prefix?  If not it is counted and logged.  A handshake is asked for once,
 * when it begins. */
bool conn_may_shake(struct worker *w, const struct lane *l, const struct addr *client, uint8_t transport);
/* Marks an older connection of the same 5-tuple.  False: there is none. */
bool conn_supersede(struct worker *w, struct lane *l, const struct conn *c);
/* Marks those whose time is over, a tenth of the slots each time. */
void conn_sweep(struct worker *w, struct lane *l);
/* Closes a descriptor of the window, and tells the supervisor. */
void conn_forget_fd(struct worker *w, struct lane *l, int fd);

/* ---- conn_end.c ----------------------------------------------------------------------------------- */

/* Ends all that are marked, and their allocations.  The event loop alone calls it. */
void conn_end_marked(struct worker *w);

/* ---- conn_settle.c -------------------------------------------------------------------------------- */

void conn_settle_all(struct worker *w, struct lane *l); /* what a predecessor left */

/* ---- stream_in.c ---------------------------------------------------------------------------------- */

void stream_event(struct worker *w, struct lane *l, uint64_t tag, uint32_t events);
/* A new one, of no epoll: what its first byte says, or into the epoll until there is one. */
void stream_first(struct worker *w, struct lane *l, struct conn *c);
/* Parses those of conn_again(). */
void streams_again(struct worker *w);
extern const struct client_ops client_stream;

/* ---- stream_out.c --------------------------------------------------------------------------------- */

/* Puts len bytes behind what waits, as TLS records where they are due.  False: no room, or no key is
 * left. */
bool stream_append(struct conn_tx *t, const uint8_t *p, size_t len);
/* How much room do len bytes take? */
size_t stream_append_len(struct lane *l, const struct conn *c, size_t len);
void stream_relayed(struct worker *w, struct lane *l, const struct turn_out *o);
/* Sends what waits. */
void stream_write(struct worker *w, struct lane *l, struct conn *c);
/* Asks the epoll for what it needs now. */
void stream_arm(struct worker *w, struct lane *l, struct conn *c);
void stream_flush(struct worker *w, struct lane *l, struct conn *c);
void stream_goodbye(struct worker *w, struct lane *l, struct conn *c, int alert);

/* ---- tls.c ---------------------------------------------------------------------------------------- */

/* Seals len bytes into t's ring of output.  False: no room, or no key is left. */
bool sealed_append(struct conn_tx *t, const uint8_t *p, size_t len);
size_t sealed_len(const struct seal *k, size_t len);
/* Opens the record at in_parsed into `plain`.  False: none is whole, or the connection is stalled or
 * marked. */
bool sealed_open(struct worker *w, struct lane *l, struct conn *c);
/* A KeyUpdate of ours when it is due; marks what has used its keys up. */
void sealed_due(struct worker *w, struct lane *l, struct conn *c);
void sealed_alert(struct worker *w, struct lane *l, struct conn *c, enum seal_alert what);
bool sealed_adopt(struct lane *l, struct conn *c);

/* Keys of a connection over TLS or DTLS. */
static inline struct seal *
conn_seal(struct lane *l, const struct conn *c)
{
	return (struct seal *)(void *)conn_key(&l->shard, c)->bytes;
}

/* TLS 1.3 only. */
static inline struct seal_secrets *
conn_traffic(struct lane *l, const struct conn *c)
{
	return (struct seal_secrets *)(void *)conn_secrets(&l->shard, c);
}

/* ---- assoc_index.c -------------------------------------------------------------------------------- */

/* `tag`: of session_prefetch() with TRANSPORT_DTLS.  NULL: none. */
struct conn *assoc_find(struct lane *l, const struct addr *client, unsigned row, uint32_t tag);
bool assoc_reserve(struct lane *l); /* room for one more; false: no memory */
void assoc_add(struct lane *l, const struct conn *c);
void assoc_forget(struct lane *l, const struct conn *c);

/* ---- assoc.c -------------------------------------------------------------------------------------- */

bool assoc_adopt(struct lane *l, struct conn *c);
void assoc_reply(struct worker *w, struct lane *l, const struct msg_hs_reply *m);
void assoc_done(
    struct worker *w, struct lane *l, const struct msg_hs_done *m); /* to be acknowledged afterwards */

/* What is kept of a DTLS session beside its keys. */
struct assoc_place {
	struct seal_dtls dtls;
	struct seal_final final;
};
static inline struct assoc_place *
assoc_place(struct lane *l, const struct conn *c)
{
	return (struct assoc_place *)(void *)conn_place(&l->shard, c);
}

/* ---- dtls_hello.c --------------------------------------------------------------------------------- */

#define HELLO_PIECE 2000 /* of a hello in one message to a turnpike-tls */
_Static_assert(SEAL_FRAG_HEAD + HELLO_PIECE <= MSG_HS_DATAGRAM_MAX, "it fits");
/* A datagram that begins with a DTLS hello; c: the association of this 5-tuple, NULL. */
void hello_datagram(struct worker *w, struct lane *l, unsigned row, const struct addr *from,
    const struct conn *c, const uint8_t *p, size_t len);
/* Has this 5-tuple returned a cookie lately, and no session yet? */
bool hello_is_proved(const struct worker *w, const struct lane *l, unsigned row, const struct addr *client);
/* May the handshake that began with this hello end in a session? */
bool hello_may_end(const struct worker *w, const struct lane *l, const struct hs_who *who);
void hello_ended(struct worker *w, const struct lane *l, const struct hs_who *who); /* it has */
/* To a turnpike-tls; name: of the hello that this is a part of, 0: none.  Over the rate, or without room,
 * it is a counted drop. */
void hello_pass_on(struct worker *w, struct lane *l, unsigned row, const struct addr *from,
    const uint8_t *p, size_t len, bool hello, uint64_t name);

/* ---- dtls.c --------------------------------------------------------------------------------------- */

void dtls_datagram(struct worker *w, struct lane *l, unsigned row, const struct addr *from, uint32_t tag,
    uint8_t *p, size_t len);
void dtls_final(
    struct worker *w, struct lane *l, struct conn *c); /* the handshake's last flight once more */
extern const struct client_ops client_dtls;

/* ---- handshake.c ---------------------------------------------------------------------------------- */

/* The connection's first byte says TLS: it goes to a turnpike-tls. */
void handshake_begin(struct worker *w, struct lane *l, struct conn *c);
/* Hands it over, once more when its message did not leave. */
void handshake_hand_over(struct worker *w, struct lane *l, struct conn *c);
void handshake_cancel(struct worker *w, struct lane *l, const struct conn *c);
void handshake_readable(struct worker *w, struct lane *l, unsigned tlsd);

/* ---- accept.c ------------------------------------------------------------------------------------- */

void accept_ready(struct worker *w, struct lane *l, unsigned row);
void accept_at(struct worker *w, const struct msg_stream_at *m);
void accept_flush(struct worker *w); /* tells the supervisor of new ones, once a round */
void accept_tick(struct worker *w);  /* after a time without descriptors */
int accept_listen(struct worker *w, struct lane *l, bool on); /* TCP listeners in the shard's epoll */

/* ---- proxy.c -------------------------------------------------------------------------------------- */

#define PROXY_MAX (16 + 65535) /* the longest that version 2 can say */
/* > 0: the length of the header, and *source is set (ADDR_NONE: it names none; IPv4 in IPv6 is IPv4).  0:
 * more is needed.  -EPROTO. */
int proxy_parse(const uint8_t *p, size_t n, struct addr *source);

#endif
