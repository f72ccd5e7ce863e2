# turn
noinst_LIBRARIES += %D%/libtp_turn.a
%C%_libtp_turn_a_SOURCES = %D%/core.c %D%/reply.c %D%/alternate.c %D%/binding.c %D%/allocate.c %D%/sockets.c %D%/refresh.c \
	%D%/permission.c %D%/channel.c %D%/send.c %D%/relay.c %D%/round_trip.c %D%/policy.c %D%/session_end.c %D%/turn_int.h
%C%_libtp_turn_a_CFLAGS = $(AM_CFLAGS) $(SODIUM_CFLAGS)
