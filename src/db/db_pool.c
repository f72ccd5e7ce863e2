/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_pool.c: the threads of each database, the queue of questions before them, and the one queue of
 * events behind them.
 *
 * 	caller -> questions -> N threads, a connection each  -> events -> caller
 * 	                       1 follower (facts, changes)   /
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "db_int.h"

#define QUEUE_MAX     2048 /* questions that wait for one database */
#define FOLLOW_MS     4000 /* between two looks at the facts */
#define BACKOFF_FIRST 200
#define BACKOFF_MAX   5000
#define CHANGE_MS     30000 /* a change by the operator may take so long */
#define STACK         (512 * 1024)

struct job {
	struct job *next;
	bool is_write;
	uint64_t deadline;
	union {
		struct db_ask ask;
		struct db_write write;
	};
};
struct database {
	struct db_set *set;
	unsigned index;
	const struct users_database *d;
	const struct db_engine *engine;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct job *first, **last; /* under lock, as all below */
	unsigned waiting;
	int kick; /* eventfd: read the facts now */
	bool told, told_up;
	char why[DB_TEXT_MAX];
};
struct db_set {
	int fd; /* eventfd */
	pthread_mutex_t lock;
	struct db_event *first, **last; /* under lock */
	char realm[DB_REALM_MAX];
	struct users_database *list; /* guarded */
	unsigned count;
	struct database database[USERS_DATABASES_MAX];
};

static const struct db_engine *
engine_of(unsigned type)
{
	static const struct db_engine *const engines[] = { &db_pgsql, &db_redis, &db_sqlite, &db_mariadb,
		&db_http };

	return type < TP_COUNT(engines) ? engines[type] : NULL;
}

static bool
is_built(unsigned type)
{
	return engine_of(type) != NULL && engine_of(type)->built;
}

void
db_prepare(void)
{
	for (unsigned i = 0; engine_of(i) != NULL; i++)
		if (engine_of(i)->prepare != NULL)
			engine_of(i)->prepare();
}

/* ---- events ---------------------------------------------------------------------------------- */

static struct db_event *
event_new(const struct database *b, enum db_event_type type, uint64_t id)
{
	struct db_event *e = calloc(1, sizeof *e);

	if (e == NULL)
		abort();
	e->type = (uint8_t)type;
	e->database = (uint8_t)b->index;
	e->id = id;
	return e;
}

static void
event_put(struct db_set *set, struct db_event *e)
{
	uint64_t one = 1;

	pthread_mutex_lock(&set->lock);
	*set->last = e;
	set->last = &e->next;
	pthread_mutex_unlock(&set->lock);
	(void)!write(set->fd, &one, sizeof one);
}

struct db_event *
db_set_event(struct db_set *set)
{
	struct db_event *e;
	uint64_t n;

	pthread_mutex_lock(&set->lock);
	e = set->first;
	if (e != NULL) {
		set->first = e->next;
		if (set->first == NULL)
			set->last = &set->first;
	} else {
		(void)!read(set->fd, &n, sizeof n);
	}
	pthread_mutex_unlock(&set->lock);
	return e;
}

void
db_event_free(struct db_event *e)
{
	if (e->facts != NULL)
		sodium_memzero(e->facts, sizeof *e->facts);
	free(e->facts);
	sodium_memzero(e, sizeof *e);
	free(e);
}

/* Tells the caller once per change. */
static void
note_state(struct database *b, bool up, const char *why, void *conn)
{
	struct db_event *e = NULL;

	pthread_mutex_lock(&b->lock);
	if (!b->told || b->told_up != up || (!up && strcmp(b->why, why) != 0)) {
		e = event_new(b, DB_EV_STATE, 0);
		e->up = up;
		text_copy(e->text, sizeof e->text, up ? "" : why);
		text_copy(b->why, sizeof b->why, up ? "" : why);
		b->told = true;
		b->told_up = up;
	}
	pthread_mutex_unlock(&b->lock);
	if (e == NULL)
		return;
	if (conn != NULL && b->engine->server != NULL)
		b->engine->server(conn, &e->server);
	event_put(b->set, e);
}

/* ---- threads that answer --------------------------------------------------------------------- */

static struct job *
job_take(struct database *b)
{
	struct job *j;

	pthread_mutex_lock(&b->lock);
	while (b->first == NULL)
		pthread_cond_wait(&b->more, &b->lock);
	j = b->first;
	b->first = j->next;
	if (b->first == NULL)
		b->last = &b->first;
	b->waiting--;
	pthread_mutex_unlock(&b->lock);
	return j;
}

static bool
is_lost(int err)
{
	return err == -ENOTCONN || err == -ETIMEDOUT;
}

/* What a connection knows of its last failure: it is not made again before `again`. */
struct hand {
	void *conn;
	uint64_t again;
	unsigned backoff;
	struct db_error e;
};

