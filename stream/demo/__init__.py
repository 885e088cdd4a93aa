"""The demo: the whole system on this machine, as real processes, in about two minutes."""
