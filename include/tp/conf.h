/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conf.h: the option table, the YAML reader, the check, the dump.
 *
 * `turnpike-conf` compiles YAML into flat structs without pointers and hands them over as sealed memfds:
 * CONF (no secrets; every process may map it), USERS (turnpike-auth only), CERTS (turnpike-tls processes
 * only).  A reload replaces them as a whole; they never change in place.
 *
 * Two archives: libtp_conf.a (table, difference, dump: no libyaml) and libtp_conf_yaml.a (reader,
 * resolver: only turnpike-conf links it, and turnpikectl for its doctor).  Errors: 0 or -errno.
 */
#ifndef TP_CONF_H
#define TP_CONF_H

#include <sched.h>

#include "tp/base.h"

#define CONF_RULES_MAX      1024 /* per list */
#define CONF_OWN_MAX        64
#define CONF_HOST_ADDRS_MAX 256
#define CONF_WARNINGS_MAX   8
#define CONF_WARNING_LEN    256
#define CONF_CERTS_MAX      32
#define CONF_SECRET_FILES   64 /* that are watched */
#define CONF_PATH_MAX       256
#define CONF_EXTERNAL_MAX   128
#define CONF_DENIED_MAX     256
#define CONF_DENIED_NAME    128
#define CONF_DATABASES_MAX  8
#define CONF_DATABASE_NAME  32

enum conf_family { CONF_FAMILY_IPV4, CONF_FAMILY_IPV6, CONF_FAMILY_CLIENT };
enum conf_algs { CONF_ALGS_ANY, CONF_ALGS_SHA256 };
enum conf_rest { CONF_REST_ANY, CONF_REST_FIRST, CONF_REST_LAST };
enum conf_engine { CONF_ENGINE_AUTO, CONF_ENGINE_PLAIN, CONF_ENGINE_MMSG, CONF_ENGINE_GSO };
enum conf_logformat { CONF_LOG_TEXT, CONF_LOG_JSON };
enum conf_tls { CONF_TLS12, CONF_TLS13 };

/* Transports that listeners may ask for in this version; the reader refuses the others. */
#define CONF_TRANSPORTS_PLAIN (TRANSPORT_UDP | TRANSPORT_TCP)
#define CONF_ALTERNATES_MAX   16
#define CONF_TRANSPORTS_BUILT (TRANSPORT_UDP | TRANSPORT_TCP | TRANSPORT_TLS | TRANSPORT_DTLS)
#define CONF_PROXIES_MAX      8

/* What has become of a retired listener: its sockets go with its last session over datagrams, its number
 * with its last connection. */
enum conf_closed { CONF_ROW_OPEN, CONF_ROW_CLOSED, CONF_ROW_FREE };

struct conf_listener {
	struct addr addr;   /* one concrete address ("*" is expanded) and its port */
	uint8_t transports; /* a set of enum transport */
	uint8_t retired;    /* gone from the configuration: kept for its sessions, no new ones */
	uint8_t proxy_count;
	uint8_t closed;                      /* enum conf_closed, of one that is retired */
	struct cidr proxy[CONF_PROXIES_MAX]; /* whose connections begin with a PROXY protocol header */
	char where[64];                      /* "turnpike.yaml:12" for error messages */
};
struct conf_relay {
	struct addr addr;            /* concrete local address, port 0 */
	struct addr external;        /* ADDR_NONE when there is no NAT, or when it is not known yet */
	uint16_t port_min, port_max; /* inclusive */
	uint8_t retired;             /* as in conf_listener */
	uint8_t unknown;             /* external_name gave no address when this was compiled */
	/* this host does not have the address now: no new sessions; the supervisor's word */
	uint8_t absent;
	uint8_t zero;
	/* a host name or "auto", looked up again and again; "": external is fixed */
	char external_name[CONF_EXTERNAL_MAX];
};
struct conf_ports {
	uint16_t min, max;
};
struct conf_own {
	struct addr addr;
	struct conf_ports ports;
}; /* allow_own; transport udp */
/* The files, for the dump and for the supervisor, which watches them; their content is in CERTS. */
struct conf_stamp {
	uint64_t dev, ino, size;
	int64_t mtime_ns;
}; /* of a file as it was read; all 0: none */
enum { CERT_FILE_CHAIN, CERT_FILE_KEY, CERT_FILE_PASSWORD, CERT_FILES };
struct conf_certificate {
	char certificate[CONF_PATH_MAX], key[CONF_PATH_MAX], password_file[CONF_PATH_MAX]; /* "": none */
	char name[64];     /* the first name that is no pattern; "": none */
	int64_t not_after; /* Unix seconds: the first certificate of the file */
	struct conf_stamp stamp[CERT_FILES];
};
struct conf_file {
	char path[CONF_PATH_MAX];
	struct conf_stamp stamp;
};
struct conf_database {
	char name[CONF_DATABASE_NAME];
	uint32_t type /* enum conf_database_type */, connections, timeout_ms;
};
/* Another server that clients are sent to. */
struct conf_alternate {
	struct addr addr;   /* with port */
	uint8_t transports; /* of clients that are sent there: a set of enum transport */
	char domain[128];   /* the name in its certificate; "": the same as this server's */
};
struct conf_rules {
	uint32_t count;
	struct cidr rule[CONF_RULES_MAX];
};

