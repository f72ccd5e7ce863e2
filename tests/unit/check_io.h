/* SPDX-License-Identifier: BSD-3-Clause */
/* check_io.h: what the unit tests of io share. */
#ifndef CHECK_IO_H
#define CHECK_IO_H

#include <check.h>

#include "tp/io.h"

Suite *suite_ipc(void);
Suite *suite_loop(void);
Suite *suite_sock(void);
Suite *suite_udp(void);
Suite *suite_sandbox(void);

/* An address of loopback, and the one that a socket was bound to. */
struct addr io_addr(const char *text);
struct addr io_bound(int fd);

#endif
