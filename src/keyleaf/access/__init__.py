"""Access decisions: role definitions, assignments, scope inheritance, conditions, and their explanation. Pure."""
