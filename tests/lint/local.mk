# lint
lints = %D%/layers.sh %D%/sansio.sh %D%/size.sh %D%/spdx.sh %D%/heads.sh %D%/docs.sh %D%/hotpath.sh %D%/circles.sh %D%/protos.sh
TESTS += $(lints)
EXTRA_DIST += $(lints) %D%/size.allow %D%/circles.allow
TESTS += %D%/ctl_man.sh
EXTRA_DIST += %D%/ctl_man.sh %D%/man_sections
TESTS += %D%/man_tables.sh %D%/mandoc.sh
EXTRA_DIST += %D%/man_tables.sh %D%/mandoc.sh %D%/tables.py
TESTS += %D%/names.sh %D%/format.sh %D%/exports.sh %D%/words.sh
EXTRA_DIST += %D%/names.sh %D%/format.sh %D%/exports.sh %D%/words.sh
TESTS += %D%/waiting.sh
EXTRA_DIST += %D%/waiting.sh
