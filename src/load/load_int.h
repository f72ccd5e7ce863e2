/* SPDX-License-Identifier: BSD-3-Clause */
/* load_int.h: what the files of this room share: flows, their accounts, one worker thread. */
#ifndef TP_LOAD_INT_H
#define TP_LOAD_INT_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#include "tp/load.h"
#include "tp/stun.h"

enum { UP, DOWN }; /* client to peer, peer to client */

/* ---- payload.c: what every datagram carries -------------------------------------------------------- */

/*
 *  0       2    3   4          8         12         16              24              32
 *  | magic | dir | 0 | session  | flow     | checksum | sequence      | time (ns)     | filler ...
 *
 * Native byte order: one process writes and reads it.  The checksum covers everything, the length included.
 */
#define BARE_CHANNEL 0x4fff /* of the hello that tests/bench/forwarder.c understands */
#define PAYLOAD_MIN  32
#define PAYLOAD_MAX  1400
struct stamp {
	uint32_t flow;
	uint8_t dir;
	uint64_t seq, time;
};
enum payload_fault { PAYLOAD_OK, PAYLOAD_DAMAGED, PAYLOAD_FOREIGN };
/* Writes the filler of an n byte payload at p + PAYLOAD_MIN; returns its digest for payload_write(). */
uint64_t payload_fill(uint8_t *p, size_t n);
void payload_write(uint8_t *p, size_t n, uint32_t session, const struct stamp *s, uint64_t filler);
/* *s is filled for PAYLOAD_OK only.  Foreign: intact, but of another run of this program. */
enum payload_fault payload_read(
    const uint8_t *p, size_t n, size_t expected, uint32_t session, struct stamp *s);

/* ---- load_account.c: the fate of every packet of one direction of one flow ------------------- */

struct side {
	uint64_t next_seq; /* sender */
	uint64_t sent;     /* accepted by the kernel */
	uint64_t high;     /* 1 + highest sequence number seen, or written off by the window */
	uint64_t top;      /* 1 + highest sequence number seen */
	uint64_t got;      /* distinct and intact */
	uint64_t duplicate, reordered, damaged, misdelivered;
	uint64_t last, gap, gap_at; /* ns: last arrival, longest silence, when it ended */
	uint64_t *seen;             /* a bit for each sequence number */
	size_t words;
};
enum seen { SEEN_NEW, SEEN_LATE, SEEN_AGAIN };
/* A packet with this number arrived intact at `now`.  Grows the bitmap; ends the process without memory. */
enum seen side_seen(struct side *s, uint64_t seq, uint64_t now);
void side_fini(struct side *s);
static inline uint64_t
side_lost(const struct side *s)
{
	return s->sent > s->got ? s->sent - s->got : 0;
}

/* ---- hist.c: latencies, 32 buckets to an octave (3 %) ------------------------------------------------ */

#define HIST_BUCKETS (60 * 32)
struct hist {
	uint64_t count, max, bucket[HIST_BUCKETS];
};
void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *into, const struct hist *from);
/* Upper edge of the bucket in which this share (0..1) lies; 0 when empty. */
uint64_t hist_at(const struct hist *h, double share);

/* ---- cpu.c: what processes have used ----------------------------------------------------------------- */

struct cpu_set {
	const int *roots;
	unsigned count;
	bool tree;
};
/* user + system microseconds so far, dead children that were waited for included.  0 when none is there. */
double cpu_used_us(const struct cpu_set *s);
double cpu_self_us(void);
/* Number of processes it would count now. */
unsigned cpu_processes(const struct cpu_set *s);

/* ---- load_control.c: a flow's way through allocation, channel, refresh, end ------------------ */

enum ctl_step {
	CTL_IDLE,
	CTL_CONNECT,
	CTL_BINDING,
	CTL_ALLOCATE,
	CTL_BIND,
	CTL_READY,
	CTL_REFRESH,
	CTL_REBIND,
	CTL_FREE,
	CTL_DONE,
	CTL_FAILED
};

