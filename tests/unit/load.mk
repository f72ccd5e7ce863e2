# unit tests of load: its private header is what they test
if HAVE_CHECK
check_PROGRAMS += %D%/check_load
TESTS += %D%/check_load
%C%_check_load_SOURCES = %D%/check_load.c
%C%_check_load_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/src/load
%C%_check_load_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_load_LDADD = src/load/libtp_load.a src/stun/libtp_stun.a src/base/libtp_base.a $(JANSSON_LIBS) $(SSL_LIBS) $(CHECK_LIBS) \
	$(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
