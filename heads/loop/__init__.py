"""The one loop that trains heads, and what it is made of."""
