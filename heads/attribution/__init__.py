"""Which generator made an image: closed-set attribution, and open-set with a reject option."""
