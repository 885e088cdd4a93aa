"""Transactions and labels in order of time, from a file or from the simulator."""
