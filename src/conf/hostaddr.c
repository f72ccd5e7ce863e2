/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostaddr.c: every address of this host.  In a file of its own: the supervisor asks, too, and reads no
 * YAML.
 */
#include "config.h"

#include <errno.h>
#include <ifaddrs.h>

#include "tp/conf.h"

bool
conf_host_has(const struct addr *list, uint32_t n, const struct addr *a)
{
	for (uint32_t i = 0; i < n; i++)
		if (addr_ip_eq(&list[i], a))
			return true;
	return false;
}

int
conf_host_addrs(struct addr out[CONF_HOST_ADDRS_MAX], uint32_t *count, bool *more)
{
	struct ifaddrs *all = NULL;
	uint32_t n = 0;
	struct addr a;

	*more = false;
	if (getifaddrs(&all) < 0)
		return -errno;
	for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		if (i->ifa_addr == NULL || addr_from_sockaddr(&a, i->ifa_addr) < 0)
			continue;
		a.port = 0;
		if (conf_host_has(out, n, &a))
			continue;
		if (n == CONF_HOST_ADDRS_MAX) {
			*more = true;
			break;
		}
		out[n++] = a;
	}
	freeifaddrs(all);
	*count = n;
	return 0;
}
