/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_redis.c: Redis and Valkey, coturn's keys.  Each key is named: no command looks through all of them,
 * but the list that an operator asks for (SCAN).
 */
#include "config.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "db_int.h"

#define KEY_MAX 1024

struct redis_conn {
	struct redis_link *link;
	redisReader *reader;
};
struct redis {
	struct redis_where where;
	struct redis_conn main, told; /* told: subscribed, or not open */
	char pattern[KEY_MAX];
	bool events_refused;
};

static void
conn_close(struct redis_conn *c)
{
	if (c->reader != NULL)
		redisReaderFree(c->reader);
	link_close(c->link);
	*c = (struct redis_conn){ NULL, NULL };
}

/* The next reply; NULL with *err. */
static redisReply *
next_reply(struct redis_conn *c, uint64_t deadline, int *err, struct db_error *e)
{
	void *reply = NULL;
	char buf[16384];

	for (;;) {
		if (redisReaderGetReply(c->reader, &reply) != REDIS_OK) {
			*err = db_fail(
			    e, -ENOTCONN, "the answer is not of the Redis protocol: %s", c->reader->errstr);
			return NULL;
		}
		if (reply != NULL)
			return reply;
		int n = link_read(c->link, buf, sizeof buf, deadline, e);
		if (n < 0) {
			*err = n;
			return NULL;
		}
		if (redisReaderFeed(c->reader, buf, (size_t)n) != REDIS_OK) {
			*err = db_fail(e, -ENOTCONN, "out of memory");
			return NULL;
		}
	}
}

/* Words are bytes, whatever is in them. */
static redisReply *
command(struct redis_conn *c, int n, const char *const *word, const size_t *len, uint64_t deadline,
    int *err, struct db_error *e)
{
	redisReply *r;
	char *text = NULL;
	int size = (int)redisFormatCommandArgv(&text, n, (const char **)(uintptr_t)word, len);

	if (size < 0) {
		*err = db_fail(e, -ENOMEM, "out of memory");
		return NULL;
	}
	*err = link_write(c->link, text, (size_t)size, deadline, e);
	redisFreeCommand(text);
	if (*err < 0)
		return NULL;
	r = next_reply(c, deadline, err, e);
	if (r == NULL || r->type != REDIS_REPLY_ERROR)
		return r;
	/* LOADING, a replica without its master: as if it were down. */
	bool down = strncmp(r->str, "LOADING", 7) == 0 || strncmp(r->str, "MASTERDOWN", 10) == 0;
	bool kind = strncmp(r->str, "WRONGTYPE", 9) == 0;
	*err = db_fail(e, down ? -ENOTCONN : kind ? -EBADMSG : -EIO, "%.32s: %s", word[0], r->str);
	freeReplyObject(r);
	return NULL;
}

static redisReply *
words(struct redis_conn *c, int n, const char *const *word, uint64_t deadline, int *err, struct db_error *e)
{
	size_t len[4];

	for (int i = 0; i < n; i++)
		len[i] = strlen(word[i]);
	return command(c, n, word, len, deadline, err, e);
}

static int
greet(struct redis_conn *c, const struct redis_where *w, uint64_t deadline, struct db_error *e)
{
	const char *const with_user[] = { "AUTH", w->user, w->password },
			  *const plain[] = { "AUTH", w->password };
	const char *const select[] = { "SELECT", w->db };
	redisReply *r;
	int err = 0;

	if (w->password[0] != '\0') {
		r = w->user[0] != '\0' ? words(c, 3, with_user, deadline, &err, e)
				       : words(c, 2, plain, deadline, &err, e);
		if (r == NULL)
			return err;
		freeReplyObject(r);
	}
	if (w->db[0] != '\0' && strcmp(w->db, "0") != 0) {
		if ((r = words(c, 2, select, deadline, &err, e)) == NULL)
			return err;
		freeReplyObject(r);
	}
	return 0;
}

static int
conn_open(struct redis_conn *c, const struct redis_where *w, uint64_t deadline, struct db_error *e)
{
	c->link = link_open(w, deadline, e);
	c->reader = c->link != NULL ? redisReaderCreate() : NULL;
	if (c->reader != NULL && greet(c, w, deadline, e) == 0)
		return 0;
	conn_close(c);
	return -ENOTCONN;
}

static void
redis_close(void *conn)
{
	struct redis *r = conn;

	conn_close(&r->main);
	conn_close(&r->told);
	explicit_bzero(r, sizeof *r);
	free(r);
}

