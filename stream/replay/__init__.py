"""`riverwatch replay`: decisions as they would have been, or computed again as they were."""
