# etc: the sample configuration, written by turnpike-conf --sample (tests/lint/docs.sh compares)
EXTRA_DIST += %D%/turnpike.yaml
turnpikeconfdir = $(DESTDIR)$(sysconfdir)/turnpike

# The operator's configuration is never touched: installed only where there is none, removed only where it is still ours.
# Not readable by all users, because credentials may be written into it.
install-data-hook: install-turnpike-yaml
install-turnpike-yaml:
	@$(MKDIR_P) '$(turnpikeconfdir)'
	@if test -e '$(turnpikeconfdir)/turnpike.yaml' || test -L '$(turnpikeconfdir)/turnpike.yaml'; then \
	  echo ' $(turnpikeconfdir)/turnpike.yaml is kept'; \
	else \
	  echo " $(INSTALL) -m 640 $(srcdir)/etc/turnpike.yaml '$(turnpikeconfdir)/turnpike.yaml'"; \
	  $(INSTALL) -m 640 $(srcdir)/etc/turnpike.yaml '$(turnpikeconfdir)/turnpike.yaml'; \
	fi
uninstall-hook: uninstall-turnpike-yaml
uninstall-turnpike-yaml:
	@if cmp -s $(srcdir)/etc/turnpike.yaml '$(turnpikeconfdir)/turnpike.yaml'; then \
	  rm -f '$(turnpikeconfdir)/turnpike.yaml'; \
	fi
	@rmdir '$(turnpikeconfdir)' 2>/dev/null || :
.PHONY: install-turnpike-yaml uninstall-turnpike-yaml
