/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * msg.h: messages between processes (room io): fixed records over SOCK_SEQPACKET, at most one descriptor
 * each.  Native byte order: same machine, and both ends are of one build (an upgrade replaces all
 * children).  Hostile until proven otherwise: length and type are checked by ipc_recv(), contents by the
 * receiver.
 */
#ifndef TP_MSG_H
#define TP_MSG_H

#include "tp/base.h"

/* Process roles; also in log records and STAT regions. */
enum proc_role { ROLE_SUPER, ROLE_WORKER, ROLE_TLSD, ROLE_AUTHD, ROLE_ADMIN, ROLE_CONF, ROLES };
const char *proc_role_name(unsigned role); /* "supervisor", "worker", ... */

enum msg_type {
	MSG_NONE,
#define MSG(name, tag, from, to, has_fd) MSG_##name,
#include "tp/tbl/msgs.def"
#undef MSG
	MSG_TYPES
};

struct msg_head {
	uint32_t type;       /* enum msg_type */
	uint32_t generation; /* of the sending or addressed process: late messages are told by it */
};

#define MSG_STUN_MAX        2048 /* a request that is passed to turnpike-auth */
#define MSG_TEXT_MAX        1024
#define MSG_TLSDS_MAX       16
#define MSG_HS_DATAGRAM_MAX 2048 /* a DTLS datagram on its way to or from turnpike-tls */
#define MSG_HS_FLIGHT_MAX   4096 /* the server's last flight */
#define MSG_HS_PIECES       8    /* in so many datagrams */
#define MSG_SESSION_LEN     424  /* struct seal_session of tp/seal.h */

/*
 * Descriptors that every child starts with.  0, 1, 2: /dev/null (stderr stays while in the foreground).
 * Everything else has the supervisor's own number, told by messages.
 */
#define CHILD_FD_CONTROL    3 /* SOCK_SEQPACKET to the supervisor */
#define CHILD_FD_LOG        4 /* SOCK_DGRAM, non-blocking, for struct log_rec */

/* First message to every child.  Unused descriptors are -1. */
struct msg_start {
	struct msg_head h;
	uint32_t role, index, shard_count, slot_max;
	int32_t conf_fd, users_fd /* turnpike-auth */, secret_fd, cross_fd,
	    stat_fd /* its own, read-write */;
	/* worker, turnpike-admin: SEQPACKET to turnpike-auth.  turnpike-auth gets -1 and peer_fd[] */
	int32_t authd_fd;
	int32_t
	    peer_fd[SHARDS_MAX + 1]; /* turnpike-auth: its ends, by worker index; turnpike-admin's is last.
						 * turnpike-tls: its ends, by shard */
	int32_t control_fd;          /* turnpike-admin: listening control socket */
	int32_t http_fd;             /* turnpike-admin: listening metrics socket */
	int32_t log_fd;              /* turnpike-admin: receiving end of the log */
	/* turnpike-admin: the supervisor's own STAT region (children table: see ledger_fd) */
	int32_t super_stat_fd;
	int32_t ledger_fd;                  /* turnpike-admin: struct ledger of tp/ledger.h, read-only */
	int32_t worker_stat_fd[SHARDS_MAX]; /* turnpike-admin: read-only, by worker index */
	int32_t authd_stat_fd, admin_stat_fd;
	uint64_t boot_ms; /* CLOCK_MONOTONIC at the daemon's first start */
	uint8_t foreground, drop_privileges;
	uint8_t stand_by; /* worker: stat_fd is its predecessor's until GO */
	uint8_t zero;
	uint32_t uid, gid; /* when drop_privileges: what to become */
	uint32_t draining;
	/* TLS.  Look at the first tlsd_count entries of tlsd_stat_fd[], and of tlsd_fd[] in struct
	 * msg_shard. */
	uint32_t tlsd_count;
	int32_t certs_fd;                    /* turnpike-tls: struct certs of tp/conf.h */
	int32_t tlsd_stat_fd[MSG_TLSDS_MAX]; /* turnpike-admin: read-only */
	int32_t filter_fd;                   /* worker: program for sock_filter_share(), -1 none */
	int32_t ports_fd;                    /* worker: struct port_map of tp/shm.h, read-only */
};
/* A shard the child owns (worker) or may look at (turnpike-admin: keys_fd and epoll_fd are -1). */
struct msg_shard {
	struct msg_head h;
	uint32_t shard;
	int32_t region_fd, keys_fd, epoll_fd;
	uint32_t epoll_is_new;    /* nothing of the predecessor's is in it */
	int32_t fd_base, fd_span; /* the window of descriptor numbers that this shard's sockets have */
	/* worker: SEQPACKET to each turnpike-tls; it belongs to the shard */
	int32_t tlsd_fd[MSG_TLSDS_MAX];
};
struct msg_listener {
	struct msg_head h;
	uint32_t shard, row;
	int32_t fd;
	uint8_t transport, zero[3];
};
/* Inventory of relay sockets that the child inherited: in use by a session or not, it finds out. */
#define MSG_POOL_MAX 64
struct msg_pool_sock {
	int32_t fd;
	uint16_t port;
	uint8_t row, family;
};
struct msg_pool {
	struct msg_head h;
	uint32_t shard, count;
	struct msg_pool_sock sock[MSG_POOL_MAX];
};
/* Inventory of client connections. */
struct msg_stream_sock {
	int32_t fd;
	uint32_t row;
};
struct msg_streams {
	struct msg_head h;
	uint32_t shard, count;
	struct msg_stream_sock sock[MSG_POOL_MAX];
};
/* A worker that waits for the end of its predecessor (stand_by) was told its shards, and gets ready as far
 * as it can without their state.  Then it answers PREPARED. */
