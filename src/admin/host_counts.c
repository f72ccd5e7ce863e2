/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host_counts.c: what the kernel counts for the whole network namespace: datagrams lost before any socket
 * saw them.
 */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin_int.h"

enum { FILE_SNMP, FILE_SNMP6, FILE_SOFTNET };
static const char *const names[HOST_FILES] = { "/proc/net/snmp", "/proc/net/snmp6",
	"/proc/net/softnet_stat" };

void
host_counts_open(int fd[HOST_FILES])
{
	for (unsigned i = 0; i < HOST_FILES; i++)
		fd[i] = open(names[i], O_RDONLY | O_CLOEXEC);
}

/* The kernel writes a file of /proc again for each read from its beginning. */
static bool
read_all(int fd, char *text, size_t size)
{
	size_t n = 0;

	while (fd >= 0 && n < size - 1) {
		ssize_t k = pread(fd, text + n, size - 1 - n, (off_t)n);

		if (k <= 0)
			break;
		n += (size_t)k;
	}
	text[n] = '\0';
	return n > 0;
}

/* "Udp: InDatagrams ...", then a line of as many numbers. */
static void
host_counts_udp(struct host_counts *c, char *text)
{
	char *line = strstr(text, "\nUdp: "), *values, *name, *value;

	if (line == NULL || (values = strstr(line + 1, "\nUdp: ")) == NULL)
		return;
	*values++ = '\0';
	values[strcspn(values, "\n")] = '\0';
	line++;
	while ((name = strsep(&line, " ")) != NULL && (value = strsep(&values, " ")) != NULL) {
		if (strcmp(name, "InDatagrams") == 0)
			c->received += strtoull(value, NULL, 10);
		if (strcmp(name, "RcvbufErrors") == 0)
			c->receive_errors += strtoull(value, NULL, 10);
		if (strcmp(name, "SndbufErrors") == 0)
			c->send_errors += strtoull(value, NULL, 10);
	}
}

static void
add_udp6(struct host_counts *c, const char *text)
{
	const struct {
		const char *name;
		uint64_t *to;
	} rows[] = { { "\nUdp6InDatagrams", &c->received }, { "\nUdp6RcvbufErrors", &c->receive_errors },
		{ "\nUdp6SndbufErrors", &c->send_errors } };

	for (unsigned i = 0; i < TP_COUNT(rows); i++) {
		const char *p = strstr(text, rows[i].name);

		*rows[i].to += p != NULL ? strtoull(p + strlen(rows[i].name), NULL, 10) : 0;
	}
}

static void
add_softnet(struct host_counts *c, char *text)
{
	for (char *line; (line = strsep(&text, "\n")) != NULL;) {
		unsigned dropped;

		if (sscanf(line, "%*x %x", &dropped) == 1)
			c->softnet_dropped += dropped;
	}
}

bool
host_counts_read(const int fd[HOST_FILES], struct host_counts *c)
{
	static const size_t size = 1 << 17; /* 1,000 processors of 120 bytes */
	char *text = malloc(size);
	bool any = false;

	*c = (struct host_counts){ 0 };
	if (text == NULL)
		return false;
	if (read_all(fd[FILE_SNMP], text, size)) {
		host_counts_udp(c, text);
		any = true;
	}
	if (read_all(fd[FILE_SNMP6], text, size))
		add_udp6(c, text);
	if (read_all(fd[FILE_SOFTNET], text, size))
		add_softnet(c, text);
	free(text);
	return any;
}
