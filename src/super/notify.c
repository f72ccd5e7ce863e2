/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify.c: sd_notify(3)'s protocol: one datagram to $NOTIFY_SOCKET.
 */
#include "config.h"

#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "super_int.h"

bool
notify_wanted(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path != NULL && path[0] != '\0';
}

void
notify_send(const char *text)
{
	struct sockaddr_un su = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len;
	int fd;

	if (path == NULL || (path[0] != '/' && path[0] != '@'))
		return;
	len = text_copy(su.sun_path, sizeof su.sun_path, path);
	if (len >= sizeof su.sun_path)
		return;
	if (path[0] == '@')
		su.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&su,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

tp_ms
notify_watchdog(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (usec == NULL || (pid != NULL && atol(pid) != (long)getppid()))
		return 0;
	return (tp_ms)strtoull(usec, NULL, 10) / 2000;
}
