dist_noinst_HEADERS += \
	%D%/tp/base.h %D%/tp/stun.h \
	%D%/tp/tbl/attrs.def %D%/tp/tbl/errors.def
dist_noinst_HEADERS += %D%/tp/seal.h %D%/tp/usher.h
