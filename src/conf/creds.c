/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * creds.c: static users and shared secrets.  Nothing here prints a value.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sodium.h>
#include <time.h>

#include "conf_int.h"

#define SECRET_SHORT 32 /* bytes; below, guessing becomes thinkable */

/* Everything that our documents, samples and tests show, and what people type first. */
static const char *const examples[] = {
	"a-long-shared-secret-for-rest-use",
	"wonderland",
	"north",
	"secret",
	"password",
	"passw0rd",
	"changeme",
	"change-me",
	"change_me",
	"logen",
	"turnpike",
	"turn",
	"test",
	"example",
	"123456",
	"12345678",
};

/* ---- values ----------------------------------------------------------------------------------- */

bool
is_world_readable(struct load *l, const struct node *at, const char *path, const struct stat *st)
{
	if (!(st->st_mode & (S_IROTH | S_IWOTH)) || (!(st->st_mode & S_IWOTH) && readable_is_alone(l)))
		return false;
	load_error(l, at, "%s: all users may %s this file: chmod o-rwx", path,
	    st->st_mode & S_IROTH ? "read" : "write");
	return true;
}

/* What an editor or a copy from a web page leaves around a value, and no eye sees: it would be part of
 * the secret. */
static const char *const strays[] = {
	" ",
	"\t",
	"\r",
	"\v",
	"\f",
	"\xef\xbb\xbf" /* BOM, zero-width no-break space */,
	"\xc2\xa0" /* no-break space */,
	"\xe2\x80\x8b" /* zero-width space */,
	"\xe2\x80\x8c",
	"\xe2\x80\x8d" /* zero-width (non-)joiner */,
	"\xe2\x80\x8e",
	"\xe2\x80\x8f" /* directional marks */,
	"\xe2\x81\xa0" /* word joiner */,
	"\xe3\x80\x80",
	"\xc2\xad" /* soft hyphen */,
	"\xe2\x80\xa8",
	"\xe2\x80\xa9" /* separators */,
};

static bool
has_stray_edge(struct load *l, const struct node *n, const char *what, const char *text, size_t len)
{
	for (unsigned i = 0; i < TP_COUNT(strays); i++) {
		size_t k = strlen(strays[i]);
		bool front = len >= k && memcmp(text, strays[i], k) == 0;

		if (!front && (len < k || memcmp(text + len - k, strays[i], k) != 0))
			continue;
		load_error(l, n,
		    "%s: %s: a blank, byte order mark or zero-width character stands %s the value: remove it",
		    what, n->text, front ? "before" : "after");
		return true;
	}
	return false;
}

/* The bytes of a secret file without its last newline; what it was when it was read. */
static bool
read_file(struct load *l, const struct node *n, const char *what, size_t max, const uint8_t **out,
    size_t *len, struct conf_file *f)
{
	const char *path;
	struct stat st;
	char *text;

	if (n->kind != NODE_SCALAR || n->len == 0) {
		load_error(l, n, "%s: allowed: the path of a file, or credential:NAME", what);
		return false;
	}
	path = load_path(l, n, n->text);
	if (path == NULL)
		return false;
	text = load_file(l, n, path, max + 1, len, &st);
	if (text == NULL || is_world_readable(l, n, path, &st))
		return false;
	if (*len > 0 && text[*len - 1] == '\n')
		(*len)--;
	if (*len == 0 || *len > max) {
		load_error(l, n, "%s: %s: allowed: 1 to %zu bytes, and one newline", what, path, max);
		return false;
	}
	if (memchr(text, '\n', *len) != NULL || memchr(text, '\r', *len) != NULL ||
	    memchr(text, '\0', *len) != NULL) {
		load_error(
		    l, n, "%s: %s: allowed: one line of text, ended by one newline at most", what, path);
		return false;
	}
	if (has_stray_edge(l, n, what, text, *len))
		return false;
	f->stamp = conf_stamp_of(&st);
	if (text_copy(f->path, sizeof f->path, path) >= sizeof f->path)
		f->path[0] = '\0';
	*out = (const uint8_t *)text;
	return true;
}

bool
read_secret_file(
    struct load *l, const struct node *n, const char *what, size_t max, const uint8_t **out, size_t *len)
{
	struct conf_file f;

	return read_file(l, n, what, max, out, len, &f);
}

/* A value that stands in the YAML itself. */
bool
read_inline(
    struct load *l, const struct node *n, const char *what, size_t max, const uint8_t **out, size_t *len)
{
	struct source *src;

