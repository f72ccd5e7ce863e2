# spin: models of recovery and of a shard changing its owner; part of `make soak`
EXTRA_DIST += %D%/redo.pml %D%/owner.pml %D%/run.sh
.PHONY: spin
spin:
	top_srcdir='$(top_srcdir)' CC='$(CC)' $(SHELL) $(srcdir)/%D%/run.sh
