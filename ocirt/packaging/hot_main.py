"""The main program of _hot.pyc: an importer for the modules in CODES, then ocirt's command line."""

import sys
from _frozen_importlib import ModuleSpec
from marshal import loads

CODES: dict = {}
BASE = sys.argv[0].rpartition("/ocirt/")[0]


class HotImporter:
    """Finds and loads what CODES has (importlib's protocol of finders and loaders)."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        found = CODES.get(name)
        if found is None:
            return None
        place = BASE + "/" + name.replace(".", "/")
        spec = ModuleSpec(name, HotImporter, is_package=found[0], origin=place + (".py", "/__init__.py")[found[0]])
        spec.has_location = True
        if found[0]:
            spec.submodule_search_locations.append(place)
        return spec

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        exec(loads(CODES[module.__name__][1]), module.__dict__)


sys.meta_path.insert(0, HotImporter)
sys.path.append(BASE)  # the cold modules, and the packages that they need
from ocirt.cli.main import entry  # noqa: E402

entry()
