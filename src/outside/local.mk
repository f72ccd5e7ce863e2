# outside
noinst_LIBRARIES += %D%/libtp_outside.a
%C%_libtp_outside_a_SOURCES = %D%/outside_name.c %D%/outside_stun.c
%C%_libtp_outside_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
