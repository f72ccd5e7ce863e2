# marked: the worker and the tlsd with crash points compiled in, for live tests that kill them there (tests/lib/marked.py).
check_PROGRAMS += %D%/turnpike-worker %D%/turnpike-tls %D%/turnpiked
%C%_turnpike_worker_SOURCES = src/prog/turnpike-worker.c $(src_worker_libtp_worker_a_SOURCES) $(src_state_libtp_state_a_SOURCES) \
	$(src_shm_libtp_shm_a_SOURCES)
%C%_turnpike_worker_CPPFLAGS = $(AM_CPPFLAGS) -DTP_CRASH_POINTS=1
%C%_turnpike_worker_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
%C%_turnpike_worker_LDADD = src/child/libtp_child.a src/seal/libtp_seal.a src/turn/libtp_turn.a src/auth/libtp_auth.a src/stun/libtp_stun.a \
	src/conf/libtp_conf.a src/io/libtp_io.a src/base/libtp_base.a $(SODIUM_LIBS) $(CRYPTO_LIBS)
%C%_turnpike_tls_SOURCES = src/prog/turnpike-tls.c $(src_tlsd_libtp_tlsd_a_SOURCES) $(src_shm_libtp_shm_a_SOURCES)
%C%_turnpike_tls_CPPFLAGS = $(AM_CPPFLAGS) -DTP_CRASH_POINTS=1
%C%_turnpike_tls_CFLAGS = $(AM_CFLAGS) $(SSL_CFLAGS) $(CRYPTO_CFLAGS) $(SODIUM_CFLAGS)
%C%_turnpike_tls_LDADD = src/child/libtp_child.a src/seal/libtp_seal.a src/conf/libtp_conf.a src/io/libtp_io.a src/base/libtp_base.a \
	$(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
%C%_turnpiked_SOURCES = src/prog/turnpiked.c $(src_super_libtp_super_a_SOURCES) $(src_state_libtp_state_a_SOURCES) \
	$(src_shm_libtp_shm_a_SOURCES)
%C%_turnpiked_CPPFLAGS = $(AM_CPPFLAGS) -DTP_CRASH_POINTS=1
%C%_turnpiked_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
%C%_turnpiked_LDADD = src/conf/libtp_conf.a src/io/libtp_io.a src/base/libtp_base.a $(SODIUM_LIBS)
