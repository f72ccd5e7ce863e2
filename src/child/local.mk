# child
noinst_LIBRARIES += %D%/libtp_child.a
%C%_libtp_child_a_SOURCES = %D%/child.c
%C%_libtp_child_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
