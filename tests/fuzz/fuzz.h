/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz.h: what every fuzzer has: the entry point that engines and replay.c call, and a check that stays.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define FUZZ_ASSERT(c)                                                                                     \
	do {                                                                                               \
		if (!(c))                                                                                  \
			abort();                                                                           \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
