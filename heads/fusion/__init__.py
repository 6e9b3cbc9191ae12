"""One score from several: rules, a stacked rule, and runs put together."""
