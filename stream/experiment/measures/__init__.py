"""From a finished pass to results: measures with intervals, drift, recovery."""
