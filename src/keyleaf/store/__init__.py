"""Durable state: SQL schema and migrations, envelope encryption, root-key providers."""
