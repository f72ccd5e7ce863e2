/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * admin_int.h: what the files of turnpike-admin share.
 */
#ifndef TP_ADMIN_INT_H
#define TP_ADMIN_INT_H

#include <jansson.h>

#include "tp/auth.h"
#include "tp/conf.h"
#include "tp/admin.h"
#include "tp/io.h"
#include "tp/msg.h"
#include "tp/state.h"
#include "tp/ledger.h"

/* ---- region_view.c: everything that turnpike-admin may look at ------------------------------- */

/* Live sessions by client transport and relayed family. */
enum { CENSUS_UDP, CENSUS_TCP, CENSUS_TLS, CENSUS_DTLS, CENSUS_TRANSPORTS };
enum { CENSUS_V4, CENSUS_V6, CENSUS_DUAL, CENSUS_FAMILIES };
struct census {
	tp_ms when; /* 0: never */
	uint64_t total, by[CENSUS_TRANSPORTS][CENSUS_FAMILIES];
	uint32_t relay[RELAYS_MAX]; /* sockets that allocations have, by row of conf.relays */
	uint64_t shard[SHARDS_MAX];
};
extern const char *const census_transports[CENSUS_TRANSPORTS], *const census_families[CENSUS_FAMILIES];

/* ---- host_counts.c ------------------------------------------------------------------------------- */

/* Counters of the host, from files of /proc that are opened before turnpike-admin changes its user. */
#define HOST_FILES 3
struct host_counts {
	uint64_t received, receive_errors, send_errors, softnet_dropped;
};
void host_counts_open(int fd[HOST_FILES]);
bool host_counts_read(const int fd[HOST_FILES], struct host_counts *c); /* false: not one could be read */

/* ---- region_view.c ------------------------------------------------------------------------------- */

struct view {
	struct msg_start start;
	const struct conf *conf;
	size_t conf_size;
	const struct ledger *ledger;
	const struct stats *super, *authd, *worker[SHARDS_MAX], *tlsd[MSG_TLSDS_MAX];
	struct stats *admin;            /* its own, the only one it writes */
	struct shard shard[SHARDS_MAX]; /* [i].region NULL: not told yet */
	unsigned shard_count;
	struct cross cross;
	void *cross_region;
	struct census census;
	uint64_t packets[SHARDS_MAX], rate[SHARDS_MAX]; /* by worker: at the last tick, per second */
	tp_ms rate_when;
	const struct target *target;
	int host_fd[HOST_FILES]; /* of host_counts.c */
	char log_trouble[160];   /* why the target is not the configured one */
};
/* Maps what START and SHARD name. */
int view_start(struct view *v, const struct msg_start *s,
    struct stats *own); /* own: turnpike-admin's, to be written */
int view_shard(struct view *v, const struct msg_shard *m);
int view_conf(struct view *v, int fd); /* closes fd; on failure the old one stays */
bool view_has_cross(struct view *v);   /* attached as soon as a worker made it */
/* A consistent copy of the ledger without its table of descriptors; false when the supervisor is in the
 * middle for long. */
struct ledger_head {
	uint8_t bytes[offsetof(struct ledger, fd)];
	_Alignas(8) uint8_t end[8];
};
const struct ledger *view_ledger(const struct view *v, struct ledger_head *copy);
/* Sessions at most `age` old. */
const struct census *view_census(struct view *v, tp_ms now, tp_ms age);
void view_tick(struct view *v, tp_ms now); /* once a second: rates */
static inline uint64_t
view_read(const uint64_t *p)
{
	return atomic_load_explicit((_Atomic uint64_t *)p, memory_order_relaxed);
}
static inline uint64_t
view_hist(const struct stats *s, const struct stat_hist *h, unsigned bucket)
{
	return view_read((const uint64_t *)(const void *)((const char *)s + h->offset) + bucket);
}
/* Ports of each relay address that is configured; how many rows. */
struct port_use {
	struct addr addr, external;
	uint16_t low, high;
	uint32_t used, prepared, free;
};
unsigned view_ports(struct view *v, tp_ms now, struct port_use out[RELAYS_MAX]);
uint64_t view_shard_packets(const struct view *v, unsigned shard);

/* ---- log_intake.c ---------------------------------------------------------------------------- */

#define INTAKE_SENDERS 512
struct intake_sender {
	int32_t pid;
	uint8_t role, index;
};
struct intake {
	struct view *view;
	int fd;
	unsigned next; /* place for the next sender, modulo INTAKE_SENDERS */
	struct intake_sender sender[INTAKE_SENDERS];
};
/* fd: -1 for none.  Asks the kernel for senders from now on: before confinement.  0 or -errno. */
int intake_init(struct intake *in, struct view *v, int fd);
/* Remembers the numbers of all children that there are now: once a second. */
void intake_learn(struct intake *in);
/* 1: a record, its sender and time as turnpike-admin knows them; 0: one was refused; -EAGAIN: none is
 * there. */
int intake_next(struct intake *in, struct log_rec *r);

/* ---- metrics.c, metrics_more.c, status_page.c, http.c -------------------------------------------- */

