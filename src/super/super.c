/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * super.c: the supervisor's life: start in order, signals, ticks, end.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "super_int.h"

#define TICK_MS   250
#define SLOTS_MAX (1u << 20)
/* DTLS associations have no descriptor: however few of those there are, a shard has room for these.
 * Sparse: what was never used costs nothing. */
#define SLOTS_MIN (1u << 18)
#define PROBE_MS  50

/* ---- timers ------------------------------------------------------------------------------------ */

static void
on_due(void *arg)
{
	struct super *s = arg;
	tp_ms now = clock_ms();

	s->timer = 0;
	super_punctual(s, now);
	children_tick(&s->children, now);
	pool_tick(&s->pool, now);
	super_stop_step(s);
	super_rearm(s);
}

void
super_rearm(struct super *s)
{
	tp_ms due = children_due(&s->children), now = clock_ms();

	if (pool_waiting(&s->pool) && (due == 0 || due > now + PROBE_MS))
		due = now + PROBE_MS;
	if (s->timer != 0)
		loop_cancel(s->loop, s->timer);
	s->timer = due != 0 ? loop_after(s->loop, due > now ? due - now : 0, on_due, s) : 0;
}

static void
gauge(struct super *s, enum stat_counter c, uint64_t v)
{
	atomic_store_explicit(
	    (_Atomic uint64_t *)&s->regions.super_map->counter[c], v, memory_order_relaxed);
}

#define USAGE_MS 5000
static void
on_tick(void *arg)
{
	struct super *s = arg;
	tp_ms now = clock_ms(), dog = notify_watchdog();

	s->tick_timer = loop_after(s->loop, TICK_MS, on_tick, s);
	super_punctual(s, now);
	s->tick_last = now;
	if (now - s->usage_last >= USAGE_MS) {
		s->usage_last = now;
		stat_usage(s->regions.super_map, s->usage_fd);
	}
	/* A SIGCHLD that came while no supervisor could receive it is lost; the record of the death is
	 * not. */
	if (atomic_load(&s->waiting->taken) != atomic_load(&s->waiting->written))
		super_reap(s);
	super_heartbeats(s, now);
	pool_tick(&s->pool, now);
	super_closings(s, now);
	super_drain_step(s, now);
	super_reload_step(s, now);
	stand_by_deadline(s, now);
	super_roll_deadline(s, now);
	super_locks_step(s);
	super_watch_step(s, now);
	super_external_step(s, now);
	super_renew_step(s);
	super_addresses_step(s, now);
	super_rows_step(s, now);
	super_memory_step(s, now);
	super_stop_step(s);
	super_upgrade_step(s);
	gauge(s, STAT_POOL_SOCKETS, s->ledger->pool_sockets);
	gauge(s, STAT_RELAY_SOCKETS, s->ledger->relay_sockets);
	gauge(s, STAT_LOG_LOST, log_lost());
	atomic_store_explicit(&s->regions.super_map->heartbeat_ms, now, memory_order_relaxed);
	if (dog != 0 && now - s->dog_last >= dog) {
		s->dog_last = now;
		notify_send("WATCHDOG=1");
	}
}

/* ---- signals ------------------------------------------------------------------------------------- */

/* Has the signal been passed on and not been carried out?  This takes it. */
static bool
super_asked(struct super *s, int signo)
{
	uint32_t bit = 1u << signo;

	return (atomic_fetch_and(&s->waiting->asked, ~bit) & bit) != 0;
}

static void
carry_out(struct super *s, int signo)
{
	CRASH_POINT("super:asked");
	switch (signo) {
	case SIGHUP:
		super_reload(s, (struct requester){ .used = false });
		break;
	case SIGUSR2:
		super_upgrade(s, (struct requester){ .used = false });
		break;
	case SIGTERM:
	case SIGINT:
		super_stop(s);
		break;
	default:
		log_warnx("signal %d: not used by this version", signo);
		break;
	}
}

