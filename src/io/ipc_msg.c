/* SPDX-License-Identifier: BSD-3-Clause */
/* ipc_msg.c: what the table of messages says: sizes, names, permitted senders and receivers. */
#include "config.h"

#include "tp/io.h"

/* The letters of msgs.def: one bit per role. */
#define S (1u << ROLE_SUPER)
#define W (1u << ROLE_WORKER)
#define U (1u << ROLE_TLSD)
#define K (1u << ROLE_AUTHD)
#define T (1u << ROLE_ADMIN)
#define C (1u << ROLE_CONF)

struct msg_row {
	const char *name;
	size_t size;
	unsigned from, to;
	bool has_fd;
};
static const struct msg_row rows[MSG_TYPES] = {
	[MSG_NONE] = { "none", 0, 0, 0, false },
#define MSG(name, tag, from, to, has_fd) [MSG_##name] = { #name, sizeof(struct tag), from, to, has_fd },
#include "tp/tbl/msgs.def"
#undef MSG
};

static const char *const roles[ROLES] = {
	[ROLE_SUPER] = "supervisor",
	[ROLE_WORKER] = "worker",
	[ROLE_TLSD] = "tls",
	[ROLE_AUTHD] = "auth",
	[ROLE_ADMIN] = "admin",
	[ROLE_CONF] = "conf",
};

const char *
proc_role_name(unsigned role)
{
	return role < ROLES ? roles[role] : "unknown";
}

size_t
msg_size(uint32_t type)
{
	return type < MSG_TYPES ? rows[type].size : 0;
}

const char *
msg_name(uint32_t type)
{
	return type < MSG_TYPES ? rows[type].name : "unknown";
}

bool
msg_may(uint32_t type, unsigned from, unsigned to)
{
	if (type >= MSG_TYPES || from >= ROLES || to >= ROLES)
		return false;
	return (rows[type].from & (1u << from)) != 0 && (rows[type].to & (1u << to)) != 0;
}

bool
msg_has_fd(uint32_t type)
{
	return type < MSG_TYPES && rows[type].has_fd;
}
