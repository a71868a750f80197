"""Python in a process of its own, without the packages that its first argument names."""

PACKAGES = """import importlib, importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in sys.argv[1].split(','):
      raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
"""