	if (n->kind != NODE_SCALAR || n->len == 0 || n->len > max) {
		load_error(l, n, "%s: allowed: text of 1 to %zu bytes", what, max);
		return false;
	}
	for (size_t i = 0; i < n->len; i++)
		if ((unsigned char)n->text[i] < 0x20 || n->text[i] == 0x7f) {
			load_error(l, n, "%s: control characters are not allowed", what);
			return false;
		}
	if (n->src->is_set) {
		load_error(l, n, "%s: every user of this host can read a command line: use a file", what);
		return false;
	}
	for (src = l->sources; src != n->src; src = src->next)
		;
	if (src->world_readable && !src->warned) {
		src->warned = true;
		load_warn(l, n, "%s: all users may read this file and the credentials in it: chmod o-r %s",
		    what, src->name);
	}
	*out = (const uint8_t *)n->text;
	*len = n->len;
	return true;
}

/* ---- users ------------------------------------------------------------------------------------ */

static void *
grow(void *old, size_t count, size_t *cap, size_t size)
{
	void *p;

	if (count < *cap)
		return old;
	*cap = *cap == 0 ? 16 : *cap * 2;
	p = calloc(*cap, size); /* not realloc: the old block is wiped */
	if (p == NULL)
		abort();
	if (old != NULL) {
		memcpy(p, old, count * size);
		sodium_memzero(old, count * size);
		free(old);
	}
	return p;
}

static bool
read_key_file(struct load *l, const struct node *n, struct users_user *u)
{
	const uint8_t *text;
	size_t len, got = 0;

	if (!read_secret_file(l, n, "key_file", 64, &text, &len))
		return false;
	if ((len != 32 && len != 64) ||
	    sodium_hex2bin(u->pass, sizeof u->pass, (const char *)text, len, NULL, &got, NULL) != 0 ||
	    got != len / 2) {
		load_error(l, n,
		    "key_file: %s: allowed: 32 hexadecimal digits (MD5) or 64 (SHA-256) of name:realm:password",
		    load_show(l, n));
		return false;
	}
	u->kind = len == 32 ? USERS_KEY_MD5 : USERS_KEY_SHA256;
	u->pass_len = (uint16_t)got;
	return true;
}

/* One of a user's own limits: a number or a rate as in `limits`. */
static bool
read_limit(struct load *l, const struct node *n, const struct option_row *o, uint64_t *out)
{
	char why[160];
	bool ok;

	if (n == NULL)
		return true;
	/* The row's field is at offset 0: nothing but *out is written. */
	ok = n->kind == NODE_SCALAR &&
	    option_set((struct conf *)(void *)out, o, n->text, why, sizeof why) == 0;
	if (!ok)
		load_error(l, n, "auth.users: %s: %s", o->path,
		    n->kind == NODE_SCALAR ? why : "a number is wanted");
	return ok;
}

static bool
read_limits(struct load *l, const struct node *const part[3], struct users_user *u)
{
	static const struct option_row rows[] = {
		{ .path = "allocations", .type = OPT_INT, .max = 1000000, .size = 8 },
		{ .path = "permissions", .type = OPT_INT, .max = 65535, .size = 8 },
		{ .path = "bandwidth", .type = OPT_RATE, .max = UINT32_MAX, .size = 8 },
	};

	return read_limit(l, part[0], &rows[0], &u->allocations) &&
	    read_limit(l, part[1], &rows[1], &u->permissions) &&
	    read_limit(l, part[2], &rows[2], &u->bandwidth);
}

static bool
read_user_value(struct load *l, const struct node *n, struct users_user *u)
{
	static const char *const names[] = { "password", "password_file", "key_file", "allocations",
		"permissions", "bandwidth" };
	const struct node *part[6];
	const uint8_t *text;
	size_t len;
	bool ok;

	memset(part, 0, sizeof part);
	if (n->kind == NODE_SCALAR)
		part[0] = n;
	else if (n->kind != NODE_MAP || !shape_read(l, n, "auth.users", names, 6, part) ||
	    (part[0] != NULL) + (part[1] != NULL) + (part[2] != NULL) != 1) {
		load_error(l, n,
		    "auth.users: allowed: name: PASSWORD, or name: with exactly one of password, password_file, "
		    "key_file, and optionally allocations, permissions, bandwidth");
		return false;
	}
	if (!read_limits(l, part + 3, u))
		return false;
	if (part[2] != NULL)
		return read_key_file(l, part[2], u);
	ok = part[0] != NULL
	    ? read_inline(l, part[0], "auth.users: password", USERS_PASSWORD_MAX, &text, &len)
	    : read_secret_file(l, part[1], "auth.users: password_file", USERS_PASSWORD_MAX, &text, &len);
	if (ok) {
		u->kind = USERS_PASSWORD;
		u->pass_len = (uint16_t)len;
		memcpy(u->pass, text, len);
	}
	return ok;
}

