/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io.h: sockets, batches, the event loop of the small processes, messages with descriptors.
 * Errors: 0 or -errno.
 */
#ifndef TP_IO_H
#define TP_IO_H

#include <sys/uio.h>

#include "tp/base.h"
#include "tp/msg.h"

/* ---- clock.c --------------------------------------------------------------------------------- */

tp_ms clock_ms(void);     /* CLOCK_MONOTONIC */
int64_t clock_unix(void); /* CLOCK_REALTIME, seconds */

/* ---- ipc.c ----------------------------------------------------------------------------------- */

/* SOCK_SEQPACKET pair, non-blocking, close-on-exec. */
int ipc_pair(int fds[2]);
/* Sends one message of msg_size(type) bytes, with `fd` when the type carries one (-1 otherwise; the
 * caller keeps its own).  0, -EAGAIN when the queue is full, -EPIPE when the other end is gone. */
int ipc_send(int sock, const void *msg, int fd);
/* Sends messages without descriptors that lie end to end, in order, as many as one call takes.  The bytes
 * that went, which end with a message; -EAGAIN, -EPIPE, -errno when not even the first did. */
int ipc_send_run(int sock, const uint8_t *msgs, size_t len);
/* Sends at most IPC_MANY messages in order, fds[i] with msgs[i] or -1, with one call: the receiver wakes
 * up once.  How many went; -EAGAIN, -EPIPE, -errno when not even the first did. */
#define IPC_MANY 32
int ipc_send_many(int sock, const void *const *msgs, const int *fds, unsigned n);
/*
 * Receives one message.  1: *m is filled, *fd is a new close-on-exec descriptor (the caller's) or -1.  0:
 * nothing there (EAGAIN).  -EPIPE: other end closed.  -EPROTO: wrong length, type, number of descriptors
 * or truncated control data, or `from` may not send it to `to`; whatever came with it is closed.
 */
int ipc_recv(int sock, unsigned from, unsigned to, union msg *m, int *fd);

/* ---- loop.c: for processes that are not the data path ------------------------------------------- */

struct loop;
typedef void loop_fd_h(void *arg, int fd, uint32_t events); /* EPOLLIN ... */
typedef void loop_timer_h(void *arg);
struct loop *loop_new(void);
void loop_free(struct loop *l);
int loop_add(struct loop *l, int fd, uint32_t events, loop_fd_h *cb, void *arg);
int loop_mod(struct loop *l, int fd, uint32_t events);
void loop_del(struct loop *l, int fd); /* safe inside callbacks, also for an event not yet delivered */
/* One-shot timers; id 0 is never used. */
unsigned loop_after(struct loop *l, tp_ms span, loop_timer_h *cb, void *arg);
void loop_cancel(struct loop *l, unsigned id);
/* Signals as callbacks through one signalfd; blocks them for the process. */
typedef void loop_signal_h(void *arg, int signo);
int loop_signals(struct loop *l, const int *signos, unsigned n, loop_signal_h *cb, void *arg);
int loop_run(struct loop *l); /* until loop_stop(); returns its value */
void loop_stop(struct loop *l, int value);

/* ---- sock.c: what the supervisor binds ----------------------------------------------------------- */

struct sock_options {
	size_t receive_buffer, send_buffer;
};
/* UDP listener, also of an address that comes later (IP_FREEBIND, as all listeners): SO_REUSEPORT,
 * V6ONLY, pmtu discovery off, error queue (IP_RECVERR) on, buffers FORCEd when permitted.  *granted (may
 * be NULL) is the receive buffer that the kernel gave.  Returns a descriptor or -errno. */
int sock_listener_udp(const struct addr *a, const struct sock_options *o, size_t *granted);
/* UDP relay socket: bound, no reuse, V6ONLY, no broadcast, pmtu discovery off, IP_RECVERR, drop-all
 * filter attached. */
int sock_relay_udp(const struct addr *a, size_t receive_buffer);
/* Does this host have the address, ready for use?  Not while IPv6 looks for duplicates of it, nor when
 * there is one. */
bool sock_is_here(const struct addr *a);
int sock_filter_attach(int fd); /* drop all */
int sock_filter_detach(int fd); /* 0 also when there is none */
/*
 * The same by a program that is made once and shared: attaching it costs a twentieth, and it tells a
 * socket that has had a session from a fresh one.  sock_filter_program() needs CAP_BPF (or
 * kernel.unprivileged_bpf_disabled=0), attaching nothing.
 */
