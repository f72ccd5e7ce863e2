# unit tests of stun
if HAVE_CHECK
check_PROGRAMS += %D%/check_stun
TESTS += %D%/check_stun
%C%_check_stun_SOURCES = %D%/check_stun.c %D%/check_stun.h %D%/check_stun_vectors.c %D%/check_stun_msg.c \
	%D%/check_stun_attr.c %D%/check_stun_build.c %D%/check_stun_frame.c %D%/check_stun_sign.c
%C%_check_stun_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
%C%_check_stun_LDADD = src/stun/libtp_stun.a src/base/libtp_base.a $(CHECK_LIBS) $(SODIUM_LIBS) $(CRYPTO_LIBS)
endif
