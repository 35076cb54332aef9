"""How many deals that do not exist yet will come, and of which kind."""
