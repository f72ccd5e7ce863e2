# bench
noinst_PROGRAMS += %D%/bench_stun
%C%_bench_stun_SOURCES = %D%/bench_stun.c
%C%_bench_stun_LDADD = src/stun/libtp_stun.a src/base/libtp_base.a $(SODIUM_LIBS) $(CRYPTO_LIBS)

noinst_PROGRAMS += %D%/bench_seal
%C%_bench_seal_SOURCES = %D%/bench_seal.c
%C%_bench_seal_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(SODIUM_CFLAGS)
%C%_bench_seal_LDADD = src/tlsd/libtp_tlsd.a src/seal/libtp_seal.a $(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)

# sessions in shared memory
noinst_PROGRAMS += %D%/bench_state
%C%_bench_state_SOURCES = %D%/bench_state.c
%C%_bench_state_LDADD = src/state/libtp_state.a src/shm/libtp_shm.a src/base/libtp_base.a $(SODIUM_LIBS)
# make bench: the whole server against a bare forwarder and coturn (TP_COTURN=directory of the unpacked package)
noinst_PROGRAMS += %D%/forwarder
%C%_forwarder_SOURCES = %D%/forwarder.c
%C%_forwarder_LDADD = src/base/libtp_base.a $(SODIUM_LIBS)
EXTRA_DIST += %D%/bench.py
BENCH_FLAGS = --quick
bench: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/bench.py $(BENCH_FLAGS)
# what its runs found (--out FILE.md), into doc/performance.md and doc/plots
EXTRA_DIST += %D%/record.py %D%/workers.py
bench-record:
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/record.py $(RUNS)
bench-workers: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/workers.py $(WORKERS_FLAGS)
EXTRA_DIST += %D%/survival.py
bench-survival: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/survival.py $(SURVIVAL_FLAGS)
EXTRA_DIST += %D%/secure.py
# new clients beside floods of strangers
EXTRA_DIST += %D%/fairness.py
bench-fairness: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/fairness.py $(FAIRNESS_FLAGS)
.PHONY: bench-fairness
# TLS clients that come at once
EXTRA_DIST += %D%/crowd.py
bench-crowd: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/crowd.py $(CROWD_FLAGS)
.PHONY: bench-crowd
bench-secure: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/secure.py $(SECURE_FLAGS)
.PHONY: bench bench-record bench-workers bench-survival bench-secure
EXTRA_DIST += %D%/dtls.py
bench-dtls: all
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/%D%/dtls.py $(DTLS_FLAGS)
.PHONY: bench bench-survival bench-secure bench-dtls

# also a client of live tests
noinst_PROGRAMS += %D%/dtls_crowd
%C%_dtls_crowd_SOURCES = %D%/dtls_crowd.c
%C%_dtls_crowd_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(SODIUM_CFLAGS)
%C%_dtls_crowd_LDADD = src/tlsd/libtp_tlsd.a src/seal/libtp_seal.a src/stun/libtp_stun.a src/base/libtp_base.a \
	$(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)

noinst_PROGRAMS += %D%/bench_tlsd
%C%_bench_tlsd_SOURCES = %D%/bench_tlsd.c tests/lib/tlsd_rig.c tests/lib/tlsd_rig.h
%C%_bench_tlsd_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
%C%_bench_tlsd_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(SODIUM_CFLAGS)
%C%_bench_tlsd_LDADD = src/tlsd/libtp_tlsd.a src/seal/libtp_seal.a src/conf/libtp_conf.a src/shm/libtp_shm.a \
	src/io/libtp_io.a src/base/libtp_base.a $(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
noinst_PROGRAMS += %D%/bench_path
%C%_bench_path_SOURCES = %D%/bench_path.c
%C%_bench_path_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
%C%_bench_path_LDADD = src/turn/libtp_turn.a src/auth/libtp_auth.a src/state/libtp_state.a src/shm/libtp_shm.a \
	src/stun/libtp_stun.a src/base/libtp_base.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
noinst_PROGRAMS += %D%/bench_raw
%C%_bench_raw_SOURCES = %D%/bench_raw.c
%C%_bench_raw_LDADD = src/io/libtp_io.a src/base/libtp_base.a $(SODIUM_LIBS)
