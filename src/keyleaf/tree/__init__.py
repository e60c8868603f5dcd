"""Git to manifests to the tree of applications: who needs which secret, through which identity. Pure after the read."""