#define METRICS_TYPE         "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define METRICS_TYPE_CLASSIC "text/plain; version=0.0.4; charset=utf-8"
/* A page on its way.  classic: Prometheus' text format, not OpenMetrics. */
struct page {
	struct view *v;
	FILE *f;
	bool classic;
};
void metrics_write(struct view *v, tp_ms now, bool classic, FILE *f);
void page_family(const struct page *p, const char *name, const char *type, const char *help);
void page_spreads(const struct page *p);
void page_ports(const struct page *p, tp_ms now);
void page_processes(const struct page *p, const struct ledger *l);
const struct stats *stats_of_child(const struct view *v, const struct ledger_child *c); /* NULL: none */
void page_coturn(const struct page *p, tp_ms now);
/* The status page: its file, the policy that fits it (in static storage), and the figures that it asks
 * for. */
extern const char status_page[];
const char *status_page_policy(void);
void status_page_figures(struct view *v, tp_ms now, FILE *f);
/* "ok\n" and 200, or why not and 503. */
unsigned health_write(const struct view *v, bool readiness, FILE *f);

struct http;
/* Serves on the listening socket, which becomes its own.  -ENOSYS: built without libmicrohttpd. */
int http_start(struct http **h, struct loop *l, struct view *v, int fd);
void http_stop(struct http *h);
extern const bool http_is_built;

/* ---- ctl_socket.c: connections ------------------------------------------------------------------- */

struct control;
struct control_ops {                                        /* what commands need of the process */
	int (*ask_super)(void *arg, struct msg_command *m); /* sets m->request */
	int (*ask_authd)(void *arg, struct msg_cred_ask *m);
	int (*ask_database)(void *arg, struct msg_db_ask *m); /* turnpike-auth, too */
	void *arg;
};
struct control *control_new(struct loop *l, struct view *v, const struct control_ops *ops, int listen_fd);
void control_free(struct control *c);
void control_reply(struct control *c, const struct msg_reply *r);
void control_credential(struct control *c, const struct msg_cred_answer *a);
void control_database(struct control *c, const struct msg_db_answer *a);

/* ---- ctl_job.c: commands, and what they share ---------------------------------------------------- */

/* One request while it is worked on. */
struct job {
	struct control *control;
	struct view *view;
	const struct control_ops *ops;
	tp_ms now;
	bool as_json;
	int argc; /* words after the command */
	char *const *argv;
	FILE *out;        /* the body grows here */
	uint32_t request; /* not 0: an answer of another process is awaited */
	json_t *lines;    /* of the supervisor, so far */
	json_t *urls;     /* credentials: --ice-servers */
};
/* Works on it.  enum ctl_code, or JOB_WAITS when the answer comes later. */
#define JOB_WAITS (-1)
int job_run(struct job *j, enum ctl_command c);
int job_reply(struct job *j, const struct msg_reply *r); /* as job_run */
/* A sentence as the answer, in JSON { "error": ... } when code is not CTL_OK. */
int job_say(struct job *j, enum ctl_code code, const char *fmt, ...) TP_PRINTF(3, 4);
/* `who` was asked (err: 0 or -errno), and its answer comes under this number. */
int job_asked(struct job *j, const char *who, int err, uint32_t request);
/* Ends a job with its data: JSON as it is, else written by `text`. Takes the reference. */
int job_data(struct job *j, enum ctl_code code, json_t *data, void (*text)(FILE *f, const json_t *data));

/* "shard.slot.gen", as in every log line of a session. */
#define SESSION_ID_LEN 40
struct session_id {
	uint32_t shard, slot, gen;
};
void session_id_print(const struct session_id *id, char out[SESSION_ID_LEN]);
int session_id_parse(struct session_id *id, const char *text); /* -EINVAL */
/* The value of "key=value" when the word has that key; NULL. */
const char *word_value(const char *word, const char *key);
/* Decimal number up to `most`; -EINVAL. */
int word_number(const char *text, uint64_t most, uint64_t *out);

/* ---- cmd_status.c, cmd_sessions.c, cmd_limits.c, cmd_verify.c, cmd_doctor.c, status_page.c ------- */

int cmd_status(struct job *j);
int cmd_sessions(struct job *j);
int cmd_users(struct job *j);
int cmd_limits(struct job *j);
int cmd_counters(struct job *j);
int cmd_verify(struct job *j);
int cmd_doctor(struct job *j);
bool reload_has_failed(const struct view *v); /* the last one */
json_t *warnings_data(const struct view *v, const struct ledger *l);
json_t *ports_data(struct view *v, tp_ms now);
json_t *status_data(struct view *v, tp_ms now);
json_t *counters_data(const struct view *v, bool all);

/* ---- database_view.c ------------------------------------------------------------------------- */

json_t *databases_data(const struct view *v, tp_ms now);
void databases_text(FILE *f, const json_t *list);
void databases_metrics(const struct page *p);
bool databases_are_up(const struct view *v);

/* ---- cmd_credentials.c, cmd_database.c ----------------------------------------------------------- */

int cmd_credentials(struct job *j);
int job_credential(struct job *j, const struct msg_cred_answer *a);
int job_database(struct job *j, const struct msg_db_answer *a);
int cmd_user(struct job *j);
int cmd_secret(struct job *j);
int cmd_deny(struct job *j);
int cmd_undeny(struct job *j);

#endif