int sock_filter_program(void); /* its descriptor, -errno */
int sock_filter_share(int fd, int program);
/* Which filter a socket has, or -errno. */
enum sock_filter_kind { SOCK_FILTER_NONE, SOCK_FILTER_OWN, SOCK_FILTER_SHARED };
int sock_filter_has(int fd);
/* Throws away what waits at a socket.  False: it does not end. */
bool sock_empty(int fd);
/* TCP listener for clients: SO_REUSEPORT, V6ONLY; no delay, keepalive and time-outs as its connections
 * inherit them. */
int sock_listener_stream(const struct addr *a, int backlog);
/* How many bytes of a connection were received by some process, and written by some: the kernel's own
 * counters, for a successor.  -ENOTCONN: it is over. */
int sock_stream_counts(int fd, uint64_t *received, uint64_t *written);
/* Listening TCP socket (metrics) and unix socket (control, mode 0660). */
int sock_listener_tcp(const struct addr *a, int backlog);
int sock_listener_unix(const char *path, unsigned mode);

/* ---- port_holder.c --------------------------------------------------------------------------- */

/* Is the port free?  Tried without SO_REUSEPORT, so that another instance's is not silently shared.  0,
 * or -errno and a sentence that names the port and, where it can be found, its holder. */
int port_probe(const struct addr *a, bool tcp, const char *where, char *why, size_t why_len);
/* Why binding failed with `error` (-errno), in words. */
void port_sentence(int error, const struct addr *a, bool tcp, const char *where, char *why, size_t why_len);
/* "turnserver (pid 123)" into out; false when it cannot be found. */
bool port_holder(const struct addr *a, bool tcp, char *out, size_t len);

/* ---- udp_rx.c, udp_tx.c, udp_gso.c, udp_ring.c, udp_err.c, sock.c: batches ------------------------ */

/*
 * The I/O engine is chosen once at start: plain, mmsg, mmsg + GSO/GRO.  It is a table of functions;
 * callers do not ask which one it is.  A datagram lies in memory of its arena with UDP_HEADROOM bytes
 * before it and UDP_TAIL after it, and stays valid until the arena is reset (after the flush of the ring
 * that refers to it).
 */
#define UDP_HEADROOM 64
#define UDP_TAIL     8
#define UDP_MAX      65535
#define UDP_BATCH    64

struct udp_pkt {
	struct addr from;
	uint8_t *p;
	uint32_t len;
	uint16_t seg; /* > 0: GRO; the bytes are datagrams of this size, the last may be shorter */
	bool truncated;
};
struct udp_arena;
/* For one shard's use in one batch: `listener` slots of full size plus `relay_bytes` for relay
 * datagrams. */
struct udp_arena *udp_arena_new(size_t relay_bytes);
void udp_arena_free(struct udp_arena *a);
void udp_arena_reset(struct udp_arena *a); /* everything received is gone */
/* After a reset: gives the pages back that a burst has touched, up to 6 MB. */
void udp_arena_rest(struct udp_arena *a);
/* Room for a datagram that was not received (an answer), until the reset; NULL: full. */
uint8_t *udp_arena_take(struct udp_arena *a, size_t len);

struct udp_ring; /* datagrams to be sent, in order, borrowed bytes */
struct udp_ring *udp_ring_new(unsigned capacity);
void udp_ring_free(struct udp_ring *r);

/* Told for each datagram that was not sent: err = errno (EMSGSIZE, ENETUNREACH, EPERM...), not for
 * EAGAIN, which drops the rest of that socket's batch: each of these datagrams is counted in tx_again. */
typedef void udp_unsent_h(void *arg, int fd, const struct addr *to, size_t len, int err);

