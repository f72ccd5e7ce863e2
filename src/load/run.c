/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.c: starts the workers, leads them through the phases, samples CPU times at the edges of each step.
 */
#include "config.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "load_int.h"

#define STEPS_MAX       1024
#define LOSS_MAX        0.001
#define CREDENTIAL_LIFE 86400
#define WAIT_MS         100
#define PROGRESS_WAITS  5

enum phase { PHASE_SETUP, PHASE_STEP, PHASE_ROUNDS, PHASE_TEARDOWN, PHASE_END };

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t go, ready;
	unsigned turn, busy; /* turn: number of phases begun */
	enum phase phase;
	unsigned count;
	struct worker *workers;
	pthread_t *threads;
	struct secure_env *env;
	sigset_t signals; /* blocked in all threads, looked for while waiting */
	_Atomic bool stop;
};
struct crew_arg {
	struct crew *c;
	struct worker *w;
};

static void
do_phase(struct worker *w, enum phase phase)
{
	switch (phase) {
	case PHASE_SETUP:
		worker_setup(w);
		break;
	case PHASE_STEP:
		worker_step(w);
		break;
	case PHASE_ROUNDS:
		worker_rounds(w);
		break;
	case PHASE_TEARDOWN:
		worker_teardown(w);
		break;
	case PHASE_END:
		break;
	}
}

static void *
thread(void *p)
{
	struct crew_arg *a = p;
	struct crew *c = a->c;
	unsigned turn = 0;

	prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul); /* naps of 50 us stay what they are */
	for (;;) {
		enum phase phase;

		pthread_mutex_lock(&c->lock);
		while (c->turn == turn)
			pthread_cond_wait(&c->go, &c->lock);
		turn = c->turn;
		phase = c->phase;
		pthread_mutex_unlock(&c->lock);
		if (phase == PHASE_END)
			break;
		do_phase(a->w, phase);
		pthread_mutex_lock(&c->lock);
		if (--c->busy == 0)
			pthread_cond_signal(&c->ready);
		pthread_mutex_unlock(&c->lock);
	}
	free(a);
	return NULL;
}

/* The first SIGINT or SIGTERM ends the measurement and the report tells what was; the second ends the
 * program. */
static void
look_for_signals(struct crew *c)
{
	struct timespec none = { 0 };

	if (sigtimedwait(&c->signals, NULL, &none) < 0)
		return;
	if (atomic_exchange(&c->stop, true))
		_exit(EX_TEMPFAIL);
}

/* One phase on all workers; shows progress while they are at it. */
static void
crew_do(struct crew *c, enum phase phase, const struct load_options *o, const char *what)
{
	struct progress shown = { .began = now_ns() };
	struct timespec until;
	unsigned waits = 0;

	pthread_mutex_lock(&c->lock);
	c->phase = phase;
	c->turn++;
	c->busy = phase == PHASE_END ? 0 : c->count;
	pthread_cond_broadcast(&c->go);
	while (c->busy > 0) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += WAIT_MS * 1000000l;
		until.tv_sec += until.tv_nsec / 1000000000l;
		until.tv_nsec %= 1000000000l;
		if (pthread_cond_timedwait(&c->ready, &c->lock, &until) == ETIMEDOUT) {
			pthread_mutex_unlock(&c->lock);
			look_for_signals(c);
			if (++waits % PROGRESS_WAITS == 0)
				report_progress(o, c->workers, what, &shown);
			pthread_mutex_lock(&c->lock);
		}
	}
	pthread_mutex_unlock(&c->lock);
	report_progress_end(o);
}

static void
make_credential(const struct load_options *o, struct worker *w)
{
	uint8_t mac[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (o->secret[0] == '\0') {
		text_copy(w->user, sizeof w->user, o->user);
		text_copy(w->password, sizeof w->password, o->password);
		return;
	}
	snprintf(w->user, sizeof w->user, "%lld%s%s", (long long)time(NULL) + CREDENTIAL_LIFE,
	    o->user[0] != '\0' ? ":" : "", o->user);
	if (HMAC(EVP_sha1(), o->secret, (int)strlen(o->secret), (const uint8_t *)w->user, strlen(w->user),
		mac, &n) == NULL)
		fatal(EX_SOFTWARE, "HMAC-SHA1 is not available");
	EVP_EncodeBlock((uint8_t *)w->password, mac, (int)n);
}

static void
raise_limits(const struct load_options *o)
{
	struct rlimit l;
	rlim_t need = o->flows + (o->peers > o->threads ? o->peers : o->threads) + 64;

	if (getrlimit(RLIMIT_NOFILE, &l) != 0)
		return;
	l.rlim_cur = l.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &l);
	if (l.rlim_cur < need)
		fatal(EX_OSERR,
		    "%llu descriptors are needed, %llu allowed: raise the limit (ulimit -Hn) or ask for fewer"
		    " allocations",
		    (unsigned long long)need, (unsigned long long)l.rlim_cur);
}