#define CONF_MAGIC  0x54504346u /* "TPCF" */
#define CONF_LAYOUT 8           /* raised when the struct changes */

/* The compiled configuration.  Times in ms, rates in bytes per second, sizes in bytes. */
struct conf {
	uint32_t magic, layout;
	uint64_t generation; /* set by the supervisor's request; grows with each reload */
	char file[256];      /* absolute path of the main file */

	char realm[128];
	char software[128];
	uint32_t rest_names; /* enum conf_rest */
	bool strict_expiry;
	bool has_names; /* only static users: names are known, so USERHASH can be offered */
	uint32_t secret_file_count;
	struct conf_file secret_files[CONF_SECRET_FILES]; /* auth.secrets: of those that are files */
	uint32_t user_count, secret_count;                /* of the USERS region made with this one */
	uint32_t database_count;
	struct conf_database databases[CONF_DATABASES_MAX];
	uint64_t database_cache, database_negative_cache, lookups_per_prefix;
	bool databases_ready, reload_ready, end_removed_users;
	uint64_t nonce_lifetime;
	uint32_t password_algorithms; /* enum conf_algs */

	uint32_t listener_count, relay_count;
	struct conf_listener listeners[LISTENERS_MAX];
	struct conf_relay relays[RELAYS_MAX];
	struct conf_ports relay_ports;
	char external_stun[128]; /* NAME, NAME:PORT, address or [address]:port; empty: none */
	uint64_t external_interval;
	uint32_t default_family; /* enum conf_family */
	bool strict_family, rfc5766_channels;
	uint64_t default_lifetime, max_lifetime, replace_idle;

	struct conf_rules peer_deny, peer_allow, peer_private;
	uint32_t peer_own_count;
	struct conf_own peer_own[CONF_OWN_MAX];
	/* Every address of this host (getifaddrs), port 0; the supervisor keeps it up to date. */
	bool follows_host; /* "*" or a default: other addresses of the host make another configuration */
	uint32_t host_addr_count;
	struct addr host_addr[CONF_HOST_ADDRS_MAX];

	uint64_t allocations_per_user, allocations_per_prefix, allocations_total;
	uint64_t permissions_per_allocation, channels_per_allocation;
	uint64_t challenges_per_prefix, bindings_per_prefix;
	uint64_t bandwidth_per_allocation, bandwidth_per_user, bandwidth_total;

	uint64_t connections_per_prefix, connections_total, stream_queue, stream_deadline;

	char user[33];
	uint64_t workers, shards; /* 0: auto */
	uint64_t shutdown_grace;
	char drain_alternate[64]; /* address:port; empty: none */
	uint32_t alternate_count;
	struct conf_alternate alternates[CONF_ALTERNATES_MAX];
	uint64_t receive_buffer, send_buffer, relay_receive_buffer, backlog;
	uint32_t engine;        /* enum conf_engine */
	char cpu_affinity[128]; /* "auto", "none" or a list that conf_cpus() reads */

	uint32_t log_level;   /* enum log_level */
	char log_target[256]; /* absolute when a path */
	uint32_t log_format;  /* enum conf_logformat */
	bool log_anonymize;
	bool metrics_coturn_names;
	char metrics_address[64];
	uint64_t metrics_port;

