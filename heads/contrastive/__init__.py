"""FiSeR's hierarchical contrast on frozen features: adapters, training, the head."""
