"""Schema revisions, one folder for each database. `make revision DB=platform M="why"` writes a new one."""
