"""A whole network on one machine, in a minute: real processes, real packages."""
