/* SPDX-License-Identifier: BSD-3-Clause */
/* turnpiked.c: the daemon's command line and the table of its children. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "tp/super.h"

#define SETS_MAX 64

static const struct super_program programs[] = {
	{ ROLE_ADMIN, "turnpike-admin" },
	{ ROLE_AUTHD, "turnpike-auth" },
	{ ROLE_TLSD, "turnpike-tls" },
	{ ROLE_WORKER, "turnpike-worker" },
	{ ROLE_CONF, "turnpike-conf" },
};

enum { OPT_SET = 256, OPT_RUNTIME, OPT_STATE, OPT_LIBEXEC, OPT_RESUME, OPT_FAILED, OPT_PROBE };
enum what { RUN, CHECK, DUMP, HELP, RESUME, PROBE };

struct args {
	struct super_options o;
	const char *sets[SETS_MAX];
	char config[PATH_MAX], runtime[PATH_MAX], state[PATH_MAX], libexec[PATH_MAX];
	enum what what;
	int state_fd; /* RESUME, PROBE: what an upgrade hands over */
	const char *failed;
};

static const char usage_text[] =
    "usage: turnpiked [-f] [-c FILE] [--set KEY=VALUE]... [--runtime-dir DIR] [--state-dir DIR]\n"
    "       turnpiked -t | -T [-c FILE] [--set KEY=VALUE]...\n"
    "\n"
    "  -c, --config FILE       configuration (" TP_SYSCONFDIR "/turnpike.yaml)\n"
    "  -t, --check             check the configuration and exit\n"
    "  -T, --dump-config       print the whole configuration, secrets redacted, and exit\n"
    "  -f, --foreground        stay in the foreground (implied as process 1 and under systemd)\n"
    "      --set KEY=VALUE     set an option; wins over the file\n"
    "      --runtime-dir DIR   pid file and control socket (" TP_RUNTIMEDIR ")\n"
    "      --state-dir DIR     generated secret (the runtime directory if that was given, else " TP_STATEDIR
    ")\n"
    "      --libexec-dir DIR   for developers: the other programs are here (also $TURNPIKE_LIBEXEC)\n"
    "  -V, --version           print the version\n"
    "  -h, --help              print this and every option of the configuration\n"
    "\n"
    "Exit status: 0 ended in good order, 64 usage, 69 cannot bind, 70 internal, 78 configuration.\n"
    "Manual: turnpiked(8).  Report faults to <" PACKAGE_BUGREPORT ">.\n";

static void __attribute__((noreturn)) usage(const char *wrong)
{
	if (wrong != NULL)
		fprintf(stderr, "turnpiked: %s\n", wrong);
	fputs(
	    "usage: turnpiked [-f] [-c FILE] [--set KEY=VALUE]... [--runtime-dir DIR] [--state-dir DIR]   (or -h)\n",
	    stderr);
	exit(EX_USAGE);
}

static const char *
absolute(char out[PATH_MAX], const char *path)
{
	char cwd[PATH_MAX];
	int n;

	if (path[0] == '/')
		n = snprintf(out, PATH_MAX, "%s", path);
	else if (getcwd(cwd, sizeof cwd) == NULL)
		n = PATH_MAX;
	else
		n = snprintf(out, PATH_MAX, "%s/%s", cwd, path);
	if (n >= PATH_MAX || path[0] == '\0')
		usage("a path is empty or too long");
	return out;
}

static void
add_set(struct args *a, const char *text)
{
	if (strchr(text, '=') == NULL)
		usage("--set needs KEY=VALUE");
	if (a->o.set_count == SETS_MAX)
		usage("too many --set");
	a->sets[a->o.set_count++] = text;
}

