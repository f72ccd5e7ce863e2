/* SPDX-License-Identifier: BSD-3-Clause */
/* base_int.h: what the files of base share among themselves. */
#ifndef TP_BASE_INT_H
#define TP_BASE_INT_H

#include "tp/base.h"

/* text_escape(); without `quotes` only control bytes and bytes above ASCII become \xNN (log lines). */
char *base_escape(char *out, size_t out_len, const void *text, size_t len, bool quotes);

#endif
