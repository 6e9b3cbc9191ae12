"""Support vector machines on a few images."""
