"""Features of other systems: reading their files into a store."""
