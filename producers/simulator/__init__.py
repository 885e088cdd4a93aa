"""Simulated payments: who pays where, how cards are defrauded, how labels come."""
