# turnpike-load against a relay that breaks things on purpose
TESTS += %D%/load_honest.py
EXTRA_DIST += %D%/load_honest.py %D%/faulty_relay.py
