/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lane.h: a lane is what the owner of a shard keeps beside it in its own memory: what each descriptor of
 * the window is, which relay sockets are idle, where DTLS associations are found.
 */
#ifndef TP_WORKER_LANE_H
#define TP_WORKER_LANE_H

#include "tp/conf.h"
#include "tp/io.h"
#include "tp/msg.h"
#include "tp/state.h"
#include "tp/turn.h"

struct worker;

#define SLOT_MAX_MAX (1u << 24) /* what a tag can name */

/*
 * Data of a registration in a shard's epoll.  It outlives the process that made it, so there is nothing
 * in it that only one process knows:
 *
 * 	63..60 kind   59..52 listener row, or which relay socket   51..28 slot   27..0 low bits of the generation
 */
enum tag_kind {
	TAG_LISTENER = 1,
	TAG_RELAY = 2,
	TAG_ACCEPT = 3,
	TAG_STREAM = 4,
	TAG_REST = 5 /* a relay socket without a session; its number for a slot */
};
#define TAG_GEN_MASK 0x0fffffffu
static inline uint64_t
tag_make(enum tag_kind kind, unsigned which, uint32_t slot, uint32_t gen)
{
	return (uint64_t)kind << 60 | (uint64_t)(which & 0xff) << 52 | (uint64_t)(slot & 0xffffff) << 28 |
	    (gen & TAG_GEN_MASK);
}
static inline unsigned
tag_kind(uint64_t tag)
{
	return (unsigned)(tag >> 60);
}
static inline unsigned
tag_which(uint64_t tag)
{
	return (unsigned)(tag >> 52) & 0xff;
}
static inline uint32_t
tag_slot(uint64_t tag)
{
	return (uint32_t)(tag >> 28) & 0xffffff;
}
static inline uint32_t
tag_gen(uint64_t tag)
{
	return (uint32_t)tag & TAG_GEN_MASK;
}

/*
 * What a descriptor number in a shard's window is.  Relay sockets: their way from one to the next is in
 * relay_state.c, with the owner of each.
 */
enum fd_use {
	FD_NONE,
	FD_LISTENER,
	FD_STREAM,
	FD_STREAM_LEFT, /* inherited, of no connection yet */
	FD_INHERITED,   /* relay socket of a predecessor, not yet looked at */
	FD_FRESH,       /* has had no session */
	FD_OPEN,        /* a session's */
	FD_RESTING,     /* between two sessions */
	FD_RESTED,      /* has had a session, and may have another */
	FD_USES
};

/* What a relay socket is, by number - fd_base. */
struct lane_sock {
	uint16_t port;
	uint8_t row, family;
	bool prepared; /* by this process's engine */
};

/* Relay sockets of one row that rest, oldest first. */
struct rested {
	struct relay_ref sock;
	tp_ms since;
};
struct rest {
	struct rested *ring;
	uint32_t head, count;
};

/* DTLS associations by client address: {tag of session_prefetch(), slot + 1}, open addressing. */
struct assoc_table {
	uint64_t *at;
	uint32_t mask, count;
};

/* Messages to one turnpike-tls that leave together, TLSD_BOX_STEP bytes from one to the next. */
#define TLSD_BOX_STEP ((sizeof(struct msg_hs_datagram) + 15) & ~(size_t)15)
struct tlsd_box {
	uint8_t *bytes;
	int fd[IPC_MANY];
	unsigned count;
};

/* One shard and what its owner keeps beside it. */
struct lane {
	struct shard shard;
	struct msg_shard told;
	uint8_t *use;   /* enum fd_use by number - fd_base */
	uint8_t *habit; /* by number - fd_base: wake-ups of a relay socket that brought one datagram */
	struct lane_sock *sock; /* by number - fd_base */
	struct rest rest[RELAYS_MAX];
	int listener[LISTENERS_MAX]; /* by row, -1 */
	uint32_t cursor;             /* of the sweep */
	struct turn_pool pool;
	uint32_t asked[RELAYS_MAX];    /* sockets on their way to the pool */
	tp_ms quiet_until[RELAYS_MAX]; /* no WANT before: recalled, or refused */
	int stream[LISTENERS_MAX];     /* TCP listener by row, -1 */
	uint32_t conn_cursor;          /* of the sweep */
	struct assoc_table assoc;
	struct tlsd_box box[MSG_TLSDS_MAX];
	struct msg_stream_sock *streams; /* inherited */
	size_t stream_count, stream_max;
	struct msg_pool_sock *inherited;
	size_t inherited_count, inherited_max, settled;
};
static inline bool
lane_window(const struct lane *l, int fd)
{
	return fd >= l->told.fd_base && fd - l->told.fd_base < l->told.fd_span;
}
/*
 * A socket that keeps bringing one datagram at a time is not asked for a second, which would cost a
 * system call to learn that there is none; after HABIT_END - HABIT_SINGLE wake-ups it is asked again.
 */
#define HABIT_SINGLE 4
#define HABIT_END    20
static inline uint8_t *
lane_habit(struct lane *l, int fd)
{
	return &l->habit[fd - l->told.fd_base];
}
static inline uint8_t *
lane_use(struct lane *l, int fd)
{
	return &l->use[fd - l->told.fd_base];
}
static inline struct lane_sock *
lane_sock(struct lane *l, int fd)
{
	return &l->sock[fd - l->told.fd_base];
}

/* ---- lane.c -------------------------------------------------------------------------------------- */

/* The lane of a shard; NULL: another worker owns it. */
struct lane *lane_find(struct worker *w, uint32_t shard);
/* The connection over TCP or TLS that a handshake message of this shard names; NULL: it is over. */
struct conn *lane_conn(struct lane *l, const struct hs_who *who);
/* Registers fd in the shard's epoll, or changes the registration that a predecessor or this process
 * made.  0 or -errno. */
int lane_watch(const struct lane *l, int fd, uint32_t events, uint64_t tag);
int lane_rewatch(
    const struct lane *l, int fd, uint32_t events, uint64_t tag); /* it is registered already */
void lane_unwatch(const struct lane *l, int fd);

#endif