static void
read_user(struct load *l, const struct node *n)
{
	struct user_entry e = { .at = n->key };

	if (n->key->len == 0 || n->key->len > USERS_NAME_MAX) {
		load_error(l, n->key, "auth.users: %s: allowed: a name of 1 to %u bytes",
		    load_show(l, n->key), USERS_NAME_MAX);
		return;
	}
	for (size_t i = 0; i < n->key->len; i++)
		if ((unsigned char)n->key->text[i] < 0x20 || n->key->text[i] == 0x7f) {
			load_error(l, n->key, "auth.users: %s: control characters are not allowed",
			    load_show(l, n->key));
			return;
		}
	e.u.name_len = (uint16_t)n->key->len;
	memcpy(e.u.name, n->key->text, n->key->len);
	if (read_user_value(l, n, &e.u)) {
		l->users = grow(l->users, l->user_count, &l->user_cap, sizeof *l->users);
		l->users[l->user_count++] = e;
	}
	sodium_memzero(&e, sizeof e);
}

void
users_read(struct load *l, const struct node *n)
{
	if (n->kind != NODE_MAP) {
		load_error(l, n, "auth.users: %s: allowed: %s", n->kind == NODE_LIST ? "a list" : "text",
		    option_rows[OPTION_users].shape);
		return;
	}
	for (const struct node *c = n->first; c != NULL; c = c->next)
		read_user(l, c);
}

/* ---- secrets ---------------------------------------------------------------------------------- */

/* Another secret in the file is a reload. */
static void
watch_file(struct load *l, const struct node *n, const struct conf_file *f)
{
	struct conf *c = l->conf;

	if (c->secret_file_count == CONF_SECRET_FILES || f->path[0] == '\0')
		load_warn(l, n,
		    "auth.secrets: %s is not watched: that is done for %u files with short names; reload after a change",
		    load_show(l, n), CONF_SECRET_FILES);
	else
		c->secret_files[c->secret_file_count++] = *f;
}

static bool
read_secret_of(struct load *l, const struct node *n, const uint8_t **text, size_t *len)
{
	struct conf_file f = { .path = "" };

	if (!read_file(l, n, "auth.secrets: file", USERS_SECRET_MAX, text, len, &f))
		return false;
	watch_file(l, n, &f);
	return true;
}

static void
read_secret(struct load *l, const struct node *n)
{
	static const char *const names[] = { "value", "file", "until" };
	const struct node *part[3];
	struct secret_entry e = { .at = n };
	const uint8_t *text;
	size_t len;

	memset(part, 0, sizeof part);
	if (n->kind == NODE_SCALAR)
		part[0] = n;
	else if (n->kind != NODE_MAP || !shape_read(l, n, "auth.secrets", names, 3, part) ||
	    (part[0] != NULL) + (part[1] != NULL) != 1) {
		load_error(l, n,
		    "auth.secrets: allowed: TEXT, { value: TEXT } or { file: PATH }, with an optional until: TIME");
		return;
	}
	if (part[2] != NULL && (part[2]->kind != NODE_SCALAR || text_time(&e.s.until, part[2]->text) < 0)) {
		load_error(l, part[2],
		    "auth.secrets: until: %s: allowed: a time as \"2030-01-01T00:00:00Z\"",
		    load_show(l, part[2]));
		return;
	}
	if (!(part[0] != NULL
		    ? read_inline(l, part[0], "auth.secrets: value", USERS_SECRET_MAX, &text, &len)
		    : read_secret_of(l, part[1], &text, &len)))
		return;
	e.s.len = (uint16_t)len;
	memcpy(e.s.value, text, len);
	l->secrets = grow(l->secrets, l->secret_count, &l->secret_cap, sizeof *l->secrets);
	l->secrets[l->secret_count++] = e;
	sodium_memzero(&e, sizeof e);
}

void
secrets_read(struct load *l, const struct node *n)
{
	if (n->kind != NODE_LIST) {
		read_secret(l, n);
		return;
	}
	for (const struct node *c = n->first; c != NULL; c = c->next)
		read_secret(l, c);
}

/* ---- checks ----------------------------------------------------------------------------------- */

/* "${NAME}", which was meant to be replaced. */
static bool
is_variable(const uint8_t *value, size_t len)
{
	if (len < 4 || value[0] != '$' || value[1] != '{' || value[len - 1] != '}')
		return false;
	for (size_t i = 2; i + 1 < len; i++)
		if (value[i] < 0x21 || value[i] > 0x7e || value[i] == '}')
			return false;
	return true;
}

