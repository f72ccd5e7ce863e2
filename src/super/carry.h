/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * carry.h: the supervisor's state as one image hands it to the next: records in a memfd.
 *
 *   u16 type, u16 flags, u32 length, body padded to 8 bytes;  HEAD first, END last
 *
 * Rules: a type never changes its number, nor the places of its fields.  New fields go to the end: a
 * reader takes what it knows and finds zero where an older writer had nothing, so 0 always means absent
 * (no field here needs descriptor 0).  An unknown record is left out, unless CARRY_MUST says that this
 * would be wrong.
 */
#ifndef TP_SUPER_CARRY_H
#define TP_SUPER_CARRY_H

#include "tp/base.h"

#define CARRY_MAGIC   0x54504b59u /* "TPKY" */
#define CARRY_VERSION 1           /* raised only when these rules do not suffice */
#define CARRY_MUST    1

enum carry_type {
	CARRY_HEAD = 1,
	CARRY_SHARD,
	CARRY_CHILD,
	CARRY_FD,
	CARRY_RESERVED,
	CARRY_SUSPECT,
	CARRY_LISTENER,
	CARRY_RELAY,
	CARRY_BINARY,
	CARRY_STAT_ROW,
	CARRY_END,
	CARRY_TLSD,
	CARRY_TLSD_PAIR,
};
struct carry_record {
	uint16_t type, flags;
	uint32_t len;
};

struct carry_head {
	uint32_t magic, version;
	uint32_t layout_shard, layout_keys, layout_cross,
	    messages; /* messages: what tells two message sets apart */
	uint32_t shards, workers, slot_max, fd_first, fd_span;
	uint32_t phase, terminated, foreground, drop, uid, gid;
	uint32_t request_used, request, request_generation;
	uint32_t next_reservation, warnings;
	uint64_t boot_ms, reloads, last_reload_ms, conf_generation, deadline, users_size, granted,
	    conf_size;
	int32_t conf_fd, users_fd, log_read, log_write, control_fd, http_fd, pid_fd, exe_fd;
	int32_t secret_rw, secret_ro, cross_rw, cross_ro;
	int32_t authd_stat_rw, authd_stat_ro, admin_stat_rw, admin_stat_ro, super_stat_rw, super_stat_ro;
	int32_t admin_pair, authd_pair;
	uint32_t stat_rows; /* what tells two sets of counters apart */
	uint32_t layout_users;
	int32_t certs_fd;
	uint32_t tlsd_count;
	uint64_t certs_size;
	int32_t filter_fd;
	int32_t ports_rw, ports_ro;
	uint32_t zero;
};
struct carry_shard {
	uint32_t index;
	int32_t shard_rw, shard_ro, keys_rw, epoll, stat_rw, stat_ro, worker_pair, authd_pair;
	uint32_t adopt_deaths;
};
struct carry_child {
	uint32_t role, index, state, generation;
	int32_t pid, control;
	uint32_t deaths, starts, first_shard, shard_count, flags; /* 1 killed, 2 hung, 4 paused, 8 again */
	uint32_t zero;
	uint64_t since_ms, started, due;
	char words[128];
};
struct carry_fd {
	int32_t fd;
	uint8_t kind, row, family, stream;
	uint16_t port, shard;
};
struct carry_reserved {
	uint32_t id;
	int32_t fd;
	uint64_t expiry;
};
struct carry_suspect {
	uint32_t deaths, shard, slot, gen;
	struct addr source;
	uint32_t zero;
	uint64_t last;
};
/* Rows are names that sessions refer to; the rest of the configuration is compiled again when its layout
 * changes. */
struct carry_row {
	uint32_t row, retired;
	struct addr addr;
	uint16_t port_min, port_max;
	uint32_t transports;
	struct addr external; /* of a relay row, when has_external */
	uint32_t has_external;
};
struct carry_tlsd {
	uint32_t index;
	int32_t stat_rw, stat_ro;
};
struct carry_tlsd_pair {
	uint32_t shard, tlsd;
	int32_t worker_fd, tlsd_fd;
};
struct carry_binary {
	uint32_t role;
	int32_t fd;
};
/* Where a counter is in the STAT regions that come along: array 0 counter, 1 drop, 2 error (name: the
 * code). */
struct carry_stat_row {
	uint32_t array, offset;
	char name[56];
};
struct carry_end {
	uint32_t records, zero;
	uint64_t sum;
};

struct super;
/* A sealed memfd with everything, or -errno. */
int carry_save(const struct super *s);
/*
 * Into a zeroed struct super with s->o and programs set: everything but mappings, loop and heap.  0, or
 * -EPROTO and a sentence that says what does not fit.  Touches no descriptor.
 */
int carry_load(struct super *s, int fd, char *why, size_t len);
/* Of the bytes alone: 0, or -EPROTO and a sentence. */
typedef int carry_h(void *arg, const struct carry_record *r, const void *body);
int carry_walk(const void *bytes, size_t len, carry_h *cb, void *arg, char *why, size_t why_len);
uint32_t carry_messages(void);
uint32_t carry_stat_rows(void);

#endif