static void *
redis_open(const struct users_database *d, bool change, uint64_t deadline, struct db_error *e)
{
	struct redis *r = calloc(1, sizeof *r);

	(void)change;
	if (r == NULL)
		return NULL;
	if (redis_where_read(&r->where, d->connection, e) < 0 ||
	    conn_open(&r->main, &r->where, deadline, e) < 0) {
		redis_close(r);
		return NULL;
	}
	return r;
}

static void
redis_server(void *conn, struct addr *a)
{
	const struct redis *r = conn;
	struct sockaddr_storage s;
	socklen_t len = sizeof s;

	if (getpeername(link_fd(r->main.link), (struct sockaddr *)&s, &len) == 0)
		(void)addr_from_sockaddr(a, (struct sockaddr *)&s);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int
redis_user(
    void *conn, const struct db_ask *ask, struct db_found *found, uint64_t deadline, struct db_error *e)
{
	struct redis *r = conn;
	char key[KEY_MAX];
	size_t len = (size_t)snprintf(key, sizeof key, "turn/realm/%s/user/", ask->realm);
	const char *const word[] = { "GET", key };
	redisReply *reply;
	int err = 0;

	/* A slash in the name is data in coturn, too: NAME/key is the end of the key. */
	memcpy(key + len, ask->name, ask->name_len);
	len += ask->name_len;
	memcpy(key + len, "/key", 4);
	reply = command(&r->main, 2, word, (const size_t[]){ 3, len + 4 }, deadline, &err, e);
	if (reply == NULL)
		return err;
	if (reply->type == REDIS_REPLY_NIL)
		err = -ENOENT;
	else if (reply->type != REDIS_REPLY_STRING || facts_key(found, reply->str, (size_t)reply->len) < 0)
		err = db_fail(
		    e, -EBADMSG, "key turn/realm/%s/user/.../key: it is not hexadecimal", ask->realm);
	freeReplyObject(reply);
	return err;
}

/* Denied users: a hash of names and Unix times. */
static int
read_denied(struct redis *r, const char *realm, struct db_facts *f, uint64_t deadline, struct db_error *e)
{
	char key[KEY_MAX];
	const char *const word[] = { "HGETALL", key };
	redisReply *reply;
	int err = 0;

	snprintf(key, sizeof key, "turn/realm/%s/denied", realm);
	reply = words(&r->main, 2, word, deadline, &err, e);
	if (reply == NULL) /* -EIO: an ACL without this command, for databases without denied users */
		return err == -EIO || err == -EBADMSG ? 0 : err;
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i + 1 < (size_t)reply->elements; i += 2)
		if (reply->element[i]->type == REDIS_REPLY_STRING &&
		    reply->element[i + 1]->type == REDIS_REPLY_STRING)
			facts_denied(f, key, reply->element[i]->str, (size_t)reply->element[i]->len,
			    reply->element[i + 1]->str);
	freeReplyObject(reply);
	return 0;
}

/* One key of the realm: each string of a set, or the string itself.  An entry of another type is
 * counted as bad. */
static int
read_key(struct redis *r, const char *realm, const char *what, bool set, struct db_facts *f,
    uint64_t deadline, void take(struct db_facts *f, const char *from, const char *value, size_t len),
    struct db_error *e)
{
	char key[KEY_MAX];
	const char *const word[] = { set ? "SMEMBERS" : "GET", key };
	redisReply *reply;
	int err = 0;

	snprintf(key, sizeof key, "turn/realm/%s/%s", realm, what);
	reply = words(&r->main, 2, word, deadline, &err, e);
	if (reply == NULL && err == -EBADMSG) {
		if (f->bad++ == 0)
			snprintf(f->bad_text, sizeof f->bad_text, "key %.180s: it is no %s", key,
			    set ? "set" : "string");
		return 0;
	}
	if (reply == NULL)
		return err;
	if (reply->type == REDIS_REPLY_STRING)
		take(f, key, reply->str, (size_t)reply->len);
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < (size_t)reply->elements; i++)
		if (reply->element[i]->type == REDIS_REPLY_STRING)
			take(f, key, reply->element[i]->str, (size_t)reply->element[i]->len);
	freeReplyObject(reply);
	return 0;
}

static void
take_allowed(struct db_facts *f, const char *from, const char *value, size_t len)
{
	facts_range(f, true, from, value, len);
}

static void
take_denied(struct db_facts *f, const char *from, const char *value, size_t len)
{
	facts_range(f, false, from, value, len);
}

