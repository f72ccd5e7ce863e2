/* SPDX-License-Identifier: BSD-3-Clause */
/* conf_int.h: what the files of conf share among themselves. */
#ifndef TP_CONF_INT_H
#define TP_CONF_INT_H

#include <sys/stat.h>

#include "tp/conf.h"

/* The rows of options.def as numbers, in their order: option_rows[OPTION_realm] is auth.realm. */
enum option_id {
#define OPT(path, type, field, def, min, max, cls, doc) OPTION_##field,
#define LIST(path, field, cls, shape, doc)              OPTION_##field,
#include "tp/tbl/options.def"
#undef OPT
#undef LIST
	OPTION_COUNT
};
static inline enum option_id
option_id(const struct option_row *o)
{
	return (enum option_id)(o - option_rows);
}

/* ---- options.c ------------------------------------------------------------------------------- */

/* "allowed: ..." for a scalar. */
void option_allowed(const struct option_row *o, char *why, size_t len);

/* ---- listtext.c ------------------------------------------------------------------------------ */

/* A list as YAML in flow style on one line; users and secrets as "N users". */
void list_print(const struct conf *c, enum option_id id, FILE *f);
unsigned list_len(const struct conf *c, enum option_id id);
void list_print_entry(const struct conf *c, enum option_id id, unsigned i, FILE *f);
/* Entries in block style, one a line, each indented by `indent`. */
void list_print_block(const struct conf *c, enum option_id id, unsigned indent, FILE *f);
/* Double-quoted where a plain scalar would be read differently. */
void yaml_print_text(const char *text, FILE *f);
extern const char *const conf_transport_names[4]; /* by bit number */

/* ---- yaml.c: one source as a tree, with the place of everything -------------------------------- */

/* Where text came from.  Lives as long as the load. */
struct source {
	const char *name; /* as errors show it */
	const char *dir;  /* what relative paths are relative to; "" is the current directory */
	bool is_set;      /* --set: no line numbers, and no secrets */
	bool is_text;     /* memory: may not name files */
	bool world_readable, warned;
	unsigned depth; /* of includes */
	dev_t dev;
	ino_t ino;
	struct source *next;
};
enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };
struct node {
	enum node_kind kind;
	bool plain; /* scalar without quotes */
	const struct source *src;
	unsigned line, col; /* from 1 */
	const char *text;   /* scalar, terminated, no NUL inside */
	size_t len;
	struct node *key; /* of a value in a map */
	struct node *first, *last, *next;
};
/* `realm:` with nothing behind it */
static inline bool
node_is_empty(const struct node *n)
{
	return n->kind == NODE_SCALAR && n->plain && n->len == 0;
}

struct load;
/* Everything is reported through l; NULL when there was an error.  An empty document is an empty map. */
struct node *yaml_read(struct load *l, const struct source *src, const char *text, size_t len);

/* ---- report.c, files.c, load.c: the state of one conf_load() ------------------------------------ */

struct listener_wish { /* a listener before "*" is expanded */
	struct addr addr;
	bool every; /* all addresses of addr.family (ADDR_NONE: of both) */
	uint8_t transports, proxy_count;
	struct cidr proxy[CONF_PROXIES_MAX];
	const struct node *at;
};
struct user_entry {
	struct users_user u;
	const struct node *at;
};
struct secret_entry {
	struct users_secret s;
	const struct node *at;
};
struct cert_entry { /* of one certificate */
	const char *chain, *key, *password;
	size_t chain_len, key_len, password_len;
	uint8_t names[32]; /* the same for the same set of names, in any order */
	int kind;          /* of key */
	bool early;        /* not valid yet */
};
struct owned {
	const struct node *at;
	const char *path;
	uid_t uid;
	struct owned *next;
};
struct load {
	const struct conf_request *rq;
	struct conf *conf;    /* the result */
	struct conf *scratch; /* takes what a --set overrides: checked, not kept */
	const struct conf_host *host;
	struct arena *arena;
	struct source *sources;
	const struct node *seen[OPTION_COUNT]; /* where each option was set */
	const struct node *relay_at[RELAYS_MAX];
	struct listener_wish wish[LISTENERS_MAX];
	unsigned wish_count;
	struct cert_entry cert[CONF_CERTS_MAX];
	const struct node *cert_at[CONF_CERTS_MAX];
	struct user_entry *users;
	struct secret_entry *secrets;
	size_t user_count, user_cap, secret_count, secret_cap;
	struct users_database databases[USERS_DATABASES_MAX];
	uint32_t database_count;
	bool listeners_full; /* said once */
	struct owned *owned; /* files of users other than root and the one that reads */
	unsigned errors;
	bool is_broken; /* a file is not YAML: what it would say is not known, and only this is reported */
};
/* Memory that lives until the end of the load and is wiped then.  Never NULL (ends the process). */
void *load_alloc(struct load *l, size_t size);
void load_free(struct load *l);
char *load_printf(struct load *l, const char *fmt, ...) TP_PRINTF(2, 3);
/* The scalar for a message: quoted, escaped, shortened; "a list", "a map" for the others. */
const char *load_show(struct load *l, const struct node *n);
/* at NULL: about the configuration as a whole. */
void load_error(struct load *l, const struct node *at, const char *fmt, ...) TP_PRINTF(3, 4);
void load_warn(struct load *l, const struct node *at, const char *fmt, ...) TP_PRINTF(3, 4);
/* "file:line:col" of a node, for messages that name two places. */
const char *load_place(struct load *l, const struct node *n);
/* A path as the node's source means it; NULL (reported) where sources may not name files. */
const char *load_path(struct load *l, const struct node *n, const char *path);
/* Reads a whole file of at most `max` bytes into load memory; NULL after a report at `at`. */
char *load_file(
    struct load *l, const struct node *at, const char *path, size_t max, size_t *len, struct stat *st);

