# man
dist_man_MANS += %D%/turnpike.yaml.5