struct flow {
	uint32_t id, index; /* over all workers; within this one */
	int fd;
	struct conn *conn; /* of a stream or DTLS transport, NULL when there is none */
	uint32_t life;     /* connections begun: tells a callback's caller that its own is gone */
	bool closed;       /* by the server or the network, at closed_at, after it was ready */
	uint64_t closed_at;
	uint16_t channel, peer; /* peer: index into the worker's peers */
	uint8_t head[STUN_DATA_HEADROOM], head_len;
	uint8_t step, tries;
	bool challenged;
	struct addr relayed;
	struct sockaddr_storage relayed_sa;
	socklen_t relayed_len;
	uint32_t next_by_port; /* 1 + index of the next flow with the same relayed port */
	struct side side[2];
	_Atomic uint64_t astray; /* packets from its relayed address that came to another thread's peer */
	uint8_t txid[STUN_TXID];
	uint64_t deadline, began, connected_at, ready_at, refresh_at;
	uint64_t authd_ns;         /* time between two refreshes */
	uint16_t nonce_len, error; /* error: STUN code that ended it, or one of ERROR_ */
	uint8_t nonce[STUN_NONCE_MAX];
	uint8_t lost_refresh; /* a refresh was refused: the server does not know it any more */
	uint8_t moved;        /* times it took another port because of a 437 */
};
#define ERROR_TIMEOUT   1
#define ERROR_SOCKET    2
#define ERROR_CONNECT   3    /* refused or reset before it was a connection */
#define ERROR_HANDSHAKE 4    /* TLS or DTLS */
#define ERROR_CLOSED    5    /* the server ended the connection */
#define ERRORS_MAX      1000 /* codes have three digits */

struct worker;
void ctl_start(
    struct worker *w, struct flow *f, uint64_t now); /* opens the transport, then the first Allocate */
/* The transport that was opened with 1 is there now. */
void ctl_connected(struct worker *w, struct flow *f, uint64_t now);
/* The connection has ended and the transport has let go of it. */
void ctl_closed(struct worker *w, struct flow *f, uint16_t error, uint64_t now);
void ctl_free(struct worker *w, struct flow *f, uint64_t now); /* Refresh 0 */
/* A STUN message or hello answer on the flow's socket. */
void ctl_input(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now);
/* Retransmissions and give-ups of all flows; call every 20 ms or so. */
void ctl_tick(struct worker *w, uint64_t now);
struct flow *ctl_by_relayed(const struct worker *w, const struct addr *a);
static inline bool
ctl_waiting(const struct flow *f)
{
	return (f->step > CTL_IDLE && f->step < CTL_READY) || f->step == CTL_REFRESH ||
	    f->step == CTL_REBIND || f->step == CTL_FREE;
}

/* ---- transport: how a client reaches the server (udp.c, load_stream.c, load_dtls.c) ---------- */

struct client_way {
	bool reliable; /* requests are not sent again (RFC 8489 6.2.2) */
	bool padded;   /* ChannelData to a multiple of 4 (RFC 8656 12.5) */
	/* Sets f->fd.  0: usable; 1: ctl_connected() or ctl_closed() will be called; -errno. */
	int (*open)(struct worker *w, struct flow *f);
	void (*close)(struct worker *w, struct flow *f);
	int (*control)(struct worker *w, struct flow *f, const uint8_t *p, size_t n);
	/* `count` packets of the flow, one run; data of this flow and direction stays in order */
	void (*run)(struct worker *w, struct flow *f, unsigned count, uint64_t now);
	void (*flush)(struct worker *w);
	/* what is there, given to flow_input() */
	unsigned (*receive)(struct worker *w, struct flow *f, uint64_t now);
	/* The rest may be NULL. */
	void (*writable)(struct worker *w, struct flow *f, uint64_t now);
	void (*tick)(struct worker *w, struct flow *f); /* every 20 ms while it connects */
	bool (*pending)(const struct flow *f); /* accepted packets that are not with the kernel yet */
};
extern const struct client_way transport_udp, transport_stream, transport_dtls;

struct conn { /* of load_stream.c and load_dtls.c */
	struct worker *w;
	struct flow *f;
	struct secure *secure;              /* NULL: plain TCP */
	bool connecting, secured, watching; /* watching: for EPOLLOUT, too */
	bool running;                       /* DTLS: records of a run are collected */
	uint8_t *in, *out;                  /* a frame's beginning; what the kernel did not take */
	size_t in_len, in_cap, out_at, out_len, out_cap;
};
#define STREAM_READ 65536

/* ---- udp.c ------------------------------------------------------------------------------------- */

/* A UDP socket connected to the server, in w->ep.  0 or -errno. */
int udp_socket(struct worker *w, struct flow *f, bool gro);
unsigned udp_reads(const struct worker *w); /* buffers of one rx_read() */

/* ---- load_conn.c: the connection of a flow, whatever it goes over ---------------------------- */

/* Bytes (DTLS: a datagram) for the network. */
typedef void secure_out_h(void *arg, const uint8_t *p, size_t n);
struct conn *conn_new(struct worker *w, struct flow *f, secure_out_h *out); /* f->conn; `out` is given it */
void conn_drop(struct flow *f, bool goodbye);                               /* and closes f->fd */
void conn_lost(struct worker *w, struct flow *f, uint16_t error, const char *why, uint64_t now);
/* The three below: false when this connection is no more. */
typedef bool conn_plain_h(
    struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now, unsigned *count);
