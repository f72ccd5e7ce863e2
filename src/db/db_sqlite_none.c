/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * db_sqlite_none.c: a build without the library of this type.
 */
#include "config.h"

#include "db_int.h"

const struct db_engine db_sqlite = { .name = "sqlite" };