/* What a supervisor dies with is done by the next one.  Done twice it does no harm; a second SIGTERM would. */
static void
super_signal(struct super *s, int signo)
{
	s->signal = signo == SIGHUP || signo == SIGUSR2 ? signo : 0;
	/* Else it is the terminal's, to every process: the waiting process passes it on. */
	if (super_asked(s, signo))
		carry_out(s, signo);
	s->signal = 0;
}

void
super_signals_again(struct super *s)
{
	static const int signos[] = { SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGINT };

	if (s->signal != 0)
		carry_out(s, s->signal);
	for (unsigned i = 0; i < TP_COUNT(signos); i++)
		super_signal(s, signos[i]);
}

static void
on_signal(void *arg, int signo)
{
	if (signo == SIGCHLD)
		super_reap(arg);
	else
		super_signal(arg, signo);
}

/* ---- start ----------------------------------------------------------------------------------------- */

void
super_check_ready(struct super *s)
{
	if (s->phase != SUPER_STARTING || !children_all_ready(&s->children))
		return;
	s->phase = SUPER_RUNNING;
	s->regions.super_map->counter[STAT_RELOAD_GOOD] = 1;
	if (s->regions.super_map->counter[STAT_RELOAD_TIME] == 0)
		s->regions.super_map->counter[STAT_RELOAD_TIME] = (uint64_t)clock_unix();
	super_summary(s);
	notify_send("READY=1");
	if (s->daemon_fd >= 0) {
		daemon_done(s->daemon_fd, 0);
		s->daemon_fd = -1;
	}
	if (s->reload_again) {
		s->reload_again = false;
		super_reload(s, (struct requester){ .used = false });
	}
}

static int
lock_directory(struct super *s)
{
	pid_t holder;

	s->pid_fd = pidfile_lock(s->o->runtime_dir, &holder);
	if (s->pid_fd >= 0)
		return 0;
	if (s->pid_fd == -EWOULDBLOCK)
		log_errx(
		    "%s: another turnpiked (pid %d) runs there; give this one a --runtime-dir of its own",
		    s->o->runtime_dir, (int)holder);
	else
		log_errx(
		    "%s: cannot be used as runtime directory: %s", s->o->runtime_dir, strerror(-s->pid_fd));
	return EXIT_BIND;
}

int
super_find_binaries(struct super *s)
{
	char path[PATH_MAX];

	for (unsigned i = 0; i < s->program_count; i++) {
		snprintf(path, sizeof path, "%s/%s", s->o->libexec_dir, s->programs[i].binary);
		s->binary[s->programs[i].role] = open(path, O_PATH | O_CLOEXEC);
		if (s->binary[s->programs[i].role] < 0 || access(path, X_OK) < 0) {
			log_err("%s: not an executable program; is Turnpike installed completely?", path);
			return EXIT_INTERNAL;
		}
	}
	return 0;
}

/* A tree that was just unpacked runs without an account of its own: not as well apart from the rest,
 * but never as root. */
#define DEFAULT_USER  "turnpike"
#define STAND_IN_USER "nobody"

static int
super_find_user(struct super *s)
{
	struct passwd *pw;

	s->drop = false;
	if (geteuid() != 0)
		return 0;
	pw = getpwnam(s->conf.user);
	if (pw == NULL && strcmp(s->conf.user, DEFAULT_USER) == 0 &&
	    (pw = getpwnam(STAND_IN_USER)) != NULL) {
		s->warnings++;
		log_warnx(
		    "process.user: there is no user " DEFAULT_USER " on this host: " STAND_IN_USER
		    ", which other programs may "
		    "use, too, stands in; make it: adduser --system --group --no-create-home " DEFAULT_USER);
	}
	if (pw == NULL) {
		log_errx(
		    "process.user: there is no user %s on this host: make it (adduser --system --group %s) or name another",
		    s->conf.user, s->conf.user);
		return EXIT_CONF;
	}
	s->uid = pw->pw_uid;
	s->gid = pw->pw_gid;
	s->drop = pw->pw_uid != 0;
	return 0;
}

static unsigned
processors(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > SHARDS_MAX ? SHARDS_MAX : (unsigned)n;
}