struct msg_prepare {
	struct msg_head h;
};
struct msg_prepared {
	struct msg_head h;
};
/* To a stand-by before GO: what it did not inherit under this number, and what it did and is no more. */
struct msg_held {
	struct msg_head h;
	int32_t fd;
};
struct msg_not_held {
	struct msg_head h;
	int32_t fd;
};
/* Everything was told: adopt, then answer READY, then serve. */
struct msg_go {
	struct msg_head h;
};
struct msg_ready {
	struct msg_head h;
	uint32_t adopted, dropped;
};

/* A relay socket for a shard; it carries a drop-all filter.  The receiver moves it to number `fd` (dup3).
 * request 0: for the pool; else the answer to that RELAY, `left` more follow for the same request. */
struct msg_socket {
	struct msg_head h;
	uint32_t shard, request, left, reservation /* id of the sibling that stays behind; 0 */;
	int32_t fd;
	uint16_t port;
	uint8_t row, family;
};
/* Fill the pool of this row up by `count`. */
struct msg_want {
	struct msg_head h;
	uint32_t shard, row, count;
};
/* Sockets for one request now: of these families (row ~0: any row), even with or without reserving the
 * odd sibling, or the reserved one. */
struct msg_relay {
	struct msg_head h;
	uint32_t shard, request;
	uint8_t v4, v6, even, reserve;
	uint32_t reservation;
};
/* None to be had (range used up, reservation unknown or over). */
struct msg_relay_none {
	struct msg_head h;
	uint32_t shard, request;
};
/* A connection that was accepted on listener `row`; nothing was read from it.  STREAM_AT: the number that
 * it has from now on (the receiver moves its own there, then reads), -1 when there is none. */
struct msg_stream {
	struct msg_head h;
	uint32_t shard, row, request;
};
struct msg_stream_at {
	struct msg_head h;
	uint32_t shard, request;
	int32_t fd;
};
/* The worker has closed its copy: close yours, too.  unused: never left its filter.  Or, with fd -1, the
 * reserved socket of this id has no token: it will not be redeemed. */
struct msg_release {
	struct msg_head h;
	uint32_t shard;
	int32_t fd;
	uint32_t unused, reservation;
};
/* Give back idle pool sockets of this row: another shard needs ports. */
struct msg_recall {
	struct msg_head h;
	uint32_t row, keep;
};

