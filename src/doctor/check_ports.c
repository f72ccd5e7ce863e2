/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_ports.c: could a start have the ports that a configuration names?  For turnpiked --check, which
 * may run beside the very daemon that has them.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tp/doctor.h"
#include "tp/io.h"

struct ports {
	pid_t ours;
	conf_report_h *report;
	void *arg;
	unsigned errors;
};

/* The process that serves in this runtime directory; 0 none. */
static pid_t
pid_of(const char *runtime_dir)
{
	char path[PATH_MAX], text[24] = "";
	FILE *f;

	snprintf(path, sizeof path, "%s/turnpiked.pid", runtime_dir);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fgets(text, sizeof text, f) == NULL)
		text[0] = '\0';
	fclose(f);
	return (pid_t)atol(text);
}

static pid_t
parent_of(pid_t pid)
{
	char path[64], line[512], *end;
	long parent = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fgets(line, sizeof line, f) != NULL && (end = strrchr(line, ')')) != NULL)
		(void)sscanf(end + 1, " %*c %ld", &parent);
	fclose(f);
	return (pid_t)parent;
}

/* "turnpiked (pid 12)": is it the daemon that a start would follow, or a process of it? */
static bool
is_ours(const struct ports *p, const char *holder)
{
	const char *at = strstr(holder, "(pid ");
	pid_t pid = at != NULL ? (pid_t)atol(at + 5) : 0;

	return p->ours > 1 && pid > 1 && (pid == p->ours || parent_of(pid) == p->ours);
}

static void
check_port(struct ports *p, const struct addr *a, bool tcp, const char *where)
{
	char why[400], holder[128];
	int err = port_probe(a, tcp, where, why, sizeof why);

	if (err != -EADDRINUSE && err != -EACCES)
		return;
	if (err == -EADDRINUSE && port_holder(a, tcp, holder, sizeof holder) && is_ours(p, holder))
		return;
	p->errors++;
	p->report(p->arg, LOG_L_ERROR, why);
}

unsigned
doctor_ports_taken(const struct conf *c, const char *runtime_dir, conf_report_h *report, void *arg)
{
	struct ports p = { .ours = pid_of(runtime_dir), .report = report, .arg = arg };
	struct addr a;

	for (uint32_t i = 0; i < c->listener_count; i++) {
		const struct conf_listener *l = &c->listeners[i];

		if ((l->transports & ~TRANSPORT_STREAMS) != 0)
			check_port(&p, &l->addr, false, l->where);
		if ((l->transports & TRANSPORT_STREAMS) != 0)
			check_port(&p, &l->addr, true, l->where);
	}
	if (c->metrics_address[0] != '\0' && addr_parse(&a, c->metrics_address) == 0) {
		a.port = (uint16_t)c->metrics_port;
		check_port(&p, &a, true, "metrics");
	}
	return p.errors;
}
