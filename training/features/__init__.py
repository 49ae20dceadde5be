"""Networks whose features the metrics compare, in plain torch, under the parameter names of their published files."""
