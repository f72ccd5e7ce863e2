/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * doctor.h: is this host fit for this configuration?  Facts are read first (host_facts.c, from /proc),
 * then judged by functions of these facts alone (judge*.c).  Runs in turnpikectl, with the rights of its
 * user.  Errors: 0 or -errno.
 */
#ifndef TP_DOCTOR_H
#define TP_DOCTOR_H

#include <stdio.h>
#include <sys/types.h>

#include "tp/conf.h"

/* A note is a fact worth knowing, or one that could not be read; nothing has to be done. */
enum doctor_level { DOCTOR_OK, DOCTOR_NOTE, DOCTOR_WARNING, DOCTOR_BAD, DOCTOR_LEVELS };
#define DOCTOR_TEXT 360
struct doctor_finding {
	enum doctor_level level;
	char name[48];
	char is[DOCTOR_TEXT];
	char should[DOCTOR_TEXT]; /* what it should be, and why; "" */
	char set[DOCTOR_TEXT];    /* what sets it: a command or a line of the configuration; "" */
};
#define DOCTOR_FINDINGS 192
struct doctor_report {
	unsigned count;
	struct doctor_finding f[DOCTOR_FINDINGS];
};

/* What the listeners must be able to hold: `rate` datagrams a second for `stall` ms.  Said on the
 * command line. */
struct doctor_load {
	uint64_t rate, stall_ms;
};
#define DOCTOR_RATE     200000
#define DOCTOR_STALL_MS 40
/*
 * What a datagram takes of a buffer as it is asked for by option.  The kernel charges truesize: 768 bytes
 * for a small one in memory of its own, about 2,300 in half a page of a network card's; and it doubles
 * what is asked for.
 */
#define DOCTOR_TRUESIZE 1024

/* ---- host_facts.c ---------------------------------------------------------------------------- */

#define UNKNOWN         (-1) /* not there, or not visible here */
struct doctor_host {
	int64_t rmem_max, wmem_max, wmem_default, netdev_max_backlog, netdev_budget, somaxconn, nr_open,
	    file_max;
	int64_t udp_mem; /* pages, the third number */
	int64_t conntrack_max, conntrack_count, conntrack_udp,
	    conntrack_udp_stream;    /* max UNKNOWN: not loaded */
	int64_t port_low, port_high; /* the kernel's own choice of ports */
	uint8_t reserved[65536 / 8]; /* that it leaves out */
	int64_t received,
	    receive_errors; /* UDP datagrams since boot; those lost for a full receive buffer */
	int64_t softnet_dropped;
	int64_t files; /* RLIMIT_NOFILE, hard, of turnpiked (of the doctor when it does not run) */
	bool force;    /* may pass rmem_max and wmem_max */
	int64_t ipv6_disabled, processors, nodes; /* nodes: of memory with processors (NUMA); 0: unknown */
	char clocksource[32];
	/* Found by trying, not read. */
	bool gso, reuseport, clock_synchronised, same_network;
	int64_t now; /* Unix seconds */
};
/* Reads below `root` ("" for the real one).  `pid`: turnpiked's, 0 when it does not run. */
void doctor_host_read(struct doctor_host *h, const char *root, pid_t pid);
void doctor_host_try(struct doctor_host *h, pid_t pid);

/* ---- check_host.c, check_net.c: pure --------------------------------------------------------- */

struct doctor_worker {
	char engine[8];
	int32_t cpu;
};
struct doctor_daemon { /* what turnpike-admin says */
	bool running, ready;
	pid_t pid;
	uint32_t workers, shards;
	uint64_t sessions, listener_drops;
	struct doctor_worker worker[SHARDS_MAX];
};
struct doctor_case {
	const struct conf *conf;
	const struct doctor_host *host;
	const struct doctor_daemon *daemon;
	struct doctor_load load;
};
struct doctor_finding *doctor_put(struct doctor_report *r, enum doctor_level level, const char *name);
void doctor_text(char out[DOCTOR_TEXT], const char *fmt, ...) TP_PRINTF(2, 3);
/* A buffer that holds `rate` datagrams a second for `stall` ms. */
uint64_t doctor_buffer(const struct doctor_load *l);
/* Relayed ports that there can be at once; what one process needs of descriptors for them. */
uint64_t doctor_ports(const struct conf *c);
uint64_t doctor_files(const struct conf *c, unsigned shards);
void doctor_judge_buffers(struct doctor_report *r, const struct doctor_case *c);
void doctor_judge_process(struct doctor_report *r, const struct doctor_case *c);
void doctor_judge_net(struct doctor_report *r, const struct doctor_case *c);

/* ---- check_certificates.c, check_addresses.c: what must be tried or read by name ------------- */

void doctor_certificates(struct doctor_report *r, const struct doctor_case *c);
void doctor_addresses(struct doctor_report *r, const struct doctor_case *c);

/* ---- check_ports.c ----------------------------------------------------------------------------- */

/* Reports each port that a start could not have: another process than the daemon of
 * runtime_dir has it, or it needs rights.  How many. */
unsigned doctor_ports_taken(
    const struct conf *c, const char *runtime_dir, conf_report_h *report, void *arg);

/* ---- doctor.c -------------------------------------------------------------------------------- */

struct doctor_request {
	const char *file; /* --config; NULL: the running daemon's */
	struct doctor_load load;
	bool json;
	const char *answer; /* turnpike-admin's, JSON; NULL: no daemon was asked, or none runs */
	size_t answer_len;
};
/* "--config FILE", "--rate N", "--stall TIME" (ms or s); false: not a command line. */
bool doctor_arguments(struct doctor_request *q, int argc, char *const *argv);
/* Prints every finding.  0 fine, 1 warnings, 2 something is bad. */
int doctor_run(const struct doctor_request *q);

#endif