struct msg_conf {
	struct msg_head h;
	uint64_t size, generation;
}; /* + memfd: struct conf */
struct msg_users {
	struct msg_head h;
	uint64_t size, generation;
}; /* + memfd: struct users */
/* End sessions: one (slot, gen), or all of a user (by keyed hash of the stable name). */
struct msg_close {
	struct msg_head h;
	uint32_t request, shard, slot, gen;
	uint64_t user;
	uint32_t by_user;
};
struct msg_closed {
	struct msg_head h;
	uint32_t request, count;
};
struct msg_stop {
	struct msg_head h;
}; /* finish the batch, flush, exit 0 */
enum msg_drain_flags { MSG_DRAIN_ASKED = 1, MSG_DRAIN_MEMORY = 2 };
struct msg_drain {
	struct msg_head h;
	uint32_t on; /* why there are no new allocations; 0: there are */
};
/* Drop what this source (port ignored) sends without an allocation, until then (monotonic): workers
 * died of it. */
struct msg_poison {
	struct msg_head h;
	struct addr source;
	uint32_t zero;
	uint64_t until_ms;
};

/* turnpikectl's commands that the supervisor carries out. */
enum super_command {
	CMD_STATUS,
	CMD_RELOAD,
	CMD_CLOSE_SESSION,
	CMD_CLOSE_USER,
	CMD_RESTART_WORKERS,
	CMD_DRAIN,
	CMD_UNDRAIN,
	CMD_UPGRADE,
	CMD_LOG_LEVEL,
	CMD_STOP,
};
struct msg_command {
	struct msg_head h;
	uint32_t request, command, shard, slot, gen, value;
	uint64_t user;
	char text[256];
};
/* Zero or more with more = 1, the last with more = 0 and the code (0 done, 1 refused). */
struct msg_reply {
	struct msg_head h;
	uint32_t request, code, more;
	char text[MSG_TEXT_MAX];
};

struct msg_key_ask {
	struct msg_head h;
	uint32_t request; /* the worker's pending slot and its generation */
	uint32_t worker;
	struct addr client;
	uint16_t len;
	uint8_t message[MSG_STUN_MAX]; /* the whole STUN request, integrity included */
};
struct msg_key_answer { /* fields as struct auth_grant of tp/auth.h */
	struct msg_head h;
	uint32_t request;
	uint8_t verdict, alg, key_len, stable_len;
	uint8_t key[32];
	int64_t credential_expiry;
	uint64_t conf_generation;
	uint64_t allocations, permissions, bandwidth; /* of this user; 0: as configured */
	uint16_t name_len;
	char stable[128];
	char name[763];
	uint8_t reason, zero[8]; /* GRANT_REFUSED: enum reason of tp/shm.h */
};
/* Make a REST credential (turnpikectl credentials). */
struct msg_cred_ask {
	struct msg_head h;
	uint32_t request, sha256;
	int64_t lifetime;
	char user[128];
};
struct msg_cred_answer {
	struct msg_head h;
	uint32_t request, ok;
	int64_t expiry;
	char name[160], password[64], realm[128];
};

/* A worker that begins asks; turnpike-auth tells, and again at each change. */
struct msg_followed_ask {
	struct msg_head h;
};
struct msg_followed {
	struct msg_head h;
	uint64_t size;
}; /* + sealed memfd: struct conf_followed */
/* A key in the caches of workers may be another one now.  name_len 0: all of them.  gone: the user is in no
 * database any more, and its sessions end. */
struct msg_forget {
	struct msg_head h;
	uint16_t name_len;
	uint8_t gone, zero[5];
	char name[512];
};
/* turnpikectl user, secret, deny.  what: enum db_change of tp/db.h, or one of the list in shared memory. */
enum msg_db_what { DB_ASK_CHANGE, DB_ASK_DENY, DB_ASK_UNDENY, DB_ASK_DENIED };
struct msg_db_ask {
	struct msg_head h;
	uint32_t request, what /* enum msg_db_what */, change /* enum db_change */, zero;
	int64_t until;
	char database[32], from[32], realm[128], name[512], value[512];
};
/* Zero or more with more = 1, the last with more = 0 and the code (0 done, 1 refused). */
struct msg_db_answer {
	struct msg_head h;
	uint32_t request, code, more;
	char text[512];
};

