"""What survives: power cuts that keep what they like of un-synced writes, and processes that are killed."""
