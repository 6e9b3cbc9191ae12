"""Learning from a sequence of domains; selections, memories and protocols land here."""
