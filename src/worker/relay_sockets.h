/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relay_sockets.h: relay sockets in the worker: in a session, idle between two sessions, or in the pool
 * for the next one.
 */
#ifndef TP_WORKER_RELAY_SOCKETS_H
#define TP_WORKER_RELAY_SOCKETS_H

#include "lane.h"

#define POOL_DEPTH 32

/* Marks of the pools, by row of the relay table. */
struct relay_pools {
	uint32_t depth[RELAYS_MAX];    /* of the pools */
	uint32_t rest_max[RELAYS_MAX]; /* so many sockets rest at most; 0 none */
	tp_ms last_wish;               /* when pools were topped up */
	uint64_t dice;                 /* which idle socket is next; never 0 */
};

/* ---- relay_state.c --------------------------------------------------------------------------- */

/*
 * Makes the system calls of this change and notes it; `tag`: of the registration in the epoll, where the
 * change makes one.  0, or -errno, then nothing is noted: -EINVAL there is no such change (logged),
 * -EBUSY its queue is not empty.  Releasing (FD_NONE) never fails.
 */
int relay_change(struct worker *w, struct lane *l, int fd, enum fd_use to, uint64_t tag);
bool relay_may_change(enum fd_use from, enum fd_use to);
/* Out of the epoll, closed, and the supervisor told. */
void relay_release(struct worker *w, struct lane *l, int fd, bool unused);
const char *relay_state_name(enum fd_use state); /* NULL: not a relay socket's */

/* ---- relays.c -------------------------------------------------------------------------------- */

/* Into the epoll, then off with the filter, then SESSION_RELAY_OPEN.  False: it could not be done. */
bool relays_open(struct worker *w, struct lane *l, struct session_ref ref);
/* Its session has ended: it rests, or it is given back. */
void relays_close(struct worker *w, struct lane *l, int fd);
/* No client will redeem the reserved socket of this id; 0: none. */
void relays_unreserve(struct worker *w, const struct lane *l, uint32_t reservation);
/* Moves a socket of the supervisor's to its number; owns fd.  NULL: the message is wrong, counted. */
struct lane *relays_place(struct worker *w, const struct msg_socket *m, int fd);
/* A placed socket that no request waits for goes to the pool, or back. */
void relays_pool(struct worker *w, struct lane *l, const struct msg_socket *m);
void relays_recall(struct worker *w, unsigned row, unsigned keep);
bool relays_settle(struct worker *w, unsigned n); /* looks at n inherited sockets; false: all done */
void relays_wish(struct worker *w, bool settled); /* WANT for pools below their mark */

/* ---- session_adopt.c ------------------------------------------------------------------------- */

/* Marks and opens what live sessions of a predecessor have; ends those whose sockets are gone. */
void session_adopt_sockets(struct worker *w, struct lane *l);

/* ---- idle_socket.c --------------------------------------------------------------------------- */

/* Silences a socket whose session has ended and keeps it.  False: it cannot. */
bool rest_put(struct worker *w, struct lane *l, int fd);
bool rest_adopt(
    struct worker *w, struct lane *l, int fd); /* the same for one that a predecessor has silenced */
void rest_draw(
    struct worker *w, struct lane *l, unsigned row); /* fills the pool with what has rested enough */
void rest_expire(struct worker *w, struct lane *l);  /* once a tick */
void rest_clear(struct worker *w, struct lane *l, unsigned row); /* gives back all */
void rest_event(struct worker *w, struct lane *l, uint64_t tag, uint32_t events);
uint32_t rest_depth(const struct turn_relay_row *r, uint32_t shards, int32_t span); /* rest_max of a row */

#endif
