# unit tests of tlsd: the real process between libssl clients and room seal
if HAVE_CHECK
check_PROGRAMS += %D%/check_tlsd
TESTS += %D%/check_tlsd
%C%_check_tlsd_SOURCES = %D%/check_tlsd.c tests/lib/tlsd_rig.c tests/lib/tlsd_rig.h
%C%_check_tlsd_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
%C%_check_tlsd_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(SSL_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_tlsd_LDADD = src/seal/libtp_seal.a src/conf/libtp_conf.a src/shm/libtp_shm.a src/io/libtp_io.a \
	src/base/libtp_base.a $(CHECK_LIBS) $(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