static int
make_state(struct super *s, uint64_t files)
{
	const struct conf *c = &s->conf;
	unsigned workers = c->workers != 0 ? (unsigned)c->workers : processors();
	unsigned shards = c->shards != 0 ? (unsigned)c->shards
	    : workers > processors()     ? workers
					 : processors();
	uint32_t slots;
	int err;

	if (c->workers == 0 && workers > shards)
		workers = shards;
	if (workers > shards) {
		log_errx(
		    "process.workers is %u and process.shards %u: a worker without a shard has nothing to do",
		    workers, shards);
		return EXIT_CONF;
	}
	if (windows_plan(&s->win, files, shards) < 0) {
		log_errx(
		    "%llu open files are too few for %u shards: raise the limit (ulimit -Hn, LimitNOFILE=)",
		    (unsigned long long)files, shards);
		return EXIT_INTERNAL;
	}
	slots = s->win.span < SLOTS_MIN ? SLOTS_MIN : s->win.span < SLOTS_MAX ? s->win.span : SLOTS_MAX;
	err = regions_make(&s->regions, shards, slots);
	if (err < 0) {
		log_errx("shared memory: %s", strerror(-err));
		return EXIT_INTERNAL;
	}
	s->ledger->boot_ms = clock_ms();
	s->ledger->shard_count = shards;
	s->ledger->worker_count = workers;
	s->ledger->slot_max = slots;
	return 0;
}

int
super_pool_send(void *arg, unsigned shard, const void *msg, int fd)
{
	struct super *s = arg;
	int i = children_owner(&s->children, shard);

	if (i < 0 || s->ledger->child[i].state == CHILD_STOPPING)
		return -EPIPE;
	return super_send(s, (unsigned)i, msg, fd);
}