	uint32_t certificate_count;
	uint32_t tls_min_version; /* enum conf_tls */
	uint64_t expiry_warning, watch_interval;
	struct conf_certificate certificates[CONF_CERTS_MAX];
	uint64_t half_open_per_prefix, half_open_total, handshake_timeout, handshakes_per_prefix;
	uint64_t tls_processes;

	uint32_t warning_count; /* what turnpike-conf warned of, for `turnpikectl status`; the first ones */
	char warning[CONF_WARNINGS_MAX][CONF_WARNING_LEN];
};

/* ---- cpus.c ---------------------------------------------------------------------------------- */

#define CONF_CPUS_MAX 1024
/* "0,2-5" into list[], in the order written; false: not a list of processors below CONF_CPUS_MAX. */
bool conf_cpus(const char *text, uint16_t list[CONF_CPUS_MAX], unsigned *n);
/* The NUMA nodes that have processors, by /sys below `root` ("" for the real one); how many, 0: unknown. */
#define CONF_NODES_MAX 64
struct conf_node {
	unsigned id;
	cpu_set_t cpus;
};
unsigned conf_nodes(const char *root, struct conf_node node[CONF_NODES_MAX]);
/* Where worker `index` of `workers` (0: one a processor) runs, by io.cpu_affinity and the processors
 * that are allowed. */
struct conf_place {
	bool pinned; /* to `cpus`; else it may run anywhere */
	cpu_set_t cpus;
	int cpu, node; /* -1: more than one, or of no concern */
};
void conf_place(struct conf_place *p, const char *affinity, uint64_t workers, unsigned index,
    const cpu_set_t *allowed, const struct conf_node *node, unsigned nodes);

/* ---- users: what turnpike-auth alone maps ------------------------------------------------------ */

#define USERS_MAGIC        0x54505553u /* "TPUS" */
#define USERS_LAYOUT       4
#define USERS_NAME_MAX     128
#define USERS_PASSWORD_MAX 256
#define USERS_SECRET_MAX   256
enum users_kind { USERS_PASSWORD, USERS_KEY_MD5, USERS_KEY_SHA256 };
struct users_user {
	uint16_t name_len, pass_len;
	uint8_t kind; /* enum users_kind: what pass[] holds; keys are raw bytes, 16 or 32 */
	uint8_t zero[3];
	uint64_t allocations, permissions, bandwidth; /* of this user; 0: as configured */
	char name[USERS_NAME_MAX];                    /* UTF-8, not terminated */
	uint8_t pass[USERS_PASSWORD_MAX];
};
struct users_secret {
	int64_t until; /* Unix seconds, 0: no end */
	uint16_t len;
	uint8_t zero[6];
	uint8_t value[USERS_SECRET_MAX];
};
/* Followed by secret_count users_secret, then user_count users_user, sorted by name bytes. */
/* A database of users.  What it is called and its type are in CONF, too: struct conf_database. */
enum conf_database_type {
	CONF_DB_POSTGRESQL,
	CONF_DB_REDIS,
	CONF_DB_SQLITE,
	CONF_DB_MARIADB,
	CONF_DB_HTTP,
	CONF_DB_TYPES
};
#define USERS_DATABASES_MAX  CONF_DATABASES_MAX
#define USERS_CONNECTION_MAX 1024
struct users_database {
	char name[CONF_DATABASE_NAME];
	char connection[USERS_CONNECTION_MAX]; /* string, URI, path or URL; may hold a password */
	char secret[USERS_SECRET_MAX + 1];     /* http: signs the questions; "" none */
	char ca[CONF_PATH_MAX];                /* http: whom to trust; "" the system's */
	char where[64];                        /* "turnpike.yaml:12" */
	uint32_t type, connections, timeout_ms, zero;
};
struct users {
	uint32_t magic, layout;
	uint32_t secret_count, user_count;
	char realm[128];
	uint32_t database_count, rest_names; /* enum conf_rest */
	struct users_database database[USERS_DATABASES_MAX];
};

/* ---- followed: what turnpike-auth has found in databases, for workers ------------------------------ */

