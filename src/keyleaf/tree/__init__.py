"""Git to manifests to the tree of applications: who needs which secret, through which identity. Pure after the read."""

from keyleaf.tree.files import DirectoryFiles, FileSet, MemoryFiles
from keyleaf.tree.git import GitSource
from keyleaf.tree.reader import read_tree
from keyleaf.tree.tools import Tools

__all__ = ["DirectoryFiles", "FileSet", "GitSource", "MemoryFiles", "Tools", "read_tree"]