/* The option is the last part of the key. */
static void
take_option(struct db_facts *f, const char *from, const char *value, size_t len)
{
	facts_option(f, from, strrchr(from, '/') + 1, value, len);
}

static int
redis_facts(void *conn, const char *realm, struct db_facts *f, uint64_t deadline, struct db_error *e)
{
	static const char *const options[] = { "max-bps", "total-quota", "user-quota" };
	struct redis *r = conn;
	int err;

	if (snprintf(r->pattern, sizeof r->pattern, "__keyspace@%s__:turn/realm/%s/*",
		r->where.db[0] != '\0' ? r->where.db : "0", realm) >= (int)sizeof r->pattern)
		return -EINVAL;
	if ((err = read_key(r, realm, "secret", true, f, deadline, facts_secret, e)) < 0 ||
	    (err = read_key(r, realm, "allowed-peer-ip", true, f, deadline, take_allowed, e)) < 0 ||
	    (err = read_key(r, realm, "denied-peer-ip", true, f, deadline, take_denied, e)) < 0)
		return err;
	for (unsigned i = 0; i < TP_COUNT(options) && err == 0; i++)
		err = read_key(r, realm, options[i], false, f, deadline, take_option, e);
	return err == 0 ? read_denied(r, realm, f, deadline, e) : err;
}

/* ---- keyspace events ------------------------------------------------------------------------- */

/* A user without the right to subscribe is not told of changes: then only the clock tells. */
static void
subscribe(struct redis *r, struct db_error *e)
{
	const char *const word[] = { "PSUBSCRIBE", r->pattern };
	uint64_t deadline = db_now() + 2000;
	redisReply *reply;
	int err = 0;

	if (r->events_refused || r->told.link != NULL || r->pattern[0] == '\0')
		return;
	if (conn_open(&r->told, &r->where, deadline, e) < 0)
		return;
	reply = words(&r->told, 2, word, deadline, &err, e);
	if (reply == NULL) {
		r->events_refused = err == -EIO;
		conn_close(&r->told);
		return;
	}
	freeReplyObject(reply);
}

/* "__keyspace@0__:turn/realm/R/user/NAME/key" */
static void
user_of(const struct redis *r, const char *channel, size_t len, char name[DB_NAME_MAX])
{
	size_t head = strlen(r->pattern) - 1; /* without the star */

	name[0] = '\0';
	if (len < head + 9 || memcmp(channel + head, "user/", 5) != 0 ||
	    memcmp(channel + len - 4, "/key", 4) != 0 || len - head - 9 >= DB_NAME_MAX)
		return;
	memcpy(name, channel + head + 5, len - head - 9);
	name[len - head - 9] = '\0';
}

/* Everything that has come. */
static int
read_events(struct redis *r, char name[DB_NAME_MAX], struct db_error *e)
{
	void *reply = NULL;
	char buf[16384];
	int n = link_read(r->told.link, buf, sizeof buf, db_now(), e), told = 0;

	if (n == -ETIMEDOUT)
		return 0;
	if (n < 0 || redisReaderFeed(r->told.reader, buf, (size_t)n) != REDIS_OK)
		return -ENOTCONN;
	while (redisReaderGetReply(r->told.reader, &reply) == REDIS_OK && reply != NULL) {
		const redisReply *a = reply;

		if (a->type == REDIS_REPLY_ARRAY && a->elements == 4 &&
		    a->element[2]->type == REDIS_REPLY_STRING) {
			user_of(r, a->element[2]->str, (size_t)a->element[2]->len, name);
			if (told++ > 0)
				name[0] = '\0';
		}
		freeReplyObject(reply);
		reply = NULL;
	}
	return told > 0;
}