static void
crew_start(struct crew *c, const struct load_options *o)
{
	uint32_t session, first = 0;

	if (getrandom(&session, sizeof session, 0) != sizeof session)
		fatal(EX_OSERR, "no random bytes");
	for (unsigned i = 0; i < c->count; i++) {
		struct worker *w = &c->workers[i];
		struct crew_arg *a = calloc(1, sizeof *a);
		int r;

		w->o = o;
		w->transport = o->transport == LOAD_UDP ? &transport_udp
		    : o->transport == LOAD_DTLS         ? &transport_dtls
							: &transport_stream;
		w->env = c->env;
		w->stop = &c->stop;
		w->all = c->workers;
		w->index = i;
		w->session = session;
		w->n = o->flows / c->count + (i < o->flows % c->count);
		w->peer_count = o->peers / c->count + (i < o->peers % c->count);
		w->peer_count = w->peer_count == 0 ? 1 : w->peer_count > w->n ? w->n : w->peer_count;
		w->window = o->window / c->count > o->run ? o->window / c->count : o->run;
		w->rounds_max = o->packets / c->count;
		make_credential(o, w);
		r = worker_init(w);
		if (r != 0 || a == NULL) {
			errno = r != 0 ? -r : ENOMEM;
			fatal(EX_OSERR, "cannot begin");
		}
		for (unsigned k = 0; k < w->n; k++)
			w->flows[k].id = first + k;
		first += w->n;
		*a = (struct crew_arg){ c, w };
		if (pthread_create(&c->threads[i], NULL, thread, a) != 0)
			fatal(EX_OSERR, "cannot start a thread");
	}
}

struct totals {
	uint64_t sent, got;
	double cpu, self;
};

static struct totals
sample(const struct crew *c, const struct cpu_set *cpu)
{
	struct totals t = { .cpu = cpu_used_us(cpu), .self = cpu_self_us() };

	for (unsigned i = 0; i < c->count; i++)
		for (unsigned d = 0; d < 2; d++) {
			t.sent += c->workers[i].sent[d];
			t.got += c->workers[i].got[d];
		}
	return t;
}

static struct step_result
run_step(struct crew *c, const struct load_options *o, const struct cpu_set *cpu, struct step step,
    const char *what)
{
	struct totals a, b;
	struct step_result r = { .rate_asked = step.rate };

	for (unsigned i = 0; i < c->count; i++)
		c->workers[i].step = (struct step){ step.rate / c->count, step.seconds,
			step.packets / c->count };
	a = sample(c, cpu);
	crew_do(c, PHASE_STEP, o, what);
	b = sample(c, cpu);
	for (unsigned i = 0; i < c->count; i++) {
		double s = (double)c->workers[i].step_ns / 1e9;

		r.seconds = s > r.seconds ? s : r.seconds;
		r.skipped += c->workers[i].skipped;
	}
	r.sent = b.sent - a.sent;
	r.got = b.got - a.got;
	r.sent_pps = (double)r.sent / r.seconds;
	r.got_pps = (double)r.got / r.seconds;
	r.loss = r.sent > r.got ? (double)(r.sent - r.got) / (double)r.sent : 0;
	r.cpu_us = r.got > 0 && cpu->count > 0 ? (b.cpu - a.cpu) / (double)r.got : 0;
	r.self_us = r.got > 0 ? (b.self - a.self) / (double)r.got : 0;
	r.load_limited = step.rate > 0 && (double)r.skipped > 0.01 * step.rate * r.seconds;
	return r;
}