static int
hand_open(struct hand *h, const struct database *b, uint64_t deadline)
{
	if (h->conn != NULL)
		return 0;
	if (db_now() < h->again)
		return -ENOTCONN;
	h->e.text[0] = '\0';
	h->conn = b->engine->open(b->d, false, deadline, &h->e);
	if (h->conn != NULL) {
		h->backoff = 0;
		return 0;
	}
	h->backoff = h->backoff == 0       ? BACKOFF_FIRST
	    : h->backoff * 2 > BACKOFF_MAX ? BACKOFF_MAX
					   : h->backoff * 2;
	h->again = db_now() + h->backoff;
	return -ENOTCONN;
}

static void
hand_close(struct hand *h, const struct database *b)
{
	if (h->conn != NULL)
		b->engine->close(h->conn);
	h->conn = NULL;
}

static int
ask_once(
    struct database *b, struct hand *h, const struct db_ask *ask, struct db_found *found, uint64_t deadline)
{
	int err = hand_open(h, b, deadline);

	if (err == 0) {
		h->e.text[0] = '\0';
		err = b->engine->user(h->conn, ask, found, deadline, &h->e);
	}
	if (is_lost(err))
		hand_close(h, b);
	return err;
}

static void
answer_ask(struct database *b, struct hand *h, const struct job *j)
{
	struct db_event *e = event_new(b, DB_EV_FAILED, j->ask.id);
	bool had = h->conn != NULL;
	uint64_t one = 1;
	int err = db_now() >= j->deadline ? -ETIME : ask_once(b, h, &j->ask, &e->found, j->deadline);

	/* A connection that was open before may have been closed by a restart long ago: once more, with
	 * another. */
	if (err == -ENOTCONN && had)
		err = ask_once(b, h, &j->ask, &e->found, j->deadline);
	if (err == 0) {
		e->type = DB_EV_FOUND;
	} else if (err == -ENOENT) {
		e->type = DB_EV_ABSENT;
	} else {
		sodium_memzero(&e->found, sizeof e->found);
		text_copy(
		    e->text, sizeof e->text, err == -ETIME ? "the question waited too long" : h->e.text);
	}
	/* Whether a database is up is the follower's to say where there is one; it looks at once. */
	if (b->engine->facts != NULL && is_lost(err))
		(void)!write(b->kick, &one, sizeof one);
	else if (b->engine->facts == NULL && err != -ETIME && err != -EBADMSG)
		note_state(b, err == 0 || err == -ENOENT, h->e.text, h->conn);
	event_put(b->set, e);
}

/* ---- changes by the operator ----------------------------------------------------------------- */

struct writing {
	struct database *b;
	uint64_t id;
};

static void
on_row(void *arg, const char *text)
{
	const struct writing *w = arg;
	struct db_event *e = event_new(w->b, DB_EV_ROW, w->id);

	text_copy(e->text, sizeof e->text, text);
	event_put(w->b->set, e);
}

static int
copy_all(struct database *b, void *conn, const struct db_write *w, uint64_t deadline, char *text,
    size_t size, struct db_error *e)
{
	struct db_set *set = b->set;
	const struct database *from = w->from < set->count ? &set->database[w->from] : NULL;
	struct sql to_sql, from_sql;
	uint64_t rows = 0;
	void *other;
	int err;

	if (from == NULL || from == b || from->engine->sql == NULL || b->engine->sql == NULL)
		return db_fail(
		    e, -EOPNOTSUPP, "both databases must be of the types postgresql, sqlite or mariadb");
	other = from->engine->open(from->d, false, deadline, e);
	if (other == NULL)
		return -ENOTCONN;
	err = sql_copy(
	    from->engine->sql(other, &from_sql), b->engine->sql(conn, &to_sql), w, &rows, deadline, e);
	from->engine->close(other);
	snprintf(text, size, "%llu rows", (unsigned long long)rows);
	return err;
}

static void
answer_write(struct database *b, const struct job *j)
{
	struct db_event *done = event_new(b, DB_EV_DONE, j->write.id);
	struct writing w = { b, j->write.id };
	struct db_error e = { "" };
	char text[64] = "";
	void *conn = NULL;
	uint64_t one = 1;

	if (b->engine->change == NULL)
		done->err = db_fail(
		    &e, -EOPNOTSUPP, "a database of type %s cannot be changed", b->engine->name);
	else if ((conn = b->engine->open(b->d, true, j->deadline, &e)) == NULL)
		done->err = -ENOTCONN;
	else if (j->write.what == DB_IMPORT)
		done->err = copy_all(b, conn, &j->write, j->deadline, text, sizeof text, &e);
	else
		done->err = b->engine->change(conn, &j->write, on_row, &w, j->deadline, &e);
	if (conn != NULL)
		b->engine->close(conn);
	text_copy(done->text, sizeof done->text, done->err < 0 ? e.text : text);
	event_put(b->set, done);
	(void)!write(b->kick, &one, sizeof one);
}

static void *
answer_main(void *arg)
{
	struct database *b = arg;
	struct hand h = { NULL, 0, 0, { "" } };

	for (;;) {
		struct job *j = job_take(b);

		if (j->is_write)
			answer_write(b, j);
		else
			answer_ask(b, &h, j);
		sodium_memzero(j, sizeof *j);
		free(j);
	}
	return NULL;
}

