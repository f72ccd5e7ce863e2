/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of auth share among themselves. */
#ifndef TP_AUTH_INT_H
#define TP_AUTH_INT_H

#include "tp/auth.h"

#endif