#define FOLLOWED_MAGIC      0x5450464fu /* "TPFO" */
#define FOLLOWED_LAYOUT     1
#define FOLLOWED_RANGES_MAX 4096
#define FOLLOWED_ADDRS_MAX  32
struct conf_denied {
	char name[CONF_DENIED_NAME];
	int64_t until;
}; /* stable name, terminated; Unix time, 0: no end */
struct conf_followed {
	uint32_t magic, layout;
	uint32_t complete; /* every database has told: else only addresses and denied users count */
	uint32_t deny_count, allow_count, addr_count, denied_count, zero;
	uint64_t max_bps, total_quota, user_quota; /* 0: as configured */
	struct addr addr[FOLLOWED_ADDRS_MAX];      /* of the databases, with ports: never peers */
	struct addr_range deny[FOLLOWED_RANGES_MAX],
	    allow[FOLLOWED_RANGES_MAX]; /* allow: exceptions of deny */
	struct conf_denied denied[CONF_DENIED_MAX];
};

/* ---- certs: what turnpike-tls processes alone map -------------------------------------------- */

#define CERTS_MAGIC        0x54504345u /* "TPCE" */
#define CERTS_LAYOUT       1
#define CERTS_PEM_MAX      65536 /* of one file */
#define CERTS_PASSWORD_MAX 1024
struct certs_part {
	uint32_t at, len;
}; /* offset from the start of the region */
struct certs_entry {
	struct certs_part chain, key; /* PEM as in the files, not terminated */
	struct certs_part password;   /* len 0: the key is not encrypted */
};
/* Followed by the bytes. */
struct certs {
	uint32_t magic, layout;
	uint32_t count, zero;
	struct certs_entry entry[CONF_CERTS_MAX]; /* in the order of tls.certificates */
};

/* ---- files_changed.c ---------------------------------------------------------------------------- */

struct stat;
struct conf_stamp conf_stamp_of(const struct stat *st);
/* Is there a file that the configuration says to watch? */
bool conf_has_files(const struct conf *c);
/* The first file that is another than the one that was read, NULL: none; *mix is one number for all that
 * is there now, never 0.  It waits for the file systems. */
const char *conf_changed_file(const struct conf *c, uint32_t *mix);

/* ---- options.c: the table -------------------------------------------------------------------- */

enum opt_type {
	OPT_BOOL,
	OPT_INT,
	OPT_TIME,
	OPT_SIZE,
	OPT_RATE,
	OPT_STR,
	OPT_PATH,
	OPT_PORTS,
	OPT_COUNT_AUTO,
	OPT_ENUM_FAMILY,
	OPT_ENUM_ALGS,
	OPT_ENUM_LEVEL,
	OPT_ENUM_LOGFORMAT,
	OPT_ENUM_ENGINE,
	OPT_ENUM_TLS,
	OPT_ENUM_REST,
	OPT_LIST,
};
enum opt_class { OPT_NOW, OPT_WORKERS, OPT_RESTART };
struct option_row {
	const char *path, *def, *doc, *shape;
	enum opt_type type;
	enum opt_class cls;
	uint64_t min, max;
	size_t offset, size; /* of the field in struct conf; both 0 for OPT_LIST */
};
extern const struct option_row option_rows[];
extern const unsigned option_count;
const struct option_row *option_find(const char *path);
/* Parses the text of one scalar into the field.  On -EINVAL/-ERANGE `why` says what is allowed. */
int option_set(struct conf *c, const struct option_row *o, const char *text, char *why, size_t why_len);
/* The value as it would be written in YAML (a long list is cut to len; users and secrets as counts). */
void option_print(const struct conf *c, const struct option_row *o, char *out, size_t len);
/* Every scalar at its default; lists empty (conf_load() resolves those). */
void conf_defaults(struct conf *c);

extern const char *const conf_database_types[CONF_DB_TYPES]; /* listtext.c */

/* ---- validate.c ------------------------------------------------------------------------------- */

/* Checks magic, layout, counts and bounds of a mapped region before anybody uses it. */
int conf_validate(const struct conf *c, size_t size);
int users_validate(const struct users *u, size_t size);
int certs_validate(const struct certs *c, size_t size);
int followed_validate(const struct conf_followed *f, size_t size);
static inline const void *
certs_bytes(const struct certs *c, struct certs_part p)
{
	return (const char *)c + p.at;
}
static inline const struct users_secret *
users_secrets(const struct users *u)
{
	return (const void *)(u + 1);
}
static inline const struct users_user *
users_users(const struct users *u)
{
	return (const void *)(users_secrets(u) + u->secret_count);
}

/* ---- diff.c ---------------------------------------------------------------------------------- */