/* Stops after two steps that failed: overload is not what is measured. */
static void
run_steps(struct crew *c, const struct load_options *o, const struct cpu_set *cpu, struct report *rep)
{
	unsigned bad = 0;

	if (o->warmup > 0)
		(void)run_step(c, o, cpu,
		    (struct step){ o->ladder[2] > 0 ? o->ladder[0] : o->rate, o->warmup, 0 }, "warm-up");
	for (unsigned i = 0; i < c->count; i++)
		for (unsigned d = 0; d < 2; d++)
			c->workers[i].hist[d] = (struct hist){ 0 };
	rep->started_ns = now_ns();
	if (o->ladder[2] <= 0) {
		rep->steps[rep->step_count++] = run_step(c, o, cpu,
		    (struct step){ o->rate, o->seconds, o->packets },
		    o->mode == LOAD_HOLD ? "hold" : "relay");
		/* Without the drain: its silence is not the server's. */
		rep->ended_ns = rep->started_ns + (uint64_t)(rep->steps[0].seconds * 1e9);
		return;
	}
	for (double rate = o->ladder[0];
	     rate <= o->ladder[1] + 1e-6 && bad < 2 && rep->step_count < STEPS_MAX && !c->stop;
	     rate += o->ladder[2]) {
		struct step_result r = run_step(
		    c, o, cpu, (struct step){ rate, o->seconds, o->packets }, "ladder");

		rep->steps[rep->step_count++] = r;
		bad = r.loss >= LOSS_MAX || r.load_limited ? bad + 1 : 0;
	}
	rep->ended_ns = now_ns();
}

static uint64_t
ready_count(const struct crew *c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < c->count; i++)
		n += c->workers[i].ready;
	return n;
}

static void
crew_end(struct crew *c, const struct load_options *o)
{
	crew_do(c, PHASE_END, o, "");
	for (unsigned i = 0; i < c->count; i++)
		pthread_join(c->threads[i], NULL);
	for (unsigned i = 0; i < c->count; i++)
		worker_fini(&c->workers[i]);
	free(c->workers);
	free(c->threads);
}

static void
run_phases(struct crew *c, const struct load_options *o, struct report *rep)
{
	bool rounds = o->mode == LOAD_SETUP || o->mode == LOAD_CONNECT;
	struct cpu_set cpu = { o->pids, o->pid_count, o->pid_tree };
	struct totals a = sample(c, &cpu), b;
	uint64_t began = now_ns();

	rep->processes = cpu_processes(&cpu);
	if (rounds) {
		rep->started_ns = began;
		crew_do(c, PHASE_ROUNDS, o, o->mode == LOAD_SETUP ? "setup" : "connect");
		rep->ended_ns = now_ns();
	} else {
		crew_do(c, PHASE_SETUP, o, "setup");
	}
	b = sample(c, &cpu);
	rep->setup_s = (double)(now_ns() - began) / 1e9;
	rep->setup_cpu_us = b.cpu - a.cpu;
	rep->setup_self_us = b.self - a.self;
	if (!rounds && ready_count(c) > 0) {
		run_steps(c, o, &cpu, rep);
		crew_do(c, PHASE_TEARDOWN, o, "end");
	}
}

int
load_run(const struct load_options *o)
{
	struct crew c = { .lock = PTHREAD_MUTEX_INITIALIZER,
		.go = PTHREAD_COND_INITIALIZER,
		.ready = PTHREAD_COND_INITIALIZER,
		.count = o->threads };
	struct report rep = { .o = o };
	int r;

	signal(SIGPIPE, SIG_IGN);
	raise_limits(o);
	if (o->mode == LOAD_HOST)
		return host_run(o);
	c.workers = calloc(c.count, sizeof *c.workers);
	c.threads = calloc(c.count, sizeof *c.threads);
	rep.steps = calloc(STEPS_MAX, sizeof *rep.steps);
	if (c.workers == NULL || c.threads == NULL || rep.steps == NULL)
		fatal(EX_OSERR, "no memory");
	sigemptyset(&c.signals);
	sigaddset(&c.signals, SIGINT);
	sigaddset(&c.signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &c.signals, NULL);
	if (o->transport == LOAD_TLS || o->transport == LOAD_DTLS)
		c.env = secure_env_new(o);
	crew_start(&c, o);
	rep.workers = c.workers;
	run_phases(&c, o, &rep);
	r = report_print(&rep);
	crew_end(&c, o);
	secure_env_free(c.env);
	free(rep.steps);
	return r;
}