/*
 * A value that anybody can read in our documents is no credential.  On loopback alone it is only
 * worth a warning, so that the examples can be tried as they are written.
 */
static void
check_example(struct load *l, const struct node *at, const char *what, const uint8_t *value, size_t len)
{
	bool local = l->conf->listener_count > 0;

	if (is_variable(value, len)) {
		load_error(l, at,
		    "%s: a variable of the environment is not expanded here: every client could know its name; write the "
		    "value into a file and name that",
		    what);
		return;
	}
	for (unsigned i = 0; i < l->conf->listener_count; i++)
		local = local && addr_is_loopback(&l->conf->listeners[i].addr);
	for (unsigned i = 0; i < TP_COUNT(examples); i++) {
		if (strlen(examples[i]) != len || sodium_memcmp(examples[i], value, len) != 0)
			continue;
		if (local)
			load_warn(l, at,
			    "%s: this value is in public documents: fine for a trial on loopback, refused "
			    "elsewhere",
			    what);
		else
			load_error(l, at,
			    "%s: this value is in public documents: choose one of your own (openssl rand -hex 32)",
			    what);
	}
}

static int
by_name(const void *a, const void *b)
{
	const struct users_user *x = &((const struct user_entry *)a)->u,
				*y = &((const struct user_entry *)b)->u;
	int c = memcmp(x->name, y->name, x->name_len < y->name_len ? x->name_len : y->name_len);

	return c != 0 ? c : (int)x->name_len - (int)y->name_len;
}

void
creds_check(struct load *l)
{
	int64_t now = (int64_t)time(NULL);

	if (l->user_count > 0)
		qsort(l->users, l->user_count, sizeof *l->users, by_name);
	for (size_t i = 0; i < l->user_count; i++) {
		const struct user_entry *e = &l->users[i];

		/* Within one map the reader reports it as a duplicate key. */
		if (i > 0 && by_name(e - 1, e) == 0 && e[-1].at->src != e->at->src)
			load_error(l, e->at, "auth.users: %s: this user is also at %s", load_show(l, e->at),
			    load_place(l, e[-1].at));
		if (e->u.kind == USERS_PASSWORD)
			check_example(l, e->at, "auth.users: password", e->u.pass, e->u.pass_len);
	}
	for (size_t i = 0; i < l->secret_count; i++) {
		const struct secret_entry *e = &l->secrets[i];

		check_example(l, e->at, "auth.secrets", e->s.value, e->s.len);
		if (e->s.len < SECRET_SHORT)
			load_warn(l, e->at,
			    "auth.secrets: a short secret (%u bytes): use %u or more (openssl rand -hex 32)",
			    e->s.len, SECRET_SHORT);
		if (e->s.until != 0 && e->s.until <= now)
			load_warn(l, e->at,
			    "auth.secrets: this secret has ended (until) and is ignored; remove it");
	}
	l->conf->user_count = (uint32_t)l->user_count;
	l->conf->secret_count = (uint32_t)l->secret_count;
	l->conf->has_names = l->user_count > 0 && l->secret_count == 0 && l->database_count == 0;
}

struct users *
creds_block(struct load *l, size_t *len)
{
	size_t secrets = l->secret_count * sizeof(struct users_secret),
	       users = l->user_count * sizeof(struct users_user);
	struct users *u = calloc(1, sizeof *u + secrets + users);

	if (u == NULL)
		abort();
	u->magic = USERS_MAGIC;
	u->layout = USERS_LAYOUT;
	u->secret_count = (uint32_t)l->secret_count;
	u->user_count = (uint32_t)l->user_count;
	text_copy(u->realm, sizeof u->realm, l->conf->realm);
	u->database_count = l->database_count;
	memcpy(u->database, l->databases, sizeof u->database);
	u->rest_names = l->conf->rest_names;
	for (size_t i = 0; i < l->secret_count; i++)
		memcpy((char *)(u + 1) + i * sizeof(struct users_secret), &l->secrets[i].s,
		    sizeof l->secrets[i].s);
	for (size_t i = 0; i < l->user_count; i++)
		memcpy((char *)(u + 1) + secrets + i * sizeof(struct users_user), &l->users[i].u,
		    sizeof l->users[i].u);
	*len = sizeof *u + secrets + users;
	return u;
}

void
creds_fini(struct load *l)
{
	if (l->users != NULL)
		sodium_memzero(l->users, l->user_cap * sizeof *l->users);
	if (l->secrets != NULL)
		sodium_memzero(l->secrets, l->secret_cap * sizeof *l->secrets);
	free(l->users);
	free(l->secrets);
	sodium_memzero(l->databases, sizeof l->databases);
}