bool conn_handshake(struct worker *w, struct flow *f, uint64_t now);
/* Bytes (DTLS: a datagram) of the network; what is in them goes to `plain`. */
bool conn_sealed(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now,
    unsigned *count, conn_plain_h *plain);

/* ---- secure.c: TLS or DTLS of one connection, without a socket ------------------------------- */

struct secure_env;                                               /* what all connections share */
struct secure_env *secure_env_new(const struct load_options *o); /* ends the process with a sentence */
void secure_env_free(struct secure_env *e);
struct secure *secure_new(struct secure_env *e, secure_out_h *out, void *arg);
void secure_free(struct secure *s, bool goodbye);
/* Bytes (DTLS: one datagram) of the network, to be used up by secure_handshake() and secure_read(). */
void secure_in(struct secure *s, const uint8_t *p, size_t n);
int secure_handshake(struct secure *s); /* 1 done, 0 under way, -EPROTO */
/* > 0 bytes (DTLS: of one record), 0 no more for now, -EPIPE ended in order, -EPROTO. */
ssize_t secure_read(struct secure *s, uint8_t *p, size_t n);
int secure_write(struct secure *s, const uint8_t *p, size_t n); /* 0 or -EPROTO */
void secure_tick(struct secure *s);                             /* DTLS: flights that were lost */
void secure_describe(const struct secure *s, char *out, size_t n);
void secure_reason(const struct secure *s, char *out, size_t n);

/* ---- peer.c: the other end ------------------------------------------------------------------- */

struct peer {
	int fd;
	struct addr addr;
};
int peer_open(struct worker *w);
void peer_close(struct worker *w);
void peer_run(struct worker *w, struct flow *f, unsigned count, uint64_t time);
unsigned peer_receive(struct worker *w, struct peer *p, uint64_t now);

/* ---- load_batch.c: sendmmsg with UDP_SEGMENT, recvmmsg with UDP_GRO -------------------------- */

#define TX_MSGS  64
#define TX_SLOTS 1024
struct tx;
/* Wire packets of `head` + `payload` bytes (padded by `pad`). */
struct tx *tx_new(size_t head, size_t payload, size_t pad, bool gso);
/* For finished datagrams of up to RECORD_MAX bytes. */
struct tx *tx_new_records(bool gso);
#define RECORD_MAX 2048
void tx_free(struct tx *t);
/* `count` packets from this socket; `to` NULL when connected.  Flushes when the socket changes or it is
 * full. */
void tx_put(struct worker *w, struct tx *t, int fd, const struct sockaddr_storage *to, socklen_t to_len,
    struct flow *f, unsigned dir, unsigned count, uint64_t time);
/* One finished datagram, from a connected socket; those of one flow and size leave together. */
void tx_record(
    struct worker *w, struct tx *t, int fd, struct flow *f, unsigned dir, const uint8_t *p, size_t n);
void tx_flush(struct worker *w, struct tx *t);
/* For a caller that sends by itself: `count` packets of *wire bytes, one behind the other; then say what
 * became of them. */
const uint8_t *tx_stamp(struct worker *w, struct tx *t, struct flow *f, unsigned dir, unsigned count,
    uint64_t time, size_t *wire);
void tx_account(struct worker *w, struct flow *f, unsigned dir, unsigned count, bool went);

#define RX_SLOTS 64
struct rx;
struct rx *rx_new(void);
void rx_free(struct rx *r);
typedef void rx_h(
    struct worker *w, void *arg, const struct addr *from, const uint8_t *p, size_t n, uint64_t now);
/* Up to `max` buffers; each datagram (GRO taken apart) to the handler.  Datagrams handled. */
unsigned rx_read(
    struct worker *w, int fd, unsigned max, bool named, rx_h *handler, void *arg, uint64_t now);

/* ---- load_thread.c --------------------------------------------------------------------------- */

struct step {
	double rate, seconds;
	uint64_t packets;
};

