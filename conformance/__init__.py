"""Other people's clients and tests, run against keyleaf as they are."""