/* ---- the follower ---------------------------------------------------------------------------- */

static int
follow_once(struct database *b, struct hand *h)
{
	uint64_t deadline = db_now() + b->d->timeout_ms;
	struct db_event *e;
	int err = hand_open(h, b, deadline);

	if (err < 0)
		return err;
	e = event_new(b, DB_EV_FACTS, 0);
	e->facts = calloc(1, sizeof *e->facts);
	if (e->facts == NULL)
		abort();
	h->e.text[0] = '\0';
	err = b->engine->facts(h->conn, b->set->realm, e->facts, deadline, &h->e);
	if (err == 0)
		event_put(b->set, e);
	else
		db_event_free(e);
	if (is_lost(err))
		hand_close(h, b);
	return err;
}

static void *
follow_main(void *arg)
{
	struct database *b = arg;
	struct hand h = { NULL, 0, 0, { "" } };
	char name[DB_NAME_MAX] = "";

	for (;;) {
		int err = follow_once(b, &h), told;

		note_state(b, err == 0, h.e.text, h.conn);
		if (h.conn == NULL) {
			uint64_t now = db_now();

			(void)db_wait_plain(b->kick, h.again > now ? (int)(h.again - now) : BACKOFF_FIRST);
			continue;
		}
		told = b->engine->wait(h.conn, b->kick, FOLLOW_MS, name, &h.e);
		if (told < 0) {
			hand_close(&h, b);
		} else if (told == 1) {
			struct db_event *e = event_new(b, DB_EV_CHANGED, 0);

			text_copy(e->text, sizeof e->text, name);
			event_put(b->set, e);
		}
	}
	return NULL;
}

/* ---- the caller's side ----------------------------------------------------------------------- */

static int
thread_start(void *(*run)(void *), struct database *b)
{
	pthread_attr_t attr;
	pthread_t t;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&t, &attr, run, b);
	pthread_attr_destroy(&attr);
	return -err;
}

static int
database_start(struct db_set *set, unsigned i)
{
	struct database *b = &set->database[i];
	int err = 0;

	b->set = set;
	b->index = i;
	b->d = &set->list[i];
	b->engine = engine_of(b->d->type);
	b->last = &b->first;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->more, NULL);
	b->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->kick < 0)
		return -errno;
	for (unsigned n = 0; n < b->d->connections && err == 0; n++)
		err = thread_start(answer_main, b);
	return err == 0 && b->engine->facts != NULL ? thread_start(follow_main, b) : err;
}

int
db_set_new(struct db_set **out, const struct users_database *list, unsigned count, const char *realm)
{
	struct db_set *set = calloc(1, sizeof *set);
	int err = 0;

	if (set == NULL)
		return -ENOMEM;
	set->last = &set->first;
	set->count = count;
	text_copy(set->realm, sizeof set->realm, realm);
	pthread_mutex_init(&set->lock, NULL);
	set->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	set->list = sodium_malloc(count * sizeof *list);
	if (set->fd < 0 || set->list == NULL)
		return -ENOMEM;
	memcpy(set->list, list, count * sizeof *list);
	sodium_mprotect_readonly(set->list);
	for (unsigned i = 0; i < count && err == 0; i++)
		err = is_built(list[i].type) ? database_start(set, i) : -ENOSYS;
	*out = set;
	return err;
}

int
db_set_fd(const struct db_set *set)
{
	return set->fd;
}

static int
job_put(struct database *b, struct job *j)
{
	pthread_mutex_lock(&b->lock);
	if (b->waiting == QUEUE_MAX) {
		pthread_mutex_unlock(&b->lock);
		free(j);
		return -EAGAIN;
	}
	*b->last = j;
	b->last = &j->next;
	b->waiting++;
	pthread_cond_signal(&b->more);
	pthread_mutex_unlock(&b->lock);
	return 0;
}

int
db_set_ask(struct db_set *set, unsigned database, const struct db_ask *ask)
{
	struct database *b = &set->database[database];
	struct job *j = calloc(1, sizeof *j);

	if (j == NULL)
		return -ENOMEM;
	j->ask = *ask;
	j->deadline = db_now() + b->d->timeout_ms;
	return job_put(b, j);
}

int
db_set_write(struct db_set *set, unsigned database, const struct db_write *w)
{
	struct job *j = calloc(1, sizeof *j);

	if (j == NULL)
		return -ENOMEM;
	j->is_write = true;
	j->write = *w;
	j->deadline = db_now() + CHANGE_MS;
	return job_put(&set->database[database], j);
}

void
db_set_refresh(struct db_set *set, unsigned database)
{
	uint64_t one = 1;

	(void)!write(set->database[database].kick, &one, sizeof one);
}

unsigned
db_set_count(const struct db_set *set)
{
	return set->count;
}

const char *
db_set_name(const struct db_set *set, unsigned database)
{
	return set->list[database].name;
}

bool
db_set_has_facts(const struct db_set *set, unsigned database)
{
	return set->database[database].engine->facts != NULL;
}
