"""keyleaf: every app in the tree carries its own key, and only its own."""

__version__ = "0.1.0"