static void
take(struct args *a, int option)
{
	switch (option) {
	case 'c':
		a->o.config = absolute(a->config, optarg);
		break;
	case 't':
		a->what = CHECK;
		break;
	case 'T':
		a->what = DUMP;
		break;
	case 'f':
		a->o.foreground = true;
		break;
	case OPT_SET:
		add_set(a, optarg);
		break;
	case OPT_RUNTIME:
		a->o.runtime_dir = absolute(a->runtime, optarg);
		break;
	case OPT_STATE:
		a->o.state_dir = absolute(a->state, optarg);
		break;
	case OPT_LIBEXEC:
		a->o.libexec_dir = absolute(a->libexec, optarg);
		break;
	/* The supervisor gives these to itself. */
	case OPT_RESUME:
	case OPT_PROBE:
		a->what = option == OPT_RESUME ? RESUME : PROBE;
		a->state_fd = atoi(optarg);
		break;
	case OPT_FAILED:
		a->failed = optarg;
		break;
	case 'V':
		puts("turnpiked " PACKAGE_VERSION);
		exit(0);
	case 'h':
		a->what = HELP;
		break;
	default:
		usage(NULL);
	}
}

static void
parse(struct args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, 't' },
		{ "dump-config", no_argument, NULL, 'T' },
		{ "foreground", no_argument, NULL, 'f' },
		{ "set", required_argument, NULL, OPT_SET },
		{ "runtime-dir", required_argument, NULL, OPT_RUNTIME },
		{ "state-dir", required_argument, NULL, OPT_STATE },
		{ "libexec-dir", required_argument, NULL, OPT_LIBEXEC },
		{ "resume", required_argument, NULL, OPT_RESUME },
		{ "resume-failed", required_argument, NULL, OPT_FAILED },
		{ "probe-state", required_argument, NULL, OPT_PROBE },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *env = getenv("TURNPIKE_LIBEXEC");
	int o;

	a->o.sets = a->sets;
	a->o.argc = argc;
	a->o.argv = argv;
	while ((o = getopt_long(argc, argv, "c:tTfVh", options, NULL)) != -1)
		take(a, o);
	if (optind != argc)
		usage("unexpected argument");
	if (a->o.state_dir == NULL)
		a->o.state_dir = a->o.runtime_dir != NULL ? a->o.runtime_dir : TP_STATEDIR;
	if (a->o.runtime_dir == NULL)
		a->o.runtime_dir = TP_RUNTIMEDIR;
	if (a->o.config == NULL)
		a->o.config = TP_SYSCONFDIR "/turnpike.yaml";
	if (a->o.libexec_dir == NULL)
		a->o.libexec_dir = env != NULL && env[0] != '\0' ? absolute(a->libexec, env)
								 : TP_LIBEXECDIR;
}

/* -t, -T, -h: turnpike-conf does it, in our place. */
static int
run_conf(const struct args *a)
{
	const char *argv[10 + 2 * SETS_MAX];
	char path[PATH_MAX];
	int n = 0;

	snprintf(path, sizeof path, "%s/turnpike-conf", a->o.libexec_dir);
	argv[n++] = "turnpike-conf";
	if (a->what == HELP) {
		argv[n++] = "--options-help";
	} else {
		for (unsigned i = 0; i < a->o.set_count; i++) {
			argv[n++] = "--set";
			argv[n++] = a->sets[i];
		}
		if (a->o.foreground)
			argv[n++] = "--foreground";
		argv[n++] = "--state-dir";
		argv[n++] = a->o.state_dir;
		argv[n++] = "--runtime-dir";
		argv[n++] = a->o.runtime_dir;
		argv[n++] = a->what == CHECK ? "--check" : "--dump";
		argv[n++] = a->o.config;
	}
	argv[n] = NULL;
	execv(path, (char *const *)argv);
	fprintf(stderr, "turnpiked: %s: %s\n", path, strerror(errno));
	return EX_SOFTWARE;
}

int
main(int argc, char **argv)
{
	static struct args a;

	parse(&a, argc, argv);
	if (a.what == HELP) {
		fputs(usage_text, stdout);
		fputs("\nConfiguration options, for the file or --set:\n", stdout);
		fflush(stdout);
	}
	if (a.what == PROBE)
		return super_probe(&a.o, programs, TP_COUNT(programs), a.state_fd);
	if (a.what == RESUME)
		return super_run_on(&a.o, programs, TP_COUNT(programs), a.state_fd, a.failed);
	if (a.what != RUN)
		return run_conf(&a);
	return super_run(&a.o, programs, TP_COUNT(programs));
}
