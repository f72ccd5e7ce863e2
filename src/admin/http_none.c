/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * http_none.c: in the place of http.c when libmicrohttpd was not there.
 */
#include "config.h"

#include <errno.h>

#include "admin_int.h"

const bool http_is_built = false;

int
http_start(struct http **h, struct loop *l, struct view *v, int fd)
{
	(void)h;
	(void)l;
	(void)v;
	(void)fd;
	return -ENOSYS;
}

void
http_stop(struct http *h)
{
	(void)h;
}