struct worker {
	const struct load_options *o;
	const struct client_way *transport;
	struct secure_env *env;   /* TLS and DTLS */
	const _Atomic bool *stop; /* the report is wanted now */
	struct worker *all;       /* of this run, for peer.c */
	unsigned index, n;
	uint32_t session;
	struct flow *flows;
	struct peer *peers;
	unsigned peer_count, outstanding, started;
	uint32_t *by_port;
	int ep;
	struct tx *tx[2], *records; /* records: DTLS, on their way out */
	struct rx *rx;
	uint8_t *wire, *plain;     /* STREAM_READ each: what was just read */
	char cipher[64], why[160]; /* of the first handshake; why the first connection failed */
	uint8_t key[STUN_KEY_MAX];
	size_t key_len;
	char user[LOAD_TEXT_MAX + 32], password[LOAD_TEXT_MAX], realm[STUN_REALM_MAX + 1];
	int64_t inflight;
	unsigned window, cursor;
	uint64_t tick_at, progress_at;
	uint64_t stop_at,
	    stop_look; /* hold: the stop was asked for; the next look at the flows heard since */
	bool single, recycle, draining; /* recycle: set-up and connect mode */
	bool traffic;                   /* all set-ups of all threads have ended */
	uint64_t recycle_until, rounds, rounds_max;
	struct hist hist[2], setup_hist, connect_hist;
	/* running sums, also read by the main thread */
	_Atomic uint64_t sent[2], got[2], ready, failed;
	uint32_t errors[ERRORS_MAX]; /* why set-ups and refreshes failed */
	uint64_t foreign, unsent, strange, stalls, skipped, send_again, refresh_lost;
	uint64_t step_ns;
	struct step step;
};
int worker_init(struct worker *w);
void worker_fini(struct worker *w);
void worker_setup(struct worker *w);
void worker_step(struct worker *w);
void worker_rounds(struct worker *w);
void worker_why(struct worker *w, const char *why); /* of a connection that ended; the first one is kept */
void worker_teardown(struct worker *w);
/* A flow became ready, failed or done (load_control.c tells). */
void worker_flow_changed(struct worker *w, struct flow *f, uint64_t now);
/* One data payload arrived at the end of this direction. */
void worker_arrived(
    struct worker *w, struct flow *f, unsigned dir, const uint8_t *p, size_t n, uint64_t now);
void flow_input(struct worker *w, struct flow *f, const uint8_t *p, size_t n, uint64_t now);

uint64_t now_ns(void);

/* ---- load_report.c --------------------------------------------------------------------------- */

struct step_result {
	double rate_asked, seconds, sent_pps, got_pps, loss, cpu_us, self_us;
	uint64_t sent, got, skipped;
	bool load_limited;
};
struct report {
	const struct load_options *o;
	struct worker *workers;
	double setup_s, rounds_s, setup_cpu_us, setup_self_us;
	uint64_t started_ns, ended_ns;
	unsigned processes;
	struct step_result *steps;
	unsigned step_count;
};
int report_print(const struct report *r); /* the exit status */
struct progress {
	uint64_t began, at, sent, got, ready;
}; /* of a phase; `at` 0: nothing shown yet */
void report_progress(
    const struct load_options *o, const struct worker *w, const char *what, struct progress *p);
void report_progress_end(const struct load_options *o);

/* ---- host.c: the calls of one socket; hostport.c: many sockets; hostqueue.c: what the kernel counted
 * ------------- */

#define HOST_BATCH 64
enum host_how { HOST_SENDTO, HOST_SEND, HOST_SENDMMSG, HOST_GSO };
struct host {
	const struct load_options *o;
	double seconds; /* for each row */
	void *rows;     /* json_t array */
	struct addr at; /* where sockets are bound; the port of the last one */
	uint8_t *data;  /* HOST_BATCH payloads, one behind the other */
};
int host_run(const struct load_options *o);
double host_thread_ns(void); /* CPU time of this thread */
enum host_port {
	HOST_ALONE,
	HOST_FIRST,
	HOST_SHARED
}; /* a new port; one that others may share; the one of h->at */
int host_bound(struct host *h, enum host_port port, bool gro); /* h->at has the port then */
int host_sender(const struct host *h, bool connected);         /* to h->at */
/* One call, or HOST_BATCH single ones; the datagrams that went. */
unsigned host_send(const struct host *h, int fd, enum host_how how, unsigned segments);
/* `more` NULL: none. */
void host_row(struct host *h, const char *group, const char *what, double pps, double ns, const char *more,
    double value);
void host_cores(struct host *h, unsigned n);    /* n senders, a socket each */
void host_one_port(struct host *h, unsigned n); /* one sender against n receivers */
void host_spread(struct host *h, unsigned sockets, unsigned flows);

#define HOST_CPUS 1024
struct host_queues {
	unsigned cpus;
	uint32_t packets[HOST_CPUS], dropped[HOST_CPUS];
};
/* Below `root` ("" for the real one).  False: there is no such file. */
bool host_softnet(struct host_queues *q, const char *root);
void host_softnet_row(struct host *h, const struct host_queues *before, const struct host_queues *after);
/* Receive queues of each device, and how unevenly their interrupts came since boot. */
void host_devices(struct host *h, const char *root);

#endif
