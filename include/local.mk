dist_noinst_HEADERS += \
	%D%/tp/base.h %D%/tp/stun.h \
	%D%/tp/tbl/attrs.def %D%/tp/tbl/errors.def
dist_noinst_HEADERS += %D%/tp/outside.h
dist_noinst_HEADERS += %D%/tp/conf.h %D%/tp/tbl/options.def
dist_noinst_HEADERS += %D%/tp/shm.h %D%/tp/state.h %D%/tp/tbl/drops.def %D%/tp/tbl/counters.def
dist_noinst_HEADERS += %D%/tp/tbl/reasons.def %D%/tp/tbl/histograms.def
dist_noinst_HEADERS += %D%/tp/auth.h %D%/tp/turn.h
dist_noinst_HEADERS += %D%/tp/msg.h %D%/tp/io.h %D%/tp/super.h %D%/tp/ledger.h %D%/tp/tbl/msgs.def %D%/tp/tbl/descriptors.def %D%/tp/tbl/syscalls.def
dist_noinst_HEADERS += %D%/tp/child.h
dist_noinst_HEADERS += %D%/tp/authd.h %D%/tp/db.h
dist_noinst_HEADERS += %D%/tp/seal.h %D%/tp/tlsd.h
dist_noinst_HEADERS += %D%/tp/worker.h
dist_noinst_HEADERS += %D%/tp/admin.h %D%/tp/tbl/commands.def
dist_noinst_HEADERS += %D%/tp/load.h
dist_noinst_HEADERS += %D%/tp/doctor.h
