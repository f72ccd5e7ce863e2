/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port_map.c: the relay ports that are open.
 */
#include "config.h"

#include "tp/shm.h"

void
port_map_set(struct port_map *m, unsigned row, unsigned port, bool open)
{
	_Atomic uint64_t *at = &m->bit[row][port / 64];
	uint64_t word = atomic_load_explicit(at, memory_order_relaxed),
		 is = (word & ~((uint64_t)1 << (port % 64))) | (uint64_t)open << (port % 64);
	uint32_t n = port_map_open(m, row);

	if (is == word)
		return;
	atomic_store_explicit(at, is, memory_order_release);
	atomic_store_explicit(&m->open[row], open ? n + 1 : n - 1, memory_order_relaxed);
}

void
port_map_become(struct port_map *m, const struct port_map *is)
{
	for (unsigned row = 0; row < RELAYS_MAX; row++) {
		for (unsigned i = 0; i < TP_COUNT(m->bit[row]); i++) {
			uint64_t word = atomic_load_explicit(&is->bit[row][i], memory_order_relaxed);

			if (word != atomic_load_explicit(&m->bit[row][i], memory_order_relaxed))
				atomic_store_explicit(&m->bit[row][i], word, memory_order_release);
		}
		atomic_store_explicit(&m->open[row],
		    atomic_load_explicit(&is->open[row], memory_order_relaxed), memory_order_relaxed);
	}
}
