/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cert_watch.c: certificates and secrets that change on disk, and certificates that end.
 *
 * The configuration carries what each file was when turnpike-conf read it; another turnpike-conf looks
 * the names up again: a file system may not answer, and the supervisor waits for none.  Anything else
 * found there is a reason for a reload.  What made a reload fail is not tried again at once, but it is
 * tried: half of a pair may have been written.
 */
#include "config.h"

#include <time.h>

#include "super_int.h"

#define AGAIN_MAX_MS   600000
#define EXPIRY_LOOK_MS 60000
#define DAY            86400

static void
watch_files(struct super *s, tp_ms now)
{
	struct watch *w = &s->watch;

	if (s->conf.watch_interval == 0 || now < w->files_due || s->reloading || !conf_has_files(&s->conf))
		return;
	w->files_due = now + s->conf.watch_interval;
	super_conf_look(s, LOOK_FILES);
}

void
super_watch_found(struct super *s, const char *path, uint32_t mix)
{
	struct watch *w = &s->watch;
	tp_ms now = clock_ms();

	if (mix == 0) {
		w->wait = 0;
		return;
	}
	/* The same files again: the reload that they caused has failed. */
	if (w->wait != 0 && mix == w->tried && now < w->again)
		return;
	w->wait = w->wait == 0 || mix != w->tried ? s->conf.watch_interval : 2 * w->wait;
	if (w->wait > AGAIN_MAX_MS)
		w->wait = AGAIN_MAX_MS;
	w->again = now + w->wait;
	w->tried = mix;
	log_info("%s has changed: reload", path);
	super_reload(s, (struct requester){ .used = false });
}

unsigned
expiry_stage(int64_t left, int64_t first)
{
	static const int days[] = { 14, 7, 3, 1 };
	unsigned stage;

	if (left <= 0)
		return 2 + TP_COUNT(days) +
		    (unsigned)(-left / DAY < UINT32_MAX / 2 ? -left / DAY : UINT32_MAX / 2);
	if (left >= first) /* certificates for a week are renewed within the week */
		return 0;
	stage = 1;
	for (unsigned i = 0; i < TP_COUNT(days); i++)
		if (left < days[i] * (int64_t)DAY)
			stage = 2 + i;
	return stage;
}

static void
tell_expiry(const struct conf_certificate *x, int64_t left)
{
	if (left <= 0)
		log_warnx("certificates: %s has expired %lld days ago: clients refuse it", x->certificate,
		    (long long)(-left / DAY));
	else if (left >= 2 * DAY)
		log_warnx("certificates: %s expires in %lld days: renew it", x->certificate,
		    (long long)(left / DAY));
	else
		log_warnx("certificates: %s expires in %lld hours: renew it", x->certificate,
		    (long long)(left / 3600));
}

static void
watch_expiry(struct super *s, tp_ms now)
{
	struct watch *w = &s->watch;
	bool fresh = w->expiry_generation != s->conf.generation;

	if (now < w->expiry_due && !fresh)
		return;
	w->expiry_due = now + EXPIRY_LOOK_MS;
	w->expiry_generation = s->conf.generation;
	for (uint32_t i = 0; i < s->conf.certificate_count; i++) {
		const struct conf_certificate *x = &s->conf.certificates[i];
		int64_t left = x->not_after - (int64_t)time(NULL);
		unsigned stage = x->not_after == 0
		    ? 0
		    : expiry_stage(left, (int64_t)(s->conf.expiry_warning / 1000));

		/* With a fresh configuration turnpike-conf has just said it. */
		if (stage > w->told[i] && !fresh)
			tell_expiry(x, left);
		w->told[i] = stage;
	}
}

void
super_watch_step(struct super *s, tp_ms now)
{
	if (s->phase != SUPER_RUNNING && s->phase != SUPER_DRAINING)
		return;
	watch_expiry(s, now);
	watch_files(s, now);
}
