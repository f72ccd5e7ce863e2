# state
noinst_LIBRARIES += %D%/libtp_state.a
%C%_libtp_state_a_SOURCES = %D%/state_int.h %D%/shard.c %D%/adopt.c %D%/index.c %D%/session.c %D%/block.c %D%/conn.c %D%/conn_adopt.c %D%/ring.c \
	%D%/perm.c %D%/chan.c %D%/peers.c %D%/account.c %D%/cross.c %D%/token.c %D%/rate.c %D%/bandwidth.c \
	%D%/recover.c %D%/audit.c %D%/audit_cross.c
%C%_libtp_state_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