/* Calls back for each file that an `include` names. */
void include_each(
    struct load *l, const struct node *n, void (*cb)(struct load *, const struct node *, const char *));

/* ---- lists.c, creds.c: one list or map with a shape of its own ---------------------------------- */

bool is_unspecified(const struct addr *a); /* 0.0.0.0 or :: */
/* Keys of a map with a fixed shape: fills out[i] for names[i]; reports unknown keys; false on error. */
bool shape_read(struct load *l, const struct node *map, const char *what, const char *const *names,
    unsigned count, const struct node **out);
/* A transport or a list of them as a set of enum transport; errors are noted. */
void transports_read(struct load *l, const struct node *n, uint8_t *mask);
void list_read(struct load *l, const struct option_row *o, const struct node *n);
void users_read(struct load *l, const struct node *n);
void secrets_read(struct load *l, const struct node *n);
/* A value that stands in the YAML itself, without control characters; reported and false when it is
 * none. */
bool read_inline(
    struct load *l, const struct node *n, const char *what, size_t max, const uint8_t **out, size_t *len);
/* Reported when all users may read or write the file. */
bool is_world_readable(struct load *l, const struct node *at, const char *path, const struct stat *st);
/* The bytes of a secret file without its last newline, in load memory; reported and false when it is
 * none. */
bool read_secret_file(
    struct load *l, const struct node *n, const char *what, size_t max, const uint8_t **out, size_t *len);
/* Duplicates, example values, short secrets; then one block.  conf->listeners must be complete. */
void creds_check(struct load *l);
void creds_fini(struct load *l);
/* A malloc'ed block, users sorted by name. */
struct users *creds_block(struct load *l, size_t *len);

/* ---- databases.c: one entry of auth.databases ---------------------------------------------------- */

void database_read(struct load *l, const struct node *n);

/* ---- alternates.c: one entry of `alternate` ------------------------------------------------------ */

void alternate_read(struct load *l, const struct node *n);

/* ---- certs.c: certificates and keys ------------------------------------------------------------- */

/* One entry of tls.certificates: read, decrypted for a moment, checked, kept as it is in the files. */
void certificate_read(struct load *l, const struct node *n);
/* Listeners that need a certificate have one. */
void certs_check(struct load *l);
/* The CERTS region, malloc'ed. */
struct certs *certs_block(struct load *l, size_t *len);

/* ---- no_effect.c ------------------------------------------------------------------------------ */

/* Warns of what is accepted and changes nothing.  After everything else, without errors. */
void no_effect_check(struct load *l);
/* ---- readable.c ------------------------------------------------------------------------------- */

/* Opens for reading, without waiting, by any right that a start has, too.  A descriptor or -errno. */
int readable_open(const struct load *l, const char *path);
/* Is this a container in which there is no user but root, this one and the daemon's?  Then a file that
 * all users may read is one that only these may read. */
bool readable_is_alone(const struct load *l);
/* Notes whose file was read; the check warns of those that another unprivileged user can change. */
void readable_owner(struct load *l, const struct node *at, const char *path, const struct stat *st);
void readable_check(struct load *l);

/* ---- foreign.c -------------------------------------------------------------------------------- */

/* Is this text a turnserver.conf? */
bool foreign_is_coturn(const char *text, size_t len);

/* ---- system.c --------------------------------------------------------------------------------- */

/* What a start would ask this host: the user, the target of the log. */
void system_check(struct load *l);

/* ---- suggest.c -------------------------------------------------------------------------------- */

/* "; did you mean X?", else ": allowed: " and all of them. */
const char *suggest_or_list(struct load *l, const char *wrong, const char *const *names, unsigned count);
/* "" or "; did you mean X?" among names[count]. */
const char *suggest(struct load *l, const char *wrong, const char *const *names, unsigned count);
const char *suggest_option(struct load *l, const char *prefix, const char *wrong);

/* ---- resolve.c --------------------------------------------------------------------------------- */

void host_ask(struct conf_host *h);
/* "*", default addresses, ports of relays, then every check that needs more than one option. */
void resolve(struct load *l);
bool addr_is_loopback(const struct addr *a);

#endif
