# unit tests of usher: the real process between libssl clients and room seal
if HAVE_CHECK
check_PROGRAMS += %D%/check_usher
TESTS += %D%/check_usher
%C%_check_usher_SOURCES = %D%/check_usher.c tests/lib/usher_rig.c tests/lib/usher_rig.h
%C%_check_usher_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
%C%_check_usher_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) $(SSL_CFLAGS) $(SODIUM_CFLAGS)
%C%_check_usher_LDADD = src/seal/libtp_seal.a src/conf/libtp_conf.a src/shm/libtp_shm.a src/io/libtp_io.a \
	src/base/libtp_base.a $(CHECK_LIBS) $(SSL_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