struct udp_counts { /* of one process, added to by the engine */
	uint64_t rx_calls, tx_calls, tx_again, tx_errors, tx_packets, tx_bytes;
	uint64_t rx_batch[8], tx_batch[8];   /* buckets as in tp/shm.h STAT_BATCH_BUCKETS */
	uint64_t tx_nobufs;                  /* sends that met a full device queue */
	uint64_t gro_receives, gro_segments; /* merged receives, and datagrams in them */
	uint64_t gso_sends, gso_segments,
	    gso_refused; /* merged sends, datagrams in them; runs that went one by one */
	uint64_t gro_batch[8], gso_batch[8]; /* datagrams in one buffer received, in one message sent */
};
struct udp_engine {
	const char *name; /* "plain", "mmsg", "gso" */
	/* Prepares a listener socket (UDP_GRO); once per socket and process. */
	int (*listener)(int fd);
	/* The same for a relay socket that a session takes into use. */
	int (*relay)(int fd);
	/* Receives what is there, at most UDP_BATCH datagrams or 16 GRO buffers between two resets of the
	 * arena.  Count, 0 when nothing is there, -ENOBUFS when the arena's slots are used up (flush and
	 * reset, then come again), -errno. */
	int (*rx)(int fd, struct udp_arena *a, struct udp_pkt *pkts, unsigned max, struct udp_counts *c);
	/* Sends the ring and empties it.  Order within one (socket, destination) is kept. */
	void (*flush)(struct udp_ring *r, udp_unsent_h *unsent, void *arg, struct udp_counts *c);
};
extern const struct udp_engine udp_engine_plain, udp_engine_mmsg, udp_engine_gso;
/* Does the kernel have UDP_GRO and UDP_SEGMENT?  Asked of any UDP socket. */
bool udp_probe_gso(int fd);
/* What the kernel has dropped before a socket so far, and how much waits at it.  0 or -errno. */
int udp_pressure(int fd, uint64_t *drops, uint64_t *backlog_bytes);
/* The same of a TCP listener: connections dropped, connections that wait to be accepted. */
int stream_pressure(int fd, uint64_t *drops, uint64_t *waiting);
/* Relay sockets: one plain recv, the same for every engine.  pkt->seg may be set: then the arena has
 * room for a copy of each segment.  1, 0 when nothing is there, -ENOBUFS when the arena is full (flush
 * and reset, then come again), -errno (a pending ICMP error: read the error queue). */
int udp_recv_one(int fd, struct udp_arena *a, struct udp_pkt *pkt);
/* Counts a receive that no engine made: of udp_recv_one(). */
void udp_count_segments(struct udp_counts *c, const struct udp_pkt *pkt);
/* Queues one datagram.  False when the ring is full (flush first). */
bool udp_ring_put(struct udp_ring *r, int fd, const struct addr *to, const uint8_t *p, size_t len);
/* The same with DF set, whatever the kernel believes of the path: its sender is the one that probes. */
bool udp_ring_put_df(struct udp_ring *r, int fd, const struct addr *to, const uint8_t *p, size_t len);
unsigned udp_ring_count(const struct udp_ring *r);

/* One entry of a socket's error queue.  1 with *peer, type, code, info (MTU) of an ICMP error; 0 empty;
 * -errno. */
struct udp_icmp {
	struct addr peer;
	uint8_t family, type, code;
	uint32_t info;
};
int udp_error_next(int fd, struct udp_icmp *icmp);
/* Empties an error queue of at most `max` entries; how many there were. */
unsigned udp_errors_drop(int fd, unsigned max);

/* ---- sandbox.c: what a child gives up -------------------------------------------------------- */

/*
 * In this order: sandbox_become (when the supervisor is root), sandbox_harden, sandbox_landlock,
 * sandbox_seccomp.
 */
/* When memory ends the kernel ends this process before the supervisor, which replaces it.  Before the
 * files are out of reach. */
void sandbox_spend_first(void);
/* No groups, no capabilities, and this user for good; verified.  0 or -errno (then end the process). */
int sandbox_become(uint32_t uid, uint32_t gid);
/* No core, no ptrace, no new privileges, and no life after `parent` (getppid() at the start of main);
 * -ESRCH when the parent is gone already. */
int sandbox_harden(int parent);
/* No file, no TCP port, no signal or abstract socket outside; but in and below the directory `log_dir`
 * (-1: none) files may be made and written.  Best effort: 0, or -errno where the kernel has none and in a
 * build with a sanitizer. */
int sandbox_landlock(int log_dir);
/* The ABI version of Landlock that this kernel has; -errno where it has none or a container does not
 * let us. */
int sandbox_landlock_abi(void);

/* The same with more: paths that may be read, or written with what is below them, and TCP connections
 * outwards. */
struct sandbox_reach {
	int log_dir;
	bool connects;
	unsigned read_count, write_count;
	const char *const *read, *const *write;
};
int sandbox_landlock_reach(const struct sandbox_reach *reach);

/* ---- syscall_filter.c ------------------------------------------------------------------------ */

/* Every system call that include/tp/tbl/syscalls.def does not permit this role kills the process from now
 * on.  Does nothing in a build with a sanitizer.  0 or -errno. */
int sandbox_seccomp(unsigned role);
/* For `role`: turnpike-auth with databases.  A call of a client library that has no row fails with
 * EPERM. */
#define SANDBOX_DATABASES ROLES

#endif