static int
redis_wait(void *conn, int kick, int ms, char name[DB_NAME_MAX], struct db_error *e)
{
	struct redis *r = conn;
	struct pollfd f[2] = { { .fd = kick, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	int told;

	subscribe(r, e);
	if (r->told.link != NULL)
		f[1].fd = link_fd(r->told.link);
	if (poll(f, 2, ms) <= 0)
		return 0;
	if (f[0].revents != 0)
		db_kick_take(kick);
	if (f[1].revents == 0)
		return 0;
	told = read_events(r, name, e);
	if (told < 0)
		conn_close(&r->told); /* the main connection will find out what is wrong */
	return told < 0 ? 0 : told;
}

/* ---- changes by the operator ----------------------------------------------------------------- */

/* Users of a realm, from SCAN, which never stops the server for long. */
static int
list_users(struct redis *r, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline,
    struct db_error *e)
{
	char cursor[32] = "0", match[KEY_MAX], shown[DB_NAME_MAX];
	const char *const word[] = { "SCAN", cursor, "MATCH", match, "COUNT", "1000" };
	size_t head = (size_t)snprintf(match, sizeof match, "turn/realm/%s/user/", w->realm), len[6];
	redisReply *reply;
	int err = 0;

	text_copy(match + head, sizeof match - head, "*/key");
	do {
		for (unsigned i = 0; i < 6; i++)
			len[i] = strlen(word[i]);
		if ((reply = command(&r->main, 6, word, len, deadline, &err, e)) == NULL)
			return err;
		if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
		    reply->element[0]->type == REDIS_REPLY_STRING) {
			const redisReply *keys = reply->element[1];

			text_copy(cursor, sizeof cursor, reply->element[0]->str);
			for (size_t i = 0; i < (size_t)keys->elements; i++)
				if ((size_t)keys->element[i]->len > head + 4)
					row(arg,
					    text_escape(shown, sizeof shown, keys->element[i]->str + head,
						(size_t)keys->element[i]->len - head - 4));
		}
		freeReplyObject(reply);
	} while (strcmp(cursor, "0") != 0);
	return 0;
}

static int
list_secrets(struct redis *r, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline,
    struct db_error *e)
{
	char key[KEY_MAX], shown[DB_NAME_MAX];
	const char *const word[] = { "SMEMBERS", key };
	redisReply *reply;
	int err = 0;

	snprintf(key, sizeof key, "turn/realm/%s/secret", w->realm);
	if ((reply = words(&r->main, 2, word, deadline, &err, e)) == NULL)
		return err;
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < (size_t)reply->elements; i++)
		row(arg,
		    text_escape(
			shown, sizeof shown, reply->element[i]->str, (size_t)reply->element[i]->len));
	freeReplyObject(reply);
	return 0;
}

static int
redis_change(
    void *conn, const struct db_write *w, db_row_h *row, void *arg, uint64_t deadline, struct db_error *e)
{
	struct redis *r = conn;
	char key[KEY_MAX], hmackey[33];
	const char *word[4] = { NULL, key, NULL, NULL };
	redisReply *reply;
	int err = 0, n = 3;

	switch (w->what) {
	case DB_USER_LIST:
		return list_users(r, w, row, arg, deadline, e);
	case DB_SECRET_LIST:
		return list_secrets(r, w, row, arg, deadline, e);
	case DB_CREATE:
		return 0; /* keys need no tables */
	case DB_USER_ADD:
		db_hmackey(hmackey, w->name, w->realm, w->value);
		word[0] = "SET";
		word[2] = hmackey;
		break;
	case DB_USER_DELETE:
		word[0] = "DEL";
		n = 2;
		break;
	case DB_SECRET_ADD:
	case DB_SECRET_DELETE:
		word[0] = w->what == DB_SECRET_ADD ? "SADD" : "SREM";
		word[2] = w->value;
		break;
	case DB_DENY_ADD:
	case DB_DENY_DELETE:
		word[0] = w->what == DB_DENY_ADD ? "HSET" : "HDEL";
		word[2] = w->name;
		word[3] = w->value;
		n = w->what == DB_DENY_ADD ? 4 : 3;
		break;
	default:
		return db_fail(e, -EOPNOTSUPP, "this database cannot do that");
	}
	if (w->what == DB_DENY_ADD || w->what == DB_DENY_DELETE)
		snprintf(key, sizeof key, "turn/realm/%s/denied", w->realm);
	else if (w->what == DB_USER_ADD || w->what == DB_USER_DELETE)
		snprintf(key, sizeof key, "turn/realm/%s/user/%s/key", w->realm, w->name);
	else
		snprintf(key, sizeof key, "turn/realm/%s/secret", w->realm);
	reply = words(&r->main, n, word, deadline, &err, e);
	explicit_bzero(hmackey, sizeof hmackey);
	if (reply == NULL)
		return err;
	if (reply->type == REDIS_REPLY_INTEGER && reply->integer == 0 && w->what != DB_SECRET_ADD &&
	    w->what != DB_DENY_ADD)
		err = db_fail(e, -ENOENT, "there is none in this realm");
	freeReplyObject(reply);
	return err;
}

const struct db_engine db_redis = { .name = "redis",
	.built = true,
	.open = redis_open,
	.close = redis_close,
	.server = redis_server,
	.user = redis_user,
	.facts = redis_facts,
	.wait = redis_wait,
	.change = redis_change };