static int
make_channels(struct super *s)
{
	int log[2], on = 1, err;

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, log) < 0)
		return -errno;
	/* turnpike-admin reads there the sender of each record, also of those from before its start. */
	if (setsockopt(log[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
		return -errno;
	s->log_read = log[0];
	s->log_write = log[1];
	for (unsigned i = 0; i < s->regions.shards; i++)
		if ((err = ipc_pair(s->authd_pair[i])) < 0)
			return err;
	s->tlsd_count = (uint32_t)s->conf.tls_processes;
	for (unsigned i = 0; i < s->regions.shards; i++)
		for (unsigned k = 0; k < s->tlsd_count; k++)
			if ((err = ipc_pair(s->tlsd_pair[i][k])) < 0)
				return err;
	return ipc_pair(s->authd_pair[SHARDS_MAX]);
}

const struct children_ops super_children_ops = { .spawn = super_spawn, .kill = super_kill };

int
super_watch(struct super *s)
{
	static const int signos[] = { SIGCHLD, SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2 };

	(void)signal(SIGPIPE, SIG_IGN);
	s->loop = loop_new();
	if (s->loop == NULL)
		return -ENOMEM;
	super_addresses_watch(s);
	return loop_signals(s->loop, signos, TP_COUNT(signos), on_signal, s);
}

void
super_tick_start(struct super *s)
{
	s->usage_fd = stat_usage_open();
	memory_limit_find(&s->memory, "");
	s->tick_timer = loop_after(s->loop, TICK_MS, on_tick, s);
}

void
super_tlsds(struct super *s, bool start)
{
	bool needed = false;

	for (unsigned i = 0; i < s->conf.listener_count; i++)
		needed |= !s->conf.listeners[i].retired &&
		    (s->conf.listeners[i].transports & (TRANSPORT_TLS | TRANSPORT_DTLS)) != 0;
	for (unsigned k = 0; needed && k < s->tlsd_count; k++) {
		bool is_there = children_find(&s->children, ROLE_TLSD, k) >= 0;
		int i = children_row(&s->children, ROLE_TLSD, k);
		if (start && !is_there && i >= 0)
			children_start(&s->children, (unsigned)i, clock_ms());
	}
}

static int
start_children(struct super *s)
{
	tp_ms now = clock_ms();

	children_init(&s->children, s->ledger, &super_children_ops, s);
	if (super_watch(s) < 0 || make_channels(s) < 0) {
		log_errx("cannot start: no memory or descriptors");
		return EXIT_INTERNAL;
	}
	log_sink_fd(s->log_write); /* what is said from now on waits for turnpike-admin */
	super_conf_warnings(s);
	(void)children_row(&s->children, ROLE_ADMIN, 0);
	(void)children_row(&s->children, ROLE_AUTHD, 0);
	super_tlsds(s, false);
	for (unsigned w = 0; w < s->ledger->worker_count; w++) {
		struct ledger_child *c = &s->ledger->child[children_row(&s->children, ROLE_WORKER, w)];
		shards_split(
		    s->regions.shards, s->ledger->worker_count, w, &c->first_shard, &c->shard_count);
	}
	super_tick_start(s);
	for (unsigned i = 0; i < s->ledger->child_count; i++)
		children_start(&s->children, i, now);
	super_rearm(s);
	super_can_be_adopted(s);
	return 0;
}

/* What can fail with a sentence comes before the terminal is left. */
static int
prepare(struct super *s)
{
	uint64_t files = limit_files();
	int code;

	s->ledger = ledger_new(&s->ledger_rw, &s->ledger_ro);
	if (s->ledger == NULL) {
		log_err("shared memory");
		return EXIT_INTERNAL;
	}
	if ((code = lock_directory(s)) != 0 || (code = super_find_binaries(s)) != 0 ||
	    (code = super_conf_first(s)) != 0 || (code = super_find_user(s)) != 0 ||
	    (code = caps_check(s->drop) < 0 ? EXIT_BIND : 0) != 0 || (code = make_state(s, files)) != 0)
		return code;
	log_level_set((enum log_level)s->conf.log_level);
	pool_init(&s->pool, s->ledger, &s->win, super_pool_send, s);
	if (pool_ports(&s->pool, s->regions.ports_map) < 0)
		return EXIT_INTERNAL;
	if ((code = super_bind(s)) != 0)
		return code;
	s->filter_fd = sock_filter_program();
	if (caps_reduce() < 0) {
		log_err("cannot give up capabilities");
		return EXIT_INTERNAL;
	}
	return 0;
}

void
super_prepared(struct super *s)
{
	/* The kernel has cleared this with the change of capabilities and groups. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	atomic_store(&s->waiting->prepared, 1);
	if (kill(getppid(), SIGCHLD) < 0)
		log_warn("the waiting process");
}

static int
life(struct super *s)
{
	int code;

	super_prepared(s);
	if (pidfile_write(s->pid_fd, getppid()) < 0)
		log_warn("%s/turnpiked.pid", s->o->runtime_dir);
	s->ledger->pid = (int32_t)getppid();
	stat_init(s->regions.super_map, ROLE_SUPER, 0, 1, clock_ms());
	code = start_children(s);
	if (code == 0)
		code = loop_run(s->loop);
	return code;
}

/* ---- the two processes ------------------------------------------------------------------------------ */

/* What the waiting process gives to each supervisor that it starts. */
struct work {
	const struct super_options *o;
	const struct super_program *programs;
	unsigned program_count;
	struct waiting *waiting;
	int waiting_fd, daemon_fd;
	bool foreground;
	const char *failed;
};

static struct super *
super_map(const struct work *w, int fd)
{
	struct super *s = fd < 0 ? MAP_FAILED
				 : mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (s == MAP_FAILED)
		return NULL;
	memset(s, 0, offsetof(struct super, magic));
	s->o = w->o;
	s->programs = w->programs;
	s->program_count = w->program_count;
	s->waiting = w->waiting;
	s->waiting_fd = w->waiting_fd;
	s->own_fd = fd;
	return s;
}

void
super_can_be_adopted(struct super *s)
{
	s->magic = SUPER_MAGIC;
	s->size = sizeof *s;
	atomic_store(&s->waiting->adoptable, (uint32_t)s->own_fd);
}

static struct super *
super_new(const struct work *w)
{
	int fd = memfd_create("turnpike-super", MFD_CLOEXEC);
	struct super *s = fd < 0 || ftruncate(fd, sizeof *s) < 0 ? NULL : super_map(w, fd);

	if (s == NULL)
		return NULL;
	s->foreground = w->foreground;
	s->conf_fd = s->users_fd = s->certs_fd = s->control_fd = s->http_fd = s->pid_fd = -1;
	s->daemon_fd = w->daemon_fd;
	s->filter_fd = -1;
	s->upgrade.back_exe = s->upgrade.report = s->upgrade.state_fd = -1;
	for (unsigned i = 0; i < ROLES; i++)
		s->binary[i] = s->upgrade.back_binary[i] = -1;
	super_exe(s);
	return s;
}

static int
finish(struct super *s, int code)
{
	log_sink_fd(-1);
	if (s->phase == SUPER_STARTING && s->log_read > 0)
		super_print_log(s);
	if (s->pid_fd >= 0)
		super_cleanup(s);
	if (s->daemon_fd >= 0)
		daemon_done(s->daemon_fd, code);
	s->waiting->code = code;
	atomic_store(&s->waiting->end, WAITING_STOPPED);
	return code;
}

/* The supervisor's process, from its start to its end in good order. */
static int
work(void *arg)
{
	const struct work *w = arg;
	struct super *s;
	int code, state_fd = atomic_load(&w->waiting->state_fd),
		  region = (int)atomic_load(&w->waiting->adoptable);

	(void)prctl(PR_SET_NAME, "turnpike-super");
	log_init("supervisor", ROLE_SUPER, 0, LOG_L_INFO);
	if (sodium_init() < 0 || (s = region > 0 ? super_map(w, region) : super_new(w)) == NULL)
		return EXIT_INTERNAL;
	if (region > 0) {
		code = super_adopt(s);
	} else if (state_fd > 0) {
		code = super_resume(
		    s, state_fd, w->waiting->failed[0] != '\0' ? w->waiting->failed : w->failed);
	} else if ((code = prepare(s)) == 0) {
		code = life(s);
	}
	if (code == 0)
		code = loop_run(s->loop);
	return finish(s, code);
}

static int
wait_for_work(struct work *w, int state_fd)
{
	const char *env = getenv(WAITING_ENV);
	int fd = env != NULL ? atoi(env) : -1;

	(void)unsetenv(WAITING_ENV);
	limit_file_size(); /* before the first shared memory */
	w->waiting = waiting_page(&fd);
	if (w->waiting == NULL) {
		log_err("shared memory");
		return EXIT_INTERNAL;
	}
	w->waiting_fd = fd;
	atomic_store(&w->waiting->state_fd, state_fd);
	return waiting_run(w->waiting, fd, work, w, caps_reduce);
}

int
super_run(const struct super_options *o, const struct super_program *programs, unsigned n)
{
	struct work w = { .o = o, .programs = programs, .program_count = n, .daemon_fd = -1 };

	log_init("supervisor", ROLE_SUPER, 0, LOG_L_INFO);
	if (daemon_stdio() < 0)
		return EXIT_INTERNAL;
	w.foreground = o->foreground || getpid() == 1 || notify_wanted();
	if (!w.foreground && (w.daemon_fd = daemon_fork()) < 0) {
		log_errx("cannot go to the background: %s", strerror(-w.daemon_fd));
		return EXIT_INTERNAL;
	}
	return wait_for_work(&w, 0);
}

int
super_run_on(const struct super_options *o, const struct super_program *programs, unsigned n, int state_fd,
    const char *failed)
{
	struct work w = {
		.o = o, .programs = programs, .program_count = n, .daemon_fd = -1, .failed = failed
	};

	log_init("supervisor", ROLE_SUPER, 0, LOG_L_INFO);
	(void)prctl(PR_SET_NAME,
	    "turnpiked"); /* the way back goes by descriptor, which leaves its number as name */
	if (daemon_low() < 0)
		return EXIT_INTERNAL;
	return wait_for_work(&w, state_fd);
}
