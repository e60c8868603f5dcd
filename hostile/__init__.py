"""Activities that try to carry a secret out, and a byte search over everything that was written meanwhile."""