struct msg_conf_text {
	struct msg_head h;
	uint32_t level;
	char text[MSG_TEXT_MAX];
};
enum conf_blob { BLOB_CONF, BLOB_USERS, BLOB_CERTS };
struct msg_conf_blob {
	struct msg_head h;
	uint32_t blob, zero;
	uint64_t size;
}; /* + sealed memfd */
struct msg_conf_done {
	struct msg_head h;
	uint32_t ok, errors, warnings, zero;
};

/* ---- handshakes: tp/tlsd.h has the order of these messages ---- */

struct msg_certs {
	struct msg_head h;
	uint64_t size, generation;
}; /* + memfd: struct certs */
/*
 * Which handshake.  A stream is told by {shard, request}, a DTLS one by {shard, row, client}: names that
 * stay true when the shard gets another owner.
 */
struct hs_who {
	uint64_t request;    /* stream: slot and generation of its struct conn; DTLS: name of
					 * the hello, 0 in what belongs to none */
	uint64_t number;     /* turnpike-tls's own, never used twice; 0 in what starts a handshake */
	uint32_t shard, row; /* row: of the listener */
	struct addr client;
	uint8_t dtls, zero[3];
};
struct msg_hs_stream {
	struct msg_head h;
	struct hs_who who;
}; /* + the connection, non-blocking, nothing read from it */
/* hello: a record with a fragment of a ClientHello of a 5-tuple that returned its cookie.  Otherwise a
 * datagram that may belong to a handshake. */
struct msg_hs_datagram {
	struct msg_head h;
	struct hs_who who;
	uint16_t hello, len;
	uint8_t datagram[MSG_HS_DATAGRAM_MAX];
};
/* Send this to the client from the listener's socket. */
struct msg_hs_reply {
	struct msg_head h;
	struct hs_who who;
	uint16_t zero, len;
	uint8_t datagram[MSG_HS_DATAGRAM_MAX];
};
enum hs_alpn { HS_ALPN_NONE, HS_ALPN_TURN, HS_ALPN_DISCOVERY };
struct msg_hs_done {
	struct msg_head h;
	struct hs_who who;
	uint16_t version, cipher;      /* as on the wire: 0303 0304 FEFD, C02B ... */
	uint8_t alpn;                  /* enum hs_alpn */
	uint8_t pieces;                /* stream: 0 or 1 */
	uint16_t piece[MSG_HS_PIECES]; /* lengths, one datagram each, back to back in flight[] */
	uint8_t flight[MSG_HS_FLIGHT_MAX];
	uint8_t again, zero; /* so often it was said before: the session may have been in use each time */
	_Alignas(8) uint8_t session[MSG_SESSION_LEN]; /* struct seal_session */
};
/* The session is published: forget it. */
struct msg_hs_ack {
	struct msg_head h;
	struct hs_who who;
};
enum hs_reason {
	HS_R_NONE,
	HS_R_CLOSED /* by the client */,
	HS_R_TIMEOUT,
	HS_R_CROWDED /* silent while others waited for room */,
	HS_R_ALERT /* the client sent one */,
	HS_R_PROTOCOL /* what the client sent is wrong */,
	HS_R_NO_MATCH /* no common suite, group or signature */,
	HS_R_INTERNAL,
	HS_R_CANCELED,
	HS_R_VERSION /* none in common */,
	HS_R_ALPN /* another protocol than ours */,
	HS_R_UNTRUSTED /* an alert about our certificate */,
	HS_R_CROWDED_PREFIX /* the same, its prefix being full */,
	HS_REASONS
};
/* It came to nothing; an alert, if any is due, was sent. */
struct msg_hs_fail {
	struct msg_head h;
	struct hs_who who;
	uint8_t reason /* enum hs_reason */, zero[7];
};
/* The client is gone, or the connection was closed. */
struct msg_hs_cancel {
	struct msg_head h;
	struct hs_who who;
};

/* Room for the largest. */
union msg {
	struct msg_head h;
#define MSG(name, tag, from, to, has_fd) struct tag tag;
#include "tp/tbl/msgs.def"
#undef MSG
};
/* Exact size of a type, 0 for an unknown one; may `from` send it to `to` (enum proc_role)? */
size_t msg_size(uint32_t type);
const char *msg_name(uint32_t type);
bool msg_may(uint32_t type, unsigned from, unsigned to);
bool msg_has_fd(uint32_t type);

#endif
