# man
dist_man_MANS += %D%/turnpike.yaml.5
dist_man_MANS += %D%/turnpikectl.8
dist_man_MANS += %D%/turnpiked.8
dist_man_MANS += %D%/turnpike-load.1
dist_man_MANS += %D%/turnpike-tables.7
dist_man_MANS += %D%/turnpike-convert.1
