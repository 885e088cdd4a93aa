"""What a set of scores was worth: ranking measures, their intervals, delayed quality, drift."""