/*
 * Calls back for each option whose value differs; returns how many.  cb may be NULL.  Credentials are not
 * in struct conf: auth.users and auth.secrets are reported only when their number changes.
 */
typedef void conf_diff_h(void *arg, const struct option_row *o, const char *was, const char *is);
unsigned conf_diff(const struct conf *was, const struct conf *is, conf_diff_h *cb, void *arg);
/* Of a list whose entries are in struct conf: those that are new (`added`) and those that are gone, one
 * call each. */
typedef void conf_entry_h(void *arg, bool added, const char *text);
unsigned conf_list_diff(
    const struct conf *was, const struct conf *is, const struct option_row *o, conf_entry_h *cb, void *arg);

/* ---- dump.c ---------------------------------------------------------------------------------- */

#include <stdio.h>
/* Complete YAML of a configuration; secrets are not in struct conf, users and secrets are shown as
 * counts. */
void conf_dump(const struct conf *c, FILE *f);
void conf_dump_sample(FILE *f); /* etc/turnpike.yaml */
void conf_dump_man(FILE *f);    /* the options section of turnpike.yaml(5), roff */
void conf_dump_help(FILE *f);   /* for turnpiked --help: paths, defaults, one line each */

/* ---- hostaddr.c -------------------------------------------------------------------------------- */

/* Every address that this host has now, port 0; *more: and others beyond
 * CONF_HOST_ADDRS_MAX.  0 or -errno. */
int conf_host_addrs(struct addr out[CONF_HOST_ADDRS_MAX], uint32_t *count, bool *more);
bool conf_host_has(const struct addr *list, uint32_t n, const struct addr *a); /* whatever the port */

/* ---- load.c and others (libtp_conf_yaml.a) ---------------------------------------------------- */

/* Where errors and warnings go: "file:line:col: what: what instead". */
typedef void conf_report_h(void *arg, enum log_level level, const char *text);
/* What a load asks the kernel; tests bring their own. */
struct conf_host {
	uint32_t addr_count; /* every address of the host, port 0 */
	struct addr addr[CONF_HOST_ADDRS_MAX];
	bool addr_more;       /* there are more than that */
	struct addr route[2]; /* own address towards the default route, IPv4 and IPv6; ADDR_NONE: none */
};
struct conf_request {
	const char *file; /* NULL: no file, defaults and sets only */
	const char *text; /* instead of file: YAML in memory, which may not name other files */
	size_t text_len;
	const struct conf_host *host; /* NULL: ask the kernel */
	const char *const *sets;      /* "key=value" of --set */
	unsigned set_count;
	conf_report_h *report;
	void *arg;
	bool foreground; /* resolves log.target auto */
	/*
	 * Finds the external address of a relay address; may take seconds.  name: a host name; NULL: ask
	 * the STUN server `stun`.  0, or -errno and why.  NULL: nothing is looked up, and external stays
	 * unknown.
	 */
	int (*outside)(const char *name, const char *stun, const struct addr *inside, struct addr *out,
	    char *why, size_t why_len);
	/* Where to put the CERTS region: a malloc'ed block, for the caller to wipe and free; set on
	 * success only, never NULL then.  NULL: not wanted. */
	struct certs **certs;
	size_t *certs_len;
};
/*
 * Reads, checks everything and resolves (includes, "*", default addresses, relative paths, secret
 * files).  On success *conf is complete and *users is a malloc'ed block of *users_len bytes (the caller
 * frees it with sodium_memzero first).  Every error is reported, not only the first; returns -EINVAL
 * when there was one.  users->secret_count and user_count may both be 0: the caller decides.
 */
int conf_load(const struct conf_request *rq, struct conf *conf, struct users **users, size_t *users_len);

/* ---- readable.c -------------------------------------------------------------------------------- */

/* Root's power over others' files is given up: a check reads as a start does.  Once, before conf_load(). */
void conf_rights_reduce(void);

/* ---- firstrun.c -------------------------------------------------------------------------------- */

/*
 * For a start without any credential: DIR/secret (32 random bytes as base64url, mode 0600, made when it
 * is not there) becomes the only secret of *users; DIR is made when it is missing.  check_only: says what
 * would happen and changes nothing.
 */
int conf_first_secret(const char *dir, bool check_only, struct conf *c, struct users **users, size_t *len,
    conf_report_h *report, void *arg);

#endif
